"""Joining the files of a shard from the chunks that were sent before: each becomes a blob like any other.

Chunk by chunk: decoded, hashed three ways, written. Neither a file nor a xorb is ever in memory.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import IO

from app.api.services import Services
from app.hub.xet.hashes import RangeHash, Tree, as_text, chunk_hash
from app.hub.xet.shard import ShardFile, Term, read_shard
from app.hub.xet.xorb import chunks, places
from app.problems import TooLargeError
from app.store.records import Token
from app.store.uploads import Upload
from app.store.xorbs import XorbRange
from merge_core.errors import CapacityError, FileError, NotFoundError

MOST_CHUNKS = 1 << 22
"""Of all xorbs that one shard names: 256 GiB as clients cut files, and 16 MiB of memory."""


def assemble(pot: Services, owner: Token, shard: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Make every file of a shard a blob that `owner` may then commit; how many of how many parts are done, on the way.

    Raises FileError when a file is not what the shard says of it, NotFoundError for a xorb that `owner` may not name.
    """
    files = read_shard(shard)
    xorbs = _Xorbs(pot, owner, files)
    done, total = 0, sum(len(file.terms) for file in files)
    for file in files:
        yield done, total
        for count in _joined(pot, owner, file, xorbs):
            yield done + count, total
        done += len(file.terms)


class _Xorbs:
    """The xorbs that a shard names."""

    def __init__(self, pot: Services, owner: Token, files: tuple[ShardFile, ...]) -> None:
        self._pot = pot
        terms = [term for file in files for term in file.terms]
        self._blobs = pot.store.name_xorbs({_range(term) for term in terms}, owner)
        missing = next((term.xorb for term in terms if term.xorb not in self._blobs), None)
        if missing is not None:
            raise _unknown(missing)
        self._places: dict[str, Sequence[int]] = {}
        self._left = MOST_CHUNKS

    def chunks(self, term: Term) -> Iterator[bytes]:
        """The bytes of a term's chunks."""
        begins = self._begins(term.xorb)
        if term.stop > len(begins):
            found = f"chunks {term.first} up to {term.stop}"
            raise FileError("no such chunks", where=_place(term), found=found, expected=f"at most {len(begins)}")
        return chunks(self._pot.blobs.local_path(self._blobs[term.xorb]), begins[term.first : term.stop])

    def _begins(self, xorb: str) -> Sequence[int]:
        """Found once for a shard, however often it names the xorb."""
        if xorb not in self._places:
            self._places[xorb] = places(self._pot.blobs.local_path(self._blobs[xorb]))
            self._left -= len(self._places[xorb])
            if self._left < 0:
                raise CapacityError("too many chunks", where="shard", expected=f"at most {MOST_CHUNKS} in its xorbs")
        return self._places[xorb]


def _joined(pot: Services, owner: Token, file: ShardFile, xorbs: _Xorbs) -> Iterator[int]:
    """How many of the file's terms are written, after each."""
    if file.size > pot.settings.max_file_bytes:
        expected = f"at most {pot.settings.max_file_bytes}"
        raise TooLargeError("the file is too large", where=_name(file), found=f"{file.size} bytes", expected=expected)
    if _is_here(pot, owner, file):
        return
    with pot.blobs.open_upload(file.sha256, file.size) as upload:
        tree = Tree()
        for count, term in enumerate(file.terms, 1):
            _write(upload, term, xorbs, tree)
            yield count
        _require(as_text(tree.file_hash()), file.hash, _name(file), "the hash of its chunks")
        found, size = upload.finish(announce=partial(pot.store.announce_blob, owner=owner))
    pot.store.record_blob(found, size, owner)
    pot.store.note_xorb_file(found, [_range(term) for term in file.terms])


def _is_here(pot: Services, owner: Token, file: ShardFile) -> bool:
    """True when the owner may commit these bytes already, such as on a second try: they are kept until then."""
    if file.sha256 is None or not pot.store.may_read_blob(owner, file.sha256):
        return False
    if pot.store.blob_size(file.sha256) != file.size:
        return False
    pot.store.promise_blobs([file.sha256], owner)
    return True


def _write(upload: Upload, term: Term, xorbs: _Xorbs, tree: Tree) -> None:
    begin, proof = upload.received, RangeHash()
    for data in xorbs.chunks(term):
        digest = chunk_hash(data)
        tree.add(digest, len(data))
        proof.add(digest)
        upload.write(data)
    _require(upload.received - begin, term.length, _place(term), "the length of its chunks")
    if term.proof is not None:
        _require(proof.digest().hex(), term.proof.hex(), _place(term), "the hash of the range")


def _require(found: object, expected: object, where: str, what: str) -> None:
    if found != expected:
        raise FileError(f"{what} is another than the shard says", where=where, found=found, expected=expected)


def _range(term: Term) -> XorbRange:
    return XorbRange(term.xorb, term.first, term.stop)


def _unknown(xorb: str) -> NotFoundError:
    """The same for one that nobody has sent and for one that is not the caller's to name."""
    return NotFoundError(
        "this token has not sent that xorb, or it is not kept any more, and the client believes it has;"
        " remove what the client remembers, the folder $HF_XET_CACHE or ~/.cache/huggingface/xet, and upload again",
        where=f"xorb {xorb}",
    )


def _name(file: ShardFile) -> str:
    return f"file {file.hash}"


def _place(term: Term) -> str:
    return f"chunks {term.first} up to {term.stop} of xorb {term.xorb}"
