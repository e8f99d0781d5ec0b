"""mergekit's methods by name: what each is called here, and its parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Base = Literal["needed", "delta", "first", "ignored"]


@dataclass(frozen=True, slots=True)
class Peer:
    """One of mergekit's methods.

    `base` says what a base model is to it: needed for deltas; taken for deltas where there is one; the first of
    two inputs; or an input like the others. `shared` and `each` map parameters of the merge and of every input
    to ours; `idle` ones have no effect in mergekit either. `fixed` are ours that make up for other defaults.
    """

    ours: str
    base: Base
    weighted: bool = False
    shared: Mapping[str, str] = field(default_factory=dict)
    each: Mapping[str, str] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskVectors(Peer):
    """A method on task vectors: each is thinned out by `ours`, then all are added up, or signs are elected.

    `together` is ours that does both, for inputs that are all thinned out alike.
    """

    together: str = ""
    elects: bool = False
    normalizes: bool = False


COMPATIBLE = {"convention": "mergekit"}
_SUMMED = {"normalize": "normalize", "lambda": "scale"}
_SHARED = _SUMMED | {"rescale": "rescale"}
_IDLE = ("int8_mask", "density", "rescale")


def _task_vectors(ours: str, *, electing: str = "", normalizes: bool = False, **more: str) -> TaskVectors:
    """`electing` is ours that elects signs as well."""
    fixed = COMPATIBLE if ours in ("ties", "breadcrumbs") else {}
    each = {"density": "density"} | more
    together, elects = electing or ours, bool(electing)
    return TaskVectors(ours, "needed", True, _SHARED, each, _IDLE[:1], fixed, together, elects, normalizes)


KARCHER = {"max_iter": 10, "tol": 1e-5}

PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        "linear": Peer("linear", "ignored", True, {"normalize": "normalize"}),
        "slerp": Peer("slerp", "first", shared={"t": "t"}, fixed={"lerp_above": 0.9995}),
        "nuslerp": Peer("nuslerp", "delta", True, {"nuslerp_row_wise": "per", "nuslerp_flatten": "per"}),
        "multislerp": Peer("multislerp", "delta", True, {"normalize_weights": "normalize", "eps": "eps"}),
        "karcher": Peer("karcher", "ignored", shared={"max_iter": "max_iter", "tol": "tol"}, fixed=KARCHER),
        "model_stock": Peer("model_stock", "needed", shared={"filter_wise": "per_row"}),
        "sce": Peer("sce", "needed", shared={"select_topk": "select_topk"}, idle=_IDLE[:1], fixed=COMPATIBLE),
        "ram": Peer("ram", "needed", shared={"epsilon": "epsilon"}),
        "ramplus_tl": Peer("ramplus_tl", "needed", shared={"r": "r", "alpha": "alpha", "epsilon": "epsilon"}),
        "nearswap": Peer("nearswap", "needed", shared={"t": "t"}),
        "arcee_fusion": Peer("arcee_fusion", "needed"),
        "passthrough": Peer("passthrough", "ignored", each={"scale": "scale"}),
        "task_arithmetic": TaskVectors("task_arithmetic", "needed", True, _SUMMED, idle=_IDLE),
        "ties": _task_vectors("ties", electing="ties", normalizes=True),
        "dare_linear": _task_vectors("dare_linear"),
        "dare_ties": _task_vectors("dare_linear", electing="dare_ties"),
        "breadcrumbs": _task_vectors("breadcrumbs", gamma="gamma"),
        "breadcrumbs_ties": _task_vectors("breadcrumbs", electing="breadcrumbs_ties", gamma="gamma"),
        "della_linear": _task_vectors("della_linear", epsilon="epsilon"),
        "della": _task_vectors("della_linear", electing="della", normalizes=True, epsilon="epsilon"),
    }
)  # fmt: skip
