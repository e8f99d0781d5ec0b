"""What a fine-tune changed, taken out of it as a patch: the recipe, what it must not do, and what came of it."""

from pathlib import Path
from typing import Any, Literal

from merge_core.deltas import Sparse
from merge_core.errors import RecipeError
from merge_core.formats.patch import FILE, read
from merge_core.plan import Plan, make_plan
from merge_core.plan_tensors import Merge
from merge_core.recipe import Recipe
from merge_core.sources import Resolve

Kind = Literal["dense", "patch"]


def plan_extraction(finetuned: str, base: str, kind: Kind, resolve: Resolve) -> Plan:
    """The plan that writes what `finetuned` has other than `base`, bit for bit.

    Raises RecipeError where a tensor has another dtype or shape than the base's, or the input is an adapter:
    it is a delta already.
    """
    wish = {"base": base, "method": "passthrough", "ingredients": [{"source": finetuned}], "output": {"kind": kind}}
    plan = make_plan(Recipe.parse(wish), resolve)
    for tensor in plan.tensors.values():
        if isinstance(tensor, Merge):
            found = f"a tensor to be rounded to the base's {tensor.spec.dtype.label}, or a delta"
            where, expected = f"tensor '{tensor.spec.name}'", "a full fine-tune with the dtypes of its base"
            raise RecipeError("this would not give the fine-tune back", where=where, found=found, expected=expected)
    return plan


def describe_extraction(folder: Path, plan: Plan) -> dict[str, Any]:
    """What was written, tensor by tensor, and its error, which is none: every bit that differs is stored."""
    deltas = read({FILE: folder / FILE}).deltas
    rows = [_describe(name, delta.nbytes, delta, plan) for name, delta in sorted(deltas.items())]
    totals = {"tensors": len(rows), "changed": sum(row["changed"] for row in rows)}
    return totals | {"bytes": (folder / FILE).stat().st_size, "relative_error": 0.0, "by_tensor": rows}


def _describe(name: str, nbytes: int, delta: object, plan: Plan) -> dict[str, Any]:
    """`changed` counts the elements that are stored: all of them where a tensor is stored whole."""
    size = plan.tensors[name].spec.size
    changed = delta.values.spec.size if isinstance(delta, Sparse) else size
    kind = "sparse" if isinstance(delta, Sparse) else "replacement"
    density = changed / size if size else 0.0
    return {"name": name, "kind": kind, "changed": changed, "density": density, "bytes": nbytes, "relative_error": 0.0}
