import numpy as np
import pytest

from kernels.competition import balance, balance_histogram, compete
from kernels.gram import gram, row_gram, squares
from kernels.kth_magnitude import BLOCK, UNCUT, chunk_cuts, magnitude_histogram, tie_counts
from kernels.spread import spread
from kernels.storage import narrow, widen, widen_difference
from kernels.stored_rows import STRETCH, StoredRows
from kernels.trim_elect import sign_balance, trim_elect
from tests.kernels.arrays import AWKWARD, LABELS, SIZES, dirty, normal, same_bits

SEVERAL = ["bfloat16", "float16", "float32", "float64", "bfloat16"]


def stored(label, size, seed=0):
    values = normal(size, seed=seed)
    values[: min(size, AWKWARD.size)] = AWKWARD[:size]
    return narrow(values, label), label


def loaded(models, base=None):
    """By the kernels that widen one row at a time."""
    if base is None:
        return np.stack([widen(*model) for model in models])
    return np.stack([widen_difference(*model, widen(*base)) for model in models])


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("base_label", [None, *LABELS])
@pytest.mark.parametrize("size", [*SIZES, STRETCH])
def test_stored_rows_are_what_widening_gives(base_label, size):
    models = [stored(label, size, seed) for seed, label in enumerate(SEVERAL)]
    base = None if base_label is None else stored(base_label, size, 9)
    rows = StoredRows.of(models, base)
    assert rows.shape == (len(SEVERAL), size)
    assert same_bits(rows.load(), loaded(models, base))


def test_a_run_of_stored_rows_is_that_run_of_them_and_goes_where_it_is_told():
    models, base = [stored(label, 9000, seed) for seed, label in enumerate(SEVERAL)], stored("bfloat16", 9000, 9)
    whole, room = StoredRows.of(models, base), dirty((len(SEVERAL), 4500))
    assert whole.run(123, 4500, room).load() is room
    assert same_bits(room, np.ascontiguousarray(loaded(models, base)[:, 123:4623]))
    assert same_bits(whole.only(3).load(), whole.load()[3:4])
    assert same_bits(whole.run(100, 5000).run(23, 4500).load(), room)


def test_elements_at_an_odd_address_are_read_as_they_are():
    raw = np.zeros(2 * 5000 + 1, np.uint8)
    odd = raw[1:].view(np.uint16)
    odd[:] = narrow(normal(5000), "bfloat16")
    assert same_bits(StoredRows.of([(odd, "bfloat16")]).load()[0], widen(odd.copy(), "bfloat16"))


@pytest.mark.parametrize("labels", [("bfloat16", "bfloat16"), ("float32", "float16")])
def test_kernels_make_of_stored_rows_what_they_make_of_the_rows_in_memory(labels):
    size, (label, base_label) = 2 * BLOCK + 77, labels  # divisible by 5
    models = [(narrow(normal(size, seed=seed), label), label) for seed in range(3)]
    rows = StoredRows.of(models, (narrow(normal(size, seed=9), base_label), base_label))
    dense, weights = rows.load(), np.float32([1.0, -0.5, 2.0])
    magnitudes, cuts = np.abs(dense[:, 5]), np.array([BLOCK, 3, -1])
    prefixes = magnitudes.view(np.int32).astype(np.int64) >> 15
    firsts, clamp = np.zeros(3, np.int64), (np.full(3, 0.1, np.float32), np.full(3, 2.0, np.float32))
    for function, arguments in [
        (magnitude_histogram, (0,)),
        (magnitude_histogram, (1, prefixes)),
        (tie_counts, (magnitudes,)),
        (chunk_cuts, (0, magnitudes, firsts, firsts + 1)),
        (trim_elect, (weights, magnitudes, cuts, 0)),
        (sign_balance, (weights, magnitudes, cuts, 0)),
        (gram, ()),
        (row_gram, (size // 5,)),
        (squares, (dense[0] > 0,)),
        (spread, ()),
        (balance, (clamp,)),
        (balance_histogram, (clamp,)),
        (compete, (weights, clamp, clamp)),
    ]:
        assert same_bits(function(rows, *arguments), function(dense, *arguments))


@pytest.mark.parametrize("size", [31, 33, STRETCH + 32, STRETCH + 45])
@pytest.mark.parametrize("has_base", [False, True])
@pytest.mark.parametrize("count", range(1, 7))
def test_rows_of_bfloat16_are_the_same_read_together_as_one_by_one(count, has_base, size):
    room = np.zeros((count + 1, 2 * size + 1), np.uint8)
    stacked = [row[1:].view(np.uint16) for row in room]  # at odd addresses
    for seed, raw in enumerate(stacked):
        raw[:] = narrow(normal(size, seed=seed), "bfloat16")
    base, *models = [(raw, "bfloat16") for raw in stacked]
    rows = StoredRows.of(models, base if has_base else None)
    weights, everything = np.arange(1, count + 1, dtype=np.float32), np.full(count, UNCUT)
    merged = [trim_elect(values, weights, 0 * weights, everything, 0, "sum") for values in (rows, rows.load())]
    assert same_bits(*merged)
    assert same_bits(gram(rows), gram(rows.load()))


def test_what_does_not_fit_is_refused_in_words():
    four, three = (narrow(normal(size), "bfloat16") for size in (4, 3))
    with pytest.raises(ValueError, match="models: found 0 models"):
        StoredRows.of([])
    with pytest.raises(ValueError, match=r"models\[1\]: found uint16 \[3\], expected C-contiguous uint16 \[4\]"):
        StoredRows.of([(four, "bfloat16"), (three, "bfloat16")])
    with pytest.raises(ValueError, match=r"base: found uint16 \[3\]"):
        StoredRows.of([(four, "bfloat16")], (three, "bfloat16"))
    with pytest.raises(ValueError, match=r"models\[0\]: found uint16 \[4\], expected C-contiguous float32"):
        StoredRows.of([(four, "float32")])
