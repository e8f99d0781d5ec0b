import tomllib
from pathlib import Path

from typer.testing import CliRunner

from app.command import command

ROOT = Path(__file__).parents[3]


def test_the_version_is_told_without_a_subcommand() -> None:
    expected = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    result = CliRunner().invoke(command, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"stockpot {expected}\n")


def test_the_help_says_what_the_command_is_for() -> None:
    assert "Merge models on this machine" in CliRunner().invoke(command, ["--help"]).stdout
