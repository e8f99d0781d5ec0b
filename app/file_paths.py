"""What may be the path of a file inside a repo, wherever it comes from."""

import unicodedata

from merge_core.errors import InputError

LONGEST_PATH_BYTES = 1024
LONGEST_PART_BYTES = 255


def check_path(value: str, where: str = "path") -> str:
    """A file's path inside a repo, as it stands: relative, of plain parts, safe to write below a folder anywhere."""
    reason = _unsafe(value)
    if reason is not None:
        raise InputError("not a file's path", where=where, found=repr(value[:200]), expected=reason)
    return value


def _unsafe(path: str) -> str | None:
    """What a safe path would have, or None when it is one."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") or letter in "\\\ufffd" for letter in path):
        return "no backslash, no control character, valid UTF-8"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "parts between single slashes, none of them empty, '.' or '..', no slash in front or at the end"
    if len(path.encode()) > LONGEST_PATH_BYTES or any(len(part.encode()) > LONGEST_PART_BYTES for part in parts):
        return f"at most {LONGEST_PATH_BYTES} bytes, {LONGEST_PART_BYTES} in each part"
    return None
