"""Adapters of different forms in one recipe, over weights of many chunks."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from merge_core.errors import CapacityError
from merge_core.execute import execute
from tests.merge_core.building import Tensors, built, file_hashes, mix, planned, relative_rms
from tests.merge_core.making import Model, save_peft

KINDS: dict[str, peft.PeftConfig] = {
    "lora": peft.LoraConfig(r=3, target_modules=["wide", "square"]),
    "dora": peft.LoraConfig(r=3, target_modules=["wide", "square"], use_dora=True),
    "ia3": peft.IA3Config(target_modules=["wide", "square"], feedforward_modules=["square"]),
    "loha": peft.LoHaConfig(r=3, target_modules=["wide"]),
    "lokr": peft.LoKrConfig(r=3, target_modules=["wide", "square"]),
    "oft": peft.OFTConfig(oft_block_size=20, target_modules=["wide"]),
    "boft": peft.BOFTConfig(boft_block_size=20, target_modules=["square"]),
}
TOLERANCE = 1e-6
"""Relative RMS of sums of seven deltas, each rounded to float32 in between."""


class Wide(torch.nn.Module):
    """Weights of more than one chunk, one with rows that divide none."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = torch.nn.Linear(620, 300)
        self.square = torch.nn.Linear(300, 300)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixtures")
    for kind, config in KINDS.items():
        save_wide(root, kind, config)
    return root


def save_wide(root: Path, kind: str, config: peft.PeftConfig) -> None:
    """The adapter as `root`/`kind`, beside a base that is the same for all."""
    save_peft(_wide, root / f"{kind}.files", config)
    (root / kind).symlink_to(root / f"{kind}.files/adapter")
    if not (root / "base").exists():
        (root / "base").symlink_to(root / f"{kind}.files/base")


def _wide() -> Model:
    return Wide()


def merged(root: Path, *names: str, **settings: Any) -> Tensors:
    return built(root, mix(*names, **({"base": "base", "method": "task_arithmetic"} | settings)))


def test_a_sum_of_all_forms_is_the_sum_of_each(root: Path) -> None:
    base = load_file(root / "base/model.safetensors")
    alone = [merged(root, kind) for kind in KINDS]
    found = merged(root, *KINDS, weights=tuple([1.0] * len(KINDS)))
    for name, tensor in base.items():
        expected = tensor.double() + sum(one[name].double() - tensor.double() for one in alone)
        assert relative_rms(found[name], expected) < TOLERANCE


@pytest.mark.parametrize(
    "method", [{"name": "ties", "density": 0.3}, {"name": "dare_linear", "density": 0.5}, "linear"]
)
def test_every_number_of_threads_gives_the_same_bytes(method: object, root: Path, tmp_path: Path) -> None:
    plan = planned(root, mix(*KINDS, base="base", method=method))
    for threads in (1, 3):
        execute(plan, tmp_path / str(threads), threads=threads, durable=False)
    assert file_hashes(tmp_path / "1") == file_hashes(tmp_path / "3")


def test_a_nested_recipe_gives_its_inputs_whole_rows_too(root: Path) -> None:
    inner = mix("dora", "oft", base="base", method="task_arithmetic")
    outer = {"ingredients": [{"source": inner}], "base": "base", "method": "task_arithmetic"}
    flat, nested = built(root, inner), built(root, outer)
    assert all(relative_rms(nested[name], flat[name]) < TOLERANCE for name in flat)


def test_a_delta_that_reads_whole_rows_tells_its_memory_in_the_plan(root: Path) -> None:
    with pytest.raises(CapacityError, match=r"square\.weight|wide\.weight"):
        planned(root, mix("dora", base="base", method="task_arithmetic"), memory_bytes=100_000)
