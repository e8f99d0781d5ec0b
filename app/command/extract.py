"""`stockpot extract FINETUNED --base BASE OUT`: what a fine-tune changed, as a delta."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from app.command.output import error_share, human_size, print_json, progress_bar, warn
from app.command.output_folder import appearing, refuse_existing, refuse_loss
from app.command.recipes import input_paths, memory_option
from app.memory import PROCESS_BYTES, threads_within
from merge_core.execute import execute
from merge_core.extraction import describe_extraction, plan_extraction
from merge_core.sources import folder_source


class Kind(StrEnum):
    """How the difference is stored."""

    PATCH = "patch"
    DENSE = "dense"
    LORA = "lora"


def extract(
    finetuned: Annotated[str, typer.Argument(help="The fine-tuned model: a folder or a safetensors file.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    base: Annotated[str, typer.Option(help="The model it was tuned from: a folder or a safetensors file.")],
    kind: Annotated[
        Kind, typer.Option(help="Single entries that differ, whole tensors that do, or an adapter for PEFT.")
    ] = Kind.PATCH,
    rank: Annotated[int | None, typer.Option(min=1, max=65536, help="The adapter's rank, for --kind lora.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Most anonymous memory, such as 1GiB; mapped inputs do not count.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads; the bytes do not depend on it.")] = 2,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT when it is there.")] = False,
    fsync: Annotated[bool, typer.Option(help="Wait until the files are safe on disk.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write what FINETUNED has other than the base; put on the base again it is the fine-tune, bit for bit.

    An adapter (--kind lora) is as near to it as its rank allows, and says how near that is for each tensor.
    """
    refuse_existing(out, overwrite)
    budget = memory_option(memory)
    plan = plan_extraction(finetuned, base, kind.value, folder_source, rank, budget, PROCESS_BYTES)
    refuse_loss(out, lambda: input_paths(plan.recipe.sources(), Path()))
    warn(plan.warnings)
    with appearing(out, overwrite) as folder, progress_bar(f"extracting {out.name}", shown=not json) as progress:
        execute(plan, folder, threads=threads_within(plan, threads, budget), durable=fsync, on_progress=progress)
        report = describe_extraction(folder, plan)
    if json:
        print_json({"folder": str(out), "kind": kind.value, **report})
        return
    for row in report["by_tensor"]:
        sizes = f"{human_size(row['bytes']):>10}  {row['density']:>8.2%}"
        typer.echo(f"{sizes}  {error_share(row['relative_error'])}  {row['name']}")
    typer.echo(_summary(out, report))


def _summary(out: Path, report: dict[str, Any]) -> str:
    exactness = f"relative error up to {report['relative_error']:.3g}" if report["relative_error"] else "exact"
    stored = f"{report['changed']} elements of {report['tensors']} tensors"
    return f"{out}: {stored}, {human_size(report['bytes'])}, {exactness}"
