import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.gram import BLOCK
from kernels.kth_magnitude import (
    ABOVE,
    BETWEEN,
    BINS,
    INSIDE,
    NOT_FINITE,
    NOTHING,
    STARTS,
    UNCUT,
    WINDOW,
    Near,
    chunk_cuts,
    guess,
    guess_again,
    kth_magnitude,
    magnitude_histogram,
    magnitudes_of,
    near_histogram,
    pick_bins,
    pick_blocks,
    reference,
    sample_histogram,
    tie_counts,
)
from tests.kernels.arrays import AWKWARD, SIZES, dirty, normal, same_bits


def kept(x, threshold):
    magnitude = np.abs(x)
    return (magnitude > threshold.magnitude) | (
        (magnitude == threshold.magnitude) & (np.arange(x.size) <= threshold.cut)
    )


def by_sorting(x, k):
    """The slow, obvious version: a stable sort by falling magnitude, the first k."""
    mask = np.zeros(x.size, bool)
    mask[np.argsort(-np.abs(x), kind="stable")[:k]] = True
    return mask


def coarse(size, seed=0):
    """Few distinct magnitudes, as deltas of bfloat16 checkpoints have."""
    return np.random.default_rng(seed).integers(-4, 5, size).astype(np.float32)


@pytest.mark.parametrize("size", [*SIZES, 3 * BLOCK + 5])
@pytest.mark.parametrize("share", [0, 1e-4, 0.2, 0.5, 0.999, 1])
@pytest.mark.parametrize("draw", [normal, coarse])
def test_exactly_k_are_kept_as_a_stable_sort_would_keep_them(size, share, draw):
    x, k = draw(size), int(np.ceil(share * size))
    threshold = kth_magnitude(x, k)
    assert (kept(x, threshold) == by_sorting(x, k)).all()
    assert threshold == reference.kth_magnitude(torch.from_numpy(x), k)


floats = st.floats(width=32, allow_nan=False)


@given(st.lists(st.one_of(floats, st.sampled_from([0.0, -0.0, 1.0, -1.0, np.inf])), max_size=60), st.integers(0, 70))
def test_any_floats_are_kept_as_a_stable_sort_would_keep_them(values, k):
    x = np.array(values, np.float32)
    threshold = kth_magnitude(x, k)
    assert (kept(x, threshold) == by_sorting(x, k)).all()
    assert kept(x, threshold).sum() == min(k, x.size)
    assert threshold == reference.kth_magnitude(torch.from_numpy(x), k)


def test_k_of_zero_keeps_nothing_and_k_beyond_the_size_everything():
    x = np.float32([0, -0.0, np.inf, -3])
    assert kth_magnitude(x, 0) == (np.inf, -1)
    assert kept(x, kth_magnitude(x, 99)).all()
    assert kth_magnitude(x[:0], 5) == (np.inf, -1)
    with pytest.raises(ValueError, match="k: found -1, expected at least 0"):
        kth_magnitude(x, -1)


def test_nan_counts_as_the_largest_and_does_not_crash():
    assert kth_magnitude(AWKWARD, 2).magnitude == np.inf
    assert np.isnan(kth_magnitude(AWKWARD, 1).magnitude)
    assert kth_magnitude(np.full(5, np.nan, np.float32), 3).cut == 2


