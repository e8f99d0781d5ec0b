"""An adapter under the name by which a server knows its base."""

import json

import httpx
import pytest

from app.store.records import FileEntry
from tests.app.api.conftest import Pot, checkpoint

CONFIG = {"peft_type": "LORA", "base_model_name_or_path": "org/base", "revision": "v1", "r": 4}
FILES = {"adapter_config.json": json.dumps(CONFIG).encode(), "adapter_model.safetensors": checkpoint(0)}


@pytest.fixture
def adapter(client: httpx.Client) -> str:
    for path, content in FILES.items():
        client.put(f"/v1/repos/team/math/files/{path}", content=content).raise_for_status()
    return "/v1/repos/team/math"


def config_at(client: httpx.Client, adapter: str, revision: str) -> dict[str, object]:
    found: dict[str, object] = client.get(f"{adapter}/files/adapter_config.json", params={"revision": revision}).json()
    return found


def test_a_branch_names_the_base_as_the_server_does(client: httpx.Client, adapter: str) -> None:
    answer = client.put(f"{adapter}/deployments/vllm/a", json={"base_model": "served"})
    assert answer.status_code == 200
    assert config_at(client, adapter, "vllm/a") == {**CONFIG, "base_model_name_or_path": "served", "revision": None}
    assert config_at(client, adapter, "main") == CONFIG
    weights = client.get(f"{adapter}/files/adapter_model.safetensors", params={"revision": "vllm/a"})
    assert weights.content == FILES["adapter_model.safetensors"]


def test_a_deployment_follows_the_adapter_when_it_is_repeated(client: httpx.Client, adapter: str) -> None:
    first = client.put(f"{adapter}/deployments/vllm", json={"base_model": "served"}).json()
    again = client.put(f"{adapter}/deployments/vllm", json={"base_model": "served"}).json()
    client.put(f"{adapter}/files/notes.txt", content=b"new").raise_for_status()
    moved = client.put(f"{adapter}/deployments/vllm", json={"base_model": "served"}).json()
    client.delete(f"{adapter}/files/notes.txt")
    assert first["id"] == again["id"] != moved["id"]
    paths = [file["path"] for file in client.get(f"{adapter}/files", params={"revision": "vllm"}).json()["files"]]
    assert paths == ["adapter_config.json", "adapter_model.safetensors", "notes.txt"]


def test_what_is_no_adapter_has_no_deployments(client: httpx.Client, pot: Pot) -> None:
    client.put("/v1/repos/team/plain/files/notes.txt", content=b"text").raise_for_status()
    odd = pot.inside.store.ensure_repo("team", "odd")
    config = FileEntry("adapter_config.json", *pot.inside.blobs.put_bytes(b"[]"))
    pot.inside.store.record_blob(config.sha256, config.size)
    pot.inside.store.commit(odd, {config.path: config}, "odd", "me")
    for name, status in (("plain", 404), ("odd", 422), ("none", 404)):
        assert client.put(f"/v1/repos/team/{name}/deployments/x", json={"base_model": "b"}).status_code == status


@pytest.mark.parametrize("name", ["main", "..", "a..b", "refs/heads/x"])
def test_a_deployment_has_the_name_of_a_branch(client: httpx.Client, adapter: str, name: str) -> None:
    path = httpx.URL(f"{client.base_url}").copy_with(raw_path=f"{adapter}/deployments/{name}".encode())
    assert client.put(path, json={"base_model": "b"}).status_code == 422


def test_deploying_is_writing(pot: Pot) -> None:
    mine, theirs = pot.token("write", namespaces=("team",)), pot.token("write", namespaces=("others",))
    with pot.client(mine) as caller:
        for path, content in FILES.items():
            caller.put(f"/v1/repos/team/math/files/{path}", content=content).raise_for_status()
    with pot.client(theirs) as caller:
        assert caller.put("/v1/repos/team/math/deployments/x", json={"base_model": "b"}).status_code == 403
