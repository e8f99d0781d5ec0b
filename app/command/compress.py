"""`stockpot compress SOURCE OUT`: a delta as signs and one value for each tensor."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from app.command.output import error_share, human_size, print_json, progress_bar, warn
from app.command.output_folder import appearing, refuse_existing, refuse_loss
from app.command.recipes import input_paths, memory_option
from app.memory import PROCESS_BYTES, threads_within
from merge_core.compression import describe_compression, plan_compression
from merge_core.execute import execute
from merge_core.sources import folder_source


class Scope(StrEnum):
    """Over what the largest entries are sought."""

    MODEL = "model"
    TENSOR = "tensor"


class Form(StrEnum):
    """How signs are stored."""

    HOT = "hot"
    COLD = "cold"


def compress(
    source: Annotated[str, typer.Argument(help="An adapter, another delta, or a fine-tuned model.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    base: Annotated[
        str | None, typer.Option(help="The model that SOURCE changes. A PEFT adapter's own tensors need none.")
    ] = None,
    density: Annotated[float, typer.Option(min=0.0, max=1.0, help="The share of entries that is kept.")] = 0.2,
    alpha: Annotated[float, typer.Option(help="Times the standard deviation: what a kept entry becomes.")] = 1.0,
    scope: Annotated[Scope, typer.Option(help="The largest of the whole model, or of each tensor.")] = Scope.MODEL,
    form: Annotated[Form, typer.Option(help="Bitplanes to be used at once, or coded near the entropy.")] = Form.COLD,
    memory: Annotated[
        str | None, typer.Option(help="Most anonymous memory, such as 1GiB; mapped inputs do not count.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads; the bytes do not depend on it.")] = 2,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT when it is there.")] = False,
    fsync: Annotated[bool, typer.Option(help="Wait until the files are safe on disk.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compress as ComPEFT does: keep the signs of the largest entries, and one value for all of them.

    Of a LoRA or IA3 adapter the own tensors are compressed, of anything else what it changes in the base's weights.
    """
    refuse_existing(out, overwrite)
    budget = memory_option(memory)
    output = {"density": density, "alpha": alpha, "scope": scope.value, "form": form.value}
    plan = plan_compression(source, base, output, folder_source, budget, PROCESS_BYTES)
    refuse_loss(out, lambda: input_paths(plan.recipe.sources(), Path()))
    warn(plan.warnings)
    if base is not None and plan.recipe.base is None:
        warn(["the adapter's own tensors are compressed; its base has no say in them"])
    with appearing(out, overwrite) as folder, progress_bar(f"compressing {out.name}", shown=not json) as progress:
        execute(plan, folder, threads=threads_within(plan, threads, budget), durable=fsync, on_progress=progress)
        report = describe_compression(folder, plan)
    if json:
        print_json({"folder": str(out), **report})
        return
    for row in report["by_tensor"]:
        typer.echo(_line(row))
    typer.echo(_summary(out, report))


def _line(row: dict[str, Any]) -> str:
    sizes = f"{human_size(row['bytes']):>10}  {human_size(row['entropy_bytes']):>10}  {row['density']:>8.2%}"
    return f"{sizes}  {error_share(row['relative_error'])}  {row['name']}"


def _summary(out: Path, report: dict[str, Any]) -> str:
    sizes = f"{human_size(report['bytes'])}, entropy {human_size(report['entropy_bytes'])}"
    share = f"{report['entries']} of {report['elements']} entries in {report['tensors']} tensors"
    return f"{out}: {share}, {sizes}, {report['times_smaller_than_fp16']:.1f} times smaller than fp16"
