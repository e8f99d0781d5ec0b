"""A source on disk that cannot be read is refused by its name, and what is wrong inside it by the file."""

import os
from pathlib import Path

import pytest

from merge_core.errors import FileError, NotFoundError, StockpotError
from merge_core.sources import folder_source


@pytest.mark.parametrize("name", ["~nosuchuser/x", "n" * 300, "/dev/null", "nothing"])
def test_a_name_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(NotFoundError, match=f"source '{name[:200]}"):
        folder_source(name)


@pytest.mark.parametrize("kind", ["broken link", "loop", "pipe", "folder", "device"])
def test_weights_that_are_no_file_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.safetensors"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"broken link": "gone", "loop": path.name, "device": "/dev/null"}[kind])
    with pytest.raises(FileError, match=rf"source '.*': model.safetensors: .*found .*{kind.split()[-1]}|where nothing"):
        folder_source(str(tmp_path))


@pytest.mark.parametrize("closed", ["model.safetensors", "inside"])
def test_what_may_not_be_read_is_named(tmp_path: Path, closed: str) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("")
    (tmp_path / closed).chmod(0o600 if closed == "inside" else 0)
    child = os.fork()
    if child == 0:
        os.chdir(tmp_path)
        if os.getuid() == 0:  # nothing is closed to root
            tmp_path.chmod(0o755)
            os.chown(tmp_path / "inside", 12345, -1)
            os.setuid(12345)
        try:
            folder_source(".")
        except StockpotError as error:
            os._exit(0 if "source '.'" in str(error) else 2)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
