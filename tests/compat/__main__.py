"""Every client at every check, in front of one real service: `python -m tests.compat`. Exit code 1 if any fails."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from rich.console import Console
from rich.table import Table

from tests.app.hub.frayed_line import frayed
from tests.compat.environments import DIFFUSERS, HUBS, OURS, Client, python_of
from tests.demo.service import running_service

HERE = Path(__file__).parent
MIB = 1 << 20
LARGE_BYTES = 45 * MIB
CUTS = [25 * MIB]
"""Clients keep what came in whole pieces of 10 MiB."""
WAYS = {"upload by LFS": "1", "upload by Xet": "0"}
CHECKS = ("whoami", "download", "snapshot", "browse", "refs", "commit", *WAYS, "errors", "gated", "resume", "command")
LORA = "LoRA loader"
PATIENCE_S = 300.0
LAST_LINES = 12


Endings = dict[str, str | None]
"""By client, why a check failed; None where it did not."""


def main() -> int:
    """Print the table, and below it how what failed ended."""
    options = _options()
    wanted = [check for check in (*CHECKS, LORA) if not options.checks or check in options.checks]
    pythons = {client: python_of(client, options.home) for client in _clients(wanted)}
    with TemporaryDirectory() as folder, running_service(Path(folder) / "data") as url:
        surroundings = _surroundings(url)
        found = {check: _endings(check, pythons, surroundings) for check in wanted}
    _show(found)
    return 1 if any(reason for endings in found.values() for reason in endings.values()) else 0


def _clients(wanted: list[str]) -> list[Client]:
    return [*HUBS, OURS, *([DIFFUSERS] if LORA in wanted else [])]


def _endings(check: str, pythons: dict[Client, Path], surroundings: dict[str, str]) -> Endings:
    print(f"{check} …", file=sys.stderr, flush=True)
    chosen = {client: python for client, python in pythons.items() if (client == DIFFUSERS) == (check == LORA)}
    return {client.name: _ended(check, python, surroundings) for client, python in chosen.items()}


def _show(found: dict[str, Endings]) -> None:
    columns = list(dict.fromkeys(name for endings in found.values() for name in endings))
    table, console = Table("check", *columns), Console(soft_wrap=True)
    for check, endings in found.items():
        cells = {name: "failed" if reason else "ok" for name, reason in endings.items()}
        table.add_row(check, *(cells.get(name, "") for name in columns))
    console.print(table)
    for check, endings in found.items():
        for name, reason in endings.items():
            if reason:
                console.print(f"{check}, {name}: {reason}", markup=False, highlight=False)


def _surroundings(url: str) -> dict[str, str]:
    """The variables that clients run with; the first token closes the service to callers without one."""
    with httpx.Client(base_url=url) as service:
        admin = _token(service, "admin", ["admin"], ["*"])
        service.headers["Authorization"] = f"Bearer {admin}"
        owner = _token(service, "owner", ["write"], ["team"])
        stranger = _token(service, "stranger", ["write"], ["others"])
        service.put("/v1/repos/team/large/files/weights.dat", content=os.urandom(LARGE_BYTES)).raise_for_status()
    told = {"HF_ENDPOINT": url, "OWNER": owner, "STRANGER": stranger, "LARGE_BYTES": str(LARGE_BYTES)}
    return {**os.environ, **told, "HF_TOKEN": owner, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def _token(service: httpx.Client, name: str, scopes: list[str], namespaces: list[str]) -> str:
    wish = {"name": name, "scopes": scopes, "namespaces": namespaces}
    return str(service.post("/v1/tokens", json=wish).raise_for_status().json()["secret"])


def _ended(check: str, python: Path, surroundings: dict[str, str]) -> str | None:
    """Why a check failed; None when it did not."""
    if check in WAYS:
        return _run(python, "client.py", ("upload",), {**surroundings, "HF_HUB_DISABLE_XET": WAYS[check]})
    if check == LORA:
        return _run(python, "lora_loader.py", (), surroundings)
    if check == "resume":
        return _resumed(python, surroundings)
    return _run(python, "client.py", (check,), surroundings)


def _resumed(python: Path, surroundings: dict[str, str]) -> str | None:
    """Some clients go on by themselves, some when they are asked again: with what has arrived in either case."""
    with TemporaryDirectory() as home, frayed(surroundings["HF_ENDPOINT"], CUTS) as line:
        broken = {**surroundings, "HF_ENDPOINT": line.url, "HF_HOME": home}
        reason = _run(python, "client.py", ("resume",), broken)
        if reason is not None:
            reason = _run(python, "client.py", ("resume",), broken)
        if reason is None and b"\r\nrange: bytes=" not in line.asked.lower():
            reason = "it began anew"
    return reason


def _run(python: Path, script: str, arguments: tuple[str, ...], surroundings: dict[str, str]) -> str | None:
    """A script in a process and with a cache of its own; how it ended, unless well."""
    with TemporaryDirectory() as home:
        variables = {"HF_HOME": home, **surroundings}
        command = [str(python), str(HERE / script), *arguments]
        try:
            done = subprocess.run(
                command, env=variables, capture_output=True, text=True, check=False, timeout=PATIENCE_S
            )
        except subprocess.TimeoutExpired:
            return f"no end after {PATIENCE_S:.0f} s"
    return (
        None
        if done.returncode == 0
        else "\n".join(done.stderr.strip().splitlines()[-LAST_LINES:]) or f"exit code {done.returncode}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("var/compat"), help="where the environments are kept")
    parser.add_argument("checks", nargs="*", help=f"of {', '.join((*CHECKS, LORA))}; all unless given")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
