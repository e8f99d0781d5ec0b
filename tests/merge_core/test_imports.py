"""Every module of merge_core can be the first that a program imports; what merging can do without stays out."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from merge_core.methods import METHODS
from tests.merge_core.building import mix, write_model
from tests.merge_core.oracles import TRIALS

ROOT = Path(__file__).resolve().parents[2]
EACH_FIRST = """
import importlib, sys
come_along = {"": ()}
for name in sys.argv[1:]:
    package = name.rpartition(".")[0]
    come_along[name] = come_along[package]
    if name in come_along[package]:  # it comes with its package, which is always imported before it
        continue
    for module in [module for module in sys.modules if module.split(".")[0] == "merge_core"]:
        del sys.modules[module]
    importlib.import_module(name)
    come_along[name] = set(sys.modules)
    print(name)
"""


def test_every_module_can_be_imported_before_the_others() -> None:
    modules = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "merge_core").rglob("*.py"))]
    names = [".".join(module.parts).removesuffix(".__init__") for module in modules]
    done = subprocess.run(
        [sys.executable, "-c", EACH_FIRST, *names], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"merge_core", "merge_core.plan", "merge_core.methods"} <= set(done.stdout.split()) <= set(names)


MERGES = """
import json, sys
from pathlib import Path
from tempfile import TemporaryDirectory
from merge_core.execute import execute
from merge_core.plan import make_plan
from merge_core.recipe import Recipe
from merge_core.sources import folder_source
for recipe in json.load(sys.stdin):
    with TemporaryDirectory() as out:
        plan = make_plan(Recipe.parse(recipe), lambda name: folder_source(name, Path(sys.argv[1])))
        execute(plan, Path(out), durable=False)
    if "scipy.linalg" in sys.modules and len(sys.argv) > 2:
        sys.exit(f"{recipe['method']} has loaded scipy.linalg")
"""


def test_no_method_loads_a_library_that_only_compiling_needs(tmp_path: Path) -> None:
    """It takes longer than a small merge. A cached kernel that asks a whole array something has numba load it."""
    recipes = []
    for method in METHODS:
        trial = TRIALS[method.title()][0]
        names = [f"m{number}" for number in range(len(trial.weights))]
        if method.statistic is None and method.complete_inputs:
            recipes.append(mix(*names, base="base", method={"name": method.title(), **trial.settings}))
    for name in ("base", *(f"m{number}" for number in range(9))):
        tensors = {"a": torch.randn(8, 1024), "b": torch.randn(40)}
        write_model(tmp_path / name, {key: value.bfloat16() for key, value in tensors.items()})
    command = [sys.executable, "-c", MERGES, str(tmp_path)]
    for arguments in ([], ["asked"]):  # the first compiles what is not on disk yet, for which it is loaded
        done = subprocess.run(
            command + arguments, cwd=ROOT, input=json.dumps(recipes), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