@given(st.integers(1, 3), st.integers(0, 3), st.integers(0, 4 * BLOCK), st.floats(0, 1), st.booleans())
def test_the_search_over_chunks_is_the_search_over_the_whole(models, chunk_blocks, size, share, is_coarse):
    rows = np.stack([(coarse if is_coarse else normal)(size, seed=seed) for seed in range(models)])
    step = (chunk_blocks + 1) * BLOCK
    chunks = [(lo, np.ascontiguousarray(rows[:, lo : lo + step])) for lo in range(0, size, step)]
    ks = np.full(models, int(share * size))
    totals = [np.zeros((models, bins), np.int64) for bins in BINS]
    for _, chunk in reversed(chunks):
        magnitude_histogram(chunk, 0, None, totals[0])
    top = pick_bins(totals[0], ks)
    for _, chunk in reversed(chunks):
        magnitude_histogram(chunk, 1, top.bins, totals[1])
    low = pick_bins(totals[1], top.ranks)
    magnitudes = magnitudes_of(top.bins, low.bins)
    counts = [tie_counts(chunk, magnitudes) for _, chunk in chunks] or [np.zeros((0, models), np.int64)]
    ties = pick_blocks(np.concatenate(counts), low.ranks)
    expected = np.stack([by_sorting(row, ks[0]) for row in rows])
    for lo, chunk in chunks:
        cuts = chunk_cuts(chunk, lo, magnitudes, ties.bins * BLOCK, ties.ranks)
        index = np.arange(lo, lo + chunk.shape[1])
        mask = (np.abs(chunk) > magnitudes[:, None]) | (
            (np.abs(chunk) == magnitudes[:, None]) & (index <= cuts[:, None])
        )
        assert (mask == expected[:, lo : lo + step]).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_counts_are_their_definition(size):
    rows = np.stack([normal(size), coarse(size)])
    rows[0, : min(size, AWKWARD.size)] = AWKWARD[:size]
    tensor, prefixes = torch.from_numpy(rows), np.array([0x3F80, NOTHING])
    magnitudes = np.float32([1.0, 3.0])
    edges, expected_edges = (
        dirty((-(-size // BLOCK), 2), np.int64),
        torch.empty(-(-size // BLOCK), 2, dtype=torch.int64),
    )
    low = magnitude_histogram(rows, 1, prefixes, edges=edges)
    expected_low = reference.magnitude_histogram(tensor, 1, torch.from_numpy(prefixes), edges=expected_edges)
    ties = tie_counts(rows, magnitudes)
    assert same_bits(magnitude_histogram(rows, 0), reference.magnitude_histogram(tensor, 0).numpy())
    assert same_bits(low, expected_low.numpy())
    assert same_bits(edges, expected_edges.numpy())
    assert low[1].sum() == 0
    assert same_bits(ties, reference.tie_counts(tensor, torch.from_numpy(magnitudes)).numpy())


@pytest.mark.parametrize("size", [*SIZES, 3 * BLOCK + 77])
@pytest.mark.parametrize("start", [0, 5 * BLOCK])
def test_a_sample_is_its_definition(size, start):
    rows = np.stack([normal(size), coarse(size)])
    found = sample_histogram(rows, start)
    assert same_bits(found, reference.sample_histogram(torch.from_numpy(rows), start).numpy())
    assert (sample_histogram(rows, start, found.copy()) == 2 * found).all()


def test_a_sample_is_of_one_element_in_32_of_every_column_of_a_matrix():
    columns = np.abs(np.arange(2048, dtype=np.float32) // 64 + 1)
    counts = sample_histogram(np.tile(columns, 3200)[None], 0)[0]
    assert counts.sum() == 3200 * 64
    for column in range(1, 33):
        assert 0.5 < counts[np.float32(column).view(np.uint32) >> 15] / 6400 < 2.0


@pytest.mark.parametrize("size", SIZES)
def test_counts_around_a_guess_are_their_definition(size):
    rows = np.stack([normal(size), coarse(size), normal(size, seed=2)])
    rows[0, : min(size, AWKWARD.size)] = AWKWARD[:size]
    near = Near(np.array([[0x3F80 - 1, 0x3F80 - 1 + WINDOW], [0x3F80, 0x4000], [BINS[0], BINS[0]]]))
    edges = dirty((-(-size // BLOCK), 3, STARTS), np.int64)
    expected_edges = torch.empty(-(-size // BLOCK), 3, STARTS, dtype=torch.int64)
    found = near_histogram(rows, near, None, edges)
    assert same_bits(found, reference.near_histogram(torch.from_numpy(rows), near, None, expected_edges).numpy())
    assert same_bits(edges, expected_edges.numpy())
    assert found[0, NOT_FINITE] == (~np.isfinite(rows[0])).sum()
    assert not found[2, [ABOVE, BETWEEN]].any()
    assert not found[2, INSIDE:].any()
    assert (near_histogram(rows, near, found.copy()) == 2 * found).all()


@pytest.mark.parametrize(
    "firsts", [(0, BINS[0] - 1), (0, WINDOW), (0x7F80 - 1, BINS[0] - WINDOW), (0xFFFE, BINS[0] + 1)]
)
def test_windows_may_lie_at_either_end_of_all_magnitudes(firsts):
    bits = np.random.default_rng(3).integers(0, 1 << 32, 3000, dtype=np.uint32)
    bits[:1000] = bits[:1000] & np.uint32(0x8001FFFF) | np.uint32(0x7FFE0000)
    bits[1000:2000] &= np.uint32(0x8001FFFF)
    rows, near = bits.view(np.float32)[None], Near(np.array([firsts]))
    assert same_bits(near_histogram(rows, near), reference.near_histogram(torch.from_numpy(rows), near).numpy())


def of_bfloat16(size):
    """What lies between two bfloat16: multiples of a step, of which some are frequent."""
    ulps = np.random.default_rng(1).standard_normal(size) * 12
    return (np.round(ulps) * 2.0**-14).astype(np.float32)


def parts_of(x, near):
    """How many entries are above the windows, in the upper, between them and in the lower."""
    counts, width = near_histogram(x[None], near)[0], WINDOW * BINS[1]
    lower, upper = counts[INSIDE : INSIDE + width].sum(), counts[INSIDE + width :].sum()
    return np.array([counts[ABOVE], upper, counts[BETWEEN], lower])


def is_held(x, near, k):
    upto = np.cumsum(parts_of(x, near))
    return upto[0] < k <= upto[1] or upto[2] < k <= upto[3]


@pytest.mark.parametrize("draw", [normal, coarse, of_bfloat16])
@pytest.mark.parametrize("share", [0.2, 0.31, 0.32, 0.4])
def test_a_guess_holds_what_is_looked_for(draw, share):
    x = draw(1 << 23)
    k = int(share * x.size)
    assert is_held(x, guess(sample_histogram(x[None], 0), np.array([k]), x.size), k)


@pytest.mark.parametrize("draw", [normal, of_bfloat16])
@pytest.mark.parametrize("astray", [-15_000, -6_000, 6_000, 15_000])
def test_a_guess_that_has_failed_tells_the_next_where_to_look(draw, astray):
    x = draw(1 << 23)
    k = x.size // 5
    near = guess(sample_histogram(x[None], 0), np.array([k + astray]), x.size)
    again = guess_again(near, parts_of(x, near)[None], np.array([k]))
    assert is_held(x, again, k)
    if is_held(x, near, k):
        assert (again.firsts == near.firsts).all()


def test_the_next_guess_looks_between_windows_too():
    x = of_bfloat16(1 << 23)
    samples, k = sample_histogram(x[None], 0), x.size // 5
    sample = guess(samples, np.array([k]), x.size).samples
    bins = np.flatnonzero(sample[0].counts) + sample[0].lowest
    near = Near(np.array([[bins[0] - WINDOW, bins[-1] + 1]]), sample)
    assert not is_held(x, near, k)
    assert is_held(x, guess_again(near, parts_of(x, near)[None], np.array([k])), k)


@pytest.mark.parametrize("bins", [(2, 1), (3, 2), (1, 0), (0, 3)])
def test_windows_do_not_overlap_among_the_smallest_magnitudes(bins):
    samples = np.zeros((1, BINS[0]), np.int64)
    samples[0, list(bins)] = 900, 100
    low, high = guess(samples, np.array([28_800]), 32_000).firsts[0]
    assert 0 <= low <= high - WINDOW


def test_there_is_no_next_guess_beyond_what_the_sample_has():
    x = normal(1 << 18)
    near = guess(sample_histogram(x[None], 0), np.array([1000]), x.size)
    assert guess_again(near, parts_of(x, near)[None], np.array([200_000])) is None


def test_a_sample_that_leaves_too_many_bins_gives_no_guess():
    x = np.exp2(normal(1 << 18) * 20)
    assert guess(sample_histogram(x[None], 0), np.array([100_000]), x.size) is None


@pytest.mark.parametrize("k", [0, 1 << 18])
def test_nothing_is_looked_for_where_all_or_none_is_kept(k):
    near = guess(sample_histogram(normal(1, 1 << 18), 0), np.array([k]), 1 << 18)
    assert near.firsts.tolist() == [[BINS[0], BINS[0]]]


@pytest.mark.parametrize("start", [0, BLOCK, 2 * BLOCK, 4 * BLOCK])
def test_cuts_of_a_chunk_are_their_definition(start):
    rows = np.stack([coarse(2 * BLOCK), coarse(2 * BLOCK, seed=1)])
    magnitudes, firsts, ranks = np.ones(2, np.float32), np.array([2 * BLOCK, -1]), np.array([7, 0])
    found = chunk_cuts(rows, start, magnitudes, firsts, ranks)
    tensors = [torch.from_numpy(array) for array in (magnitudes, firsts, ranks)]
    assert same_bits(found, reference.chunk_cuts(torch.from_numpy(rows), start, *tensors).numpy())
    assert found[1] == -1
    assert found[0] == {0: UNCUT, 4 * BLOCK: -1}.get(start, found[0])


def test_torch_tensors_go_in():
    x = torch.from_numpy(coarse(1000))
    assert kth_magnitude(x, 300) == kth_magnitude(x.numpy(), 300)
    assert isinstance(magnitude_histogram(x[None], 0), torch.Tensor)
    assert isinstance(tie_counts(x[None], torch.ones(1)), torch.Tensor)


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(ValueError, match="x: found non-contiguous float32"):
        kth_magnitude(normal(10)[::2], 3)
    with pytest.raises(ValueError, match="prefixes: found None, expected the bins of 1 models"):
        magnitude_histogram(normal(1, 10), 1)
