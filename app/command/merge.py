"""`stockpot merge RECIPE OUT`: build a composition on this machine, without a server."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from app.command.output import error_share, human_size, print_json, progress_bar, warn
from app.command.output_folder import appearing, refuse_existing, refuse_loss
from app.command.recipes import input_paths, memory_option, plan_file
from app.command.surveys import FolderSurveys
from app.memory import threads_within
from merge_core.execute import execute
from merge_core.outputs.lora_sink import read_errors


def merge(
    recipe: Annotated[
        Path, typer.Argument(help="The recipe, YAML or JSON; its sources are folders or safetensors files.")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads; the bytes do not depend on it.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Most anonymous memory, such as 1GiB; mapped inputs do not count.")
    ] = None,
    surveys: Annotated[
        Path | None, typer.Option(help="Keep in this folder what surveys find, and survey no input twice.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT when it is there.")] = False,
    fsync: Annotated[bool, typer.Option(help="Wait until the files are safe on disk.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Build RECIPE into OUT. OUT appears when it is complete, and not before."""
    started = time.monotonic()
    refuse_existing(out, overwrite)
    refuse_loss(out, lambda: [recipe] if surveys is None else [recipe, surveys])
    budget = memory_option(memory)
    plan = plan_file(recipe, budget)
    refuse_loss(out, lambda: input_paths(plan.recipe.sources(), recipe.parent))
    affordable = threads_within(plan, threads or os.cpu_count() or 1, budget)
    kept = None if surveys is None else FolderSurveys(surveys)
    warn(plan.warnings)
    with appearing(out, overwrite) as folder, progress_bar(f"merging {out.name}", shown=not json) as progress:
        files = execute(plan, folder, threads=affordable, durable=fsync, surveys=kept, on_progress=progress)
        names = sorted(file.relative_to(folder).as_posix() for file in files)
        nbytes = sum((folder / name).stat().st_size for name in names if name.endswith(".safetensors"))
        errors = read_errors(folder) if plan.recipe.output.kind == "lora" else None
    seconds = time.monotonic() - started
    if json:
        print_json(
            {
                "folder": str(out),
                "files": names,
                "bytes": nbytes,
                "seconds": seconds,
                "warnings": list(plan.warnings),
                **({} if errors is None else {"relative_errors": errors}),
            }
        )
    else:
        for name, error in (errors or {}).items():
            typer.echo(f"{error_share(error)}  {name}")
        typer.echo(f"{out}: {human_size(nbytes)} in {len(plan.shards)} file(s), {seconds:.2f} s")
