"""A virtual environment for each client."""

import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Client:
    """A column of the table: what is installed, and whether beside all that this environment has."""

    name: str
    packages: tuple[str, ...]
    beside_ours: bool = False


HUBS = tuple(
    Client(f"hub {version}", (f"huggingface_hub=={version}.*", "hf_xet", "click"))
    for version in ("0.36", "1.0", "1.33")
)
"""click: the command of 1.0 needs it, and does not say so."""
DIFFUSERS = Client("diffusers", ("diffusers",), beside_ours=True)
OURS = Client("hub here", ())
"""The version that this environment has."""


def python_of(client: Client, home: Path) -> Path:
    """Its interpreter; made when it is not there."""
    if not client.packages:
        return Path(sys.executable)
    folder = home / client.name.replace(" ", "-")
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        if client.beside_ours:
            _lend_ours(folder)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *client.packages]
        subprocess.run(command, check=True)
        ready.touch()
    return python


def _lend_ours(folder: Path) -> None:
    """What is installed here is found there too, after its own."""
    (found,) = folder.glob("lib/python*/site-packages")
    (found / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
