"""Publish, compose, download: over HTTP against a real process, and beside it the command line."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import save
from transformers import BertModel

from tests.demo.service import DemoError, running_service, wait_for
from tests.end_to_end.conftest import Service

METHODS: list[dict[str, Any]] = [
    {"method": {"name": "linear"}},
    {"method": {"name": "task_arithmetic"}, "scale": 0.7},
    {"method": {"name": "ties", "density": 0.3}, "output": {"max_shard_bytes": 60_000}},
    {"method": {"name": "ties", "density": 0.3, "scope": "model"}, "dtype": "bfloat16"},
    {"method": {"name": "slerp", "t": 0.3}},
    {"method": {"name": "selma"}},
]


def recipe(**fields: Any) -> dict[str, Any]:
    ingredients = [{"source": "team/math@main", "weight": 0.6}, {"source": "team/code@main", "weight": 0.4}]
    return {"base": "stock/base@main", "ingredients": ingredients} | fields


def merge_locally(fields: dict[str, Any], folders: dict[str, Path], out: Path, threads: int) -> dict[str, str]:
    """The same recipe by `stockpot merge`: sha256 of each weights file."""
    places = {"stock/base@main": "base", "team/math@main": "math", "team/code@main": "code"}
    local = json.loads(json.dumps(recipe(**fields)))
    local["base"] = str(folders[places[local["base"]]])
    for ingredient in local["ingredients"]:
        ingredient["source"] = str(folders[places[ingredient["source"]]])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".yaml").write_text(yaml.safe_dump(local))
    command = [
        str(Path(sys.executable).with_name("stockpot")),
        "merge",
        str(out.with_suffix(".yaml")),
        str(out),
        "--threads",
        str(threads),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return hashes(out)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.index.json")])
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("fields", METHODS, ids=lambda fields: fields["method"]["name"])
def test_rest_and_command_line_give_the_same_files(
    service: Service, folders: dict[str, Path], tmp_path: Path, fields: dict[str, Any]
) -> None:
    name = f"soups/same-{hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]}"
    assert service.compose(name, recipe(**fields))["state"] == "done"
    remote = hashes(service.download(name, tmp_path / "remote"))
    assert (
        remote
        == merge_locally(fields, folders, tmp_path / "one", 1)
        == merge_locally(fields, folders, tmp_path / "two", 2)
    )
    assert len(remote) == (1 if "output" not in fields else 4 + len(["the index"]))


def test_a_composition_loads_in_transformers_as_the_merged_adapter(
    service: Service, folders: dict[str, Path], tmp_path: Path
) -> None:
    wish = recipe(method="task_arithmetic", ingredients=[{"source": "team/math@main"}])
    service.compose("soups/only-math", wish)
    loaded = BertModel.from_pretrained(service.download("soups/only-math", tmp_path / "out"))
    expected = PeftModel.from_pretrained(BertModel.from_pretrained(folders["base"]), folders["math"]).merge_and_unload()
    for (name, found), (_, wanted) in zip(loaded.named_parameters(), expected.named_parameters(), strict=True):
        # Float32 on both sides, in another order of sums: a few units in the last place.
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, msg=name)


def test_the_same_recipe_is_built_once(service: Service) -> None:
    wish = {"name": "soups/once", "recipe": recipe(method="linear", seed=17)}
    first = service.http.post("/v1/compositions", json=wish)
    assert first.status_code == httpx.codes.ACCEPTED
    service.finished(first.json()["links"]["self"])
    jobs = service.http.get("/v1/jobs", params={"kind": "composition", "limit": 1000}).json()["items"]
    second = service.http.post("/v1/compositions", json=wish)
    assert second.status_code == httpx.codes.OK
    assert second.json()["id"] == first.json()["id"]
    assert service.http.get("/v1/jobs", params={"kind": "composition", "limit": 1000}).json()["items"] == jobs


def test_events_tell_the_story_to_its_end(service: Service) -> None:
    answer = service.http.post(
        "/v1/compositions", json={"name": "soups/told", "recipe": recipe(method="linear", seed=3)}
    )
    with service.http.stream("GET", answer.json()["links"]["events"]) as stream:
        text = "".join(stream.iter_text())
    assert "data:" in text
    assert '"done"' in text


def lying_header() -> bytes:
    return struct.pack("<Q", 1 << 62) + b"{}"


def overlapping() -> bytes:
    entries = {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in ("a", "b")}
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


def huge_shape() -> bytes:
    text = json.dumps({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


def not_a_number() -> bytes:
    return save({"layer.weight": torch.from_numpy(np.array([1.0, np.nan], dtype=np.float32))})


@pytest.mark.parametrize(
    ("make", "said"),
    [(lying_header, "header"), (overlapping, "overlap"), (huge_shape, "shape"), (not_a_number, "layer.weight")],
)
def test_a_bad_file_is_refused_at_the_door(service: Service, make: Any, said: str) -> None:
    before = service.files_on_disk()
    answer = service.put("bad/upload", "model.safetensors", make())
    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY, answer.text
    assert said in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert service.files_on_disk() == before
    assert service.http.get("/v1/repos/bad/upload").status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": {"name": "ties", "densty": 0.2}}, "densty"),
        ({"method": "tiess"}, "ties"),
        ({"base": "stock/bass@main"}, "stock/bass"),
        (
            {
                "method": "linear",
                "ingredients": [{"source": "team/math@main", "weight": 1}, {"source": "team/code@main", "weight": -1}],
            },
            "weight",
        ),
    ],
)
def test_a_bad_recipe_is_refused_before_anything_is_queued(service: Service, fields: dict[str, Any], said: str) -> None:
    jobs = {job["id"] for job in service.http.get("/v1/jobs").json()["items"]}
    wish = {"name": "soups/bad", "recipe": recipe(**({"method": "linear"} | fields))}
    for path, body in (("/v1/compositions", wish), ("/v1/plan", {"recipe": wish["recipe"]})):
        answer = service.http.post(path, json=body)
        assert 400 <= answer.status_code < 500
        assert said in answer.text
    assert {job["id"] for job in service.http.get("/v1/jobs").json()["items"]} == jobs


def test_nothing_published_is_lost_when_the_service_is_killed(folders: dict[str, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    with suppress(DemoError), running_service(data) as url, Service(url, data) as pot:
        pot.publish(folders["base"], "stock/base")
        pot.publish(folders["math"], "team/math")
        pot.publish(folders["code"], "team/code")
        answer = pot.http.post("/v1/compositions", json={"name": "soups/mix", "recipe": recipe(method="linear")})
        assert answer.status_code == httpx.codes.ACCEPTED
        os.killpg(_group_of(data), signal.SIGKILL)
    with running_service(data) as url, Service(url, data) as pot:
        assert pot.finished(answer.json()["links"]["self"])["state"] == "done"
        assert hashes(pot.download("stock/base", tmp_path / "base")) == hashes(folders["base"])
        assert "model.safetensors" in hashes(pot.download("soups/mix", tmp_path / "mix"))


def _group_of(data: Path) -> int:
    """The process group of the service over `data`, found by its command line."""

    def look() -> int | None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in words and str(data).encode() in words:
                return os.getpgid(int(process.name))
        return None

    return wait_for(look, 5.0, "the service's process")
