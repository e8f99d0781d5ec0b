"""Compressing a published delta: a composition that writes a ternary file, and a new delta when it is built."""

import json
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load, save

from app.jobs.perform import do, take
from tests.app.api.conftest import Pot

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["layer"]}


def put(client: httpx.Client, repo: str, **files: bytes) -> None:
    for name, content in files.items():
        path = name.replace("__", ".")
        client.put(f"/v1/repos/{repo}/files/{path}", content=content).raise_for_status()


def work_off(pot: Pot) -> None:
    """Do what is queued, and what that queues."""
    store = pot.inside.store
    while jobs := store.due_jobs():
        for job in jobs:
            work = take(pot.inside.settings, store, job.id)
            if work is not None:
                do(work)


def delta_of(client: httpx.Client, repo: str) -> dict[str, Any]:
    items: list[dict[str, Any]] = client.get("/v1/deltas", params={"repo": repo, "kind": "any"}).json()["items"]
    return items[0]


@pytest.fixture
def published(client: httpx.Client, pot: Pot) -> dict[str, torch.Tensor]:
    """`org/base`, its fine-tune `team/tuned` and the LoRA `team/lora`."""
    torch.manual_seed(0)
    base = {"layer.weight": torch.randn(8, 6), "layer.bias": torch.randn(8)}
    tuned = {name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in base.items()}
    factors = {"A": torch.randn(2, 6), "B": torch.randn(8, 2)}
    lora = {f"base_model.model.layer.lora_{key}.weight": factor for key, factor in factors.items()}
    put(client, "org/base", model__safetensors=save(base))
    put(client, "team/tuned", model__safetensors=save(tuned))
    put(client, "team/lora", adapter_config__json=json.dumps(CONFIG).encode(), adapter_model__safetensors=save(lora))
    work_off(pot)
    return {**base, **{f"tuned.{name}": tensor for name, tensor in tuned.items()}}


def test_a_lora_is_compressed_into_a_delta_of_its_own(client: httpx.Client, pot: Pot, published: dict) -> None:
    source = delta_of(client, "team/lora")
    asked = client.post(f"/v1/deltas/{source['id']}/compress", json={"name": "team/small", "density": 0.5})
    assert asked.status_code == 202
    assert asked.json()["recipe"]["output"]["density"] == 0.5
    assert client.get(f"/v1/jobs/{asked.json()['job']}").json()["state"] == "queued"
    work_off(pot)
    assert client.get(asked.headers["location"]).json()["state"] == "done"
    small = delta_of(client, "team/small")
    assert (small["kind"], small["state"], small["format"]) == ("delta", "ok", "peft_lora")
    files = {file["path"] for file in client.get("/v1/repos/team/small/files").json()["files"]}
    assert files == {"README.md", "adapter_config.json", "ternary.safetensors"}
    again = client.post(f"/v1/deltas/{source['id']}/compress", json={"name": "team/small", "density": 0.5})
    assert (again.status_code, again.json()["id"]) == (200, asked.json()["id"])


def test_a_fine_tune_is_compressed_against_its_base(client: httpx.Client, pot: Pot, published: dict) -> None:
    wish = {"name": "team/small", "base": "org/base", "scope": "tensor", "form": "hot", "alpha": 2.0}
    source = delta_of(client, "team/tuned")["id"]
    assert client.post(f"/v1/deltas/{source}/compress", json=wish).status_code == 202
    work_off(pot)
    assert delta_of(client, "team/small")["summary"]["density"] == pytest.approx((10 + 2) / 56)
    recipe = {"base": "org/base", "method": "task_arithmetic", "ingredients": [{"source": "team/small"}]}
    client.post("/v1/compositions", json={"name": "soups/back", "recipe": recipe}).raise_for_status()
    work_off(pot)
    back = load(client.get("/v1/repos/soups/back/files/model.safetensors").content)
    delta = published["tuned.layer.weight"] - published["layer.weight"]
    moved = back["layer.weight"] - published["layer.weight"]
    assert moved.count_nonzero() == 10
    torch.testing.assert_close(moved.abs().max(), 2 * delta.std())


@pytest.mark.parametrize(
    ("wish", "status", "where"),
    [
        ({"name": "team/small"}, 422, "base"),
        ({"name": "team/small", "base": "org/none"}, 404, "recipe.base"),
        ({"name": "team/small", "density": 1.5}, 422, "density"),
        ({"name": "team/small", "dens": 0.5}, 422, "dens"),
        ({"name": "team/small", "form": "warm"}, 422, "form"),
        ({"name": "org/base", "base": "org/base"}, 409, "name"),
    ],
)
def test_a_wish_that_cannot_be_met_says_what_is_wrong(
    client: httpx.Client, published: dict, wish: dict[str, Any], status: int, where: str
) -> None:
    source = delta_of(client, "team/tuned")["id"]
    answer = client.post(f"/v1/deltas/{source}/compress", json=wish)
    assert answer.status_code == status
    assert where in answer.text


def test_an_unknown_delta_is_not_compressed(client: httpx.Client) -> None:
    answer = client.post("/v1/deltas/0123/compress", json={"name": "team/small"})
    assert answer.status_code == 404
    assert "no such delta" in answer.text
