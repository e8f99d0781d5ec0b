"""What is known of a published delta: its base, found by name or by tensors, and what it amounts to, exactly."""

import json
from hashlib import sha256
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import save

from tests.app.api.conftest import Pot
from tests.app.api.test_compress import delta_of, put, work_off

Tensors = dict[str, torch.Tensor]


def model(seed: int, width: int = 6) -> Tensors:
    draw = torch.Generator().manual_seed(seed)
    return {
        "model.embed.weight": torch.randn(10, width, generator=draw),
        "model.layer.weight": torch.randn(8, width, generator=draw),
        "model.layer.bias": torch.zeros(8),
    }


def lora(seed: int, rank: int = 2, width: int = 6) -> Tensors:
    draw = torch.Generator().manual_seed(seed)
    factors = {"A": torch.randn(rank, width, generator=draw), "B": torch.randn(8, rank, generator=draw)}
    return {f"base_model.model.model.layer.lora_{key}.weight": factor for key, factor in factors.items()}


def publish_lora(client: httpx.Client, repo: str, tensors: Tensors, base: str | None = None) -> None:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": base}
    put(client, repo, adapter_config__json=json.dumps(config).encode(), adapter_model__safetensors=save(tensors))


def publish_model(client: httpx.Client, repo: str, tensors: Tensors, **files: bytes) -> None:
    put(client, repo, **files, model__safetensors=save(tensors))


