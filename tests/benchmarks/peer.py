"""mergekit in an environment of its own, so that neither side's requirements bend the other's."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import BenchmarkError

PINNED = ("torch==2.13.0", "mergekit==0.1.5")
NEWEST = ("torch", "mergekit")
INSTALL_TIMEOUT_S = 1800
OPTIONS = ("--no-copy-tokenizer", "--no-write-model-card", "--quiet")
"""The models have no tokenizer, and a card is no part of a merge; all else is as users run it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An installed mergekit: its command, and what is in its environment."""

    command: Path
    versions: str


def install_peer(folder: Path, say: Callable[[str], None]) -> Peer:
    """mergekit in `folder`, made on the first call. Raises BenchmarkError where it cannot be installed."""
    python = folder / "bin" / "python"
    if not (folder / "bin" / "mergekit-yaml").exists():
        say(f"installing mergekit in {folder}")
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        try:
            _install(python, PINNED)
        except BenchmarkError as error:
            say(f"{' '.join(PINNED)} cannot be installed, trying the newest: {error}")
            _install(python, NEWEST)
    return Peer(folder / "bin" / "mergekit-yaml", _run(str(python), "-c", _VERSIONS).strip())


_VERSIONS = """
from importlib.metadata import version
print(", ".join(f"{name} {version(name)}" for name in ("mergekit", "torch", "transformers")))
"""


def _install(python: Path, packages: tuple[str, ...]) -> None:
    for package in packages:
        # One after the other: a pinned torch that is a CPU build must be there before mergekit asks for any torch.
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(str(error)) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise BenchmarkError(lines[-1] if lines else f"{command[0]} ended with {done.returncode}")
    return done.stdout
