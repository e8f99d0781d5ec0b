"""Downloads of files that are kept packed."""

from pathlib import Path

import httpx
import pytest

from tests.app.api.conftest import Pot
from tests.app.store.test_packed_shelf import AT_ONCE, BASE, BASE_DIGEST, DIGEST, FINE, packed_against, shelf_of

FILE = "/v1/repos/big/fine/files/model.safetensors"


@pytest.fixture
def packed(pot: Pot, client: httpx.Client, tmp_path: Path) -> httpx.Client:
    """A client of a service that has the fine-tune in packed form only."""
    for name, content in (("base", BASE), ("fine", FINE)):
        client.put(f"/v1/repos/big/{name}/files/model.safetensors", content=content).raise_for_status()
    shelf = shelf_of(pot.inside.blobs)
    shelf.take_packed(packed_against(shelf, DIGEST, BASE_DIGEST, tmp_path / "packed"), DIGEST)
    assert shelf.drop_plain(DIGEST, AT_ONCE)
    return client


def restored(pot: Pot) -> list[Path]:
    return [path for path in (pot.data / "cache").rglob("*") if path.is_file()]


def test_a_packed_file_is_downloaded_whole_and_by_range_without_being_restored(pot: Pot, packed: httpx.Client) -> None:
    whole = packed.get(FILE)
    assert (whole.status_code, whole.content, whole.headers["content-length"]) == (200, FINE, str(len(FINE)))
    for header, part in (("100-300099", FINE[100:300_100]), ("-7", FINE[-7:]), ("4000000-", FINE[4_000_000:])):
        got = packed.get(FILE, headers={"Range": f"bytes={header}"})
        assert (got.status_code, got.content) == (206, part)
        assert got.headers["content-range"].endswith(f"/{len(FINE)}")
    assert restored(pot) == []


def test_a_packed_file_answers_as_any_other(pot: Pot, packed: httpx.Client) -> None:
    head = packed.head(FILE)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(FINE)))
    assert head.headers["etag"] == f'"{DIGEST}"'
    assert packed.get(FILE, headers={"If-None-Match": head.headers["etag"]}).status_code == 304
    assert packed.get(FILE, headers={"Range": f"bytes={len(FINE)}-"}).status_code == 416
    several = packed.get(FILE, headers={"Range": "bytes=0-1,8-9"})
    assert (several.status_code, several.headers["content-type"].split(";")[0]) == (206, "multipart/byteranges")
    assert FINE[8:10] in several.content


def test_a_packed_file_sent_again_makes_no_commit(pot: Pot, packed: httpx.Client) -> None:
    assert packed.put(FILE, content=FINE).status_code == 200
    assert not shelf_of(pot.inside.blobs).is_plain(DIGEST)
