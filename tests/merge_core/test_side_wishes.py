"""The tokenizer and the chat template that go along with a result."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import torch

from merge_core.chat_templates import NAMED
from merge_core.errors import InputError, StockpotError
from merge_core.mergekit import translate
from merge_core.recipe_vocabulary import Vocabulary
from tests.merge_core.building import mix, planned, write_model

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "Bye"},
]

RENDERED = {
    "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    "<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s> [INST] Be kind.\n\nHello [/INST] Hi</s> [INST] Bye [/INST]",
    "alpaca": "Be kind.\n\n### Instruction:\nHello\n\n### Response:\nHi\n\n### Instruction:\nBye\n\n### Response:\n",
    "exaone": "[|system|]Be kind.[|endofturn|]\n[|user|]Hello\n"
    "[|assistant|]Hi[|endofturn|]\n[|user|]Bye\n[|assistant|]",
}


def _model(folder: Path, words: dict[str, int] | None, template: str = "") -> str:
    source = write_model(folder, {"w": torch.ones(2)})
    if words is not None:
        added = [{"id": 9, "content": "<s>"}]
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}, "added_tokens": added}))
        config = {"name": folder.name} | ({"chat_template": template} if template else {})
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return source


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _model(tmp_path / "a", {"x": 0, "y": 1}, "{A}")
    _model(tmp_path / "b", {"x": 0, "y": 1}, "{B}")
    _model(tmp_path / "c", {"x": 0, "y": 1}, "{B}")
    _model(tmp_path / "other", {"x": 1, "y": 0})
    _model(tmp_path / "bare", None)
    return tmp_path


def _config(root: Path, *names: str, **recipe: Any) -> dict[str, Any]:
    files = planned(root, mix(*names, method="linear", **recipe)).side_files
    return dict(json.loads(files["tokenizer_config.json"]))


def test_the_tokenizer_is_the_one_that_was_asked_for(root: Path) -> None:
    assert _config(root, "a", "b")["name"] == "a"
    assert _config(root, "a", "b", tokenizer="b")["name"] == "b"
    assert _config(root, "bare", "a", tokenizer="c")["name"] == "c"


@pytest.mark.parametrize(
    ("names", "tokenizer", "words"),
    [
        (("a", "other"), "a", "token 'x' has number 1 in 'other', 0 in 'a'"),
        (("a", "b"), "other", "vocabularies differ"),
        (("a", "b"), "bare", "no tokenizer"),
        (("a", "b"), "none", "no such folder"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(
    root: Path, names: tuple[str, ...], tokenizer: str, words: str
) -> None:
    with pytest.raises(StockpotError, match=words):
        _config(root, *names, tokenizer=tokenizer)


def test_a_broken_vocabulary_is_refused(root: Path) -> None:
    (root / "b" / "tokenizer.json").write_text('{"model": {"vocab": {"x": []}}}')
    with pytest.raises(InputError, match="not a vocabulary"):
        _config(root, "a", "b", tokenizer="a")


def test_a_template_is_put_where_readers_look(root: Path) -> None:
    (root / "a" / "chat_template.jinja").write_text("{old}")
    plan = planned(root, mix("a", method="linear", chat_template="{new}"))
    assert json.loads(plan.side_files["tokenizer_config.json"])["chat_template"] == "{new}"
    assert "chat_template.jinja" not in plan.side_files


def test_auto_takes_the_template_that_most_have(root: Path) -> None:
    assert _config(root, "a", "b", "c", chat_template="auto")["chat_template"] == "{B}"
    assert _config(root, "other", chat_template="auto").get("chat_template") is None


def test_a_template_of_no_known_name_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="'chatml'"):
        _config(root, "a", chat_template="chatmll")
    with pytest.raises(InputError, match="no tokenizer for the template"):
        _config(root, "bare", chat_template="chatml")


@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_templates_give_the_formats_of_their_models(name: str) -> None:
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(NAMED[name])
    found = template.render(messages=MESSAGES, add_generation_prompt=True, bos_token="<s>", eos_token="</s>")
    assert found == RENDERED[name]


MERGE: dict[str, Any] = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}}]}


TOKENS = {
    "x": {"source": "a"},
    "y": {"source": {"kind": "zero"}, "force": True},
    "z": {"source": {"kind": "model_token", "model": "b", "token": "x"}},
}
RULES = (
    {"token": "x", "source": "a"},
    {"token": "y", "source": {"kind": "zero"}, "force": True},
    {"token": "z", "source": {"kind": "model_token", "model": "b", "token": "x"}},
)


@pytest.mark.parametrize(
    ("wish", "tokenizer"),
    [
        ({"tokenizer_source": "base"}, {"source": "base"}),
        ({"tokenizer_source": "union", "base_model": "c"}, {"source": "union"}),
        ({"tokenizer_source": "b"}, {"source": "b"}),
        ({"tokenizer": {"source": "b", "pad_to_multiple_of": 64}}, {"source": "b", "pad_to_multiple_of": 64}),
        ({"tokenizer": {"tokens": TOKENS}}, {"source": "union", "tokens": RULES}),
        ({}, None),
    ],
)
def test_mergekits_tokenizer_is_a_vocabulary(wish: dict[str, Any], tokenizer: dict[str, Any] | None) -> None:
    models = [*MERGE["models"], {"model": "c", "parameters": {"weight": 1}}]
    found = translate({**MERGE, "models": models} | wish).recipe.tokenizer
    assert found == (None if tokenizer is None else Vocabulary.model_validate(tokenizer))


@pytest.mark.parametrize(
    ("wish", "where"),
    [
        ({"tokenizer": {"source": "b"}, "tokenizer_source": "b"}, "tokenizer_source"),
        ({"tokenizer": {"tokens": {"x": {"force": True}}}}, "tokenizer.tokens.x"),
        (
            {"tokenizer": {"tokens": {"x": {"source": {"kind": "model_token", "model": "a"}}}}},
            "tokenizer.tokens.x.source",
        ),
        (
            {"tokenizer": {"tokens": {"x": {"source": {"kind": "model_token", "token": "b"}}}}},
            "tokenizer.tokens.x.source",
        ),
    ],
)
def test_what_is_wrong_with_tokens_is_named(wish: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as refused:
        translate(MERGE | wish)
    assert refused.value.where == where
