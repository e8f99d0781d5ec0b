"""Adapters for inference servers, which load one only under the name that they know its base by."""

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from app.api.auth import Writer, check_write, readable_repo
from app.api.bodies import Body, body_of, documented
from app.api.services import Pot, Services
from app.api.shapes import CommitShape
from app.names import check_branch, check_revision
from app.store.records import FileEntry, Token
from merge_core.documents import parse_json
from merge_core.errors import InputError, MalformedError, NotFoundError

router = APIRouter(prefix="/v1/repos/{namespace}/{name}/deployments", tags=["deployments"])

CONFIG = "adapter_config.json"
LARGEST_CONFIG = 1 << 20


class DeploymentWish(Body):
    """How a server calls the base."""

    base_model: str = Field(
        min_length=1, max_length=1024, description="what the adapter's config is to name as its base"
    )
    revision: str = Field("main", description="of the adapter")


@router.put("/{deployment:path}", summary="Name an adapter's base as a server knows it", **documented(DeploymentWish))
def deployed(
    token: Writer,
    pot: Pot,
    namespace: str,
    name: str,
    deployment: str,
    wish: Annotated[DeploymentWish, Depends(body_of(DeploymentWish))],
    response: Response,
) -> CommitShape:
    """A branch of this name: the adapter's files, with another `base_model_name_or_path`. Repeat it after a change."""
    repo = readable_repo(pot, token, namespace, name)
    check_write(token, namespace)
    branch = check_branch(deployment, "path deployment")
    if branch == "main":
        raise InputError("main is the adapter as it was published", where="path deployment", found=branch)
    source = pot.store.resolve_revision(repo, check_revision(wish.revision, "revision"))
    files = {entry.path: entry for entry in pot.store.tree(source)}
    files[CONFIG] = _renamed(pot, token, files.get(CONFIG), wish.base_model)
    pot.store.create_branch(repo, branch, source.id, exist_ok=True)
    before = {entry.path for entry in pot.store.tree(pot.store.head(repo, branch))}
    changes = {**dict.fromkeys(before - set(files)), **files}
    commit = pot.store.commit(repo, changes, f"For a base called {wish.base_model}", token.name, branch=branch)
    pot.store.settle_blobs([files[CONFIG].sha256], token)
    response.headers["Location"] = f"/v1/repos/{repo.full_name}?revision={branch}"
    return CommitShape.of(commit)


def _renamed(pot: Services, token: Token, entry: FileEntry | None, base: str) -> FileEntry:
    """The adapter's config as a blob, with another base and no revision of it."""
    if entry is None:
        raise NotFoundError("this revision is no adapter of PEFT's", where=CONFIG, expected=f"a file {CONFIG}")
    if entry.size > LARGEST_CONFIG:
        raise InputError("too large for an adapter's config", where=CONFIG, found=f"{entry.size} bytes")
    try:
        config = parse_json(b"".join(pot.blobs.read(entry.sha256)))
    except MalformedError as error:
        raise InputError(error.message, where=CONFIG) from None
    if not isinstance(config, dict):
        raise InputError("not an adapter's config", where=CONFIG, expected="a JSON object")
    content = {**config, "base_model_name_or_path": base} | ({"revision": None} if "revision" in config else {})
    data = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    sha256, size = pot.blobs.put_bytes(data, lambda sha256, size: pot.store.announce_blob(sha256, size, owner=token))
    pot.store.record_blob(sha256, size, token)
    return FileEntry(CONFIG, sha256, size)
