"""A sample tells where to count, or misleads: what is found is the same."""

import numpy as np
import pytest
import torch

from kernels.kth_magnitude.near import SAMPLE, sampled_place
from kernels.stored_rows import STRETCH
from merge_core.errors import FileError
from merge_core.methods import thresholds
from tests.merge_core.building import merged, mix

SIZE = 40 * STRETCH + 321
METHODS = [
    {"name": "ties", "density": 0.2},
    {"name": "ties", "density": 0.0},
    {"name": "ties", "density": 1.0},
    {"name": "ties", "density": 0.3, "convention": "original"},
    {"name": "ties", "density": 0.3, "convention": "mergekit"},
    {"name": "ties", "density": 0.1, "scope": "model"},
    {"name": "breadcrumbs", "density": 0.5, "gamma": 0.1},
    {"name": "breadcrumbs_ties", "density": 1.0, "gamma": 0.0},
    {"name": "localize_and_stitch", "density": 0.05},
    {"name": "sce", "select_topk": 0.1},
    {"name": "sce", "select_topk": 0.0},
    {"name": "sce", "select_topk": 1.0},
    {"name": "sce", "select_topk": 0.3, "convention": "mergekit"},
]


def is_sampled() -> torch.Tensor:
    """Which elements of a stretch of a tensor a sample looks at."""
    marks = torch.zeros(-(-SIZE // STRETCH) * STRETCH, dtype=torch.bool)
    for stretch in range(len(marks) // STRETCH):
        first = stretch * STRETCH + int(sampled_place(stretch))
        marks[first : first + SAMPLE] = True
    return marks[:SIZE]


def smooth(seed: int) -> torch.Tensor:
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed))


def coarse(seed: int) -> torch.Tensor:
    """Few magnitudes, so that ties are split."""
    return torch.round(smooth(seed) * 2)


def equal(seed: int) -> torch.Tensor:
    return torch.full((SIZE,), 0.5 + seed)


def misleading(seed: int) -> torch.Tensor:
    """What is sampled is a thousand times as large as the rest, and then as small."""
    return smooth(seed) * torch.where(is_sampled(), 1000.0 if seed % 2 else 0.001, 1.0)


def narrow(seed: int) -> torch.Tensor:
    """So many entries of each bin that even a small sample's guess holds."""
    return (1.28 + 0.3 * smooth(seed)) * torch.sign(smooth(seed + 10))


def slanted(seed: int) -> torch.Tensor:
    """What is sampled is a little larger than the rest, or smaller: the second guess holds."""
    return narrow(seed) * torch.where(is_sampled(), 1.015 if seed % 2 else 0.985, 1.0)


def astray(seed: int) -> torch.Tensor:
    """So much larger or smaller that no guess holds."""
    return narrow(seed) * torch.where(is_sampled(), 1.3 if seed % 2 else 0.8, 1.0)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("draw", [smooth, coarse, equal, misleading, narrow, slanted, astray])
def test_a_sample_changes_nothing(method, draw, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"base": {"w": torch.zeros(SIZE), "z": torch.zeros(3)}}
    models |= {f"m{seed}": {"w": draw(seed), "z": torch.ones(3)} for seed in (1, 2, 3)}
    recipe = mix("m1", "m2", "m3", base="base", method=method)
    monkeypatch.setattr(thresholds, "SAMPLED_FROM", 1 << 60)
    expected = merged(models, recipe)
    monkeypatch.setattr(thresholds, "SAMPLED_FROM", 1)
    found = merged(models, recipe)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("draw", "rounds"),
    [
        (narrow, ["GUESS", "NEAR"]),
        (slanted, ["GUESS", "NEAR", "AGAIN"]),
        (astray, ["GUESS", "NEAR", "TOP", "LOW"]),
        (misleading, ["GUESS", "TOP", "LOW"]),
    ],
)
def test_a_sample_spares_rounds(draw, rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, conclude = [], thresholds.conclude

    def noting(round_: int, *others):
        seen.append(round_)
        return conclude(round_, *others)

    monkeypatch.setattr(thresholds, "SAMPLED_FROM", 1)
    monkeypatch.setattr(thresholds, "conclude", noting)
    models = {"base": {"w": torch.zeros(SIZE)}} | {f"m{seed}": {"w": draw(seed)} for seed in (1, 2, 3)}
    merged(models, mix("m1", "m2", "m3", base="base", method=METHODS[0]))
    assert seen == [getattr(thresholds, name) for name in rounds]


@pytest.mark.parametrize("method", [METHODS[0], METHODS[6], METHODS[9]], ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_a_sample_does_not_see_is_refused_all_the_same(method, bad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "SAMPLED_FROM", 1)
    second = smooth(2)
    second[int((~is_sampled()).nonzero()[-1])] = bad
    models = {"base": {"w": torch.zeros(SIZE)}, "m1": {"w": smooth(1)}, "m2": {"w": second}}
    with pytest.raises(FileError, match=r"tensor 'w'.*ingredient 1"):
        merged(models, mix("m1", "m2", base="base", method=method))


@pytest.mark.parametrize("sampled_from", [1, 1 << 60])
def test_a_spread_beyond_float32_is_refused_whether_or_not_it_is_sampled(
    sampled_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thresholds, "SAMPLED_FROM", sampled_from)
    first = smooth(1)
    first[int((~is_sampled()).nonzero()[-1])] = 3e38
    models = {"base": {"w": torch.zeros(SIZE)}, "m1": {"w": first}, "m2": {"w": -first}}
    with pytest.raises(FileError, match="tensor 'w'"):
        merged(models, mix("m1", "m2", base="base", method=METHODS[9]))


def test_a_share_that_is_not_zero_is_of_one_entry_or_more() -> None:
    assert [thresholds.at_least(share, 4) for share in (0.0, 1e-300, 1e-7, 0.25, 0.26, 1.0)] == [0, 1, 1, 1, 2, 4]
    assert thresholds.at_least(0.07, 100) == 7
    assert thresholds.at_least(0.5, 0) == 0
