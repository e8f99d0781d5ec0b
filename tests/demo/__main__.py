"""Publishes a base and three experts, composes them three ways, downloads and scores: `python -m tests.demo`."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

# Nothing here may reach for the Hub: every file comes from a package or from the service.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from rich.console import Console
from rich.progress import Progress, TaskID

from tests.demo.client import Client, OnProgress
from tests.demo.encoder import Encoder, base_folder
from tests.demo.recipes import expert_repo, recipes
from tests.demo.report import Row, as_json, print_table
from tests.demo.score import Heads, load_expert, make_heads, score
from tests.demo.service import DemoError, running_service
from tests.demo.tasks import EXPERTS, TASKS
from tests.demo.train import BASE_REPO

OUTPUT = Path("demo-output")


def main() -> int:
    options = _options()
    console = Console(stderr=options.json)
    start = time.perf_counter()
    with ExitStack() as stack:
        folder = OUTPUT if options.keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            rows = _run(_emptied(folder.absolute()), console)
        except DemoError as error:
            console.print(f"[red]{error}[/red]")
            return 1
    print(as_json(rows)) if options.json else print_table(rows, console)
    console.print(f"done in {time.perf_counter() - start:.0f} s")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the scores as JSON, progress on stderr")
    parser.add_argument("--keep", action="store_true", help=f"leave data, log and downloads in ./{OUTPUT}")
    return parser.parse_args()


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _run(folder: Path, console: Console) -> list[Row]:
    with running_service(folder / "data") as url:
        console.print(f"service ready at {url}")
        client = Client(url)
        published = _publish(client, console)
        downloaded = _compose(client, folder, console)
    console.print("service stopped cleanly; scoring")
    return _score(published, downloaded, folder)


def _publish(client: Client, console: Console) -> dict[str, int]:
    """Bytes of each repo that was published."""
    folders = {BASE_REPO: base_folder(), **{expert_repo(task): EXPERTS / task for task in TASKS}}
    sizes = {}
    for repo, folder in folders.items():
        files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
        sizes[repo] = client.publish(repo, files)
        console.print(f"published {repo}: {len(files)} files, {sizes[repo] / 1e6:.2f} MB")
    return sizes


def _compose(client: Client, folder: Path, console: Console) -> dict[str, int]:
    """Bytes of each composition that was built and downloaded into `folder`."""
    sizes = {}
    with Progress(console=console) as progress:
        for name, recipe in recipes().items():
            bar = progress.add_task(f"composing {name}", total=None)
            ordered = client.compose(name, recipe)
            client.follow(ordered, _advance(progress, bar))
            sizes[name] = client.download(name, folder / name)
    return sizes


def _advance(progress: Progress, bar: TaskID) -> OnProgress:
    return lambda done, total: progress.update(bar, completed=done, total=total)


def _score(published: dict[str, int], downloaded: dict[str, int], folder: Path) -> list[Row]:
    base = Encoder.load(base_folder())
    heads: Heads = make_heads(base)
    rows = [Row(BASE_REPO, score(base, heads), published[BASE_REPO])]
    for task in TASKS:
        repo = expert_repo(task)
        rows.append(Row(repo, score(load_expert(base_folder(), EXPERTS / task), heads), published[repo]))
    for name, nbytes in downloaded.items():
        rows.append(Row(name, score(Encoder.load(folder / name), heads), nbytes))
    return rows


if __name__ == "__main__":
    sys.exit(main())
