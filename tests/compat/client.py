"""What a client of any version of huggingface_hub from 0.36 on must be able to do: `client.py CHECK`.

Runs in an environment with huggingface_hub alone. HF_ENDPOINT says where the service is, OWNER and STRANGER are tokens
of it: one writes in `team`, the other elsewhere. Ends with a traceback where something is not as it should be.
"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, HfFileSystem
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

MIB = 1 << 20
LARGE = random.Random(0).randbytes(12 * MIB)
CARD = b"---\ntags: [compat]\nlicense: mit\n---\n# A model\n"
FILES = {"README.md": CARD, "config.json": b'{"model_type": "x"}', "weights.dat": LARGE, "deep/er/notes.txt": b"text"}
WHERE = huggingface_hub.__version__.replace(".", "-")
OWNER, STRANGER = HfApi(token=os.environ["OWNER"]), HfApi(token=os.environ["STRANGER"])
NOBODY = HfApi(token=False)


def repo(check: str, **wish: object) -> str:
    """A fresh repo of this version's own."""
    name = f"team/{check}-{WHERE}"
    OWNER.delete_repo(name, missing_ok=True)
    OWNER.create_repo(name, **wish)
    return name


def filled(check: str, **wish: object) -> str:
    """The same, with FILES in it."""
    name = repo(check, **wish)
    operations = [CommitOperationAdd(path, content) for path, content in FILES.items()]
    OWNER.create_commit(name, operations, commit_message="Begin")
    return name


def refused(kind: type[Exception], act: Callable[[], object], status: int | None = None) -> Exception:
    """The exception, which must be of this kind."""
    try:
        act()
    except kind as error:
        found = getattr(getattr(error, "response", None), "status_code", None)
        assert status in (None, found), f"{found}, not {status}"
        return error
    raise AssertionError(f"no {kind.__name__}")


def download() -> None:
    name = filled("download")
    for path, content in FILES.items():
        assert Path(OWNER.hf_hub_download(name, path)).read_bytes() == content


def snapshot() -> None:
    name = filled("snapshot")
    folder = Path(OWNER.snapshot_download(name))
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert OWNER.snapshot_download(name, local_files_only=True) == str(folder)
    some = Path(OWNER.snapshot_download(name, allow_patterns="*.json", local_dir=tempfile.mkdtemp()))
    assert {path.name for path in some.iterdir()} - {".cache"} == {"config.json"}


def browse() -> None:
    name = filled("browse")
    assert {entry.path for entry in OWNER.list_repo_tree(name)} == {"README.md", "config.json", "weights.dat", "deep"}
    assert sorted(OWNER.list_repo_files(name)) == sorted(FILES)
    assert [entry.path for entry in OWNER.get_paths_info(name, ["deep", "none"], expand=True)] == ["deep"]
    info = OWNER.model_info(name, files_metadata=True)
    assert {file.rfilename: file.size for file in info.siblings} == {path: len(FILES[path]) for path in FILES}
    assert name in [model.id for model in OWNER.list_models(author="team", filter="compat", full=True)]
    assert OWNER.repo_exists(name)
    assert OWNER.file_exists(name, "config.json")
    assert not OWNER.file_exists(name, "none")
    assert not OWNER.revision_exists(name, "none")
    assert [commit.title for commit in OWNER.list_repo_commits(name)] == ["Begin"]
    files = HfFileSystem(token=os.environ["OWNER"])
    assert files.glob(f"{name}/**/*.txt") == [f"{name}/deep/er/notes.txt"]
    with files.open(f"{name}/weights.dat", "rb", block_size=MIB) as stream:
        stream.seek(5 * MIB)
        assert stream.read(10) == LARGE[5 * MIB : 5 * MIB + 10]


def refs() -> None:
    name = filled("refs")
    OWNER.create_branch(name, branch="feature/new")
    OWNER.create_tag(name, tag="v1/rc", tag_message="first")
    OWNER.upload_file(repo_id=name, path_or_fileobj=b"new", path_in_repo="new.txt", revision="feature/new")
    found = OWNER.list_repo_refs(name)
    assert [ref.name for ref in found.branches] == ["main", "feature/new"]
    assert [ref.name for ref in found.tags] == ["v1/rc"]
    assert "new.txt" in OWNER.list_repo_files(name, revision="feature/new")
    assert "new.txt" not in OWNER.list_repo_files(name, revision="v1/rc")
    assert Path(OWNER.hf_hub_download(name, "new.txt", revision="feature/new")).read_bytes() == b"new"
    refused(HfHubHTTPError, lambda: OWNER.create_branch(name, branch="feature/new"), 409)
    OWNER.create_branch(name, branch="feature/new", exist_ok=True)
    OWNER.delete_branch(name, branch="feature/new")
    OWNER.delete_tag(name, tag="v1/rc")
    assert len(OWNER.list_repo_refs(name).branches) == 1


