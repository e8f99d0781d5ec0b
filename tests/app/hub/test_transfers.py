"""Real clients fetch large files, at once, over lines that break, and after they were killed.

huggingface_hub 2.4 begins anew after it was killed; older ones go on where they were, as `make compat` tests.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from tests.app.api.conftest import Pot, running, settings_for
from tests.app.hub.conftest import Hub, publish
from tests.app.hub.frayed_line import frayed

MIB = 1 << 20
MANY = {f"deep/{index}.txt": str(index).encode() * 1000 for index in range(20)}
FETCH = """
import hashlib, sys
from huggingface_hub import hf_hub_download
path = hf_hub_download("team/large", sys.argv[1], token=False)
with open(path, "rb") as stream:
    print(hashlib.file_digest(stream, "sha256").hexdigest())
"""


@pytest.fixture
def pot(tmp_path: Path, queue_url: str) -> Iterator[Pot]:
    """A service that takes larger files than those of other tests."""
    settings = settings_for(tmp_path / "data", queue_url).model_copy(update={"max_file_bytes": 1 << 30})
    with running(settings) as pot:
        yield pot


def fetching(url: str, home: Path, name: str, **surroundings: str) -> "subprocess.Popen[str]":
    """A process of its own that downloads one file and tells its hash."""
    variables = {"HF_ENDPOINT": url, "HF_HOME": str(home), **surroundings}
    command = [sys.executable, "-c", FETCH, name]
    return subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def told(process: "subprocess.Popen[str]") -> str:
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return out.strip()


@pytest.mark.parametrize("without_xet", ["0", "1"])
def test_a_file_of_more_than_a_hundred_megabytes_arrives(pot: Pot, tmp_path: Path, without_xet: str) -> None:
    content = random.Random(0).randbytes(MIB) * 120
    publish(pot, "team/large", {"weights.dat": content})
    process = fetching(pot.url, tmp_path / "home", "weights.dat", HF_HUB_DISABLE_XET=without_xet)
    assert told(process) == sha256(content).hexdigest()


def test_a_line_that_breaks_is_taken_up_where_it_broke(pot: Pot, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(32 * MIB)
    publish(pot, "team/large", {"weights.dat": content})
    with frayed(pot.url, [15 * MIB, 12 * MIB]) as line:
        process = fetching(line.url, tmp_path / "home", "weights.dat")
        assert told(process) == sha256(content).hexdigest()
    assert line.asked.lower().count(b"\r\nrange: bytes=") >= 2


def test_what_a_client_was_killed_over_arrives_when_it_is_asked_again(pot: Pot, tmp_path: Path) -> None:
    content = random.Random(2).randbytes(32 * MIB)
    publish(pot, "team/large", {"weights.dat": content})
    with frayed(pot.url, [24 * MIB], silent=True) as line:
        process = fetching(line.url, tmp_path / "home", "weights.dat")
        assert line.broken.wait(60)
        process.kill()
        process.communicate()
        process = fetching(line.url, tmp_path / "home", "weights.dat")
        assert told(process) == sha256(content).hexdigest()


def test_many_files_and_many_clients_at_once(pot: Pot, hub: Hub, tmp_path: Path) -> None:
    publish(pot, "team/many", MANY)

    def fetch(number: int) -> dict[str, bytes]:
        folder = Path(hub().snapshot_download("team/many", local_dir=tmp_path / str(number), max_workers=8))
        return {path: (folder / path).read_bytes() for path in MANY}

    with ThreadPoolExecutor(3) as clients:
        assert all(found == MANY for found in clients.map(fetch, range(3)))
