"""Xorbs: runs of compressed chunks, each behind a header of eight bytes, read from bytes of which nothing is believed.

What follows the chunks, a footer by some clients, is not read: all that it says follows from the chunks.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lz4.frame import LZ4FrameDecompressor

from app.hub.xet.hashes import Tree, as_text, chunk_hash
from merge_core.errors import FileError

MOST_BYTES = 65 << 20
"""Of a xorb as it is sent: clients put up to 64 MiB of chunks into one, which may not compress, and add headers."""
MOST_CHUNKS = 1 << 16
"""Of a xorb; clients send up to 8192. Without a bound a xorb of tiny chunks would cost minutes to read."""
MOST_DATA_BYTES = 1 << 30
"""Of a xorb's chunks as they were. Clients stop at 64 MiB; zeros would make 8 GiB of a xorb."""
CHUNK_BYTES = 128 << 10
STORED_BYTES = CHUNK_BYTES + 1024
"""A chunk that compression makes longer is sent as it is; frames add a few bytes of their own."""
HEADER_BYTES = 8
FOOTER = b"XETBLOB"
PLAIN, LZ4, GROUPED_LZ4 = range(3)


class Chunk(NamedTuple):
    """Where one chunk's stored bytes lie in its file, how they are compressed, and the length without."""

    begin: int
    stored: int
    scheme: int
    length: int


def places(path: Path) -> Sequence[int]:
    """Where each chunk's header begins. Raises FileError when the bytes are not a run of chunks."""
    with path.open("rb") as file:
        return array("I", (chunk.begin - HEADER_BYTES for chunk in headers(file)))


def chunks(path: Path, begins: Iterable[int]) -> Iterator[bytes]:
    """The bytes of the chunks whose headers begin there. Raises FileError for those that cannot be decoded."""
    with path.open("rb") as file:
        for begin in begins:
            file.seek(begin)
            yield _decoded(_header(file.read(HEADER_BYTES), begin + HEADER_BYTES), file)


def headers(file: BinaryIO) -> Iterator[Chunk]:
    """The chunks of a xorb, which begins at the start of the file. Raises FileError for anything else."""
    size = file.seek(0, 2)
    position = count = data = 0
    while position < size:
        file.seek(position)
        header = file.read(HEADER_BYTES)
        if header[: len(FOOTER)] == FOOTER:
            break
        chunk = _header(header, position + HEADER_BYTES)
        position, count, data = chunk.begin + chunk.stored, count + 1, data + chunk.length
        _require(position <= size, chunk, "stored bytes", "fewer than announced", chunk.stored)
        _require(count <= MOST_CHUNKS, chunk, "number of chunks", count, f"at most {MOST_CHUNKS}")
        _require(data <= MOST_DATA_BYTES, chunk, "length of all chunks", data, f"at most {MOST_DATA_BYTES}")
        yield chunk
    if not count:
        raise FileError("no chunk", where="xorb", found=f"{size} bytes")


def check_xorb(path: Path, expected: str) -> None:
    """Decode and hash every chunk. Raises FileError when the hash of all is not `expected`, or one is broken."""
    tree = Tree()
    for data in chunks(path, places(path)):
        tree.add(chunk_hash(data), len(data))
    found = as_text(tree.root())
    if found != expected:
        raise FileError("the xorb is not the one that its address names", where="hash", found=found, expected=expected)


def _header(header: bytes, begin: int) -> Chunk:
    if len(header) < HEADER_BYTES or header[0] != 0:
        expected = f"a chunk's header, which begins with 0, at byte {begin - HEADER_BYTES}"
        raise FileError("not a chunk", where="xorb", found=header.hex() or "nothing", expected=expected)
    stored, length = int.from_bytes(header[1:4], "little"), int.from_bytes(header[5:8], "little")
    chunk = Chunk(begin, stored, header[4], length)
    _require(0 < length <= CHUNK_BYTES, chunk, "length", length, f"1 to {CHUNK_BYTES}")
    _require(0 < stored <= STORED_BYTES, chunk, "stored bytes", stored, f"1 to {STORED_BYTES}")
    _require(chunk.scheme in (PLAIN, LZ4, GROUPED_LZ4), chunk, "compression", chunk.scheme, "0, 1 or 2")
    _require(chunk.scheme != PLAIN or stored == length, chunk, "stored bytes", stored, length)
    return chunk


def _decoded(chunk: Chunk, file: BinaryIO) -> bytes:
    stored = file.read(chunk.stored)
    if chunk.scheme == PLAIN:
        return stored
    data = _expanded(chunk, stored)
    return data if chunk.scheme == LZ4 else _regrouped(data)


def _expanded(chunk: Chunk, stored: bytes) -> bytes:
    """Never more than one byte beyond what the header announces, whatever the frame holds."""
    frame = LZ4FrameDecompressor()
    try:
        data: bytes = frame.decompress(stored, max_length=chunk.length + 1)
    except RuntimeError as error:
        raise FileError("not an LZ4 frame", where=_place(chunk), found=str(error)) from None
    is_whole = frame.eof and not frame.unused_data
    _require(is_whole and len(data) == chunk.length, chunk, "bytes of one LZ4 frame", len(data), chunk.length)
    return data


def _regrouped(data: bytes) -> bytes:
    """Undo grouping by 4: all first bytes of every four, then all second ones, and so on."""
    whole = bytearray(len(data))
    begin = 0
    for place in range(4):
        length = (len(data) - place + 3) // 4
        whole[place::4] = data[begin : begin + length]
        begin += length
    return bytes(whole)


def _require(holds: bool, chunk: Chunk, what: str, found: object, expected: object) -> None:
    if not holds:
        raise FileError(f"wrong {what}", where=_place(chunk), found=found, expected=expected)


def _place(chunk: Chunk) -> str:
    return f"xorb, chunk at byte {chunk.begin - HEADER_BYTES}"