def shown(client: httpx.Client, repo: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/deltas/{delta_of(client, repo)['id']}").json()
    return found


def own_hash(tensor: torch.Tensor) -> str:
    return sha256(tensor.numpy().tobytes()).hexdigest()


def test_a_lora_has_its_declared_base_and_exact_figures(client: httpx.Client, pot: Pot) -> None:
    base, factors = model(0), lora(1)
    publish_model(client, "org/base", base)
    publish_model(client, "org/other", model(9))
    publish_lora(client, "team/lora", factors, "org/base")
    work_off(pot)
    record = shown(client, "team/lora")
    head = client.get("/v1/repos/org/base").json()["head"]
    assert (record["state"], record["base_repo"], record["base_commit"]) == ("ok", "org/base", head)
    a, b = (factors[f"base_model.model.model.layer.lora_{key}.weight"].double() for key in "AB")
    [row] = record["by_tensor"]
    assert row == {
        "name": "model.layer.weight",
        "kind": "low_rank",
        "shape": [8, 6],
        "rank": 2,
        "density": 1.0,
        "norm": pytest.approx(float(torch.linalg.norm(2 * b @ a)), rel=1e-12),
        "bytes": 4 * (2 * 6 + 8 * 2),
        "base_sha256": own_hash(base["model.layer.weight"]),
    }
    facts = record["facts"]
    assert facts["base_is_named"]
    assert (facts["tensors"], facts["rank"], facts["norm"]) == (1, 2, row["norm"])
    assert (facts["bytes"], facts["dense_bytes"], facts["density"]) == (112, 192, 1.0)
    files = {file["path"]: file["sha256"] for file in facts["files"]}
    assert files["adapter_model.safetensors"] == sha256(save(factors)).hexdigest()
    assert set(files) == {"adapter_model.safetensors", "adapter_config.json"}
    listed = client.get("/v1/deltas", params={"base": "org/base"}).json()["items"]
    assert [item["repo"] for item in listed] == ["team/lora"]
    assert "by_tensor" not in listed[0]
    assert client.get("/v1/deltas", params={"base": "org/other"}).json()["items"] == []


@pytest.mark.parametrize("declared", ["somebody/BASE", "/models/base/", None, "never/heard-of"])
def test_a_base_is_found_by_the_end_of_its_name_or_because_nothing_else_fits(
    client: httpx.Client, pot: Pot, declared: str | None
) -> None:
    publish_model(client, "org/base", model(0))
    publish_model(client, "org/wide", model(0, width=12))
    publish_lora(client, "team/lora", lora(1), declared)
    work_off(pot)
    record = shown(client, "team/lora")
    assert record["base_repo"] == "org/base"
    assert record["facts"]["base_is_named"] == (declared is not None and "base" in declared.casefold())


def test_of_bases_that_fit_alike_none_is_chosen_unless_they_are_equal_in_what_is_touched(
    client: httpx.Client, pot: Pot
) -> None:
    base = model(0)
    publish_model(client, "org/base", base)
    publish_model(client, "org/copy", base | {"model.embed.weight": torch.ones(10, 6)})
    publish_lora(client, "team/lora", lora(1))
    work_off(pot)
    assert shown(client, "team/lora")["base_repo"] == "org/base"
    publish_model(client, "org/other", model(5))
    publish_lora(client, "team/later", lora(2))
    work_off(pot)
    record = shown(client, "team/later")
    assert (record["state"], record["base_repo"]) == ("ok", None)
    names = [name.partition("@")[0] for name in record["facts"]["candidates"]]
    assert names == ["org/base", "org/copy", "org/other"]
    assert record["by_tensor"][0]["norm"] > 0
    assert record["by_tensor"][0]["base_sha256"] is None


def test_a_delta_that_came_before_its_base_is_looked_at_again_under_the_same_id(client: httpx.Client, pot: Pot) -> None:
    publish_lora(client, "team/lora", lora(1), "org/base")
    work_off(pot)
    before = shown(client, "team/lora")
    assert before["base_repo"] is None
    publish_model(client, "org/base", model(0))
    work_off(pot)
    after = shown(client, "team/lora")
    assert (after["id"], after["created_at"]) == (before["id"], before["created_at"])
    assert after["base_repo"] == "org/base"


def test_a_wrong_base_is_refused_with_the_tensors_that_differ(client: httpx.Client, pot: Pot) -> None:
    publish_model(client, "org/base", model(0))
    wrong = lora(1, width=7) | {
        name.replace("layer", f"layers.{index}"): factor for index in range(6) for name, factor in lora(1).items()
    }
    publish_lora(client, "team/lora", wrong, "org/base")
    work_off(pot)
    record = shown(client, "team/lora")
    assert (record["kind"], record["state"], record["base_repo"]) == ("delta", "refused", None)
    assert "tensors that differ: 7" in record["reason"]
    assert "'model.layers.0.weight' is no tensor of it" in record["reason"]
    assert "and 2 more" in record["reason"]
    publish_lora(client, "team/wide", lora(1, width=7), "org/base")
    work_off(pot)
    assert "'model.layer.weight' is [8, 7], and [8, 6] there" in shown(client, "team/wide")["reason"]


def test_a_private_base_is_not_revealed_by_a_public_record(client: httpx.Client, pot: Pot) -> None:
    client.put("/v1/repos/team/base", json={"private": True}).raise_for_status()
    client.put("/v1/repos/team/secret", json={"private": True}).raise_for_status()
    publish_model(client, "team/base", model(0))
    publish_lora(client, "team/lora", lora(1, width=7), "team/base")
    publish_lora(client, "team/secret", lora(1), "team/base")
    publish_lora(client, "other/lora", lora(1))
    work_off(pot)
    for repo in ("team/lora", "other/lora"):
        record = shown(client, repo)
        assert (record["state"], record["base_repo"], record["reason"]) == ("ok", None, None)
        assert record["facts"]["candidates"] == []
    assert shown(client, "team/secret")["base_repo"] == "team/base"


def test_a_full_fine_tune_tells_what_it_changed(client: httpx.Client, pot: Pot) -> None:
    base = model(0)
    tuned = base | {"model.layer.weight": base["model.layer.weight"] + 0.5, "head.weight": torch.ones(2, 8)}
    publish_model(client, "org/base", base)
    publish_model(client, "org/stranger", model(3))
    publish_model(client, "team/tuned", tuned)
    publish_model(client, "team/named", model(4), README__md=b"---\nbase_model: org/base\n---\n# A model\n")
    work_off(pot)
    record = shown(client, "team/tuned")
    assert (record["kind"], record["base_repo"], record["facts"]["base_is_named"]) == ("base", "org/base", False)
    facts = record["facts"]
    assert (facts["tensors"], facts["unchanged_tensors"], facts["new_tensors"]) == (1, 2, 1)
    assert facts["norm"] == pytest.approx(0.5 * 48**0.5, rel=1e-6)
    assert [row["name"] for row in record["by_tensor"]] == ["model.layer.weight"]
    named = shown(client, "team/named")
    assert (named["base"], named["base_repo"], named["facts"]["tensors"]) == ("org/base", "org/base", 2)
    for repo in ("org/base", "org/stranger"):
        assert shown(client, repo)["base_repo"] is None, "zeros in a bias are no relation"


def test_a_composed_delta_is_of_the_commit_that_it_was_built_on(client: httpx.Client, pot: Pot) -> None:
    base = model(0)
    publish_model(client, "org/base", base)
    built_on = client.get("/v1/repos/org/base").json()["head"]
    publish_model(client, "team/tuned", model(5) | {"model.layer.bias": torch.arange(8.0)})
    work_off(pot)
    tuned = delta_of(client, "team/tuned")
    wish = {"name": "team/small", "base": "org/base", "density": 0.5}
    client.post(f"/v1/deltas/{tuned['id']}/compress", json=wish).raise_for_status()
    publish_model(client, "org/base", model(8))
    work_off(pot)
    record = shown(client, "team/small")
    assert (record["kind"], record["base_repo"], record["base_commit"]) == ("delta", "org/base", built_on)
    hashes = {row["name"]: row["base_sha256"] for row in record["by_tensor"]}
    assert hashes == {name: own_hash(tensor) for name, tensor in base.items()}
    assert record["facts"]["density"] == pytest.approx(0.5, abs=0.01)
    assert record["facts"]["rank"] is None


def test_a_composed_checkpoint_is_a_base_under_every_name_it_has(client: httpx.Client, pot: Pot) -> None:
    publish_model(client, "org/base", model(0))
    publish_model(client, "team/tuned", model(1))
    recipe = {"method": "linear", "ingredients": [{"source": "org/base"}, {"source": "team/tuned"}]}
    for name in ("soups/mix", "soups/same"):
        client.post("/v1/compositions", json={"name": name, "recipe": recipe}).raise_for_status()
        work_off(pot)
    publish_lora(client, "team/lora", lora(1), "soups/same")
    work_off(pot)
    assert [delta_of(client, name)["kind"] for name in ("soups/mix", "soups/same")] == ["base", "base"]
    assert shown(client, "team/lora")["base_repo"] == "soups/same"
    assert client.get("/v1/repos/soups/same").json()["kind"] == "composition"


def test_known_tensors_go_with_their_repo_and_are_read_once(client: httpx.Client, pot: Pot) -> None:
    base = model(0)
    publish_model(client, "org/base", base)
    work_off(pot)
    store = pot.inside.store
    known = store.known_base("org/base", client.get("/v1/repos/org/base").json()["head"])
    assert known is not None
    tensors = {tensor.name: tensor for tensor in store.base_tensors(known.key)}
    content = save(base)
    for name, tensor in base.items():
        found = tensors[name]
        assert (found.sha256, found.shape, found.dtype) == (own_hash(tensor), tuple(tensor.shape), "float32")
        assert content[found.begin : found.begin + found.length] == tensor.numpy().tobytes()
        assert found.blob == sha256(content).hexdigest()
    client.delete("/v1/repos/org/base").raise_for_status()
    assert store.base_tensors(known.key) == []
    assert store.equal_tensors([own_hash(base["model.layer.weight"])]) == {}
