"""What users of mergekit lose without a word: here it is refused in planning, or comes out right."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from app.command import command
from merge_core.errors import ConflictError, FileError, RecipeError, StockpotError
from merge_core.execute import execute
from merge_core.mergekit import translate
from merge_core.plan import Plan, make_plan
from merge_core.recipe import Recipe
from merge_core.sources import folder_source
from tests.merge_core.building import Tensors, file_hashes, loaded, relative_rms, write_model
from tests.merge_core.vocabulary.models import tokens_of
from tests.merge_core.vocabulary.models import write as write_vocabulary

LAYER = "model.layers.0.self_attn.q_proj.weight"
FLOAT8 = torch.float8_e4m3fn


def _model(folder: Path, tensors: Tensors, **config: object) -> None:
    write_model(folder, tensors)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 1, **config}))


def _config(method: str, *models: str, base: str | None = "base", **parameters: object) -> dict[str, Any]:
    own = {} if method in ("sce", "model_stock") else {"weight": 1.0}
    entries = [{"model": name, "parameters": own} for name in models]
    top = {} if base is None else {"base_model": base}
    return {"merge_method": method, "models": entries, "parameters": parameters, **top}


def _plan(root: Path, config: dict[str, Any]) -> Plan:
    return make_plan(translate(config).recipe, lambda name: folder_source(name, root))


def _built(root: Path, config: dict[str, Any], threads: int = 2) -> dict[str, torch.Tensor]:
    out = root / f"out-{threads}"
    execute(_plan(root, config), out, threads=threads, durable=False)
    return loaded(out)


def _normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_tensor_that_a_table_of_llamas_lacks_is_merged_all_the_same(tmp_path: Path) -> None:
    for name, value in (("base", 0.0), ("a", 2.0)):
        _model(
            tmp_path / name, {LAYER: torch.zeros(2, 2), "model.layers.0.self_attn.q_proj.bias": torch.full((2,), value)}
        )
    found = _built(tmp_path, _config("task_arithmetic", "a"))
    assert found["model.layers.0.self_attn.q_proj.bias"].tolist() == [2.0, 2.0]


def test_a_head_that_the_config_would_hide_is_refused(tmp_path: Path) -> None:
    embeddings = {"model.embed_tokens.weight": torch.ones(3, 2)}
    _model(tmp_path / "base", embeddings, tie_word_embeddings=True)
    _model(tmp_path / "a", embeddings | {"lm_head.weight": torch.ones(3, 2)}, tie_word_embeddings=False)
    with pytest.raises(RecipeError, match="written and never read") as refused:
        _plan(tmp_path, _config("task_arithmetic", "a"))
    assert refused.value.where == "tensor 'lm_head.weight'"


@pytest.mark.parametrize("holder", ["base", "a", "b"])
@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_head_that_only_some_of_tied_models_store_is_left_out(tmp_path: Path, holder: str, method: str) -> None:
    for name, value in (("base", 0.0), ("a", 2.0), ("b", 4.0)):
        embeddings = torch.full((3, 2), value)
        head = {"lm_head.weight": embeddings.clone()} if name == holder else {}
        _model(tmp_path / name, {"model.embed_tokens.weight": embeddings} | head, tie_word_embeddings=True)
    config = _config(method, "a", "b", base="base" if method == "task_arithmetic" else None)
    if method == "linear":
        config["models"].insert(0, {"model": "base", "parameters": {"weight": 1.0}})
    found = _built(tmp_path, config)
    assert list(found) == ["model.embed_tokens.weight"]
    assert (found["model.embed_tokens.weight"] == (6.0 if method == "task_arithmetic" else 2.0)).all()
    notes = [note for note in _plan(tmp_path, config).warnings if "lm_head.weight" in note]
    assert len(notes) == 1
    assert ("the base" if holder == "base" and method == "task_arithmetic" else f"'{holder}'") in notes[0]


def test_heads_that_all_tied_models_store_are_merged(tmp_path: Path) -> None:
    for model, value in (("base", 0.0), ("a", 2.0)):
        tensors = {name: torch.full((3, 2), value) for name in ("model.embed_tokens.weight", "lm_head.weight")}
        _model(tmp_path / model, tensors, tie_word_embeddings=True)
    found = _built(tmp_path, _config("task_arithmetic", "a"))
    assert (found["lm_head.weight"] == 2.0).all()


def test_a_head_that_a_rule_takes_stays(tmp_path: Path) -> None:
    embeddings, head = {"model.embed_tokens.weight": torch.ones(3, 2)}, torch.full((3, 2), 5.0)
    _model(tmp_path / "base", embeddings | {"lm_head.weight": head}, tie_word_embeddings=True)
    _model(tmp_path / "a", embeddings, tie_word_embeddings=True)
    rules = ({"match": "lm_head.*", "take": "base"},)
    recipe = {"base": "base", "method": "task_arithmetic", "ingredients": [{"source": "a"}], "tensors": rules}
    plan = make_plan(Recipe.parse(recipe), lambda name: folder_source(name, tmp_path))
    assert "lm_head.weight" in plan.tensors


def test_a_head_is_missed_where_a_model_is_not_tied(tmp_path: Path) -> None:
    embeddings = {"model.embed_tokens.weight": torch.ones(3, 2)}
    _model(tmp_path / "base", embeddings | {"lm_head.weight": torch.ones(3, 2)}, tie_word_embeddings=True)
    _model(tmp_path / "a", embeddings, tie_word_embeddings=False)
    with pytest.raises(RecipeError, match="the tensor is missing"):
        _plan(tmp_path, _config("task_arithmetic", "a"))


def test_float8_is_refused_for_its_scales_lie_elsewhere(tmp_path: Path) -> None:
    for name in ("base", "a"):
        _model(tmp_path / name, {LAYER: torch.ones(2, 2).to(FLOAT8), f"{LAYER}_scale": torch.ones(1)})
    with pytest.raises(RecipeError, match="float8_e4m3fn"):
        _plan(tmp_path, _config("ties", "a"))


def test_nan_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    _model(tmp_path / "base", {LAYER: torch.ones(2, 2)})
    _model(tmp_path / "a", {LAYER: torch.full((2, 2), float("nan"))})
    for method in ("linear", "ties", "dare_ties", "sce", "model_stock"):
        names = ("a", "base") if method == "linear" else ("a", "a2")
        _model(tmp_path / f"{method}-2", {LAYER: torch.ones(2, 2)})
        config = _config(method, names[0], f"{method}-2")
        config["models"] += [{"model": "base", "parameters": {"weight": 1.0}}] if method == "linear" else []
        with pytest.raises(FileError, match="not finite"):
            execute(_plan(tmp_path, config), tmp_path / "out", durable=False)
        assert not list((tmp_path / "out").glob("*"))


def test_shapes_that_differ_are_refused_and_never_cropped(tmp_path: Path) -> None:
    _model(tmp_path / "base", {"model.embed_tokens.weight": torch.ones(4, 2)})
    _model(tmp_path / "a", {"model.embed_tokens.weight": torch.ones(5, 2)})
    with pytest.raises(RecipeError, match=r"shapes differ.*source: union"):
        _plan(tmp_path, _config("linear", "a", "base"))


def test_the_donor_without_a_base_is_the_first_model(tmp_path: Path) -> None:
    for name in ("b", "a"):
        _model(tmp_path / name, {LAYER: torch.ones(2, 2)}, whose=name)
    for names in (("a", "b"), ("b", "a")):
        config = json.loads(_plan(tmp_path, _config("linear", *names, base=None)).side_files["config.json"])
        assert config["whose"] == names[0]


def test_a_second_run_leaves_nothing_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _model(tmp_path / "a", {LAYER: torch.ones(2, 2)})
    (tmp_path / "config.yml").write_text(yaml.safe_dump(_config("linear", "a", base=None)))
    old = tmp_path / "out"
    old.mkdir()
    (old / "model-00001-of-00002.safetensors").write_bytes(b"old")
    (old / "model.safetensors.index.json").write_text("{}")
    refused = CliRunner().invoke(command, ["merge", "config.yml", "out"])
    assert isinstance(refused.exception, ConflictError)
    assert CliRunner().invoke(command, ["merge", "config.yml", "out", "--overwrite"]).exit_code == 0
    assert sorted(path.name for path in old.iterdir()) == ["README.md", "config.json", "model.safetensors"]


DYING = """
import os, signal
from merge_core.sink import Sink
Sink.commit = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
from app.command import command
command()
"""


def test_a_crash_leaves_no_model_and_nothing_in_the_way_of_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _model(tmp_path / "a", {LAYER: torch.ones(2, 2)})
    (tmp_path / "config.yml").write_text(yaml.safe_dump(_config("linear", "a", base=None)))
    here = {"PYTHONPATH": str(Path(__file__).parents[3])}
    died = subprocess.run(
        [sys.executable, "-c", DYING, "merge", "config.yml", "out"], env=os.environ | here, check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(command, ["merge", "config.yml", "out"]).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della", "della_linear", "ties", "breadcrumbs_ties"])
def test_the_bytes_do_not_depend_on_threads(tmp_path: Path, method: str) -> None:
    for seed, name in enumerate(("base", "a", "b")):
        _model(tmp_path / name, {LAYER: _normal(seed, 300, 500).round(decimals=1)})
    config = _config(method, "a", "b", density=0.5)
    hashes = []
    for threads in (1, 2, 4):
        execute(_plan(tmp_path, config), tmp_path / f"out-{threads}", threads=threads, durable=False)
        hashes.append(file_hashes(tmp_path / f"out-{threads}"))
    assert hashes[0] == hashes[1] == hashes[2]


def test_arcee_fusion_samples_nothing(tmp_path: Path) -> None:
    """Of more than a million entries mergekit takes the quantiles of a sample, and seeds it with nothing."""
    for seed, name in enumerate(("base", "a")):
        _model(tmp_path / name, {LAYER: _normal(seed, 1001, 1000)})
    config = {"merge_method": "arcee_fusion", "base_model": "base", "models": [{"model": "a"}]}
    hashes = []
    for threads in (1, 2):
        execute(_plan(tmp_path, config), tmp_path / f"out-{threads}", threads=threads, durable=False)
        hashes.append(file_hashes(tmp_path / f"out-{threads}"))
    assert hashes[0] == hashes[1]


def test_models_draw_apart(tmp_path: Path) -> None:
    _model(tmp_path / "base", {LAYER: torch.zeros(40, 40)})
    for name in ("a", "b"):
        _model(tmp_path / name, {LAYER: torch.ones(40, 40)})
    values = _built(tmp_path, _config("dare_ties", "a", "b", density=0.5))[LAYER].unique().tolist()
    assert values == [0.0, 2.0, 4.0]


def test_of_equal_magnitudes_ties_keeps_the_first(tmp_path: Path) -> None:
    _model(tmp_path / "base", {LAYER: torch.zeros(8)})
    _model(tmp_path / "a", {LAYER: torch.tensor([1.0, -1.0] * 4)})
    assert _built(tmp_path, _config("ties", "a", density=0.5))[LAYER].tolist() == [1, -1, 1, -1, 0, 0, 0, 0]


@pytest.mark.parametrize("method", ["model_stock", "sce"])
def test_small_deltas_in_bfloat16_are_computed_in_float32(tmp_path: Path, method: str) -> None:
    base = _normal(0, 64, 64).bfloat16()
    tuned = [(base.float() + 0.002 * _normal(seed, 64, 64)).bfloat16() for seed in (1, 2)]
    for name, tensor in zip(("base", "a", "b"), (base, *tuned), strict=True):
        _model(tmp_path / name, {LAYER: tensor})
    exact = {"dtype": "float32"} | _config(method, "a", "b")
    found = _built(tmp_path, exact)[LAYER].double() - base.double()
    deltas = torch.stack([tensor.double() - base.double() for tensor in tuned])
    # What is left is the float32 of the sum with the base, whose values are some hundred times larger.
    assert relative_rms(found, _stock(deltas) if method == "model_stock" else _sce(deltas)) < 1e-2


@pytest.mark.parametrize("method", ["model_stock", "sce"])
def test_tiny_deltas_count_for_what_they_are(tmp_path: Path, method: str) -> None:
    """mergekit clamps products of norms at 1e-6, and gives equal shares where squares add up to less than that."""
    _model(tmp_path / "base", {LAYER: torch.zeros(4, 4)})
    shared = _normal(0, 4, 4)
    tuned = [1e-5 * (size * shared + _normal(seed, 4, 4)) for seed, size in ((1, 1.0), (2, 3.0))]
    for name, tensor in zip(("a", "b"), tuned, strict=True):
        _model(tmp_path / name, {LAYER: tensor})
    deltas = torch.stack(tuned).double()
    expected = _stock(deltas) if method == "model_stock" else _sce(deltas)
    assert relative_rms(_built(tmp_path, _config(method, "a", "b"))[LAYER], expected) < 1e-6


def _stock(deltas: torch.Tensor) -> torch.Tensor:
    cosine = torch.nn.functional.cosine_similarity(deltas[0].reshape(-1), deltas[1].reshape(-1), dim=0)
    return 2 * cosine / (1 + cosine) * deltas.mean(dim=0)


def _sce(deltas: torch.Tensor) -> torch.Tensor:
    shares = deltas.square().mean(dim=(1, 2))
    agree = deltas.sign() == torch.where(deltas.sum(dim=0) >= 0, 1.0, -1.0)
    weights = (shares / shares.sum())[:, None, None] * agree
    return (weights * deltas).sum(dim=0) / weights.sum(dim=0).clamp(min=1e-30)


def test_small_tensors_do_not_vanish_in_breadcrumbs(tmp_path: Path) -> None:
    _model(tmp_path / "base", {LAYER: torch.zeros(3)})
    _model(tmp_path / "a", {LAYER: torch.tensor([1.0, 3.0, 2.0])})
    assert _built(tmp_path, _config("breadcrumbs", "a", density=0.3))[LAYER].tolist() == [0, 3, 0]


def test_rows_of_one_entry_are_numbers_in_della(tmp_path: Path) -> None:
    _model(tmp_path / "base", {LAYER: torch.zeros(50, 1)})
    _model(tmp_path / "a", {LAYER: torch.ones(50, 1)})
    assert set(_built(tmp_path, _config("della", "a", density=0.5))[LAYER].unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(("method", "normalize"), [("linear", True), ("task_arithmetic", True), ("dare_linear", True)])
def test_weights_that_sum_to_nothing_are_refused(tmp_path: Path, method: str, normalize: bool) -> None:
    for name in ("base", "a", "b"):
        _model(tmp_path / name, {LAYER: torch.ones(2, 2)})
    config = _config(method, "a", "b", normalize=normalize)
    config["models"][1]["parameters"] = {"weight": -1.0}
    config["base_model"] = "base" if method != "linear" else "a"
    with pytest.raises(StockpotError, match="sum"):
        _plan(tmp_path, config)


def test_a_union_numbers_its_tokens_alike_every_time(tmp_path: Path) -> None:
    """mergekit walks over a set of models, so that the same config gives other rows from run to run."""
    for tag, (name, words) in enumerate((("p", "abc"), ("q", "xcay"), ("r", "zyb")), start=1):
        write_vocabulary(tmp_path / name, float(tag), words)
    config = _config("linear", "p", "q", "r", base=None) | {"tokenizer_source": "union"}
    assert list(tokens_of(_plan(tmp_path, config).side_files)) == ["a", "b", "c", "x", "y", "z"]


def test_a_token_that_is_new_may_be_added_to_the_base_s_tokens(tmp_path: Path) -> None:
    """mergekit adds it to the base's own list of tokens as well, and dies when it looks for its row."""
    for tag, name in enumerate(("p", "q")):
        write_vocabulary(tmp_path / name, float(tag), "abc")
    config = _config("linear", "p", "q", base=None)
    config["tokenizer"] = {"source": "base", "tokens": {"<new>": {"source": {"kind": "zero"}}}}
    assert _built(tmp_path, config)["lm_head.weight"][3].tolist() == [0.0, 0.0, 0.0]


def test_an_adapter_on_the_base_needs_no_merged_copy(tmp_path: Path) -> None:
    config = _config("ties", "base+lora", "other+lora")
    first, second = translate(config).recipe.ingredients
    assert first.source == "lora"
    assert translate(config).recipe.sources() == ["base", "lora", "other"]
    assert not isinstance(second.source, str)
