"""push, compose, pull and jobs against a running service."""

import json
import subprocess
import sys
from pathlib import Path

import yaml

from tests.end_to_end.conftest import Service


def stockpot(service: Service, *args: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("stockpot")), *map(str, args), "--url", str(service.http.base_url)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_pushed_folder_comes_back_whole(service: Service, folders: dict[str, Path], tmp_path: Path) -> None:
    pushed = stockpot(service, "push", folders["math"], "ci/math", "--json")
    assert pushed.returncode == 0, pushed.stderr
    again = stockpot(service, "push", folders["math"], "ci/math", "--json")
    assert json.loads(again.stdout)["id"] == json.loads(pushed.stdout)["id"]
    assert stockpot(service, "pull", "ci/math", tmp_path / "back").returncode == 0
    for file in folders["math"].iterdir():
        assert (tmp_path / "back" / file.name).read_bytes() == file.read_bytes()


def test_an_interrupted_pull_goes_on(service: Service, folders: dict[str, Path], tmp_path: Path) -> None:
    whole = (folders["base"] / "model.safetensors").read_bytes()
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "model.safetensors.partial").write_bytes(whole[:1000])
    assert stockpot(service, "pull", "stock/base", tmp_path / "back").returncode == 0
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == whole
    assert not list((tmp_path / "back").glob("*.partial"))


def test_compose_follows_the_job_to_its_end(service: Service, tmp_path: Path) -> None:
    wish = {
        "base": "stock/base@main",
        "method": "linear",
        "ingredients": [{"source": "team/math"}, {"source": "team/code"}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(wish))
    listed = stockpot(service, "compose", tmp_path / "recipe.yaml", "ci/mix", "--lazy", "--json")
    assert json.loads(listed.stdout)["state"] == "planned", listed.stderr
    composed = stockpot(service, "compose", tmp_path / "recipe.yaml", "ci/mix", "--json")
    assert json.loads(composed.stdout)["state"] == "done", composed.stderr
    job = json.loads(composed.stdout)["job"]
    assert json.loads(stockpot(service, "jobs", "show", job, "--json").stdout)["state"] == "done"
    assert job in stockpot(service, "jobs", "list").stdout


def test_a_refusal_is_a_sentence_and_exit_code_2(service: Service, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({"method": "linear", "ingredients": [{"source": "team/maths"}]})
    )
    refused = stockpot(service, "compose", tmp_path / "recipe.yaml", "ci/bad")
    assert refused.returncode == 2
    assert "team/maths" in refused.stderr
    assert "team/math" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_service_that_is_not_there_is_said_so(service: Service, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("stockpot")), "jobs", "list", "--url", "http://127.0.0.1:9"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 2
    assert "stockpot serve" in result.stderr
