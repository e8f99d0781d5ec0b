"""Shards: what clients write is read back, and counts that are only claims cost nothing."""

import io
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.hub.xet.shard import MOST_TERMS, TAG, VERSION, read_shard
from merge_core.errors import FileError
from tests.app.hub.xet.building import END, GOLDEN, Part, hash_of, shard_of

HEAD = struct.pack("<32sQQ", TAG, VERSION, 0)
CHUNKS = [b"first", b"second", b"third"]
PART: Part = (hash_of(CHUNKS), CHUNKS, 1)


def record(first: bytes, *numbers: int) -> bytes:
    return first.ljust(32, b"\1") + struct.pack("<4I", *numbers)


@pytest.mark.parametrize("proofs", [True, False])
@pytest.mark.parametrize("sha256s", [True, False])
def test_every_kind_of_file_is_read(proofs: bool, sha256s: bool) -> None:
    content = shard_of([PART, PART], [PART], [], sha256s=sha256s, proofs=proofs)
    files = read_shard(io.BytesIO(content))
    assert [len(file.terms) for file in files] == [2, 1, 0]
    assert [file.size for file in files] == [22, 11, 0]
    assert all((file.sha256 is not None) == sha256s for file in files)
    assert all((term.proof is not None) == proofs for file in files for term in file.terms)
    assert (files[1].terms[0].first, files[1].terms[0].stop) == (1, 3)


def test_what_follows_the_sections_is_not_read() -> None:
    assert read_shard(io.BytesIO(HEAD + END + END + bytes(200))) == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "wrong header"),
        (b"X" * 48 + END + END, "wrong tag"),
        (struct.pack("<32sQQ", TAG, 3, 0) + END + END, "wrong version"),
        (HEAD, "wrong file"),
        (HEAD + END, "wrong xorb"),
        (HEAD + record(b"f", 0, 1, 0, 0), "wrong terms"),
        (HEAD + record(b"f", 0, MOST_TERMS + 1, 0, 0), f"at most {MOST_TERMS}"),
        (HEAD + record(b"f", 0, 1, 0, 0) + record(b"x", 0, 5, 2, 2) + END + END, "at least one chunk"),
        (HEAD + record(b"f", 1 << 31, 1, 0, 0) + record(b"x", 0, 5, 0, 2), "wrong range hashes"),
        (HEAD + record(b"f", 1 << 30, 1, 0, 0) + record(b"x", 0, 5, 0, 2), "wrong sha256"),
        (HEAD + END + record(b"x", 0, 2**32 - 1, 0, 0) + END, "wrong chunks of a xorb"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_broken_shards_are_refused_by_what_is_wrong(content: bytes, says: str) -> None:
    with pytest.raises(FileError) as refused:
        read_shard(io.BytesIO(content))
    assert says in str(refused.value)


def test_a_count_is_a_claim_until_its_records_are_there() -> None:
    tracemalloc.start()
    with pytest.raises(FileError):
        read_shard(io.BytesIO(HEAD + record(b"f", 0, MOST_TERMS, 0, 0)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 16


@given(st.data())
def test_bent_shards_are_read_or_refused(data: st.DataObject) -> None:
    bent = bytearray((GOLDEN / "shard").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        bent[data.draw(st.integers(0, len(bent) - 1))] = data.draw(st.integers(0, 255))
    del bent[data.draw(st.integers(0, len(bent))) :]
    try:
        read_shard(io.BytesIO(bytes(bent)))
    except FileError:
        return