def commit() -> None:
    name = filled("commit")
    first = OWNER.model_info(name).sha
    OWNER.create_commit(
        name,
        [
            CommitOperationDelete("deep/", is_folder=True),
            CommitOperationAdd("one/new.txt", b"new"),
            CommitOperationCopy("weights.dat", "copy.dat"),
        ],
        commit_message="Change",
        commit_description="Why",
        parent_commit=first,
    )
    kept = [path for path in FILES if not path.startswith("deep/")]
    assert sorted(OWNER.list_repo_files(name)) == sorted([*kept, "one/new.txt", "copy.dat"])
    assert Path(OWNER.hf_hub_download(name, "copy.dat")).read_bytes() == LARGE
    add = [CommitOperationAdd("late.txt", b"x")]
    refused(HfHubHTTPError, lambda: OWNER.create_commit(name, add, commit_message="x", parent_commit=first), 412)
    before = OWNER.model_info(name).sha
    OWNER.upload_file(repo_id=name, path_or_fileobj=b"new", path_in_repo="one/new.txt")
    assert OWNER.model_info(name).sha == before
    pull = OWNER.create_commit(name, add, commit_message="A request", create_pr=True)
    assert pull.pr_revision == "refs/pr/1"
    assert "late.txt" in OWNER.list_repo_files(name, revision="refs/pr/1")
    assert [one.title for one in OWNER.get_repo_discussions(name)] == ["A request"]


def upload() -> None:
    """HF_HUB_DISABLE_XET decides which way the bytes go."""
    name = repo(f"upload-{os.environ.get('HF_HUB_DISABLE_XET', '')}")
    seed = f"{WHERE} {os.environ.get('HF_HUB_DISABLE_XET')}"
    contents = {"a.dat": random.Random(seed).randbytes(70 * MIB + 1), "b/c.dat": LARGE[::-1], "small.txt": b"x"}
    with tempfile.TemporaryDirectory() as folder:
        for path, content in contents.items():
            (Path(folder) / path).parent.mkdir(exist_ok=True)
            (Path(folder) / path).write_bytes(content)
        OWNER.upload_folder(repo_id=name, folder_path=folder)
        first = OWNER.model_info(name).sha
        OWNER.upload_folder(repo_id=name, folder_path=folder)
        assert OWNER.model_info(name).sha == first
    here = Path(OWNER.snapshot_download(name))
    assert {path: (here / path).read_bytes() for path in contents} == contents


def errors() -> None:
    name, secret = filled("errors"), filled("secret", private=True)
    for api, status in ((STRANGER, 404), (NOBODY, 401)):
        for hidden in (secret, "team/none"):
            refused(RepositoryNotFoundError, lambda api=api, hidden=hidden: api.model_info(hidden), status)
            refused(RepositoryNotFoundError, lambda api=api, hidden=hidden: api.hf_hub_download(hidden, "config.json"))
            refused(RepositoryNotFoundError, lambda api=api, hidden=hidden: api.snapshot_download(hidden))
        assert secret not in [model.id for model in api.list_models(author="team")]
    refused(RevisionNotFoundError, lambda: NOBODY.hf_hub_download(name, "config.json", revision="none"))
    refused(RevisionNotFoundError, lambda: NOBODY.model_info(name, revision="none"))
    refused(EntryNotFoundError, lambda: NOBODY.hf_hub_download(name, "none"))
    refused(HfHubHTTPError, lambda: STRANGER.create_repo(secret), 403)
    refused(HfHubHTTPError, lambda: STRANGER.upload_file(repo_id=name, path_or_fileobj=b"x", path_in_repo="x"), 403)
    unknown = refused(HfHubHTTPError, lambda: HfApi(token="hf_unknown").model_info(name), 401)
    assert not isinstance(unknown, RepositoryNotFoundError)
    refused(HfHubHTTPError, lambda: OWNER.create_repo(name), 409)
    assert OWNER.create_repo(name, exist_ok=True).repo_id == name


def gated() -> None:
    name = filled("gated")
    OWNER.update_repo_settings(name, gated="manual")
    for api in (STRANGER, NOBODY):
        assert api.model_info(name).gated == "manual"
        refused(GatedRepoError, lambda api=api: api.hf_hub_download(name, "config.json"))
        refused(GatedRepoError, lambda api=api: api.auth_check(name))
    assert OWNER.hf_hub_download(name, "config.json")


def resume() -> None:
    """The line breaks on the way: what has arrived is not fetched again."""
    path = OWNER.hf_hub_download("team/large", "weights.dat")
    assert Path(path).stat().st_size == int(os.environ["LARGE_BYTES"])


def command() -> None:
    name = repo("command")

    def hf(*arguments: str) -> str:
        line = [str(Path(sys.executable).parent / "hf"), *arguments]
        done = subprocess.run(line, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = str(Path(folder) / "home")
        hf("auth", "login", "--token", os.environ["OWNER"])
        assert "team" in hf("auth", "whoami")
        (Path(folder) / "some.txt").write_text("text")
        hf("upload", name, str(Path(folder) / "some.txt"), "there.txt")
        hf("download", name, "--local-dir", str(Path(folder) / "here"))
        assert (Path(folder) / "here" / "there.txt").read_text() == "text"


def whoami() -> None:
    me = OWNER.whoami()
    assert (me["type"], me["name"]) == ("user", "team")
    assert me["auth"]["accessToken"]["role"] == "write"
    refused(OSError, lambda: HfApi(token="hf_unknown").whoami(), 401)  # 0.36 has no type of its own for this


if __name__ == "__main__":
    globals()[sys.argv[1]]()
