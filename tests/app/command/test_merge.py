"""`stockpot merge` and `stockpot plan` as processes: results, exit codes, messages, and what is left on disk."""

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from app.command.surveys import marked
from merge_core.sources import folder_source
from tests.app.command.conftest import Run, write_recipe

PAIR = [{"source": "math", "weight": 0.25}, {"source": "code", "weight": 0.75}]


def test_a_linear_soup_is_the_weighted_average(stockpot: Run, models: dict, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", method="linear", ingredients=PAIR)
    result = stockpot("merge", "r.yaml", "out")
    assert result.returncode == 0, result.stderr
    merged = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in merged.items():
        assert torch.equal(tensor, models["math"][name] * 0.25 + models["code"][name] * 0.75)


def test_the_output_has_config_and_card(stockpot: Run, models: dict, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", base="base", method="task_arithmetic", ingredients=PAIR, dtype="bfloat16")
    assert stockpot("merge", "r.yaml", "out").returncode == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`math` | 0.25" in card
    assert load_file(tmp_path / "out" / "model.safetensors")["layer.bias"].dtype == torch.bfloat16


def test_the_same_recipe_gives_the_same_file_on_one_and_two_threads(
    stockpot: Run, models: dict, tmp_path: Path
) -> None:
    write_recipe(tmp_path / "r.yaml", base="base", method={"name": "ties", "density": 0.3}, ingredients=PAIR)
    for threads in (1, 2):
        assert stockpot("merge", "r.yaml", f"out{threads}", "--threads", threads).returncode == 0
    files = [(tmp_path / f"out{threads}" / "model.safetensors").read_bytes() for threads in (1, 2)]
    assert files[0] == files[1]


def test_json_output_is_one_document(stockpot: Run, models: dict, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", method="linear", ingredients=PAIR)
    result = stockpot("merge", "r.yaml", "out", "--json")
    assert json.loads(result.stdout)["files"] == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": {"name": "ties", "densty": 0.2}}, ["method.densty", "density"]),
        ({"method": {"name": "tie"}}, ["method.name", "'tie'", "'ties'"]),
        ({"dtpye": "float32"}, ["dtpye", "'dtype'"]),
        ({"base": None}, ["base"]),
        ({"ingredients": [{"source": "maths"}]}, ["maths"]),
        ({"ingredients": [{"source": "math", "weight": float("nan")}]}, ["nan"]),
        ({"method": {"name": "ties", "density": 20}}, ["method.density", "20"]),
    ],
)
def test_a_wrong_recipe_is_refused_by_field(
    stockpot: Run, models: dict, tmp_path: Path, fields: dict, said: list[str]
) -> None:
    recipe = {"base": "base", "method": {"name": "ties", "density": 0.2}, "ingredients": PAIR} | fields
    write_recipe(tmp_path / "r.yaml", **recipe)
    before = sorted(tmp_path.iterdir())
    for command in (("merge", "r.yaml", "out"), ("plan", "r.yaml")):
        result = stockpot(*command)
        assert result.returncode == 2
        assert all(word in result.stderr for word in said), result.stderr
        assert "Traceback" not in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_nan_in_an_input_leaves_nothing_behind(stockpot: Run, models: dict, tmp_path: Path) -> None:
    raw = bytearray((tmp_path / "math" / "model.safetensors").read_bytes())
    raw[-4:] = b"\x00\x00\xc0\x7f"
    (tmp_path / "math" / "model.safetensors").write_bytes(raw)
    write_recipe(tmp_path / "r.yaml", base="base", method="task_arithmetic", ingredients=PAIR)
    before = sorted(tmp_path.iterdir())
    result = stockpot("merge", "r.yaml", "out")
    assert result.returncode == 2
    assert "layer." in result.stderr
    assert "finite" in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_an_existing_output_is_kept_unless_told(stockpot: Run, models: dict, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", method="linear", ingredients=PAIR)
    (tmp_path / "out").mkdir()
    stale = tmp_path / "out" / "model-00001-of-00002.safetensors"
    stale.write_bytes(b"stale")
    assert stockpot("merge", "r.yaml", "out").returncode == 2
    assert stale.read_bytes() == b"stale"
    assert stockpot("merge", "r.yaml", "out", "--overwrite").returncode == 0
    assert not stale.exists()


def test_errors_come_as_json_for_scripts(stockpot: Run, models: dict, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", base="base", method="tiess", ingredients=PAIR)
    result = stockpot("plan", "r.yaml", "--json")
    error = json.loads(result.stderr)
    assert error["error"] == "RecipeError"
    assert error["where"] == "method.name"


def test_the_plan_shows_files_memory_and_tensors(stockpot: Run, models: dict, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", base="base", method="ties", ingredients=PAIR, output={"max_shard_bytes": 1000})
    plan = json.loads(stockpot("plan", "r.yaml", "--json").stdout)
    assert {file["path"] for file in plan["files"]} >= {
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
    }
    assert plan["memory_bytes_per_thread"] > 0
    assert "layer.weight" in stockpot("plan", "r.yaml", "--tensors").stdout


def test_a_merge_imports_neither_torch_nor_a_web_server(stockpot: Run, models: dict, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", method="linear", ingredients=PAIR)
    result = stockpot("merge", "r.yaml", "out", env={"PYTHONPROFILEIMPORTTIME": "1", "HOME": str(tmp_path)})
    imported = {
        line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")
    }
    assert "numba" in imported
    assert not imported & {"torch", "fastapi", "sqlalchemy", "redis"}


def test_memory_that_is_too_small_is_refused_with_the_need(stockpot: Run, models: dict, tmp_path: Path) -> None:
    write_recipe(tmp_path / "r.yaml", method="linear", ingredients=PAIR)
    result = stockpot("merge", "r.yaml", "out", "--memory", "1kB")
    assert result.returncode == 2
    assert "layer." in result.stderr
    assert "1000" in result.stderr


def test_what_surveys_find_is_kept_in_a_folder_and_gives_the_same_bytes(
    stockpot: Run, models: dict, tmp_path: Path
) -> None:
    def settled() -> bool:
        return all(len(marked(folder_source(name, tmp_path)).marks) == 2 for name in models)

    deadline = time.monotonic() + 20
    while not settled():
        assert time.monotonic() < deadline, "files keep changing"
        time.sleep(0.05)
    write_recipe(tmp_path / "r.yaml", base="base", method={"name": "ties", "density": 0.3}, ingredients=PAIR)
    for out in ("without", "first", "again"):
        option = () if out == "without" else ("--surveys", "kept")
        assert stockpot("merge", "r.yaml", out, *option).returncode == 0
        if out == "first":
            before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    files = {(tmp_path / out / "model.safetensors").read_bytes() for out in ("without", "first", "again")}
    assert len(files) == 1
    assert len(before) == 2
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == before
