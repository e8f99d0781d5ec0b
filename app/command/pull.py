"""`stockpot pull NAMESPACE/NAME OUT`: download a repo's files."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.command.output import Progress, after, human_size, print_json, progress_bar
from app.command.remote import DEFAULT_URL, Remote, Secret, Url, connect, hash_file
from merge_core.errors import FileError


def pull(
    repo: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME")],
    out: Annotated[Path, typer.Argument(help="The folder to write to; files that are there and right are kept.")],
    revision: Annotated[str, typer.Option(help="Branch or commit.")] = "main",
    url: Url = DEFAULT_URL,
    token: Secret = None,
    json: Annotated[bool, typer.Option("--json", help="Print the files as JSON.")] = False,
) -> None:
    """Download every file of one revision; an interrupted download goes on where it stopped."""
    with connect(url, token) as remote:
        tree = remote.ask("GET", f"/v1/repos/{repo}/files", params={"revision": revision})
        with progress_bar(f"pulling {repo}", shown=not json) as progress:
            _download_all(remote, repo, tree, out, progress)
    if json:
        print_json(tree)
    else:
        size = human_size(sum(file["size"] for file in tree["files"]))
        typer.echo(f"{out}: {repo}@{tree['commit']}, {len(tree['files'])} file(s), {size}")


def _download_all(remote: Remote, repo: str, tree: dict[str, Any], out: Path, progress: Progress) -> None:
    total, before = sum(file["size"] for file in tree["files"]), 0
    for file in tree["files"]:
        target = safe_target(out, file["path"])
        if not (target.is_file() and hash_file(target) == file["sha256"]):
            address = f"/v1/repos/{repo}/files/{quote(file['path'])}?revision={tree['commit']}"
            remote.fetch(address, target, file["sha256"], after(before, total, progress))
        before += file["size"]


def safe_target(out: Path, name: str) -> Path:
    """Where a file of that name goes inside `out`; FileError when it would go elsewhere."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name:
        raise FileError("the service names a file outside the folder", where=repr(name))
    return out.joinpath(*parts)
