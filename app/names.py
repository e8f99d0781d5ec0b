"""What may be the name of a repo, a revision, a file or a blob: checked before anything looks it up."""

import re
import unicodedata
from collections import Counter

from merge_core.errors import InputError

LONGEST_PATH_BYTES = 1024
LONGEST_PART_BYTES = 255
LONGEST_REF = 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REF_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@=,#-]*")
_COMMIT = re.compile(r"[0-9A-Fa-f]{40}")
_PULL = re.compile(r"refs/pr/[1-9][0-9]{0,8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_name(value: str, where: str) -> str:
    """A namespace's or a repo's name as it stands."""
    if not _NAME.fullmatch(value) or ".." in value or value.lower().endswith(".git"):
        expected = "1 to 96 letters, digits, '.', '_' and '-', starting with a letter or digit, no '..', no '.git' end"
        raise InputError("not a name", where=where, found=repr(value), expected=expected)
    return value


def split_name(value: str, where: str) -> tuple[str, str]:
    """The two halves of `namespace/name`."""
    namespace, slash, name = value.partition("/")
    if not slash:
        raise InputError("not a repo's name", where=where, found=repr(value), expected="namespace/name")
    return check_name(namespace, where), check_name(name, where)


def check_branch(value: str, where: str) -> str:
    """A new branch's or tag's name as it stands: what git takes, and nobody takes for anything else."""
    reason = _no_ref(value)
    if reason is not None:
        raise InputError("not a name of a branch or tag", where=where, found=repr(value[:200]), expected=reason)
    return value


def check_revision(value: str, where: str = "query revision") -> str:
    """A branch, a tag, a ref by its whole name or a commit id, as it stands."""
    name = value.removeprefix("refs/heads/") if value.startswith("refs/heads/") else value.removeprefix("refs/tags/")
    if not (_COMMIT.fullmatch(value) or _PULL.fullmatch(value)) and _no_ref(name) is not None:
        expected = "a branch, a tag or a commit id"
        raise InputError("not a revision", where=where, found=repr(value[:200]), expected=expected)
    return value


def check_sha256(value: str, where: str) -> str:
    """A sha256 in lower case."""
    lowered = value.lower()
    if not _SHA256.fullmatch(lowered):
        raise InputError("not a sha256", where=where, found=repr(value), expected="64 hexadecimal digits")
    return lowered


def check_path(value: str, where: str = "path") -> str:
    """A file's path inside a repo, as it stands: relative, of plain parts, safe to write below a folder anywhere."""
    reason = _unsafe(value)
    if reason is not None:
        raise InputError("not a file's path", where=where, found=repr(value[:200]), expected=reason)
    return value


def check_distinct(paths: list[str], where: str) -> None:
    """Raises InputError when a path is there twice."""
    repeated = next((path for path, count in Counter(paths).items() if count > 1), None)
    if repeated is not None:
        raise InputError("a path is there twice", where=where, found=repr(repeated))


def check_no_file_is_folder(paths: list[str], where: str) -> None:
    """Raises InputError when a path is both a file and the folder of another: no disk could hold both."""
    files = set(paths)
    for path in paths:
        folder = next((path[:end] for end, letter in enumerate(path) if letter == "/" and path[:end] in files), None)
        if folder is not None:
            raise InputError("a file and a folder cannot have one name", where=where, found=repr(folder))


def _no_ref(name: str) -> str | None:
    """What the name of a branch or tag would have, or None when it is one."""
    if len(name) > LONGEST_REF:
        return f"at most {LONGEST_REF} characters"
    parts = name.split("/")
    if not all(_REF_PART.fullmatch(part) and ".." not in part for part in parts):
        return "letters, digits, '._+@=,#-' and single '/', each part starting with a letter, digit or '_', no '..'"
    if any(part.endswith((".", ".lock")) for part in parts):
        return "no part that ends in '.' or '.lock'"
    if parts[0].lower() == "refs" or name.upper() == "HEAD" or _COMMIT.fullmatch(name):
        return "a name that is no commit id, not HEAD and not below refs/"
    return None


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
