"""The command `stockpot`: one file for each subcommand, and one line here.

Nothing heavy is imported before a subcommand needs it: `stockpot merge` loads neither torch nor a web server.
"""

import gc
import resource
import sys
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from app.command import (
    compose,
    compress,
    deltas,
    deploy,
    extract,
    fetch,
    jobs,
    merge,
    methods,
    plan,
    pull,
    push,
    serve,
    tokens,
    worker,
)
from app.command.output import report_error
from merge_core.errors import StockpotError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

HELP = "Merge models on this machine, or run and use a service that does."

command = typer.Typer(
    name="stockpot",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (merge, plan, extract, compress, methods, serve, worker, push, pull, fetch, deploy, compose):
    command.command()(getattr(module, module.__name__.rpartition(".")[2]))
command.add_typer(deltas.group, name="deltas")
command.add_typer(jobs.group, name="jobs")
command.add_typer(tokens.group, name="tokens")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stockpot {version_of('stockpot')}")
        raise typer.Exit


@command.callback(help=HELP)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """What can stand before a subcommand."""


def main() -> None:
    """Run the command line; an error that Stockpot names ends with exit code 2 and one sentence."""
    _allow_many_files()
    gc.freeze()  # what is imported is no garbage: not to be looked through again and again
    try:
        command()
    except StockpotError as error:
        report_error(error, as_json="--json" in sys.argv)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _allow_many_files() -> None:
    """Raise the soft limit on open files to the hard one: every mapped input and every shard being written is one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
