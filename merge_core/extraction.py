"""What a fine-tune changed, taken out of it as a delta: the recipe, what it must not do, and what came of it."""

from pathlib import Path
from typing import Any, Literal

from merge_core.deltas import Sparse
from merge_core.errors import RecipeError
from merge_core.formats.patch import FILE, read
from merge_core.outputs.lora_sink import FILE as ADAPTER
from merge_core.outputs.lora_sink import read_errors
from merge_core.plan import Plan, make_plan
from merge_core.planning.factors import Built, Factors
from merge_core.planning.tensors import Merge
from merge_core.recipe import Recipe
from merge_core.sources import Resolve

Kind = Literal["dense", "patch", "lora"]


def plan_extraction(
    finetuned: str,
    base: str,
    kind: Kind,
    resolve: Resolve,
    rank: int | None = None,
    memory_bytes: int | None = None,
    spent_bytes: int = 0,
) -> Plan:
    """The plan that writes what `finetuned` has other than `base`: bit for bit, or as an adapter of a `rank`.

    Raises RecipeError for a rank of what is no adapter; and but for an adapter, where a tensor has another dtype or
    shape than the base's, or the input is an adapter: it is a delta already.
    """
    recipe = Recipe.parse(extraction_recipe(finetuned, base, kind, rank))
    plan = make_plan(recipe, resolve, memory_bytes, spent_bytes)
    check_extraction(plan)
    return plan


def extraction_recipe(finetuned: str, base: str, kind: Kind, rank: int | None = None) -> dict[str, Any]:
    """What `finetuned` has other than `base`, as a recipe. Raises RecipeError for a rank of what is no adapter."""
    if rank is not None and kind != "lora":
        raise RecipeError("only an adapter has a rank", where="rank", found=rank, expected="kind lora, or no rank")
    output = {"kind": kind, "rank": rank}
    return {"base": base, "method": "passthrough", "ingredients": [{"source": finetuned}], "output": output}


def check_extraction(plan: Plan) -> None:
    """Raises RecipeError where what is extracted, put on the base again, would not be the fine-tune, bit for bit."""
    for tensor in plan.tensors.values():
        if isinstance(tensor, Merge) and plan.recipe.output.kind != "lora":
            found = f"a tensor to be rounded to the base's {tensor.spec.dtype.label}, or a delta"
            where, expected = f"tensor '{tensor.spec.name}'", "a full fine-tune with the dtypes of its base"
            raise RecipeError("this would not give the fine-tune back", where=where, found=found, expected=expected)


def describe_extraction(folder: Path, plan: Plan) -> dict[str, Any]:
    """What was written, tensor by tensor, and its error: none but an adapter's, whose worst stands for all."""
    if plan.recipe.output.kind == "lora":
        return _describe_adapter(folder, plan)
    deltas = read({FILE: folder / FILE}).deltas
    rows = [_describe(name, delta.nbytes, delta, plan) for name, delta in sorted(deltas.items())]
    totals = {"tensors": len(rows), "changed": sum(row["changed"] for row in rows)}
    return totals | {"bytes": (folder / FILE).stat().st_size, "relative_error": 0.0, "by_tensor": rows}


def _describe_adapter(folder: Path, plan: Plan) -> dict[str, Any]:
    errors = read_errors(folder)
    built = sorted(dict.fromkeys(plan.tensors.values()), key=lambda tensor: tensor.spec.name)
    rows = [_describe_built(tensor, errors.get(tensor.spec.name, 0.0)) for tensor in built]
    totals = {"tensors": len(rows), "changed": sum(row["changed"] for row in rows)}
    worst = max(errors.values(), default=0.0)
    return totals | {"bytes": (folder / ADAPTER).stat().st_size, "relative_error": worst, "by_tensor": rows}


def _describe_built(tensor: Built, error: float) -> dict[str, Any]:
    """`changed` counts the numbers that are stored; of factors there may be more than elements of the tensor."""
    parts = [tensor.a, tensor.b] if isinstance(tensor, Factors) else [tensor.spec]
    changed, nbytes = sum(part.size for part in parts), sum(part.nbytes for part in parts)
    density = changed / tensor.spec.size if tensor.spec.size else 0.0
    row = {"name": tensor.spec.name, "kind": "replacement", "changed": changed, "density": density, "bytes": nbytes}
    if isinstance(tensor, Factors):
        row |= {"kind": "low_rank", "rank": tensor.rank}
    return row | {"relative_error": error}


def _describe(name: str, nbytes: int, delta: object, plan: Plan) -> dict[str, Any]:
    """`changed` counts the elements that are stored: all of them where a tensor is stored whole."""
    size = plan.tensors[name].spec.size
    changed = delta.values.spec.size if isinstance(delta, Sparse) else size
    kind = "sparse" if isinstance(delta, Sparse) else "replacement"
    density = changed / size if size else 0.0
    return {"name": name, "kind": kind, "changed": changed, "density": density, "bytes": nbytes, "relative_error": 0.0}
