"""Every method a second time: slow and obvious, whole tensors in float64. A newcomer adds its own to ORACLES."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import torch
from torch import Tensor

from tests.merge_core import oracles_averages as averages
from tests.merge_core import oracles_masks as masks
from tests.merge_core import oracles_sparse as sparse
from tests.merge_core import oracles_spectral as spectral
from tests.merge_core import oracles_statistics as statistics


@dataclass(frozen=True)
class Trial:
    """Settings under which the conformance suite runs a method, and as many weights as it takes inputs."""

    settings: Mapping[str, Any]
    weights: tuple[float, ...]
    scale: float = 1.0


Oracle = Callable[[Tensor, Tensor, Mapping[str, Any]], Tensor]
"""(float64 [models, elements] of weights or deltas, weights, settings) → weights or delta of each element."""


def linear(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    total = (weights[:, None] * stack).sum(0)
    return total / weights.sum() if settings.get("normalize", True) else total


def weighted_sum(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    return (weights[:, None] * stack).sum(0)


def slerp(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    first, second = stack
    t = settings.get("t", float(weights[1] / weights.sum()))
    norms = first.norm() * second.norm()
    angle = torch.acos((first @ second / norms).clamp(-1, 1)) if norms > 0 else torch.tensor(0.0)
    if angle < 1e-6 or torch.pi - angle < 1e-6:
        return (1 - t) * first + t * second
    return (torch.sin((1 - t) * angle) * first + torch.sin(t * angle) * second) / torch.sin(angle)


def ties(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    convention = settings.get("convention", "stockpot")
    kept = torch.stack([_trimmed(row, settings.get("density", 1.0), convention) for row in stack])
    ballots = weights[:, None] * kept if convention == "stockpot" else kept
    votes = kept.sign() if settings.get("votes") == "frequency" else ballots
    signs = votes.sum(0).sign()
    if convention != "stockpot":
        majority = float(signs.sum().sign()) or -1.0
        signs = torch.where(signs == 0, 1.0 if convention == "peft" else majority, signs)
    agrees = votes * signs > 0
    values = torch.where(agrees, weights[:, None] * kept, 0.0)
    shares = (agrees * (torch.ones_like(weights) if convention == "peft" else weights.abs())[:, None]).sum(0)
    return _aggregated(values, shares, settings.get("aggregate", "mean"))


def _aggregated(values: Tensor, shares: Tensor, aggregate: str) -> Tensor:
    if aggregate == "max":
        return values.gather(0, values.abs().argmax(0)[None])[0]
    return values.sum(0) / shares.clamp(min=1e-300) if aggregate == "mean" else values.sum(0)


def _trimmed(row: Tensor, density: float, convention: str) -> Tensor:
    size = len(row)
    exact = ceil(Fraction(str(density)) * size)
    keep = {"stockpot": exact, "peft": int(density * size), "original": int(density * size) + 1}[convention]
    order = torch.sort(row.abs(), descending=True, stable=True).indices[:keep]
    mask = torch.zeros(size, dtype=torch.bool)
    mask[order] = True
    if convention == "original" and keep:
        mask |= row.abs() >= row[order].abs().min()
    return torch.where(mask, row, 0.0)


ORACLES: dict[str, Oracle] = {
    "linear": linear,
    "slerp": slerp,
    "task_arithmetic": weighted_sum,
    "ties": ties,
    "selma": weighted_sum,
    # Of one adapter the product of the factors is the delta; what comes of several has tests of its own.
    "approximate_factors": weighted_sum,
    "nuslerp": averages.nuslerp,
    "multislerp": averages.multislerp,
    "karcher": averages.karcher,
    "model_stock": averages.model_stock,
    "wise_ft": averages.wise_ft,
    "fisher": statistics.fisher,
    "regmean": statistics.regmean,
    "sce": averages.sce,
    "arcee_fusion": averages.arcee_fusion,
    "nearswap": averages.nearswap,
    "ram": averages.ram,
    "ramplus_tl": averages.ramplus_tl,
    "passthrough": averages.passthrough,
    "dare_linear": sparse.dare_linear,
    "dare_ties": sparse.dare_ties,
    "della_linear": sparse.della_linear,
    "della": sparse.della,
    "breadcrumbs": sparse.breadcrumbs,
    "breadcrumbs_ties": sparse.breadcrumbs_ties,
    "consensus_ta": masks.consensus_ta,
    "tall_mask": masks.tall_mask,
    "emr": masks.emr,
    "pcb": masks.pcb,
    "localize_and_stitch": masks.localize_and_stitch,
    "sparse_composition": masks.sparse_composition,
    "tsv_m": spectral.tsv_m,
    "iso_c": spectral.iso_c,
    "iso_cts": spectral.iso_cts,
    "knots": spectral.knots(ties),
    "swudi": spectral.swudi,
    "svc": spectral.svc,
    "core_space": spectral.core_space(weighted_sum, linear),
}

TRIALS: dict[str, Sequence[Trial]] = {
    "linear": [Trial({}, (1.0, 1.0, 1.0)), Trial({"normalize": False}, (0.5, 0.25, -1.0))],
    "slerp": [Trial({}, (1.0, 0.5)), Trial({"t": 0.25}, (1.0, 1.0))],
    "task_arithmetic": [Trial({}, (1.0, 1.0, 1.0)), Trial({}, (0.5, -1.0, 0.25), 1.5)],
    "ties": [
        Trial({"density": 0.2}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.2, "aggregate": "sum"}, (0.5, 0.25, 1.0), 0.5),
        Trial({"density": 0.7, "aggregate": "max"}, (0.5, -0.25, 1.0)),
        Trial({"density": 0.0}, (1.0, 1.0, 1.0)),
        Trial({}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.2, "scope": "model"}, (1.0, 0.5, 1.0)),
        Trial({"density": 0.5, "convention": "original", "scope": "model"}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.5, "convention": "original"}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.3, "convention": "peft"}, (1.0, 0.5, 1.0)),
        Trial({"density": 0.6, "convention": "peft", "votes": "frequency"}, (1.0, 2.0, 0.5)),
        Trial({"density": 0.6, "votes": "frequency"}, (1.0, 2.0, 0.5)),
    ],
    "dare_linear": [
        Trial({"density": 0.3}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.6, "rescale": False, "normalize": True}, (0.5, 0.25, 1.0), 0.5),
        Trial({"density": 0.0}, (1.0, 1.0)),
        Trial({}, (1.0, 0.5, -1.0)),
    ],
    "dare_ties": [
        Trial({"density": 0.5}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.9, "aggregate": "sum"}, (0.5, 0.25, 1.0), 0.5),
        Trial({"density": 0.5, "aggregate": "max", "rescale": False}, (0.5, -0.25, 1.0)),
        Trial({"density": 0.5, "convention": "peft"}, (0.5, 2.0, 1.0)),
        Trial({"density": 0.9, "votes": "frequency"}, (0.5, 2.0, 1.0)),
    ],
    "della_linear": [
        Trial({"density": 0.5}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.7, "epsilon": 0.5, "rescale": False, "normalize": True}, (0.5, 0.25, 1.0), 0.5),
        Trial({"density": 0.0}, (1.0, 1.0)),
        Trial({}, (1.0, 0.5, -1.0)),
    ],
    "della": [
        Trial({"density": 0.5}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.25, "epsilon": 0.25, "aggregate": "sum"}, (0.5, 0.25, 1.0), 0.5),
        Trial({"density": 0.9, "epsilon": 0.0, "aggregate": "max"}, (0.5, -0.25, 1.0)),
    ],
    "breadcrumbs": [
        Trial({"density": 0.3}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.5, "gamma": 0.25, "normalize": True}, (0.5, 0.25, 1.0), 0.5),
        Trial({"density": 0.0}, (1.0, 1.0)),
        Trial({"gamma": 0.0}, (1.0, 0.5, -1.0)),
        Trial({"gamma": 1.0}, (1.0, 1.0)),
    ],
    "breadcrumbs_ties": [
        Trial({"density": 0.3}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.5, "gamma": 0.1, "aggregate": "sum"}, (0.5, 0.25, 1.0), 0.5),
        Trial({"density": 0.9, "gamma": 0.05, "aggregate": "max"}, (0.5, -0.25, 1.0)),
    ],
    "selma": [Trial({}, (0.5, 0.25, 0.25)), Trial({}, (1.0, -1.0, 0.5), 2.0)],
    "approximate_factors": [
        Trial({"merge_by": "ties"}, (0.75,)),
        Trial({"merge_by": "magnitude_prune"}, (-1.0,), 0.5),
        Trial({"weigh": "both"}, (1.0,)),
    ],
    "consensus_ta": [
        Trial({}, (1.0, 1.0, 1.0)),
        Trial({"mask_scale": 0.25, "owners": 3}, (0.5, 0.25, 1.0), 0.5),
        Trial({"owners": 5}, (1.0, 1.0)),
    ],
    "tall_mask": [Trial({"mask_scale": 0.5}, (1.0, 1.0, 1.0)), Trial({"task": 1, "mask_scale": 0.0}, (0.5, 0.25), 0.5)],
    "emr": [Trial({"task": 1}, (1.0, 1.0, 1.0)), Trial({"task": 1}, (0.5, 0.25, 1.0), 0.5), Trial({}, (1.0,))],
    "pcb": [
        Trial({}, (1.0, 1.0, 1.0), 1.2),
        Trial({"density": 0.0}, (1.0, 1.0)),
        Trial({"density": 0.5}, (0.5, 0.25, 1.0)),
        Trial({"density": 1.0}, (1.0, -1.0)),
    ],
    "tsv_m": [Trial({}, (1.0, 0.5, 1.0)), Trial({}, (1.0,), 0.5)],
    "iso_c": [Trial({}, (1.0, 0.5, 1.0))],
    "iso_cts": [Trial({}, (1.0, 0.5, 1.0)), Trial({"common": 0.25}, (1.0, 1.0), 0.5)],
    "knots": [Trial({"density": 0.3}, (1.0, 0.5, 1.0)), Trial({"merge_by": "task_arithmetic"}, (1.0, -0.5), 0.5)],
    "svc": [Trial({}, (1.0, 0.5, 1.0)), Trial({"of": "tsv_m", "alpha": 0.5}, (1.0, 1.0), 0.5)],
    "core_space": [
        Trial({"method": "task_arithmetic"}, (1.0, 0.5, 1.0)),
        Trial({}, (1.0, 0.5, 1.0), 0.5),
        Trial({"method": {"name": "linear"}}, (1.0, 0.5)),
    ],
    "swudi": [Trial({}, (1.0, 0.5, 1.0)), Trial({"time": 20.0, "share": 1.0}, (1.0, 1.0), 0.5)],
    "sparse_composition": [
        Trial({}, (1.0, 1.0, -1.0), 0.5),
        Trial({"masks": [{"top": 9}, {"threshold": 0.5}]}, (1.0, -0.5)),
        Trial({"masks": [{"density": 0.1}, {"support_of": 0}]}, (0.0, 1.0)),
    ],
    "localize_and_stitch": [
        Trial({}, (1.0, 1.0, 1.0)),
        Trial({"density": 0.0}, (1.0, 1.0)),
        Trial({"density": 0.5}, (0.5, 0.25, 1.0), 0.5),
        Trial({"density": 1.0}, (1.0, -1.0)),
    ],
    "nuslerp": [
        Trial({}, (1.0, 0.5)),
        Trial({"per": "row"}, (0.25, 1.0), 1.5),
        Trial({"per": "column"}, (1.0, 1.0)),
    ],
    "multislerp": [Trial({}, (1.0, 0.5, 0.5)), Trial({"normalize": False}, (0.5, -0.25, 1.0), 0.5)],
    "karcher": [
        Trial({}, (1.0, 1.0, 1.0)),
        Trial({"of": "deltas"}, (1.0, 0.5, 0.25)),
        Trial({"of": "deltas", "max_iter": 2}, (1.0, 0.5, 0.25)),
    ],
    "model_stock": [
        Trial({}, (1.0, 1.0, 1.0)),
        Trial({"per_row": True}, (1.0, 1.0)),
        Trial({}, (1.0,)),
    ],
    "fisher": [Trial({}, (1.0, 1.0, 1.0)), Trial({"floor": 0.5}, (0.5, 0.0, 2.0)), Trial({}, (0.7,))],
    "regmean": [
        Trial({}, (1.0, 1.0, 1.0)),
        Trial({"off_diagonal": 0.5}, (0.5, 0.0, 2.0)),
        Trial({"off_diagonal": 0.0}, (1.0, 2.0)),
        Trial({}, (0.7,)),
    ],
    "wise_ft": [Trial({}, (1.0,)), Trial({"alpha": 0.0}, (1.0,)), Trial({"alpha": 1.0}, (1.0,))],
    "sce": [
        Trial({"select_topk": 0.3}, (1.0, 1.0, 1.0)),
        Trial({"select_topk": 0.0}, (1.0, 1.0)),
        Trial({}, (1.0, 1.0, 1.0), 0.5),
    ],
    "arcee_fusion": [Trial({}, (1.0,)), Trial({"eps": 1e-5}, (1.0,), 0.5)],
    "nearswap": [Trial({}, (1.0,)), Trial({"t": 0.125}, (1.0,)), Trial({"t": 0.0}, (1.0,))],
    "ram": [Trial({}, (1.0, 1.0, 1.0)), Trial({"epsilon": 0.2}, (1.0, 1.0), 0.5)],
    "ramplus_tl": [Trial({}, (1.0, 1.0, 1.0)), Trial({"epsilon": 0.2, "r": 0.5, "alpha": 3.0}, (1.0, 1.0))],
    "passthrough": [Trial({}, (1.0,)), Trial({"scale": -0.75}, (1.0,))],
}


def expected(
    name: str,
    trial: Trial,
    base: Mapping[str, Tensor],
    models: Sequence[Mapping[str, Tensor]],
    space: str,
    untouched: Collection[str] = (),
) -> dict[str, Tensor]:
    """The whole model as float64; a method with `scope` model sees all tensors end to end, in order of name.

    `untouched` are those that no input speaks of: they have no part in a model's totals.
    """
    names, weights = sorted(base), torch.tensor(trial.weights, dtype=torch.float64)
    zero = {name: base[name].double() if space == "delta" else torch.zeros(base[name].shape).double() for name in names}
    is_model = trial.settings.get("scope") == "model" or name in masks.WHOLE_MODEL
    together = [name for name in names if is_model and name not in untouched]
    groups = [together, *([name] for name in names if name not in together)]
    merged: dict[str, Tensor] = {}
    for group in filter(None, groups):
        stack = torch.stack([torch.cat([(model[n].double() - zero[n]).flatten() for n in group]) for model in models])
        settings = {
            **trial.settings,
            "tensors": [(f"{n}.weight", base[n].shape) for n in group],
            "base": torch.cat([base[n].double().flatten() for n in group]),
        }
        result = trial.scale * ORACLES[name](stack, weights, settings) if stack.numel() else stack[0]
        parts = result.split([base[n].numel() for n in group])
        merged |= {n: zero[n] + part.reshape(base[n].shape) for n, part in zip(group, parts, strict=True)}
    return merged
