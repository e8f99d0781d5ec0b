"""Every module of merge_core can be the first that a program imports."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EACH_FIRST = """
import importlib, sys
for name in sys.argv[1:]:
    for module in [module for module in sys.modules if module.split(".")[0] == "merge_core"]:
        del sys.modules[module]
    importlib.import_module(name)
"""


def test_every_module_can_be_imported_before_the_others() -> None:
    modules = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "merge_core").rglob("*.py"))]
    names = [".".join(module.parts).removesuffix(".__init__") for module in modules]
    done = subprocess.run(
        [sys.executable, "-c", EACH_FIRST, *names], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
