"""Xorbs and shards as clients write them: the other direction of what the service reads."""

import io
import random
import struct
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import lz4.frame
from blake3 import blake3

from app.hub.xet.hashes import NODE_KEY, RangeHash, as_text, chunk_hash
from app.hub.xet.shard import HAS_RANGE_HASHES, HAS_SHA256, TAG, VERSION

GOLDEN = Path(__file__).parents[3] / "golden" / "xet"
GOLDEN_XORB = "4b71fefb1ff1371a65ccf4bb067e4f8236fccce0695a527ca9598d566ba4f595"
END = b"\xff" * 32 + bytes(16)

Part = tuple[str, Sequence[bytes], int]
"""A xorb's hash and all its chunks, and the first of those that are meant: here always up to the last."""


def golden_files() -> list[bytes]:
    """What the golden xorb and shard are made of; its README says how."""
    draw = random.Random(0)
    weights = struct.pack("<4000f", *(draw.gauss(0, 0.02) for _ in range(4000)))
    text = b"the quick brown fox jumps over the lazy dog\n" * 400
    noise = draw.randbytes(3000)
    return [weights, text, noise, b"tiny", weights[:10001] + noise[:1003]]


def root(nodes: Sequence[tuple[bytes, int]]) -> bytes:
    """The specification's tree over all chunks at once, as it is written there."""
    while len(nodes) > 1:
        above, left = [], list(nodes)
        while left:
            most = min(len(left), 9)
            cut = next((n + 1 for n in range(2, most) if int.from_bytes(left[n][0][24:], "little") % 4 == 0), most)
            text = "".join(f"{as_text(digest)} : {length}\n" for digest, length in left[:cut])
            above.append((blake3(text.encode(), key=NODE_KEY).digest(), sum(length for _, length in left[:cut])))
            del left[:cut]
        nodes = above
    return nodes[0][0] if nodes else bytes(32)


def hash_of(chunks: Sequence[bytes]) -> str:
    """A xorb's hash."""
    return as_text(root([(chunk_hash(data), len(data)) for data in chunks]))


def chunk_of(data: bytes, scheme: int) -> bytes:
    """One chunk behind its header."""
    grouped = b"".join(data[place::4] for place in range(4)) if scheme == 2 else data
    return framed(lz4.frame.compress(grouped) if scheme else grouped, scheme, len(data))


def framed(stored: bytes, scheme: int, length: int) -> bytes:
    """Stored bytes behind a header that says what it is told to say."""
    return b"\0" + len(stored).to_bytes(3, "little") + bytes([scheme]) + length.to_bytes(3, "little") + stored


def xorb_of(chunks: Sequence[bytes], schemes: Sequence[int] = (0,)) -> bytes:
    """Chunks one after the other, their compressions in turn."""
    return b"".join(chunk_of(data, schemes[number % len(schemes)]) for number, data in enumerate(chunks))


def shard_of(*files: Sequence[Part], sha256s: bool = True, proofs: bool = True) -> bytes:
    """A shard of files that are made of parts."""
    out = io.BytesIO()
    out.write(struct.pack("<32sQQ", TAG, VERSION, 0))
    for parts in files:
        out.write(_file(parts, sha256s, proofs))
    out.write(END + END)
    return out.getvalue()


def _file(parts: Sequence[Part], sha256s: bool, proofs: bool) -> bytes:
    chunks = [data for _, owned, first in parts for data in owned[first:]]
    nodes = [(chunk_hash(data), len(data)) for data in chunks]
    digest = blake3(root(nodes), key=bytes(32)).digest() if chunks else bytes(32)
    flags = (HAS_RANGE_HASHES if proofs else 0) | (HAS_SHA256 if sha256s else 0)
    records = [digest + struct.pack("<4I", flags, len(parts), 0, 0)]
    for name, owned, first in parts:
        numbers = struct.pack("<4I", 0, sum(len(data) for data in owned[first:]), first, len(owned))
        records.append(_bytes(name) + numbers)
    records += [_proof(owned[first:]) + bytes(16) for _, owned, first in parts if proofs]
    if sha256s:
        records.append(_bytes(sha256(b"".join(chunks)).hexdigest()) + bytes(16))
    return b"".join(records)


def _proof(chunks: Sequence[bytes]) -> bytes:
    hasher = RangeHash()
    for data in chunks:
        hasher.add(chunk_hash(data))
    return hasher.digest()


def _bytes(text: str) -> bytes:
    return struct.pack("<4Q", *struct.unpack(">4Q", bytes.fromhex(text)))
