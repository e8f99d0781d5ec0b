"""A tiny real transformers model, two real PEFT adapters of it, and the service they are published to."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertModel

from tests.demo.service import running_service, wait_for

EXPERTS = ("math", "code")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`base` and one folder for each expert, written by the libraries themselves."""
    home = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 120,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    BertModel(BertConfig(**sizes)).save_pretrained(home / "base")
    for seed, name in enumerate(EXPERTS, start=1):
        torch.manual_seed(seed)
        model = get_peft_model(
            BertModel.from_pretrained(home / "base"), LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"])
        )
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_B" in key:
                    parameter.normal_(std=0.1)
        model.save_pretrained(home / name)
    return {name: home / name for name in ("base", *EXPERTS)}


class Service:
    """A running service, asked with plain HTTP."""

    def __init__(self, url: str, data: Path) -> None:
        self.data = data
        self.http = httpx.Client(base_url=url, timeout=60)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *error: object) -> None:
        self.http.close()

    def publish(self, folder: Path, repo: str) -> None:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.put(repo, file.relative_to(folder).as_posix(), file.read_bytes()).raise_for_status()

    def put(self, repo: str, name: str, content: bytes) -> httpx.Response:
        digest = hashlib.sha256(content).hexdigest()
        return self.http.put(f"/v1/repos/{repo}/files/{name}", content=content, headers={"X-Content-SHA256": digest})

    def compose(self, name: str, recipe: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.post("/v1/compositions", json={"name": name, "recipe": recipe})
        assert answer.status_code in (200, 202), answer.text
        return self.finished(answer.json()["links"]["self"])

    def finished(self, location: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            composition = self.http.get(location).json()
            return composition if composition["state"] not in ("queued", "running") else None

        return wait_for(look, 60.0, f"{location} to be over")

    def download(self, repo: str, folder: Path) -> Path:
        for file in self.http.get(f"/v1/repos/{repo}/files").json()["files"]:
            target = folder / file["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.http.get(f"/v1/repos/{repo}/files/{file['path']}").content)
            assert hashlib.sha256(target.read_bytes()).hexdigest() == file["sha256"]
        return folder

    def files_on_disk(self) -> set[str]:
        """What lies in the blob, upload and staging folders."""
        places = ("blobs", "uploads", "staging")
        return {path.as_posix() for place in places for path in (self.data / place).rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> Iterator[Service]:
    """The service with base and experts published as stock/base, team/math and team/code."""
    data = tmp_path_factory.mktemp("service") / "data"
    with running_service(data) as url, Service(url, data) as pot:
        pot.publish(folders["base"], "stock/base")
        for name in EXPERTS:
            pot.publish(folders[name], f"team/{name}")
        yield pot
