"""`stockpot extract FINETUNED --base BASE OUT`: what a fine-tune changed, as a delta."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.command.merge import appearing, refuse_existing
from app.command.output import human_size, print_json, progress_bar, warn
from merge_core.execute import execute
from merge_core.extraction import describe_extraction, plan_extraction
from merge_core.sources import folder_source


class Kind(StrEnum):
    """How the difference is stored."""

    PATCH = "patch"
    DENSE = "dense"


def extract(
    finetuned: Annotated[str, typer.Argument(help="The fine-tuned model: a folder or a safetensors file.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    base: Annotated[str, typer.Option(help="The model it was tuned from: a folder or a safetensors file.")],
    kind: Annotated[Kind, typer.Option(help="Single entries that differ, or whole tensors that do.")] = Kind.PATCH,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads; the bytes do not depend on it.")] = 2,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT when it is there.")] = False,
    fsync: Annotated[bool, typer.Option(help="Wait until the files are safe on disk.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write what FINETUNED has other than the base; put on the base again it is the fine-tune, bit for bit."""
    refuse_existing(out, overwrite)
    chosen: Literal["dense", "patch"] = "patch" if kind is Kind.PATCH else "dense"
    plan = plan_extraction(finetuned, base, chosen, folder_source)
    warn(plan.warnings)
    with appearing(out, overwrite) as folder, progress_bar(f"extracting {out.name}", shown=not json) as progress:
        execute(plan, folder, threads=threads, durable=fsync, on_progress=progress)
        report = describe_extraction(folder, plan)
    if json:
        print_json({"folder": str(out), "kind": kind.value, **report})
        return
    for row in report["by_tensor"]:
        typer.echo(f"{human_size(row['bytes']):>10}  {row['density']:>8.2%}  {row['name']}")
    typer.echo(
        f"{out}: {report['changed']} elements of {report['tensors']} tensors, {human_size(report['bytes'])}, exact"
    )
