"""What is other than in the base, as it shall be: entry by entry (`patch`), or tensor by tensor (`dense`).

Both are written as `patch.safetensors`, see `merge_core.formats.patch`. How many entries differ is known when
they are computed and not before, so the plan states the most that the file can take.
"""

from collections.abc import Mapping
from functools import partial

from merge_core.errors import RecipeError
from merge_core.formats.patch import FILE, INDICES, VALUES
from merge_core.layout import Shard, Slot
from merge_core.outputs.contract import Arranged, Wish
from merge_core.outputs.patch_sink import WRITE_BYTES, Form, PatchSink, Target, lay_out_patch
from merge_core.planning.tensors import Copy, TensorPlan
from merge_core.side_files import card
from merge_core.stored import StoredTensor
from merge_core.tensors import DType


def arrange(wish: Wish) -> Arranged:
    """The entries that differ of 16 and 32 bit floats; of other types tensors that differ, whole.

    Raises RecipeError without a base, and where dtypes or shapes are not the base's.
    """
    return _arrange(wish, "entries")


def arrange_dense(wish: Wish) -> Arranged:
    """Every tensor that differs, whole; refused like a patch."""
    return _arrange(wish, "whole")


def _arrange(wish: Wish, form: Form) -> Arranged:
    base = wish.base
    if base is None:
        message = f"the output kind {wish.recipe.output.kind} says what differs from the base"
        raise RecipeError(message, where="base", found="nothing", expected="the base's name")
    tensors = {name: plan for name, plan in wish.tensors.items() if not _is_kept(plan, base.get(name))}
    targets = {name: _target(plan, base.get(name), form) for name, plan in tensors.items()}
    _check_names(targets)
    full = lay_out_patch([(target, target.spec.size) for target in targets.values()], wish.metadata)
    shard = Shard(FILE, b"", tuple(Slot(plan.spec, 0) for plan in tensors.values()), full.nbytes)
    notes = (*wish.notes, f"{FILE} has only what differs from the base; {full.nbytes} bytes are the most it can take")
    open_sink = partial(PatchSink, targets=targets, metadata=wish.metadata)
    return Arranged(tensors, (shard,), {"README.md": card(wish.recipe, notes)}, open_sink, notes, WRITE_BYTES)


def _is_kept(plan: TensorPlan, base: StoredTensor | None) -> bool:
    return isinstance(plan, Copy) and plan.stored is base


def _target(plan: TensorPlan, base: StoredTensor | None, form: Form) -> Target:
    spec = plan.spec
    if base is not None and (spec.dtype, spec.shape) != (base.spec.dtype, base.spec.shape):
        expected = f"{base.spec.dtype.label}{list(base.spec.shape)} as in the base, or output kind checkpoint"
        found = f"{spec.dtype.label}{list(spec.shape)}"
        message = "a patch keeps the base's dtypes and shapes"
        raise RecipeError(message, where=f"tensor '{spec.name}'", found=found, expected=expected)
    # Entries are put on the base in float32; a whole float64 tensor comes back bit for bit.
    has_entries = base is not None and spec.dtype.mergeable and spec.dtype is not DType.F64
    return Target(spec, base, form if has_entries else "whole")


def _check_names(targets: Mapping[str, Target]) -> None:
    """A weight that is called like a part of another's entries could not be told from it."""
    for name, target in targets.items():
        for part in (name + INDICES, name + VALUES) if target.form == "entries" else ():
            if part in targets:
                message, expected = "two tensors would have one name in a patch", "output kind checkpoint or dense"
                raise RecipeError(message, where=f"tensor '{part}'", found=f"entries of '{name}'", expected=expected)
