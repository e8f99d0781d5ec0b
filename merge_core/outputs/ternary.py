"""The delta that a merge is, compressed as ComPEFT does and written as `ternary.safetensors`: see docs/ternary.md.

Without a base it is an adapter's own tensors that are compressed, and its config goes along.
"""

from collections.abc import Mapping
from functools import partial

from kernels.gap_code import BLOCK, MOST_BYTES
from merge_core.deltas import Replacement
from merge_core.deltas.centered import Centered
from merge_core.errors import RecipeError, UnsupportedError
from merge_core.formats.peft_config import CONFIG
from merge_core.formats.safetensors_file import read_json
from merge_core.formats.ternary import FILE, PARTS, Entry
from merge_core.layout import Shard, Slot
from merge_core.outputs.compeft import Compeft
from merge_core.outputs.contract import Arranged, Wish
from merge_core.outputs.ternary_sink import WRITE_BYTES, Target, TernarySink, lay_out_ternary
from merge_core.planning.tensors import Copy, Merge, TensorPlan
from merge_core.recipe import TernaryOutput
from merge_core.side_files import card
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec

OWN = {"LORA": ".lora_", "IA3": ".ia3_"}
"""What marks an adapter's own tensors, by its peft_type; others are trained copies, and stay whole."""
WHOLE = ".lora_magnitude_vector"
"""The norms that DoRA trains are no deltas."""

LONGEST = 2.2250738585072014e-308
"""No value or error takes more characters in the header."""


def arrange(wish: Wish) -> Arranged:
    """Raises RecipeError for a dtype, a base that is no stored checkpoint, and shapes that are not the base's."""
    output = wish.recipe.output
    assert isinstance(output, TernaryOutput), "the kind decides the class"
    if wish.recipe.dtype != "same":
        message = "a ternary file has signs and values of no other dtype"
        raise RecipeError(message, where="dtype", found=wish.recipe.dtype, expected="same")
    if wish.recipe.base is None:
        targets, side_files = _own_targets(wish)
    else:
        targets, side_files = _weight_targets(wish), {}
    _check_names(targets, output)
    ternary = {name: target for name, target in targets.items() if target.is_ternary}
    method = Compeft(output=output, sizes={name: target.spec.size for name, target in ternary.items()})
    tensors = {name: _planned(wish.tensors[name], target, method) for name, target in targets.items()}
    of = "adapter" if wish.recipe.base is None else "weights"
    lay_out = partial(lay_out_ternary, targets=targets, form=output.form, of=of, metadata=wish.metadata)
    most = {
        name: Entry(target.spec.shape, LONGEST, target.spec.size, target.center, LONGEST)
        for name, target in ternary.items()
    }
    full = lay_out(most, {name: -(-target.spec.size // BLOCK) * MOST_BYTES for name, target in ternary.items()})
    shard = Shard(FILE, b"", tuple(Slot(plan.spec, 0) for plan in tensors.values()), full.nbytes)
    notes = (*wish.notes, f"{FILE} has only what is not 0; {full.nbytes} bytes are the most it can take")
    open_sink = partial(
        TernarySink, targets=targets, form=output.form, lay_out=lay_out, errors=lambda: method.relative_errors
    )
    side_files = {**side_files, "README.md": card(wish.recipe, notes)}
    return Arranged(tensors, (shard,), side_files, open_sink, notes, WRITE_BYTES)


def _weight_targets(wish: Wish) -> dict[str, Target]:
    """What differs from the base: floats as a ternary delta, other and new tensors whole."""
    if wish.base is None or not isinstance(wish.recipe.base, str):
        message = "a ternary delta is one of a stored checkpoint"
        raise RecipeError(message, where="base", found="a recipe", expected="a checkpoint's name")
    targets = {}
    for name, plan in wish.tensors.items():
        base = wish.base.get(name)
        if not (isinstance(plan, Copy) and plan.stored is base):
            targets[name] = _weight_target(plan, base)
    return targets


def _weight_target(plan: TensorPlan, base: StoredTensor | None) -> Target:
    if base is not None and plan.spec.shape != base.spec.shape:
        found, expected = f"{list(plan.spec.shape)}", f"{list(base.spec.shape)} as in the base"
        where = f"tensor '{plan.spec.name}'"
        raise RecipeError("a ternary delta keeps the base's shapes", where=where, found=found, expected=expected)
    is_ternary = base is not None and base.spec.dtype.mergeable and plan.spec.dtype.mergeable
    return Target(_single(plan.spec) if is_ternary else plan.spec, base, is_ternary)


def _own_targets(wish: Wish) -> tuple[dict[str, Target], Mapping[str, bytes]]:
    """An adapter's own tensors, and its config."""
    files, method = wish.donor.files, wish.recipe.method.title()
    if CONFIG not in files:
        message = "without a base the own tensors of an adapter are compressed"
        found, expected = f"no {CONFIG} in '{wish.donor.name}'", "a LoRA or IA3 adapter of PEFT, or the base's name"
        raise RecipeError(message, where="base", found=found, expected=expected)
    if method != "passthrough" or not all(isinstance(plan, Copy) for plan in wish.tensors.values()):
        message, found = "an adapter's own tensors are compressed one adapter at a time, as they are", method
        raise RecipeError(message, where="method", found=found, expected="passthrough of one adapter, or a base")
    kind = read_json(files[CONFIG], CONFIG).get("peft_type")
    if kind not in OWN:
        message, expected = "the own tensors of this kind of adapter are not compressed", " or ".join(OWN)
        raise UnsupportedError(message, where=f"{CONFIG}: peft_type", found=repr(kind)[:80], expected=expected)
    targets = {name: _own_target(plan.spec, OWN[str(kind)]) for name, plan in wish.tensors.items()}
    return targets, {CONFIG: files[CONFIG].read_bytes()}


def _own_target(spec: TensorSpec, mark: str) -> Target:
    is_ternary = mark in spec.name and WHOLE not in spec.name and spec.dtype.mergeable
    return Target(_single(spec) if is_ternary else spec, None, is_ternary, float(is_ternary and mark == OWN["IA3"]))


def _single(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(spec.name, DType.F32, spec.shape)


def _planned(plan: TensorPlan, target: Target, method: Compeft) -> TensorPlan:
    """The merge around the one that gives a tensor, which compresses what that is beyond its base or center."""
    if not target.is_ternary:
        return plan
    if isinstance(plan, Merge):
        return Merge(target.spec, method, (1.0,), 1.0, 0, target.base, (plan,))
    entry = Centered(plan.stored, target.center) if target.center else Replacement(plan.stored)
    return Merge(target.spec, method, (1.0,), 1.0, 0, target.base, (entry,))


def _check_names(targets: Mapping[str, Target], output: TernaryOutput) -> None:
    """A tensor that is called like a part of another could not be told from it."""
    for name, target in targets.items():
        for part in (name + ending for ending in PARTS[output.form]) if target.is_ternary else ():
            if part in targets:
                message, expected = "two tensors would have one name in a ternary file", "another form, or output kind"
                raise RecipeError(message, where=f"tensor '{part}'", found=f"a part of '{name}'", expected=expected)
