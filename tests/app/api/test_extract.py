"""A delta taken out of a published fine-tune, by HTTP."""

import httpx
import pytest
import torch
from safetensors.torch import load, save

from tests.app.api.conftest import Pot
from tests.app.api.test_compress import put, work_off

BASE = {"layer.weight": torch.arange(48.0).reshape(8, 6), "layer.bias": torch.ones(8)}


@pytest.fixture
def published(client: httpx.Client) -> dict[str, torch.Tensor]:
    """`org/base` and its fine-tune `team/tuned`, which has two entries of one tensor other than the base."""
    tuned = {name: tensor.clone() for name, tensor in BASE.items()}
    tuned["layer.weight"][2, 3] = -1.0
    tuned["layer.weight"][7, 5] = 0.5
    put(client, "org/base", model__safetensors=save(BASE))
    put(client, "team/tuned", model__safetensors=save(tuned))
    return tuned


def extract(client: httpx.Client, **wish: object) -> httpx.Response:
    names = {"name": "team/delta", "finetuned": "team/tuned", "base": "org/base"}
    return client.post("/v1/deltas/extract", json={**names, **wish})


def test_a_patch_on_its_base_is_the_fine_tune(client: httpx.Client, pot: Pot, published: dict) -> None:
    assert extract(client).status_code == 202
    work_off(pot)
    assert extract(client).status_code == 200
    recipe = {"base": "org/base", "method": "passthrough", "ingredients": [{"source": "team/delta"}]}
    client.post("/v1/compositions", json={"name": "team/back", "recipe": recipe}).raise_for_status()
    work_off(pot)
    again = load(client.get("/v1/repos/team/back/files/model.safetensors").content)
    assert all(torch.equal(again[name], tensor) for name, tensor in published.items())
    assert client.get("/v1/deltas", params={"repo": "team/delta"}).json()["items"][0]["kind"] == "delta"


def test_an_adapter_tells_its_error(client: httpx.Client, pot: Pot, published: dict) -> None:
    assert extract(client, kind="lora", rank=1).status_code == 202
    work_off(pot)
    report = client.get("/v1/repos/team/delta/files/stockpot_report.json").json()
    assert 0 < report["relative_errors"]["layer.weight"] < 1


def test_a_rank_of_what_is_no_adapter_is_refused(client: httpx.Client, published: dict) -> None:
    answer = extract(client, rank=4)
    assert (answer.status_code, answer.json()["where"]) == (422, "rank")


def test_what_would_not_come_back_is_refused(client: httpx.Client, published: dict) -> None:
    halves = {name: tensor.half() for name, tensor in published.items()}
    put(client, "team/halves", model__safetensors=save(halves))
    answer = extract(client, finetuned="team/halves")
    assert answer.status_code == 422
    assert "give the fine-tune back" in answer.json()["detail"]
