"""How far a plan's approximations are from what they stand for: the one thing that takes reading some weights."""

from collections.abc import Iterator, Mapping

from merge_core.methods.merged_factors import MergedFactors

MOST_PAIRS = 1 << 14
"""Products of pairs of factors that are worth a plan's time: a second or two for the largest models."""


def approximation_notes(joined: Mapping[str, MergedFactors]) -> Iterator[str]:
    """A note on the tensors whose LoRA factors are merged apart. Raises FileError for factors that are not finite."""
    if joined:
        yield _note(joined)


def _note(joined: Mapping[str, MergedFactors]) -> str:
    chosen = _affordable(joined)
    distances = {name: entry.distance() for name, entry in chosen.items()}
    shares = {name: _share(*distance) for name, distance in distances.items()}
    worst = max(shares, key=lambda name: shares[name])
    whole = _share(sum(error for error, _ in distances.values()), sum(size for _, size in distances.values()))
    of = f"{len(chosen)} tensors" if len(chosen) == len(joined) else f"{len(chosen)} of {len(joined)} tensors"
    return (
        f"factors merged apart are not the sum of the deltas: relative error {whole:.2g} over {of}, "
        f"at most {shares[worst]:.2g}, in '{worst}'"
    )


def _affordable(joined: Mapping[str, MergedFactors]) -> dict[str, MergedFactors]:
    """All tensors, or as many as are worth the time, from the first to the last."""
    pairs = sum((len(entry.parts) + 1) ** 2 for entry in joined.values())
    step = -(-pairs // MOST_PAIRS)
    return {name: joined[name] for name in list(joined)[::step]}


def _share(error: float, size: float) -> float:
    """‖error‖ / ‖size‖ from their squares; what float64 cannot tell from 0 is 0."""
    if error <= 1e-12 * size:
        return 0.0
    return float((error / size) ** 0.5) if size > 0.0 else float("inf")
