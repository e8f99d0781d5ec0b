"""What identifies a file for Hub clients: sha256 of large ones, git's hash of small ones. One rule for all routes."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from app.api.services import Services
from app.hub.snapshots import SnapshotFile
from app.store.git_hashes import git_oid

LARGE_BYTES = 10 << 20
LARGE_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack", ".npy", ".npz", ".pkl"}
    | {".pickle", ".joblib", ".model", ".parquet", ".arrow", ".zip", ".gz", ".xz", ".zst", ".bz2", ".7z", ".tar"}
    | {".tgz", ".rar", ".tflite", ".pb", ".ot", ".wasm", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp4", ".wav"}
)


def is_large(path: str, size: int) -> bool:
    """True for what clients send as LFS or Xet rather than inside a commit, where empty files always go."""
    return size > LARGE_BYTES or (size > 0 and PurePosixPath(path).suffix.lower() in LARGE_SUFFIXES)


def pointer(sha256: str, size: int) -> bytes:
    """What git would hold in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def oids_of(pot: Services, files: Iterable[SnapshotFile]) -> dict[str, str]:
    """By path, git's hash of each file, or of the pointer to it; of one that is not built yet, its mark."""
    listed = list(files)
    small = {file.sha256 for file in listed if file.sha256 and not is_large(file.path, file.size)}
    known = _small_oids(pot, small)
    return {file.path: _oid(file, known) for file in listed}


def etag_of(pot: Services, file: SnapshotFile) -> str:
    """The entity tag of a file's bytes."""
    if file.sha256 is None:
        return file.mark
    return file.sha256 if is_large(file.path, file.size) else oids_of(pot, [file])[file.path]


def _oid(file: SnapshotFile, known: dict[str, str]) -> str:
    if file.sha256 is None:
        return file.mark[:40]
    return known.get(file.sha256) or git_oid(pointer(file.sha256, file.size))


def _small_oids(pot: Services, wanted: set[str]) -> dict[str, str]:
    known = pot.store.git_oids(wanted)
    fresh = {sha256: git_oid(b"".join(pot.blobs.read(sha256))) for sha256 in sorted(wanted - set(known))}
    if fresh:
        pot.store.keep_git_oids(fresh)
    return known | fresh
