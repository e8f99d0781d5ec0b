"""Anonymous memory of real merges: within what it was given, whatever the size of the model and however many inputs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from app.memory import PROCESS_BYTES
from merge_core.errors import CapacityError
from merge_core.methods import METHODS
from merge_core.plan import make_plan
from merge_core.recipe import Recipe
from merge_core.sources import folder_source
from tests.merge_core.building import mix
from tests.merge_core.oracles import TRIALS

# Methods that take adapters only, or statistics beside the weights, merge as others of these do.
STREAMING = [one for one in METHODS if one.reads != "matrix" and one.statistic is None and one.complete_inputs]
SIZES = {"small": (512, 512), "large": (4096, 1024)}
NOISE_BYTES = 2 << 20
"""What the sampler, small objects and pages that are given back late come to."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    draw = np.random.default_rng(0)
    for size, shape in SIZES.items():
        for name in ("base", *(f"m{number}" for number in range(9))):
            (folder / f"{size}-{name}").mkdir()
            tensors = {f"{part}.weight": draw.standard_normal(shape, dtype=np.float32) for part in "ab"}
            save_file(
                {key: value.astype(np.float16) for key, value in tensors.items()},
                folder / f"{size}-{name}" / "model.safetensors",
            )
    return folder


def recipe(method: Any, size: str, count: int, **fields: Any) -> dict[str, Any]:
    names = [f"{size}-m{number}" for number in range(count)]
    settings = {"name": method.title(), **TRIALS[method.title()][0].settings}
    return mix(*names, base=f"{size}-base", method=settings, **fields)


def need_of(root: Path, wish: dict[str, Any]) -> int:
    return PROCESS_BYTES + make_plan(Recipe.parse(wish), lambda name: folder_source(name, root)).memory_bytes


def measured(root: Path, cases: list[tuple[dict[str, Any], int]]) -> list[tuple[int, int]]:
    """Anonymous memory before each merge and at most, all in one process."""
    command = [sys.executable, "-m", "tests.merge_core.measured_merges", str(root)]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [(before, peak) for before, peak in json.loads(done.stdout)]


def test_no_streaming_method_takes_more_memory_than_it_is_given(root: Path) -> None:
    """The least that planning accepts, for a small model, one sixteen times as large, and many inputs.

    The very first merge also loads what every process loads, and a first one of each method its own kernels: of those
    that are asked for twice the second counts.
    """
    cases, names = [], []
    for method in STREAMING:
        most = min(method.most_inputs or 9, 9)
        fewest = min(max(method.fewest_inputs, 2), most)
        for size, count in 2 * (("small", fewest), ("large", fewest), ("small", most)):
            wish = recipe(method, size, count)
            cases.append((wish, need_of(root, wish)))
            names.append(f"{method.title()}, {size}, {count} inputs")
    found = zip(names, measured(root, cases), cases, strict=True)
    over = {name: peak - before - need + PROCESS_BYTES for name, (before, peak), (_, need) in list(found)[1:]}
    assert {name: nbytes for name, nbytes in over.items() if nbytes > NOISE_BYTES} == {}


def test_a_whole_process_takes_no_more_than_the_least_that_planning_accepts(root: Path) -> None:
    [ties] = [method for method in METHODS if method.title() == "ties"]
    wish = recipe(ties, "large", 9)
    need = need_of(root, wish)
    [(_, peak)] = measured(root, [(wish, need)])
    assert peak <= need


@pytest.mark.parametrize("kind", ["patch", "dense"])
def test_a_patch_is_compared_and_copied_in_little_memory(root: Path, kind: str) -> None:
    [linear] = [method for method in METHODS if method.title() == "task_arithmetic"]
    wishes = [recipe(linear, size, 1, output={"kind": kind}, tensors=[{"match": "a*", "take": 0}]) for size in SIZES]
    _, *found = measured(root, [(wish, need_of(root, wish)) for wish in [wishes[0], *wishes]])
    for (before, peak), wish in zip(found, wishes, strict=True):
        assert peak - before <= need_of(root, wish) - PROCESS_BYTES + NOISE_BYTES


def test_one_byte_less_than_is_needed_is_refused_with_the_need_of_the_whole_process(root: Path) -> None:
    [ties] = [method for method in METHODS if method.title() == "ties"]
    wish = recipe(ties, "small", 2)
    need = need_of(root, wish)
    with pytest.raises(
        CapacityError, match=rf"tensor 'a.weight': ties needs more memory.*found {need} bytes.*{need - 1}"
    ):
        make_plan(Recipe.parse(wish), lambda name: folder_source(name, root), need - 1, PROCESS_BYTES)
