"""`stockpot deltas` against a real service."""

import json

import httpx
from typer.testing import CliRunner

from app.command import command
from tests.app.api.conftest import Pot
from tests.app.api.test_compress import work_off
from tests.app.api.test_records import lora, model, publish_lora, publish_model, shown


def stockpot(pot: Pot, *arguments: str) -> str:
    result = CliRunner().invoke(command, ["deltas", *arguments, "--url", pot.url])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_deltas_are_listed_and_shown_with_their_base(client: httpx.Client, pot: Pot) -> None:
    publish_model(client, "org/base", model(0))
    publish_lora(client, "team/lora", lora(1), "org/base")
    publish_lora(client, "team/wrong", lora(1, width=7), "org/base")
    publish_lora(client, "team/other", lora(1, width=9), "never/heard-of")
    work_off(pot)
    record = shown(client, "team/lora")
    header, *lines = stockpot(pot, "list").splitlines()
    assert header.split()[:3] == ["id", "repo", "format"]
    rows = {line.split()[1]: line for line in lines}
    assert set(rows) == {"team/lora", "team/wrong", "team/other"}
    assert f"org/base@{record['base_commit'][:12]}" in rows["team/lora"]
    assert "refused" in rows["team/wrong"]
    assert "'never/heard-of', not known here" in rows["team/other"]
    assert len(stockpot(pot, "list", "--base", "org/base", "--repo", "team/lora").splitlines()) == 2
    assert {item["repo"] for item in json.loads(stockpot(pot, "list", "--json"))} == set(rows)
    assert json.loads(stockpot(pot, "show", record["id"], "--json")) == record
    text = stockpot(pot, "show", record["id"])
    assert "low_rank" in text
    assert "model.layer.weight" in text
    assert record["facts"]["files"][0]["sha256"] in text
    assert "is [8, 7], and [8, 6] there" in stockpot(pot, "show", shown(client, "team/wrong")["id"])
