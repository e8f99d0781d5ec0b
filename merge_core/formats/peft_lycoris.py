"""What PEFT's LoHa and LoKr share: their config, and the way from parts to deltas."""

from collections.abc import Callable, Collection, Sequence

from merge_core.deltas import Delta, Hadamard, Kronecker
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.lycoris_parts import Parts, ranks
from merge_core.formats.peft_adapter import WEIGHTS, heads, open_weights, split, with_copies
from merge_core.formats.peft_config import CONFIG, Alpha, PeftConfig, Rank, by_pattern, read_peft_config
from merge_core.sources import FileTree

HARMLESS = frozenset(
    ("use_effective_conv2d", "rank_dropout", "module_dropout", "rank_dropout_scale", "decompose_both")
) | {"decompose_factor"}
"""Settings of training, or that the parts' shapes show."""


class LycorisConfig(PeftConfig):
    """The fields that decide the delta."""

    r: Rank
    alpha: Alpha
    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, Alpha] | None = None

    def scaling(self, modules: Sequence[str]) -> dict[str, tuple[int, float]]:
        """Rank and scale α/r of each module."""
        inner = by_pattern(self.rank_pattern, modules, self.r, "rank_pattern")
        alphas = by_pattern(self.alpha_pattern, modules, self.alpha, "alpha_pattern")
        return {module: (inner[module], alphas[module] / inner[module]) for module in modules}


Made = Callable[[Parts, float, str], Hadamard | Kronecker]


def lycoris_artefact(name: str, kind: str, files: FileTree, keys: Collection[str], mark: str, make: Made) -> Artefact:
    """The adapter's deltas by weight name, each made of a module's parts."""
    config = read_peft_config(files[CONFIG], kind, LycorisConfig, HARMLESS)
    tensors = open_weights(files)
    parts, whole = split(tensors, keys, (mark,))
    scaling = config.scaling(sorted(parts))
    added: dict[str, Delta] = {}
    for module, own in parts.items():
        rank, scale = scaling[module]
        delta = make(own, scale, module)
        _check_rank(module, ranks(delta), rank)
        added[f"{module}.weight"] = delta
    deltas = with_copies(added, whole)
    facts = {"ranks": sorted({rank for rank, _ in scaling.values()})}
    return Artefact(name, "delta", deltas, tensors, heads(deltas), config.base_model_name_or_path, facts)


def _check_rank(module: str, found: set[int], rank: int) -> None:
    if found - {rank}:
        where = f"{WEIGHTS}: module '{module[:200]}'"
        raise FileError("the rank differs from the config's", where=where, found=min(found - {rank}), expected=rank)
