"""Xet clients: the real one, in a process of its own, and single requests."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.app.api.conftest import Pot

SEND = """
import sys
import hf_xet
address, access, *paths = sys.argv[1:]
hf_xet.upload_files(paths, address, (access, 1 << 40), None, None, "model")
"""
PUSH = """
import sys
from huggingface_hub import HfApi
endpoint, token, repo, folder = sys.argv[1:]
api = HfApi(endpoint=endpoint, token=token or False)
api.create_repo(repo, exist_ok=True)
print(api.upload_folder(repo_id=repo, folder_path=folder, create_pr=False).oid)
"""
Send = Callable[..., subprocess.CompletedProcess[str]]


@dataclass
class Cas:
    """The Xet routes as one token's ticket opens them."""

    pot: Pot
    access: str
    address: str

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers={"Authorization": f"Bearer {self.access}"}, timeout=30)

    def post(self, path: str, content: bytes) -> httpx.Response:
        with self.client() as client:
            return client.post(path, content=content)

    def xorb(self, digest: str, content: bytes) -> httpx.Response:
        return self.post(f"/v1/xorbs/default/{digest}", content)

    def shard(self, content: bytes, version: str = "v1") -> httpx.Response:
        return self.post(f"/{version}/shards", content)


def opened(pot: Pot, secret: str | None = None, repo: str = "team/math") -> Cas:
    """Ask for access to a repo, which is made if need be."""
    with pot.client(secret) as client:
        client.put(f"/v1/repos/{repo}", json={})
        answer = client.get(f"/api/models/{repo}/xet-write-token/main").raise_for_status().json()
    return Cas(pot, answer["accessToken"], answer["casUrl"])


@pytest.fixture
def cas(pot: Pot) -> Cas:
    """The routes of an open service."""
    return opened(pot)


@pytest.fixture
def send(tmp_path: Path) -> Send:
    """Upload files with the real client, which remembers what it has sent in a folder of this test's own."""

    def sent(cas: Cas, *paths: Path, memory: str = "xet") -> subprocess.CompletedProcess[str]:
        return run_client(SEND, tmp_path / memory, cas.address, cas.access, *map(str, paths))

    return sent


def run_client(script: str, memory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script with the real client, which remembers what it has sent in the folder `memory`."""
    environment = {"HF_HOME": str(memory), "HF_XET_CACHE": str(memory / "xet"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
