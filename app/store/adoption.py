"""A finished composition under another name: the same files in another repo, without building them again."""

from dataclasses import replace

from sqlalchemy import select

from app.store.commits import write_commit
from app.store.compositions import composition_of, look_at, reserve_repo
from app.store.records import Commit, Composition, Repo
from app.store.repos import find_repo
from app.store.revisions import COMMIT_LENGTH
from app.store.subject import Subject
from app.store.tables import compositions
from app.store.trees import tree_of
from merge_core.errors import NotFoundError


class Adoption(Subject):
    """Compositions that share their bytes."""

    def adopt_composition(self, done: Composition, name: str, *, private: bool, author: str) -> Commit:
        """Make the repo `name` hold the files of a composition that is done; its head when it does already.

        Raises ConflictError when the name belongs to a repo of another kind, NotFoundError when the files are gone.
        """
        with self._database.write() as connection:
            source = find_repo(connection, *done.name.split("/", 1))
            if source is None or done.commit is None:
                raise NotFoundError("the composition is gone", where="composition", found=done.id)
            files = {entry.path: entry for entry in tree_of(connection, source.id, done.commit)}
            repo = reserve_repo(connection, replace(done, name=name, private=private))
            message = f"Same digest as {done.digest[:12]}, built before"
            commit = write_commit(
                connection, repo.id, files, message, author, commit_id=done.digest[:COMMIT_LENGTH], replace_all=True
            )
            if commit.id != repo.head:
                look_at(connection, repo.full_name, commit)
            return commit

    def adopted_by(self, repo: Repo) -> Composition | None:
        """The composition whose files a repo's head holds though it was built under another name."""
        if repo.kind != "composition" or repo.head is None:
            return None
        query = select(compositions).where(compositions.c.digest.startswith(repo.head), compositions.c.state == "done")
        with self._database.read() as connection:
            row = connection.execute(query.limit(1)).first()
            return None if row is None else replace(composition_of(row), name=repo.full_name)
