"""The folder that a command makes: what must not be replaced by it, and how it appears whole or not at all."""

import secrets
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.command.output import warn
from merge_core.errors import ConflictError

EXPECTED = "a new folder, or --overwrite for a folder"


@contextmanager
def _named_failures(out: Path) -> Iterator[None]:
    """What the system refuses, as a ConflictError that names the output."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # resolving a loop of links is a RuntimeError
        found = getattr(error, "strerror", None) or str(error)
        where = f"output {str(out)[:200]!r}"
        raise ConflictError("cannot be made", where=where, found=found, expected="a place to write to") from error


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Raise ConflictError where `out` is more than an empty folder, or a folder that may be replaced.

    Also where it may never be: the current folder or one around it, a link to a folder, or where a disk is mounted.
    """
    with _named_failures(out):
        _refuse_fixed(out)
        if out.is_dir() and not any(out.iterdir()):
            return
        if out.exists() and not (overwrite and out.is_dir()):
            raise ConflictError("the output is there already", where=str(out), expected=EXPECTED)


def _refuse_fixed(out: Path) -> None:
    fixed = {
        "a symbolic link": out.is_symlink,
        "the current folder, or one around it": lambda: Path.cwd().is_relative_to(out.resolve()),
        "where a disk is mounted": out.is_mount,
    }
    for found, is_so in fixed.items():
        if is_so():
            message = "the output cannot take this place"
            raise ConflictError(message, where=str(out), found=found, expected="the path of a folder by itself")


def refuse_loss(out: Path, inputs: Callable[[], Iterable[Path]]) -> None:
    """Raise ConflictError where one of the inputs would go with the folder that `out` is now."""
    with _named_failures(out):
        if not out.is_dir():
            return
        replaced = out.resolve()
        for path in inputs():
            # What a link leads to is lost with its folder, and so is the link itself.
            if any(place.is_relative_to(replaced) for place in (path.resolve(), path.parent.resolve() / path.name)):
                message, expected = "an input would be lost with what is there", "a folder with no input in it"
                raise ConflictError(message, where=str(out), found=f"'{path}'", expected=expected)


@contextmanager
def appearing(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder beside `out` that takes its name when the block ends well, and is removed when it does not."""
    folder = _beside(out, "partial")
    with _named_failures(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    try:
        with _told_to_end():
            yield folder
        refuse_existing(out, overwrite)
        with _named_failures(out):
            _put(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM and SIGHUP, where they would end the process at once, end the block as an exception does."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    told = [signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__]
    ending = [number for number in told if signal.getsignal(number) == signal.SIG_DFL]
    for number in ending:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in ending:
            signal.signal(number, signal.SIG_DFL)


def _beside(out: Path, ending: str) -> Path:
    return out.parent / f".{out.name}.{secrets.token_hex(4)}.{ending}"


def _put(folder: Path, out: Path) -> None:
    """Give `folder` the name `out`; what has it now is removed after that, and has it again where that fails."""
    if not out.exists():
        folder.rename(out)
        return
    aside = _beside(out, "replaced")
    try:
        out.rename(aside)
        folder.rename(out)
    except BaseException:
        if aside.exists() and not out.exists():
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    if aside.exists():
        warn([f"what was in {out} before could not be removed, and is left in {aside}"])
