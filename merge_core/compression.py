"""A published thing compressed as ComPEFT does: the recipe, and what came of it tensor by tensor."""

from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

from kernels.gap_code import entropy_bits
from merge_core.deltas import Ternary
from merge_core.errors import RecipeError
from merge_core.formats import read
from merge_core.formats.peft_config import CONFIG
from merge_core.formats.ternary import FILE, open_ternary
from merge_core.outputs.compeft import Compeft
from merge_core.plan import Plan, make_plan
from merge_core.planning.planned import Merge
from merge_core.recipe import Recipe
from merge_core.sources import Resolve

FP16_BYTES = 2


def compression_recipe(
    source: str, kind: str, files: Mapping[str, object], base: str | None, output: Mapping[str, Any]
) -> dict[str, Any]:
    """The recipe, as data, that compresses `source`: an adapter's own tensors, or what other files say of `base`.

    `kind` is what its files were found to be, base (a full model) or delta. Raises RecipeError where a base is
    needed and not given.
    """
    wish = {"kind": "ternary", **output}
    recipe: dict[str, Any] = {"method": "passthrough", "ingredients": [{"source": source}], "output": wish}
    if CONFIG in files:
        return recipe
    if base is None:
        message, expected = "a delta of weights is one of a base", "the base's name; only a PEFT adapter needs none"
        raise RecipeError(message, where="base", found="nothing", expected=expected)
    return recipe | {"base": base, "method": "passthrough" if kind == "base" else "task_arithmetic"}


def plan_compression(
    source: str,
    base: str | None,
    output: Mapping[str, Any],
    resolve: Resolve,
    memory_bytes: int | None = None,
    spent_bytes: int = 0,
) -> Plan:
    """The plan that writes the ternary file of `source`."""
    files = resolve(source).files
    recipe = compression_recipe(source, read(files).kind, files, base, output)
    return make_plan(Recipe.parse(recipe), resolve, memory_bytes, spent_bytes)


def describe_compression(folder: Path, plan: Plan) -> dict[str, Any]:
    """What was written: entries, bytes, the entropy's bound on them and the relative error of each tensor."""
    contents = open_ternary({FILE: folder / FILE})
    rows = [_describe(*found, contents.deltas.get(found[0])) for found in _compressed(plan)]
    totals = {key: sum(row[key] for row in rows) for key in ("elements", "entries", "entropy_bytes")}
    nbytes = (folder / FILE).stat().st_size
    return {
        "form": contents.form,
        "of": contents.of,
        "tensors": len(rows),
        "whole_tensors": len(contents.whole),
        **totals,
        "bytes": nbytes,
        "times_smaller_than_fp16": FP16_BYTES * totals["elements"] / nbytes,
        "by_tensor": rows,
    }


def _compressed(plan: Plan) -> Iterator[tuple[str, int, float]]:
    """Name, elements and relative error of each tensor that was compressed."""
    for name, tensor in sorted(plan.tensors.items()):
        if isinstance(tensor, Merge) and isinstance(tensor.method, Compeft):
            yield name, tensor.spec.size, tensor.method.relative_errors.get(name, 0.0)


def _describe(name: str, size: int, error: float, delta: Ternary | None) -> dict[str, Any]:
    """A row of the report; a tensor of which nothing was kept is not in the file."""
    count, nbytes, value = (0, 0, 0.0) if delta is None else (delta.count, delta.nbytes, delta.value)
    bound = ceil(entropy_bits(count, size) / 8)
    sizes = {"elements": size, "entries": count, "density": count / size if size else 0.0, "bytes": nbytes}
    return {"name": name, **sizes, "entropy_bytes": bound, "value": value, "relative_error": error}
