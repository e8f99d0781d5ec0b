"""`stockpot methods`: everything that the catalogue says, in words and as JSON."""

import json

from typer.testing import CliRunner

from app.command import command
from merge_core.methods import catalogue


def shown(*options: str) -> str:
    result = CliRunner().invoke(command, ["methods", *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_every_method_has_its_formula_parameters_defaults_source_and_whether_it_streams() -> None:
    parts = dict(zip([entry["name"] for entry in catalogue()], _entries(shown()), strict=True))
    for entry in catalogue():
        text = parts[entry["name"]]
        assert text.startswith(f"{entry['name']}: {entry['formula']}\n")
        assert f"    {entry['source']}\n" in text
        assert ("    streams\n" in text) == entry["streams"]
        for field in entry["parameters"]:
            assert f"\n    {field} = " in text
        assert (entry["statistic"] or "") in text


def _entries(text: str) -> list[str]:
    """One for each line that is not indented."""
    entries: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith(" "):
            entries[-1] += line
        else:
            entries.append(line)
    return entries


def test_choices_ranges_and_words_are_those_of_recipes() -> None:
    text = shown()
    assert "    density = 1.0  (from 0 to 1)\n" in text
    assert "    aggregate = mean  (mean, sum, max)\n" in text
    assert "    normalize = true  (true, false)\n" in text
    assert "    t = none  (from 0 to 1 or none)\n" in text
    assert "    reads fisher.safetensors beside each input" in text


def test_as_json_it_is_the_catalogue() -> None:
    assert json.loads(shown("--json")) == catalogue()
