"""How to merge: one file for each method, and one line here."""

from typing import Annotated, Any

from pydantic import Field

from merge_core.methods.approximate_factors import ApproximateFactors
from merge_core.methods.arcee_fusion import ArceeFusion
from merge_core.methods.breadcrumbs import Breadcrumbs
from merge_core.methods.breadcrumbs_ties import BreadcrumbsTies
from merge_core.methods.consensus_ta import ConsensusTa
from merge_core.methods.contract import (
    Blocks,
    Both,
    Chunk,
    Counts,
    Method,
    Partial,
    Rows,
    Space,
    State,
    Surveyed,
    Weights,
)
from merge_core.methods.core_space import CoreSpace
from merge_core.methods.dare_linear import DareLinear
from merge_core.methods.dare_ties import DareTies
from merge_core.methods.della import Della
from merge_core.methods.della_linear import DellaLinear
from merge_core.methods.emr import Emr
from merge_core.methods.fisher import Fisher
from merge_core.methods.iso_c import IsoC
from merge_core.methods.iso_cts import IsoCts
from merge_core.methods.karcher import Karcher
from merge_core.methods.knots import Knots
from merge_core.methods.linear import Linear
from merge_core.methods.localize_and_stitch import LocalizeAndStitch
from merge_core.methods.model_stock import ModelStock
from merge_core.methods.multislerp import MultiSlerp
from merge_core.methods.nearswap import NearSwap
from merge_core.methods.nuslerp import NuSlerp
from merge_core.methods.passthrough import Passthrough
from merge_core.methods.pcb import Pcb
from merge_core.methods.ram import Ram
from merge_core.methods.ramplus_tl import RamPlusTl
from merge_core.methods.regmean import RegMean
from merge_core.methods.sce import Sce
from merge_core.methods.selma import Selma
from merge_core.methods.slerp import Slerp
from merge_core.methods.sparse_composition import SparseComposition
from merge_core.methods.svc import Svc
from merge_core.methods.swudi import Swudi
from merge_core.methods.tall_mask import TallMask
from merge_core.methods.task_arithmetic import TaskArithmetic
from merge_core.methods.ties import Ties
from merge_core.methods.tsv_m import TsvM
from merge_core.methods.wise_ft import WiseFt

METHODS: tuple[type[Method], ...] = (
    Linear,
    Slerp,
    NuSlerp,
    MultiSlerp,
    Karcher,
    ModelStock,
    WiseFt,
    Fisher,
    RegMean,
    TaskArithmetic,
    Ties,
    DareLinear,
    DareTies,
    DellaLinear,
    Della,
    Breadcrumbs,
    BreadcrumbsTies,
    ConsensusTa,
    TallMask,
    Emr,
    Pcb,
    LocalizeAndStitch,
    SparseComposition,
    TsvM,
    IsoC,
    IsoCts,
    Knots,
    Swudi,
    Svc,
    CoreSpace,
    Sce,
    ArceeFusion,
    NearSwap,
    Ram,
    RamPlusTl,
    Passthrough,
    Selma,
    ApproximateFactors,
)

AnyMethod = Annotated[
    Linear
    | Slerp
    | NuSlerp
    | MultiSlerp
    | Karcher
    | ModelStock
    | WiseFt
    | Fisher
    | RegMean
    | TaskArithmetic
    | Ties
    | DareLinear
    | DareTies
    | DellaLinear
    | Della
    | Breadcrumbs
    | BreadcrumbsTies
    | ConsensusTa
    | TallMask
    | Emr
    | Pcb
    | LocalizeAndStitch
    | SparseComposition
    | TsvM
    | IsoC
    | IsoCts
    | Knots
    | Swudi
    | Svc
    | CoreSpace
    | Sce
    | ArceeFusion
    | NearSwap
    | Ram
    | RamPlusTl
    | Passthrough
    | Selma
    | ApproximateFactors,
    Field(discriminator="name"),
]


def catalogue() -> list[dict[str, Any]]:
    """Every method with its formula, parameters, defaults and source, ready for JSON."""
    return [_describe(method) for method in METHODS]


def _describe(method: type[Method]) -> dict[str, Any]:
    schema = method.model_json_schema()["properties"]
    return {
        "name": method.title(),
        "summary": (method.__module__ and (method.__doc__ or "")).strip().split("\n\n")[0],
        "formula": method.formula,
        "source": method.source,
        "space": method.space,
        "reads": method.reads,
        "streams": method.reads != "matrix",
        "statistic": None if method.statistic is None else method.statistic.file,
        "inputs": {"fewest": method.fewest_inputs, "most": method.most_inputs},
        "parameters": {field: schema[field] for field in schema if field != "name"},
    }


__all__ = [
    "METHODS",
    "AnyMethod",
    "Blocks",
    "Both",
    "Chunk",
    "Counts",
    "Method",
    "Partial",
    "Rows",
    "Space",
    "State",
    "Surveyed",
    "Weights",
    "catalogue",
]
