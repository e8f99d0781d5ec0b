"""Speed and memory beside plain torch, a file copy and mergekit, in one run: `python -m tests.benchmarks`."""

import argparse
import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from tests.benchmarks.machine import Machine, this_machine
from tests.benchmarks.measure import BenchmarkError
from tests.benchmarks.models import FINETUNES, FULL, QUICK
from tests.benchmarks.run import Settings, run
from tests.benchmarks.table import Row, as_data, print_table, wide_console

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests/kernels", "tests/merge_core")


def main() -> int:
    """Exit code 1 where the tests are red or nothing can be measured."""
    options, console = _options(), wide_console()
    machine = this_machine()
    settings = _settings(options)
    _introduce(machine, settings, console)
    if not _tests_are_green(console):
        console.print(f"{' and '.join(TESTS)} are red: nothing is measured")
        return 1
    rows: list[Row] = []
    code = _measure(settings, rows, console)
    if rows:
        _introduce(machine, settings, console)
        print_table(rows, console)
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": asdict(machine), "rows": as_data(rows)}, indent=2))
    return code


def _measure(settings: Settings, rows: list[Row], console: Console) -> int:
    """Fill `rows` task by task, so that those measured before an interrupt are shown; the exit code."""
    try:
        for more in run(settings, lambda line: console.print(line, markup=False, highlight=False)):
            rows += more
    except BenchmarkError as error:
        console.print(f"stopped: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted: the table has what was measured until then")
        return 130
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("var/bench"), help="where models and mergekit are kept")
    parser.add_argument("--quick", action="store_true", help=f"a model of {QUICK.name} parameters, not {FULL.name}")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each after the warm-up")
    parser.add_argument("--peer", choices=["mergekit", "none"], default="mergekit")
    parser.add_argument("--methods", type=lambda text: text.split(","), help="such as linear,ties; all unless given")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds after which one run is given up")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        data=options.data.absolute(),
        shape=QUICK if options.quick else FULL,
        rounds=max(options.rounds, 1),
        timeout_s=options.timeout,
        methods=options.methods,
        with_peer=options.peer != "none",
    )


def _tests_are_green(console: Console) -> bool:
    console.print(f"running {' and '.join(TESTS)} first")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *TESTS]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def _introduce(machine: Machine, settings: Settings, console: Console) -> None:
    console.print(machine.describe(), markup=False, highlight=False)
    for warning in machine.warnings((FINETUNES + 2) * settings.shape.file_bytes):
        console.print(f"warning: {warning}", style="yellow", highlight=False)


if __name__ == "__main__":
    # As an interrupt, so that the program being timed is ended too and what it wrote is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
