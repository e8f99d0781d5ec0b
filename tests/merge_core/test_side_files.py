"""What goes along with the weights: configs with the right dtype, no code, and a card that nothing breaks out of."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from merge_core.errors import FileError
from merge_core.recipe import Recipe
from merge_core.side_files import MOST_BYTES, card, carried_files
from merge_core.sources import folder_source


def carried(folder: Path, files: dict[str, str], dtype: str = "same") -> dict[str, bytes]:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    recipe = Recipe.parse({"method": "linear", "ingredients": [{"source": "a"}], "dtype": dtype})
    return carried_files(folder_source(str(folder)), recipe)


def test_configs_and_tokenizers_are_carried_as_they_are(tmp_path: Path) -> None:
    files = dict.fromkeys(("config.json", "tokenizer.json", "vocab.txt", "merges.txt", "x/y.json", "t.model"), "{}")
    assert carried(tmp_path, files) == {name: content.encode() for name, content in sorted(files.items())}


LEFT = [
    "modeling.py",
    "pytorch_model.bin",
    "optimizer.pt",
    "training_args.pkl",
    "run.sh",
    ".hidden.json",
    "README.md",
    "adapter_config.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "model.safetensors",
    "model.safetensors/x.json",
    "README.md/x.json",
]


@pytest.mark.parametrize("name", LEFT)
def test_code_pickles_and_what_speaks_of_other_weights_stay_behind(name: str, tmp_path: Path) -> None:
    assert list(carried(tmp_path, {name: "{}", "config.json": "{}"})) == ["config.json"]


def test_the_config_gets_the_outputs_dtype_inside_too(tmp_path: Path) -> None:
    config = {
        "torch_dtype": "float32",
        "text_config": {"dtype": "float32", "note": "ü"},
        "quantization_config": {"dtype": "int8"},
        "layers": [1],
    }
    content = json.loads(carried(tmp_path, {"config.json": json.dumps(config)}, "bfloat16")["config.json"])
    assert content == config | {"torch_dtype": "bfloat16", "text_config": {"dtype": "bfloat16", "note": "ü"}}


def test_a_config_with_half_a_surrogate_is_written_as_it_was_meant(tmp_path: Path) -> None:
    content = carried(tmp_path, {"config.json": r'{"dtype": "float32", "x": "\ud800"}'}, "float16")["config.json"]
    assert json.loads(content) == {"dtype": "float16", "x": "\ud800"}


@pytest.mark.parametrize("content", ["[]", "{", '{"a_config":' * 5000 + "{}" + "}" * 5000])
def test_a_config_that_cannot_be_rewritten_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"^config\.json: "):
        carried(tmp_path, {"config.json": content}, "bfloat16")


def test_more_bytes_than_tokenizers_have_are_refused(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(MOST_BYTES // 2 + 1)
    with pytest.raises(FileError, match=r"^b\.json: too large.*bytes up to this one; expected at most"):
        carried(tmp_path, {})


HOSTILE = [
    "```\n# Mine",
    "a`b",
    "a|b",
    "a\\|b",
    "a\\",
    "<script>alert(1)</script>",
    "![x](http://tracker.example)",
    "---\nlicense: mit",
    '"\nlicense: mit',
    "a\r\nb\u2028c\x85d",
    "\x7f\x1b[31m",
    "\u202egnp.exe",
    "😀",
    "&lt;",
]


def sections(text: str) -> tuple[dict[str, object], list[str], dict[str, object]]:
    """Front matter, the lines in between, and the recipe inside the fence."""
    _, front, rest = text.split("---\n", 2)
    body, fenced = rest.split("\n```json\n")
    assert fenced.endswith("\n```\n")
    return yaml.safe_load(front), body.split("\n"), json.loads(fenced.removesuffix("```\n"))


def carded(name: str, note: str = "") -> str:
    recipe = {"base": name, "method": "task_arithmetic", "ingredients": [{"source": name, "weight": 0.5}]}
    return card(Recipe.parse(recipe), (note,) if note else ()).decode()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_in_its_place_in_the_card(name: str) -> None:
    front, body, recipe = sections(carded(name, f"tensor '{name}' is new"))
    assert set(front) == {"base_model", "library_name", "tags"}
    assert recipe["base"] == name
    assert [line for line in body if line.startswith("#")] == ["# Composition", "## Notes", "## Recipe"]
    assert [line.count("|") for line in body if line.startswith("|")] == [4, 4, 4, 4]
    assert not any("<" in line.replace(r"\<", "") for line in body if not line.startswith("|"))
    assert not any("![" in line for line in body if not line.startswith("|"))
    assert carded(name).isprintable() or all(c.isprintable() or c == "\n" for c in carded(name))


@given(name=st.text(min_size=1, max_size=30), note=st.text(min_size=1, max_size=30))
def test_any_name_and_note_leave_the_card_as_it_is_built(name: str, note: str) -> None:
    front, body, recipe = sections(carded(name, note))
    plain_front, plain_body, _ = sections(carded("a", "b"))
    assert (set(front), len(body), recipe["base"]) == (set(plain_front), len(plain_body), name)
    assert all(line.count("`") == 2 for line in body if line.startswith(("| base", "| ingredient")))


def test_the_card_gives_the_recipe_back() -> None:
    _, _, recipe = sections(carded("team/base@main"))
    assert Recipe.parse(recipe).base == "team/base@main"
