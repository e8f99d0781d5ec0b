"""Models with different tokens in one recipe: where each row of the result comes from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from merge_core.deltas import Gathered
from merge_core.errors import InputError, RecipeError, StockpotError
from merge_core.execute import execute
from merge_core.planning.tensors import Merge
from tests.merge_core.building import built, file_hashes, loaded, mix, planned, write_adapter
from tests.merge_core.vocabulary.models import EMBEDDING, HEAD, LAYER, tokens_of, write, write_tokenizer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "p", 1.0, "abc")
    write(tmp_path / "q", 2.0, "cbd", added=("<q>",))
    write(tmp_path / "r", 4.0, "dae", rows=5)
    write(tmp_path / "same", 8.0, "abc")
    return tmp_path


def _rows(root: Path, recipe: dict[str, Any]) -> dict[str, float]:
    """The first column of the merged embedding by token; '' is the first row of padding."""
    numbers, merged = tokens_of(planned(root, recipe).side_files), built(root, recipe)
    assert torch.equal(merged[HEAD], -merged[EMBEDDING])
    column = merged[EMBEDDING][:, 0].tolist()
    padding = {"": column[len(numbers)]} if len(column) > len(numbers) else {}
    return {token: round(column[number], 5) for token, number in numbers.items()} | padding


def _linear(*names: str, **vocabulary: Any) -> dict[str, Any]:
    return mix(*names, method="linear", tokenizer=vocabulary)


def test_a_token_of_all_is_merged_and_one_that_some_lack_is_the_mean_of_the_rest(root: Path) -> None:
    found = _rows(root, _linear("p", "q", "r"))
    assert list(found) == ["a", "b", "c", "d", "e", "<q>"]
    assert found["c"] == pytest.approx((1.02 + 2.00 + (1.02 + 2.00) / 2) / 3, abs=1e-5)
    assert found["a"] == pytest.approx((1.00 + 4.01 + (1.00 + 4.01) / 2) / 3, abs=1e-5)
    assert found["e"] == pytest.approx(4.02, abs=1e-5)
    assert found["<q>"] == pytest.approx(2.03, abs=1e-5)


def test_the_base_fills_what_others_lack(root: Path) -> None:
    found = _rows(root, _linear("p", "q", "r", base="p"))
    assert found["a"] == pytest.approx((1.00 + 1.00 + 4.01) / 3, abs=1e-5)
    assert found["d"] == pytest.approx((2.02 + 4.00 + 3.01) / 3, abs=1e-5)


def test_deltas_of_what_a_model_lacks_are_zero(root: Path) -> None:
    recipe = mix("q", "r", method="task_arithmetic", base="p", tokenizer={})
    found = _rows(root, recipe)
    assert found["a"] == pytest.approx(1.00 + 0 + (4.01 - 1.00), abs=1e-5)
    assert found["e"] == pytest.approx(4.02, abs=1e-5)
    assert found["b"] == pytest.approx(1.01 + (2.01 - 1.01) + 0, abs=1e-5)


def test_the_base_s_tokens_are_all_that_is_kept_when_asked(root: Path) -> None:
    found = _rows(root, mix("q", "r", method="task_arithmetic", base="p", tokenizer={"source": "base"}))
    assert list(found) == ["a", "b", "c"]


def test_a_source_that_is_not_merged_says_which_tokens_there_are(root: Path) -> None:
    assert list(_rows(root, _linear("p", "same", source="q"))) == ["c", "b", "d", "<q>"]
    assert _rows(root, _linear("p", "same", source="q"))["d"] == 0.0


def test_rules_for_single_tokens(root: Path) -> None:
    tokens = [
        {"token": "a", "source": {"kind": "zero"}},
        {"token": "b", "source": "q", "force": True},
        {"token": "d", "source": {"kind": "model_token", "model": "r", "token": "e"}},
        {"token": "<new>", "source": {"kind": "model_token", "model": "p", "token_id": 2}},
        {"token": "<void>"},
    ]
    found = _rows(root, _linear("p", "q", tokens=tokens))
    assert found["a"] == pytest.approx((1.00 + 0) / 2, abs=1e-5)
    assert found["b"] == pytest.approx(2.01, abs=1e-5)
    assert found["d"] == pytest.approx((4.02 + 2.02) / 2, abs=1e-5)
    assert found["<new>"] == pytest.approx(1.02, abs=1e-5)
    assert found["<void>"] == 0.0


def test_rows_behind_the_tokens_are_the_mean_of_the_rest(root: Path) -> None:
    found = _rows(root, _linear("p", "q", pad_to_multiple_of=8))
    rest = [value for token, value in found.items() if token]
    assert found[""] == pytest.approx(sum(rest) / len(rest), abs=1e-5)
    assert json.loads(planned(root, _linear("p", pad_to_multiple_of=8)).side_files["config.json"])["vocab_size"] == 8


def test_only_what_has_a_row_for_each_token_is_put_in_order(root: Path) -> None:
    plan = planned(root, _linear("p", "q"))
    kinds = {name: tensor.inputs[0].kind for name, tensor in plan.tensors.items() if isinstance(tensor, Merge)}
    assert kinds == {EMBEDDING: "gathered", HEAD: "gathered", LAYER: "replacement"}


def test_models_with_the_same_tokens_are_merged_as_they_lie(root: Path) -> None:
    plan = planned(root, _linear("p", "same"))
    entries = [entry for tensor in plan.tensors.values() if isinstance(tensor, Merge) for entry in tensor.inputs]
    assert not any(isinstance(entry, Gathered) for entry in entries)
    assert plan.side_files["tokenizer.json"] == (root / "p" / "tokenizer.json").read_bytes()


def test_numbers_of_tokens_in_configs_follow_the_tokens(tmp_path: Path) -> None:
    write(
        tmp_path / "p", 1.0, "abc", eos_token_id=[0, 2], bos_token_id=1, pad_token_id=7, text_config={"vocab_size": 3}
    )
    (tmp_path / "p" / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "temperature": 2}))
    write(tmp_path / "q", 2.0, "cbd")
    files = planned(tmp_path, _linear("p", "q", source="q")).side_files
    config = json.loads(files["config.json"])
    assert (config["eos_token_id"], config["bos_token_id"], config["pad_token_id"]) == ([0], 1, 7)
    assert (config["vocab_size"], config["text_config"]) == (3, {"vocab_size": 3})
    assert json.loads(files["generation_config.json"]) == {"eos_token_id": 0, "temperature": 2}


def test_the_bytes_do_not_depend_on_threads_or_on_the_run(root: Path) -> None:
    recipe = mix("q", "r", method={"name": "ties", "density": 0.5}, base="p", tokenizer={"pad_to_multiple_of": 16})
    hashes = []
    for threads in (1, 2, 4, 2):
        out = root / f"out-{len(hashes)}"
        execute(planned(root, recipe), out, threads=threads, durable=False)
        hashes.append(file_hashes(out))
    assert hashes[0] == hashes[1] == hashes[2] == hashes[3]


def test_a_tensor_that_is_taken_is_in_the_order_of_the_result(root: Path) -> None:
    for take, value in (("base", 1.01), (0, 2.01)):
        rules = [{"match": "*embed*", "take": take}, {"match": "lm_head*", "take": take}]
        recipe = mix("q", method="task_arithmetic", base="p", tokenizer={"source": "r"}, tensors=rules)
        assert _rows(root, {**recipe, "tokenizer": {"source": "q"}})["b"] == pytest.approx(value, abs=1e-5)


def test_models_within_models_are_put_in_the_same_order(root: Path) -> None:
    thinned = {"base": "p", "method": {"name": "ties", "density": 1.0}, "ingredients": [{"source": "q"}]}
    recipe = {
        "base": "p",
        "method": "task_arithmetic",
        "ingredients": [{"source": thinned}, {"source": "r"}],
        "tokenizer": {},
    }
    plain = mix("q", "r", method="task_arithmetic", base="p", tokenizer={})
    assert _rows(root, recipe) == _rows(root, plain)


def test_an_inner_recipe_s_tokens_are_the_result_s_where_nobody_says_more(root: Path) -> None:
    inner = _linear("p", "q")
    outer = {"method": "linear", "ingredients": [{"source": inner}]}
    assert _rows(root, outer) == _rows(root, inner)


def test_an_adapter_leaves_embeddings_to_its_base(root: Path) -> None:
    factors = {"model.layers.0.mlp": (torch.ones(1, 2), torch.ones(2, 1))}
    write_adapter(root / "lora", factors)
    found = built(root, mix("lora", "q", method="task_arithmetic", base="p", tokenizer={}))
    assert found[LAYER].tolist() == [[1 + 1 + (2 - 1)] * 2] * 2
    assert _rows(root, mix("lora", "q", method="task_arithmetic", base="p", tokenizer={}))["a"] == 1.0


def test_a_model_without_a_tokenizer_is_taken_to_have_the_first_one_s(root: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (root / "same" / name).unlink()
    assert _rows(root, _linear("p", "same"))["a"] == pytest.approx((1 + 8) / 2)
    with pytest.raises(StockpotError, match="no tokenizer"):
        planned(root, _linear("q", "same"))


def test_float_types_and_shards_are_as_ever(root: Path, tmp_path: Path) -> None:
    recipe = {**_linear("p", "q"), "dtype": "bfloat16", "output": {"max_shard_bytes": 64}}
    plan = planned(root, recipe)
    execute(plan, tmp_path / "out", durable=False)
    found = loaded(tmp_path / "out")
    assert len(plan.shards) > 1
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}


def test_tokens_without_an_embedding_are_taken_out_of_the_base(tmp_path: Path) -> None:
    write(tmp_path / "p", 1.0, "ab", rows=2)
    write_tokenizer(tmp_path / "p", ["a", "b", "c", "ab", "ac"], ["<p>"], merges=[["a", "b"], "a c"])
    write(tmp_path / "q", 2.0, "ad")
    files = planned(tmp_path, _linear("p", "q")).side_files
    assert tokens_of(files) == {"a": 0, "b": 1, "d": 2}
    assert json.loads(files["tokenizer.json"])["model"]["merges"] == []
    for merges in ([3], [["a", 3]]):
        write_tokenizer(tmp_path / "p", ["a", "b", "c"], merges=merges)
        with pytest.raises(InputError, match="joins two words"):
            planned(tmp_path, _linear("p", "q"))
    write_tokenizer(tmp_path / "p", ["a", "b", "c"], type="WordPiece")
    with pytest.raises(InputError, match="BPE tokenizers only"):
        planned(tmp_path, _linear("p", "q"))


def test_every_file_that_lists_added_tokens_lists_the_new_ones(root: Path) -> None:
    (root / "p" / "added_tokens.json").write_text("{}")
    (root / "p" / "tokenizer_config.json").write_text('{"added_tokens_decoder": {}, "model_max_length": 9}')
    files = planned(root, _linear("p", "q")).side_files
    assert json.loads(files["added_tokens.json"]) == {"d": 3, "<q>": 4}
    config = json.loads(files["tokenizer_config.json"])
    assert config["model_max_length"] == 9
    assert [config["added_tokens_decoder"][key]["content"] for key in ("3", "4")] == ["d", "<q>"]
    assert [config["added_tokens_decoder"][key]["special"] for key in ("3", "4")] == [False, True]


def test_tokenizers_of_other_kinds_are_read_and_not_added_to(root: Path) -> None:
    (root / "same" / "tokenizer.json").unlink()
    (root / "same" / "vocab.txt").write_text("c\u2028\nb\na\n", encoding="utf-8")
    assert list(_rows(root, _linear("p", "same"))) == ["a", "b", "c", "c\u2028"]
    assert _rows(root, _linear("p", "same"))["a"] == pytest.approx((1.00 + 8.02) / 2, abs=1e-5)
    with pytest.raises(InputError, match="added to a tokenizer"):
        planned(root, _linear("same", "p"))
    (root / "same" / "vocab.txt").unlink()
    (root / "same" / "tokenizer.model").write_bytes(b"compiled")
    with pytest.raises(InputError, match="compiled"):
        planned(root, _linear("p", "same"))


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"model": null}',
        '{"model": {"vocab": {"a": -1}}}',
        '{"model": {"vocab": {"a": 1e3}}}',
        '{"model": {"vocab": {"a": 99999999999}}}',
        '{"model": {"vocab": [["a"]]}}',
        '{"model": {"vocab": {}}, "added_tokens": [{"content": "a"}]}',
        '{"model": {"vocab": {}}, "added_tokens": [3]}',
        '{"model": {"vocab": {}}, "added_tokens": [{"content": 3, "id": 0}]}',
        '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "b", "id": "x"}]}',
        '{"model": {"vocab": {"\\ud800": 0}}}',
        "[]",
    ],
)
def test_a_vocabulary_that_makes_no_sense_is_refused(root: Path, content: str) -> None:
    (root / "q" / "tokenizer.json").write_text(content)
    with pytest.raises(InputError) as refused:
        planned(root, _linear("p", "q"))
    assert "q" in str(refused.value)


TOKEN = {"kind": "model_token", "model": "p"}
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"sorce": "union"}, "tokenizer.sorce", "'source'"),
    ({"source": "nowhere"}, "source 'nowhere'", "no such folder"),
    ({"pad_to_multiple_of": 0}, "tokenizer.pad_to_multiple_of", "greater than or equal to 1"),
    ({"tokens": [{"token": "a"}, {"token": "a"}]}, "tokenizer.tokens[1].token", "twice"),
    ({"tokens": [{"token": "a", "force": True}]}, "tokenizer.tokens[0].source", "has a source"),
    ({"tokens": [{"token": "a", "source": TOKEN}]}, "tokenizer.tokens[0].source", "token or token_id"),
    ({"tokens": [{"token": "z", "source": "p"}]}, "tokenizer.tokens[0].source", "no such embedding"),
    ({"tokens": [{"token": "z", "source": {**TOKEN, "token": "y"}}]}, "tokenizer.tokens[0].source", "none for"),
    ({"tokens": [{"token": "z", "source": {**TOKEN, "token_id": 3}}]}, "tokenizer.tokens[0].source", "number 3"),
    ({"tokens": [{"token": "z", "source": "lora"}]}, "source 'lora'", "no embeddings"),
    ({"tokens": [{"token": "a", "source": {**TOKEN, "tokn": 1}}]}, "tokenizer.tokens[0].source.tokn", "'token'"),
    ({"tokens": [{"token": "a", "source": {"kind": "zero", "x": 1}}]}, "tokenizer.tokens[0].source.x", "'kind'"),
    ({"tokens": {"z": {}}}, "tokenizer.tokens", "a list"),
    ({"base": "lora"}, "source 'lora'", "no embeddings"),
]  # fmt: skip


@pytest.mark.parametrize(("vocabulary", "where", "words"), BAD)
def test_what_cannot_be_is_refused_in_planning(root: Path, vocabulary: dict[str, Any], where: str, words: str) -> None:
    write_adapter(root / "lora", {"model.layers.0.mlp": (torch.ones(1, 2), torch.ones(2, 1))})
    with pytest.raises(StockpotError, match=words) as refused:
        planned(root, _linear("p", "q", **vocabulary))
    assert refused.value.where == where


def test_embeddings_of_another_width_are_refused(root: Path) -> None:
    write(root / "wide", 1.0, "ab")
    save_file(
        {EMBEDDING: torch.ones(2, 4), HEAD: torch.ones(2, 4), LAYER: torch.ones(2, 2)}, root / "wide/model.safetensors"
    )
    with pytest.raises(InputError, match="do not fit each other"):
        planned(root, _linear("p", "wide"))


def test_an_adapter_that_changes_embeddings_is_refused_where_they_move(root: Path) -> None:
    write_adapter(root / "lora", {"lm_head": (torch.ones(1, 3), torch.ones(3, 1))})
    assert planned(root, mix("lora", "same", method="task_arithmetic", base="p", tokenizer={}))
    with pytest.raises(InputError, match="numbered anew") as refused:
        planned(root, mix("lora", "q", method="task_arithmetic", base="p", tokenizer={}))
    assert refused.value.where == f"tensor '{HEAD}'"


@pytest.mark.parametrize("kind", ["patch", "dense"])
def test_only_a_checkpoint_has_tokens(root: Path, kind: str) -> None:
    with pytest.raises(InputError, match="of a whole model"):
        planned(root, mix("q", method="task_arithmetic", base="p", tokenizer={}, output={"kind": kind}))


def test_an_inner_recipe_with_other_tokens_of_its_own_is_refused(root: Path) -> None:
    inner = _linear("p", "q")
    with pytest.raises(InputError, match="not numbered anew") as refused:
        planned(root, {"method": "linear", "ingredients": [{"source": inner}, {"source": "r"}], "tokenizer": {}})
    assert refused.value.where == "ingredients[0].source.tokenizer"
    alike = {"method": "linear", "ingredients": [{"source": _linear("p", "same")}], "tokenizer": {}}
    assert planned(root, alike)


@pytest.mark.parametrize("source", ["union", "base", "p"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_adapters_without_any_model_have_no_tokens(root: Path, source: str, is_nested: bool) -> None:
    write_adapter(root / "adapter", {"model.layers.0.mlp": (torch.ones(1, 3), torch.ones(3, 1))})
    adapters = mix("adapter", method="task_arithmetic")
    inside = {"method": "task_arithmetic", "ingredients": [{"source": adapters}]} if is_nested else adapters
    with pytest.raises(RecipeError, match=r"^tokenizer: .*found adapters and deltas only; expected a base"):
        planned(root, inside | {"tokenizer": {"source": source}})
    with pytest.raises(RecipeError):
        planned(root, adapters | {"tokenizer": {"source": source, "base": "p"}})
