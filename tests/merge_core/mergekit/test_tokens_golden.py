"""What mergekit 0.1.5 itself made of models with differing vocabularies, against ours of the same file, unchanged.

Inputs, outputs and the script that made them lie in tests/golden/mergekit_tokens. mergekit numbers the tokens of
a union differently from run to run, so rows of embeddings and heads are compared by token.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from merge_core.execute import execute
from merge_core.mergekit import read_yaml
from merge_core.plan import make_plan
from merge_core.sources import folder_source
from tests.merge_core.building import loaded, relative_rms

GOLDEN = Path(__file__).parents[2] / "golden" / "mergekit_tokens"
CASES = sorted(path.stem for path in GOLDEN.glob("*.yml"))
BY_TOKEN = ("model.embed_tokens.weight", "lm_head.weight")

TOLERANCE = {torch.float32: 5e-7, torch.bfloat16: 3e-3}
"""float32: the roundings of both sides. bfloat16: one unit in the last place, where they fall apart."""


def build(name: str, folder: Path) -> None:
    wish = read_yaml((GOLDEN / f"{name}.yml").read_bytes())
    execute(make_plan(wish.recipe, lambda source: folder_source(source, GOLDEN / "models")), folder, durable=False)


@pytest.mark.parametrize("name", CASES)
def test_a_config_gives_every_token_the_embedding_that_mergekit_gives_it(name: str, tmp_path: Path) -> None:
    build(name, tmp_path)
    found, expected = loaded(tmp_path), load_file(GOLDEN / f"{name}.safetensors")
    ours = AutoTokenizer.from_pretrained(tmp_path).get_vocab()
    theirs = json.loads((GOLDEN / f"{name}.tokens.json").read_text())
    assert set(ours) == set(theirs)
    assert set(found) == set(expected)
    for tensor, value in expected.items():
        mine = found[tensor]
        assert (mine.shape, mine.dtype) == (value.shape, value.dtype), tensor
        if tensor in BY_TOKEN:
            padding = range(len(ours), len(mine))
            mine = mine[[*(ours[token] for token in sorted(ours)), *padding]]
            value = value[[*(theirs[token] for token in sorted(ours)), *padding]]
        assert relative_rms(mine, value) < TOLERANCE[value.dtype], tensor


@pytest.mark.parametrize("name", CASES)
def test_transformers_loads_what_comes_of_it(name: str, tmp_path: Path) -> None:
    build(name, tmp_path)
    tokenizer, model = AutoTokenizer.from_pretrained(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)
    numbers = tokenizer("he lo hell or ab</s>", return_tensors="pt").input_ids
    stored = loaded(tmp_path)["model.embed_tokens.weight"]
    assert model.config.vocab_size == len(stored) == len(model.get_input_embeddings().weight)
    assert len(tokenizer) <= len(stored) < len(tokenizer) + 32
    assert torch.equal(model.get_input_embeddings()(numbers)[0], stored[numbers[0]])
    assert tokenizer.convert_ids_to_tokens(model.config.eos_token_id) == "</s>"
    assert torch.isfinite(model(numbers).logits).all()
