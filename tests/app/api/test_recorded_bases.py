"""Putting a delta on a base that is not its own."""

from typing import Any

import httpx
import torch

from tests.app.api.conftest import Pot
from tests.app.api.test_compress import work_off
from tests.app.api.test_records import lora, model, publish_lora, publish_model


def test_a_recipe_puts_a_delta_on_another_base_only_on_purpose(client: httpx.Client, pot: Pot) -> None:
    base = model(0)
    publish_model(client, "org/base", base)
    publish_model(client, "team/embedded", base | {"model.embed.weight": torch.ones(10, 6)})
    publish_model(client, "team/tuned", model(4))
    publish_lora(client, "team/lora", lora(1), "org/base")
    work_off(pot)
    recipe: dict[str, Any] = {"method": "task_arithmetic", "ingredients": [{"source": "team/lora"}]}
    for equal in ("org/base", "team/embedded"):
        assert client.post("/v1/plan", json={"recipe": recipe | {"base": equal}}).status_code == 200
    answer = client.post("/v1/plan", json={"recipe": recipe | {"base": "team/tuned"}})
    assert (answer.status_code, answer.json()["where"]) == (422, "recipe.ingredients[0].source")
    assert "'model.layer.weight'" in answer.json()["found"]
    assert "org/base@" in answer.json()["expected"]
    nested = {"method": "linear", "ingredients": [{"source": recipe | {"base": "team/tuned"}}]}
    inside = client.post("/v1/plan", json={"recipe": nested}).json()
    assert inside["where"] == "recipe.ingredients[0].source.ingredients[0].source"
    wanted = recipe | {"base": "team/tuned", "ingredients": [{"source": "team/lora", "any_base": True}]}
    assert client.post("/v1/plan", json={"recipe": wanted}).status_code == 200
