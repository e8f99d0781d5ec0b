"""The image is described so that it builds: what it names exists, and agrees with the project's other files."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tests.docker.build_files import DOCKERFILE, ROOT, copied_sources, final, instructions, is_ignored

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _torch_pins(text: str) -> set[str]:
    return set(re.findall(r"\btorch==([\w.]+)", text))


def test_the_linter_finds_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("source", copied_sources())
def test_every_copied_path_exists_and_reaches_the_builder(source: str) -> None:
    assert (ROOT / source).exists(), f"COPY {source}: no such path in the repository"
    assert not is_ignored(source), f"COPY {source}: .dockerignore keeps it from the builder"


def test_every_package_of_the_project_is_copied() -> None:
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = packages | {"pyproject.toml", PROJECT["project"]["readme"]}
    assert needed <= set(copied_sources())


@pytest.mark.parametrize(
    "path", ["docker/.env", ".git/config", ".venv/bin/python", "app/__pycache__/main.pyc", "var/x"]
)
def test_secrets_history_and_leftovers_stay_out_of_the_build(path: str) -> None:
    assert is_ignored(path)


def test_the_entry_point_is_the_script_that_the_project_installs() -> None:
    assert [one.words() for one in final("ENTRYPOINT")] == [list(PROJECT["project"]["scripts"])]


def test_the_extra_that_is_installed_is_one_the_project_has() -> None:
    extras = re.findall(r'pip install "\./\[(\w+)\]"', DOCKERFILE.read_text())
    assert extras == ["postgres"]
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])


def test_torch_is_pinned_to_the_version_of_the_makefile() -> None:
    assert _torch_pins(DOCKERFILE.read_text()) == _torch_pins((ROOT / "Makefile").read_text())


def test_the_base_image_has_a_python_that_the_project_accepts() -> None:
    bases = [one.words()[0] for one in instructions() if one.word == "FROM"]
    versions = [match[1] for base in bases if (match := re.fullmatch(r"python:(\d+\.\d+)-slim", base))]
    assert len(versions) == len(bases) == 2
    assert len(set(versions)) == 1, "a virtual environment works only with the Python that made it"
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(versions[0])


def test_the_image_runs_as_a_numbered_user_that_is_not_root() -> None:
    users = [one.rest for one in final("USER")]
    assert users
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_the_image_says_how_to_ask_its_health_and_how_to_stop_it() -> None:
    check = final("HEALTHCHECK")[0].rest
    script = re.search(r'"/opt/stockpot/health/(\w+\.py)"', check)
    assert script, check
    assert (ROOT / "docker" / script[1]).exists()
    assert [one.rest for one in final("STOPSIGNAL")] == ["SIGTERM"]
