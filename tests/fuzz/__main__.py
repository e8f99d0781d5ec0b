"""`python -m tests.fuzz [--seconds 600] [TARGET…]`: coverage-guided, each target in a process of its own.

Inputs that are worth keeping lie in `fuzz-corpus/TARGET`, and begin the next run; an input that crashes, hangs or
takes too much memory is left in `fuzz-corpus/TARGET.found`. Needs atheris (libFuzzer), which is for Linux.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 10
MOST_MEBIBYTES = 2048


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--corpus", type=Path, default=ROOT / "fuzz-corpus")
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    wanted = parser.parse_args()
    share = max(wanted.seconds // len(wanted.targets), 1)
    failed = [name for name in wanted.targets if not _fuzzed(name, wanted.corpus, share)]
    print(
        f"\n{len(wanted.targets)} targets, {share} s each: "
        + (f"failed {', '.join(failed)}" if failed else "no fault found")
    )
    return 1 if failed else 0


def _fuzzed(name: str, corpus: Path, seconds: int) -> bool:
    kept, found = corpus / name, corpus / f"{name}.found"
    for folder in (kept, found):
        folder.mkdir(parents=True, exist_ok=True)
    for position, seed in enumerate(TARGETS[name].seeds()):
        (kept / f"seed-{position}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MOST_MEBIBYTES}",
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "tests.fuzz.one", name, *options, f"-artifact_prefix={found}/", str(kept)]
    print(f"== {name}", flush=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
