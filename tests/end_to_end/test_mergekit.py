"""A mergekit file as it is, through the service and the command line: the same files, and transformers loads them."""

import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from app.command import command
from tests.end_to_end.conftest import Service
from tests.merge_core.building import loaded, raw
from tests.merge_core.vocabulary.models import tokens_of

GOLDEN = Path(__file__).parents[1] / "golden" / "mergekit_tokens"
NAMES = ("base", "x", "y")


def _config(prefix: str) -> str:
    """The document of `rules_linear`, its models found under `prefix`."""
    return re.sub(r"(model|source): (base|x|y)\b", rf"\1: {prefix}\2", (GOLDEN / "rules_linear.yml").read_text())


def test_a_mergekit_file_with_its_own_vocabulary_is_built_by_the_service_and_by_the_command_line(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        service.publish(GOLDEN / "models" / name, f"kit/{name}")
    kind = {"Content-Type": "application/yaml"}
    asked = service.http.post("/v1/compositions", params={"name": "soups/kit"}, content=_config("kit/"), headers=kind)
    assert asked.status_code == 202, asked.text
    assert service.finished(asked.json()["links"]["self"])["state"] == "done"
    remote = service.download("soups/kit", tmp_path / "remote")

    monkeypatch.chdir(GOLDEN / "models")
    (tmp_path / "config.yml").write_text(_config(""))
    ran = CliRunner().invoke(command, ["merge", str(tmp_path / "config.yml"), str(tmp_path / "local")])
    assert ran.exit_code == 0, ran.output

    there, here = loaded(remote), loaded(tmp_path / "local")
    assert {name: raw(tensor) for name, tensor in there.items()} == {name: raw(tensor) for name, tensor in here.items()}
    assert (remote / "tokenizer.json").read_bytes() == (tmp_path / "local" / "tokenizer.json").read_bytes()
    tokenizer, model = AutoTokenizer.from_pretrained(remote), AutoModelForCausalLM.from_pretrained(remote)
    assert tokenizer.get_vocab() == tokens_of({"tokenizer.json": (remote / "tokenizer.json").read_bytes()})
    assert model(**tokenizer("hello <new>", return_tensors="pt")).logits.shape[-1] == len(tokenizer)
