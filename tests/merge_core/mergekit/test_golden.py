"""What mergekit 0.1.5 itself made of each config, against what ours make of the same file, unchanged.

Inputs and outputs lie in tests/golden/mergekit: four Llamas of 4 layers and two adapters, and a config beside each
output; several documents in one file are mergekit-multi's.
"""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from merge_core.execute import execute
from merge_core.mergekit import read_yaml
from merge_core.mergekit.methods import PEERS
from merge_core.plan import make_plan
from merge_core.sources import folder_source
from tests.merge_core.building import loaded, relative_rms

GOLDEN = Path(__file__).parents[2] / "golden" / "mergekit"
CASES = sorted(path.stem for path in GOLDEN.glob("*.yml"))

TOLERANCE = {torch.float32: 5e-7, torch.float16: 4e-4, torch.bfloat16: 6e-3}
"""float32, float16: the roundings of both sides. bfloat16: mergekit rounds after each of some four steps, we once."""


def test_there_is_a_case_for_every_method() -> None:
    methods = {document["merge_method"] for name in CASES for document in yaml.safe_load_all(_text(name))}
    assert methods == set(PEERS)


@pytest.mark.parametrize("name", CASES)
def test_a_config_gives_what_mergekit_makes_of_it(name: str, tmp_path: Path) -> None:
    wish = read_yaml(_text(name))
    plan = make_plan(wish.recipe, lambda source: folder_source(source, GOLDEN / "models"))
    execute(plan, tmp_path, durable=False)
    found, expected = loaded(tmp_path), load_file(GOLDEN / f"{name}.safetensors")
    assert set(found) == set(expected)
    for tensor, theirs in expected.items():
        assert found[tensor].dtype == theirs.dtype
        assert relative_rms(found[tensor], theirs) < TOLERANCE[theirs.dtype], tensor


def _text(name: str) -> bytes:
    return (GOLDEN / f"{name}.yml").read_bytes()
