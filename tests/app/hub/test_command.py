"""The `hf` command, as people type it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.api.conftest import Pot
from tests.app.hub.conftest import publish

FILES = {"README.md": b"# Hello\n", "config.json": b"{}", "deep/er/notes.txt": b"text"}

Hf = Callable[..., str]


@pytest.fixture
def hf(pot: Pot, tmp_path: Path) -> Hf:
    """The command with a home of its own."""
    variables = {"HF_ENDPOINT": pot.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_UPDATE_CHECK": "1"}

    def ran(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("hf")), *arguments]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ran


def test_it_logs_in_and_looks_around(pot: Pot, hf: Hf, tmp_path: Path) -> None:
    secret = pot.token("write", namespaces=("team",))
    publish(pot, "team/one", FILES, secret, private=True)
    hf("auth", "login", "--token", secret)
    assert "team" in hf("auth", "whoami")
    hf("download", "team/one", "--local-dir", str(tmp_path / "here"))
    assert (tmp_path / "here" / "deep" / "er" / "notes.txt").read_bytes() == b"text"
    assert '"team/one"' in hf("models", "list", "--author", "team", "--format", "json")
    assert '"team/one"' in hf("models", "info", "team/one", "--format", "json")
    assert "team/one" in hf("repos", "list")


def test_it_keeps_a_repo(pot: Pot, hf: Hf, tmp_path: Path) -> None:
    secret = pot.token("write", namespaces=("team",))
    hf("auth", "login", "--token", secret)
    for path, content in FILES.items():
        (tmp_path / "new" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / path).write_bytes(content)
    hf("repos", "create", "team/new", "--private")
    hf("upload", "team/new", str(tmp_path / "new"), ".")
    hf("repos", "tag", "create", "team/new", "v1", "-m", "first")
    hf("repos", "branch", "create", "team/new", "next")
    hf("repos", "delete-files", "team/new", "deep/*")
    hf("repos", "settings", "team/new", "--public")
    store = pot.inside.store
    repo = store.require_repo("team/new")
    assert not repo.private
    assert [entry.path for entry in store.tree(store.head(repo))] == ["README.md", "config.json"]
    assert [entry.path for entry in store.tree(store.resolve_revision(repo, "v1"))] == sorted(FILES)
    assert "v1" in hf("repos", "tag", "list", "team/new")
    hf("repos", "move", "team/new", "team/moved")
    hf("repos", "delete", "team/moved", "--yes")
    assert store.get_repo("team", "moved") is None
