"""One target under libFuzzer, in this process: `python -m tests.fuzz.one TARGET [libFuzzer's options]`."""

import sys
import tempfile
from pathlib import Path

import atheris

READERS = ["merge_core.formats", "merge_core.packing", "merge_core.deltas", "app.hub.xet"]

with atheris.instrument_imports(include=READERS):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as folder:
        atheris.Setup(sys.argv, lambda data: target.run(data, Path(folder)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
