"""The demo's way through the service: publish, compose, download; then score what came back."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID, track

from tests.demo.client import Client, OnProgress
from tests.demo.encoder import Encoder, base_folder
from tests.demo.recipes import expert_repo, recipes
from tests.demo.report import Row
from tests.demo.score import load_expert, make_heads, score
from tests.demo.service import running_service
from tests.demo.tasks import EXPERTS, TASKS
from tests.demo.train import BASE_REPO


def walk(folder: Path, console: Console) -> list[Row]:
    """Everything between an empty folder and the scores; the base's row comes first."""
    with running_service(folder / "data") as url:
        console.print(f"service ready at {url}")
        client = Client(url)
        published = _publish(client, console)
        downloaded = _compose(client, folder, console)
    console.print("service stopped cleanly")
    return _score(published, downloaded, folder, console)


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


def _score(published: dict[str, int], downloaded: dict[str, int], folder: Path, console: Console) -> list[Row]:
    base = Encoder.load(base_folder())
    heads = make_heads(base)
    loaders: dict[str, Callable[[], Encoder]] = {BASE_REPO: lambda: base}
    loaders |= {expert_repo(task): partial(load_expert, base_folder(), EXPERTS / task) for task in TASKS}
    loaders |= {name: partial(Encoder.load, folder / name) for name in downloaded}
    sizes = published | downloaded
    described = track(loaders.items(), "scoring", total=len(loaders), console=console)
    return [Row(name, score(load(), heads), sizes[name]) for name, load in described]
