"""`stockpot push FOLDER NAMESPACE/NAME`: publish a folder as one commit."""

from pathlib import Path
from typing import Annotated

import typer

from app.command.output import after, print_json, progress_bar
from app.command.remote import DEFAULT_URL, Remote, Secret, Url, connect, hash_file
from merge_core.errors import NotFoundError
from merge_core.sources import FileTree, folder_source


def push(
    folder: Annotated[Path, typer.Argument(help="The folder to publish: an adapter or a checkpoint.")],
    repo: Annotated[str, typer.Argument(metavar="NAMESPACE/NAME")],
    message: Annotated[str, typer.Option(help="What the commit says.")] = "Upload files",
    url: Url = DEFAULT_URL,
    token: Secret = None,
    json: Annotated[bool, typer.Option("--json", help="Print the commit as JSON.")] = False,
) -> None:
    """Send the files that the service lacks, then commit all of them at once."""
    files = folder_source(str(folder)).files
    if not files:
        raise NotFoundError("the folder holds no files", where=str(folder))
    with connect(url, token) as remote:
        hashes = {name: hash_file(path) for name, path in files.items()}
        _send_missing(remote, repo, files, hashes, shown=not json)
        wish = {"message": message, "files": [{"path": name, "sha256": sha256} for name, sha256 in hashes.items()]}
        commit = remote.ask("POST", f"/v1/repos/{repo}/commits", json=wish)
    if json:
        print_json(commit)
    else:
        typer.echo(f"{repo}@{commit['id']}: {len(files)} file(s)")


def _send_missing(remote: Remote, repo: str, files: FileTree, hashes: dict[str, str], *, shown: bool) -> None:
    offer = [{"path": name, "sha256": hashes[name], "size": path.stat().st_size} for name, path in files.items()]
    missing = remote.ask("POST", f"/v1/repos/{repo}/missing", json={"files": offer})["missing"]
    # Equal files are one blob: sent once, under the first of their names.
    blobs = {entry["sha256"]: entry for entry in reversed(missing)}
    total, sent = sum(entry["size"] for entry in blobs.values()), 0
    with progress_bar(f"pushing {repo}", shown=shown) as progress:
        for sha256, entry in blobs.items():
            remote.send_blob(repo, sha256, files[entry["path"]], after(sent, total, progress))
            sent += entry["size"]
