"""Real models with real tokenizers of three kinds: what transformers loads, token by token against an oracle."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from merge_core.execute import execute
from tests.merge_core.building import loaded, mix, planned

SPECIAL = ["[UNK]", "[PAD]"]
TEXT = "ab cd abc de"


def _bpe(letters: str, joined: list[tuple[str, str]]) -> Any:
    words = [*SPECIAL, *letters, *("".join(pair) for pair in joined)]
    return models.BPE({word: number for number, word in enumerate(words)}, joined, unk_token="[UNK]")


def _word_piece(letters: str, joined: list[tuple[str, str]]) -> Any:
    words = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *("".join(pair) for pair in joined)]
    return models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]")


def _unigram(letters: str, joined: list[tuple[str, str]]) -> Any:
    words = [*SPECIAL, *letters, *("".join(pair) for pair in joined)]
    return models.Unigram([(word, -float(number)) for number, word in enumerate(words)], unk_id=0)


def _gpt2(rows: int) -> Any:
    config = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16, "bos_token_id": 1, "eos_token_id": 1}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=rows, **config))


def _bert(rows: int) -> Any:
    config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=rows, max_position_embeddings=16, **config))


def _t5(rows: int) -> Any:
    config = {"d_model": 8, "num_layers": 1, "num_heads": 2, "d_ff": 12, "d_kv": 4, "decoder_start_token_id": 1}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=rows, **config))


@dataclass(frozen=True)
class Kind:
    """`tokenwise` are the tensors with a row for each token."""

    model: Callable[[int], Any]
    words: Callable[[str, list[tuple[str, str]]], Any]
    tokenwise: tuple[str, ...]


KINDS = {
    "gpt2": Kind(_gpt2, _bpe, ("transformer.wte.weight",)),
    "bert": Kind(_bert, _word_piece, ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias")),
    "t5": Kind(_t5, _unigram, ("shared.weight",)),
}
MODELS: dict[str, tuple[str, list[tuple[str, str]], list[str]]] = {
    "one": ("abcd", [("a", "b")], []),
    "two": ("decba", [("c", "d"), ("d", "e")], ["<chat>"]),
}


def _write(kind: Kind, folder: Path, seed: int) -> None:
    letters, joined, added = MODELS[folder.name]
    tokenizer = Tokenizer(kind.words(letters, joined))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_tokens([AddedToken(text, special=True) for text in added])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind.model(len(fast))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.1)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


@pytest.mark.parametrize("name", KINDS)
def test_transformers_loads_a_union_and_finds_each_token_s_row(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    for seed, model in enumerate(MODELS):
        _write(kind, tmp_path / model, seed)
    recipe = mix("one", "two", method="linear", tokenizer={"source": "union"})
    execute(planned(tmp_path, recipe), tmp_path / "out", durable=False)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    numbers = {model: AutoTokenizer.from_pretrained(tmp_path / model).get_vocab() for model in MODELS}
    assert set(tokenizer.get_vocab()) == set(numbers["one"]) | set(numbers["two"])
    inputs = {model: load_file(tmp_path / model / "model.safetensors") for model in MODELS}
    found = loaded(tmp_path / "out")
    assert {key for key, value in found.items() if value.shape != inputs["one"][key].shape} == set(kind.tokenwise)
    for key in kind.tokenwise:
        for token, number in tokenizer.get_vocab().items():
            rows = [inputs[model][key][own[token]] for model, own in numbers.items() if token in own]
            assert torch.allclose(found[key][number], torch.stack(rows).mean(dim=0), atol=1e-6), (key, token)


@pytest.mark.parametrize("name", KINDS)
def test_the_result_answers_like_the_first_model_where_that_has_all_the_weight(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    for seed, model in enumerate(MODELS):
        _write(kind, tmp_path / model, seed)
    recipe = mix("one", "two", method="linear", weights=(1.0, 0.0), tokenizer={"pad_to_multiple_of": 8})
    execute(planned(tmp_path, recipe), tmp_path / "out", durable=False)
    logits, sizes = [], []
    for folder in (tmp_path / "one", tmp_path / "out"):
        model = type(kind.model(8)).from_pretrained(folder).eval()
        numbers = torch.tensor([[2, 3, 4, 5]])
        more = {"decoder_input_ids": numbers} if name == "t5" else {}
        logits.append(model(input_ids=numbers, **more).logits.detach())
        sizes.append(model.config.vocab_size)
    assert sizes[1] % 8 == 0
    assert torch.allclose(logits[0], logits[1][..., : sizes[0]], atol=1e-5)
