"""Publishes a base and three experts, composes them three ways, downloads and scores: `python -m tests.demo`."""

import argparse
import os
import shutil
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

OUTPUT = Path("demo-output")


def main() -> int:
    options = _options()
    _quiet_and_offline()
    # Only now: the libraries below read the environment when they are imported.
    import httpx
    from rich.console import Console

    from tests.demo.report import as_json, print_table
    from tests.demo.service import DemoError
    from tests.demo.walk import walk

    console = Console(stderr=options.json)
    start = time.perf_counter()
    with ExitStack() as stack:
        folder = _emptied(OUTPUT) if options.keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            rows = walk(folder.absolute(), console)
        except (DemoError, httpx.HTTPError) as error:
            console.print(f"the demo failed: {error}", markup=False)
            return 1
    print(as_json(rows)) if options.json else print_table(rows, console)
    console.print(f"done in {time.perf_counter() - start:.0f} s")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the scores as JSON, progress on stderr")
    parser.add_argument("--keep", action="store_true", help=f"leave data, log and downloads in ./{OUTPUT}")
    return parser.parse_args()


def _quiet_and_offline() -> None:
    # Nothing here may reach for the Hub: every file comes from a package or from the service.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Beside other work, threads that spin while they wait made scoring half as slow again.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # transformers announces a rename that peft has yet to follow; no call of ours is concerned.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
