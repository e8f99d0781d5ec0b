"""Xorbs: what a real client sent is read, and bytes of any other kind are refused before they cost anything."""

import io
import tracemalloc
from hashlib import sha256
from pathlib import Path

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.hub.xet.hashes import RangeHash, Tree, as_text, chunk_hash
from app.hub.xet.shard import read_shard
from app.hub.xet.xorb import CHUNK_BYTES, MOST_CHUNKS, MOST_DATA_BYTES, check_xorb, chunks, headers, places
from merge_core.errors import FileError
from tests.app.hub.xet.building import GOLDEN, GOLDEN_XORB, framed, golden_files, hash_of, xorb_of

SCHEMES = st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=3)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "xorb"
    path.write_bytes(content)
    return path


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(FileError) as refused:
        check_xorb(written(folder, content), "0" * 64)
    return str(refused.value)


def test_what_a_real_client_sent_joins_to_its_files_with_all_the_hashes_it_told() -> None:
    check_xorb(GOLDEN / "xorb", GOLDEN_XORB)
    files = {sha256(content).hexdigest(): content for content in golden_files()}
    begins = places(GOLDEN / "xorb")
    with (GOLDEN / "shard").open("rb") as shard:
        found = read_shard(shard)
    assert {file.sha256 for file in found} == set(files)
    for file in found:
        tree, joined = Tree(), b""
        for term in file.terms:
            proof = RangeHash()
            for data in chunks(GOLDEN / "xorb", begins[term.first : term.stop]):
                joined += data
                tree.add(chunk_hash(data), len(data))
                proof.add(chunk_hash(data))
            assert (term.xorb, term.proof) == (GOLDEN_XORB, proof.digest())
        assert joined == files[file.sha256 or ""]
        assert (file.hash, file.size) == (as_text(tree.file_hash()), len(joined))


def test_the_golden_xorb_has_every_compression() -> None:
    with (GOLDEN / "xorb").open("rb") as file:
        assert {chunk.scheme for chunk in headers(file)} == {0, 1, 2}


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=12), SCHEMES)
def test_what_was_packed_comes_back(
    tmp_path_factory: pytest.TempPathFactory, content: list[bytes], schemes: list[int]
) -> None:
    path = written(tmp_path_factory.mktemp("xorb"), xorb_of(content, schemes))
    check_xorb(path, hash_of(content))
    assert list(chunks(path, places(path))) == content
    assert list(chunks(path, places(path)[1:3])) == content[1:3]


def test_a_footer_is_passed_over(tmp_path: Path) -> None:
    check_xorb(written(tmp_path, xorb_of([b"data"]) + b"XETBLOB\1" + bytes(100)), hash_of([b"data"]))


def test_a_xorb_of_another_hash_is_refused(tmp_path: Path) -> None:
    other = xorb_of([b"data", b"datb"])
    assert f"found {hash_of([b'data', b'datb'])}; expected {'0' * 64}" in refusal(tmp_path, other)


ONE = xorb_of([bytes(1000)], [1])
FRAME = lz4.frame.compress(bytes(1000))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no chunk"),
        (b"XETBLOB\1" + bytes(40), "no chunk"),
        (b"\0\1", "not a chunk"),
        (b"\1" + ONE[1:], "begins with 0"),
        (ONE + b"x" * 8, "not a chunk"),
        (ONE[:-1], "fewer than announced"),
        (framed(b"", 0, 0), "wrong length"),
        (framed(bytes(CHUNK_BYTES + 1), 0, CHUNK_BYTES + 1), "wrong length"),
        (framed(bytes(1 << 18), 1, 1000), "wrong stored bytes"),
        (framed(b"abc", 0, 4), "wrong stored bytes"),
        (framed(b"abc", 3, 3), "wrong compression"),
        (framed(b"this is no frame", 1, 16), "not an LZ4 frame"),
        (framed(FRAME[:-4], 1, 1000), "bytes of one LZ4 frame"),
        (framed(FRAME + b"more", 1, 1000), "bytes of one LZ4 frame"),
        (framed(FRAME, 1, 999), "bytes of one LZ4 frame"),
        (framed(FRAME, 2, 1001), "bytes of one LZ4 frame"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(len(value)),
)
def test_broken_bytes_are_refused_by_what_is_wrong(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in refusal(tmp_path, content)


def test_too_many_chunks_are_refused() -> None:
    with pytest.raises(FileError, match="wrong number of chunks"):
        list(headers(io.BytesIO(framed(b"x", 0, 1) * (MOST_CHUNKS + 1))))


def test_chunks_that_come_to_too_much_are_refused_before_they_are_decoded() -> None:
    zeros = framed(lz4.frame.compress(bytes(CHUNK_BYTES)), 1, CHUNK_BYTES)
    with pytest.raises(FileError, match="wrong length of all chunks"):
        list(headers(io.BytesIO(zeros * (MOST_DATA_BYTES // CHUNK_BYTES + 1))))


def test_a_frame_that_would_fill_the_memory_is_cut_off(tmp_path: Path) -> None:
    """A gigabyte of zeros takes four megabytes; here as much as a chunk may take."""
    bomb = lz4.frame.compress(bytes(30 << 20))
    assert len(bomb) < CHUNK_BYTES
    path = written(tmp_path, framed(bomb, 1, CHUNK_BYTES))
    tracemalloc.start()
    with pytest.raises(FileError, match="bytes of one LZ4 frame"):
        check_xorb(path, "0" * 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@given(st.data())
def test_bent_xorbs_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    bent = bytearray((GOLDEN / "xorb").read_bytes()[10967:14133])
    for _ in range(data.draw(st.integers(1, 4))):
        bent[data.draw(st.integers(0, len(bent) - 1))] = data.draw(st.integers(0, 255))
    path = written(tmp_path_factory.mktemp("bent"), bytes(bent))
    with pytest.raises(FileError):
        check_xorb(path, "0" * 64)
