"""What `OUT` may be, what is never lost to it, and what is left when it cannot be made."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.command.output_folder import appearing, refuse_existing
from merge_core.errors import ConflictError
from tests.app.command.conftest import Run, write_recipe

PAIR = [{"source": "math"}, {"source": "code"}]


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (".", "current folder"),
        ("math/../code/.", "'code'"),
        ("holds_link", "'linked'"),
        ("holds_recipe", "'holds_recipe/r.yaml'"),
        ("/proc/x", "/proc/x"),
    ],
)
def test_a_place_that_cannot_be_replaced_is_refused_and_left(
    stockpot: Run, models: dict, tmp_path: Path, out: str, said: str
) -> None:
    (tmp_path / "holds_link").mkdir()
    shutil.copytree(tmp_path / "math", tmp_path / "holds_link/math")
    (tmp_path / "linked").symlink_to("holds_link/math")
    (tmp_path / "holds_recipe").mkdir()
    sources = [*PAIR, {"source": "linked"}]
    for folder in (tmp_path, tmp_path / "holds_recipe"):
        write_recipe(folder / "r.yaml", method="linear", ingredients=sources)
    recipe = "holds_recipe/r.yaml" if out == "holds_recipe" else "r.yaml"
    before = everything(tmp_path)
    result = stockpot("merge", recipe, out, "--overwrite")
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("..", "around it"),
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("loop/x", "loop"),
        ("/proc", "mounted"),
        ("file", "there already"),
        ("file/x", "file/x"),
        ("folder/" + "n" * 300, "nnn"),
    ],
)
def test_a_place_for_no_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    for link, target in (("link", "folder"), ("dangling", "nothing"), ("loop", "loop")):
        (tmp_path / link).symlink_to(target)
    monkeypatch.chdir(tmp_path / "folder" if out == ".." else tmp_path)
    before = everything(tmp_path)
    with pytest.raises(ConflictError, match=said), appearing_checked(Path(out)):
        pytest.fail("there is no place for the folder")
    assert everything(tmp_path) == before


@contextmanager
def appearing_checked(out: Path) -> Iterator[Path]:
    refuse_existing(out, overwrite=True)
    with appearing(out, overwrite=True) as folder:
        yield folder


@pytest.mark.parametrize("command", [("extract", "math", "math"), ("compress", "math", "base")])
def test_a_delta_does_not_replace_what_it_is_taken_from(
    stockpot: Run, models: dict, tmp_path: Path, command: tuple[str, ...]
) -> None:
    before = everything(tmp_path)
    result = stockpot(*command, "--base", "base", "--overwrite")
    assert result.returncode == 2, result.stderr
    assert "would be lost" in result.stderr
    assert everything(tmp_path) == before


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    child = os.fork()
    if child == 0:
        try:
            os.chdir(closed)
            if os.getuid() == 0:  # nothing is closed to root
                os.setuid(12345)
            with appearing(Path("out"), overwrite=False):
                os._exit(1)
        except ConflictError as error:
            os._exit(0 if "Permission denied" in str(error) and "out" in str(error) else 2)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_was_there_is_back_where_the_new_cannot_take_its_place(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(ConflictError, match="out"), appearing(out, overwrite=True) as folder:
        folder.rmdir()
    assert everything(tmp_path) == {"out": None, "out/old": b"old"}


def test_the_new_takes_the_place_of_the_old_and_nothing_else_is_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    with appearing(out, overwrite=True) as folder:
        (folder / "new").write_text("new")
        refuse_existing(out, overwrite=True)
    assert everything(tmp_path) == {"out": None, "out/new": b"new"}


ENDED = """
import os, signal, sys
from pathlib import Path
from app.command.output_folder import appearing
with appearing(Path(sys.argv[1]), False) as folder:
    (folder / "begun").touch()
    os.kill(os.getpid(), signal.Signals[sys.argv[2]])
    signal.pause()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_process_that_is_told_to_end_leaves_nothing(name: str, code: int, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", ENDED, str(tmp_path / "out"), name]
    done = subprocess.run(arguments, timeout=60, check=False)
    assert (done.returncode, list(tmp_path.iterdir())) == (code, [])
