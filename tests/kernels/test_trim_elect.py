import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.kth_magnitude import UNCUT, kth_magnitude
from kernels.trim_elect import ELECTS, HOWS, reference, sign_balance, trim_elect
from tests.kernels.arrays import SIZES, dirty, normal, same_bits


def coarse(models, size, seed=0):
    """Few magnitudes, so that votes cancel and thresholds are tied."""
    return np.random.default_rng(seed).integers(-3, 4, (models, size)).astype(np.float32)


def untrimmed(models):
    return np.zeros(models, np.float32), np.full(models, UNCUT)


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def element_by_element(deltas, weights, magnitudes, cuts, start, how, elect, zero_vote_sign):
    """The slow, obvious version, in float64 on small integers: exact but for the last division."""
    merged = []
    for i, column in enumerate(deltas.astype(np.float64).T):
        kept = [
            x if abs(x) > m or (abs(x) == m and start + i <= c) else 0.0
            for x, m, c in zip(column, magnitudes, cuts, strict=True)
        ]
        ballots = [
            {"weighted": w * x, "unweighted": x, "frequency": np.sign(x)}[elect]
            for w, x in zip(weights, kept, strict=True)
        ]
        sign = np.sign(sum(ballots)) or zero_vote_sign
        agreeing = [(w, w * x) for w, x, b in zip(weights, kept, ballots, strict=True) if b * sign > 0]
        values = [value for _, value in agreeing]
        divisor = {"mean": sum(abs(w) for w, _ in agreeing), "count": len(agreeing)}.get(how, 1)
        if not agreeing:
            merged.append(0.0)
        else:
            merged.append(max(values, key=abs) if how == "max" else sum(values) / divisor)
    return np.array(merged, np.float32)


cases = pytest.mark.parametrize(("how", "elect"), [(how, elect) for how in HOWS for elect in ELECTS])


@cases
@pytest.mark.parametrize("size", SIZES)
def test_trim_elect_is_its_definition_bit_for_bit(how, elect, size):
    deltas, weights = normal(4, size), np.float32([0.6, -0.3, 0.0, 1.1])
    magnitudes, cuts = np.float32([0.0, 1.28, 0.5, np.inf]), np.array([UNCUT, -1, 7, UNCUT])
    expected = reference.trim_elect(*tensors(deltas, weights, magnitudes, cuts), 5, how, elect, 1)
    assert same_bits(trim_elect(deltas, weights, magnitudes, cuts, 5, how, elect, 1, dirty(size)), expected.numpy())
    balance = reference.sign_balance(*tensors(deltas, weights, magnitudes, cuts), 5, elect)
    assert same_bits(sign_balance(deltas, weights, magnitudes, cuts, 5, elect), balance.numpy())


@cases
@pytest.mark.parametrize("zero_vote_sign", [-1, 0, 1])
@pytest.mark.parametrize("models", [1, 2, 5])
def test_trim_elect_is_the_slow_obvious_version(how, elect, zero_vote_sign, models):
    deltas, weights = coarse(models, 300), np.float32([1, -0.5, 2, 0.25, 1])[:models]
    magnitudes, cuts = np.float32([1, 2, 0, 1, 3])[:models], np.array([50, 999, -1, 1200, UNCUT])[:models]
    arguments = (deltas, weights, magnitudes, cuts, 950, how, elect, zero_vote_sign)
    assert (trim_elect(*arguments) == element_by_element(*arguments)).all()


def test_the_papers_steps_on_an_example_worked_by_hand():
    deltas = np.float32([[3, -2, 1, 0], [1, 4, -1, 0], [-2, 3, 0, 0]])
    ones, none = np.ones(3, np.float32), untrimmed(3)
    assert trim_elect(deltas, ones, *none, 0).tolist() == [2.0, 3.5, 0.0, 0.0]
    assert trim_elect(deltas, ones, *none, 0, "sum").tolist() == [4.0, 7.0, 0.0, 0.0]
    assert trim_elect(deltas, ones, *none, 0, "max").tolist() == [3.0, 4.0, 0.0, 0.0]
    assert trim_elect(deltas, ones, *none, 0, "mean", "weighted", 1).tolist() == [2.0, 3.5, 1.0, 0.0]
    assert trim_elect(deltas, ones, *none, 0, "mean", "weighted", -1).tolist() == [2.0, 3.5, -1.0, 0.0]
    assert sign_balance(deltas, ones, *none, 0).tolist() == [2]


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_trimming_keeps_exactly_the_k_largest(size, k):
    deltas = np.concatenate([coarse(1, size), normal(1, size)], axis=1)
    deltas[deltas == 0] = 9
    threshold = kth_magnitude(deltas[0], k)
    magnitudes, cuts = np.array([threshold.magnitude]), np.array([threshold.cut])
    merged = trim_elect(deltas, np.ones(1, np.float32), magnitudes, cuts, 0)
    assert np.count_nonzero(merged) == min(k, 2 * size)
    assert ((merged == 0) | (merged == deltas[0])).all()


@given(st.integers(0, 5000), st.data())
def test_any_cut_into_chunks_gives_the_same_bits(size, data):
    deltas, weights = coarse(3, size), np.float32([0.3, 0.7, -0.2])
    magnitudes, cuts = np.float32([1, 2, 1]), np.array([data.draw(st.integers(-1, size)) for _ in range(3)])
    at = data.draw(st.integers(0, size))
    chunks = [(0, np.ascontiguousarray(deltas[:, :at])), (at, np.ascontiguousarray(deltas[:, at:]))]
    parts = [trim_elect(chunk, weights, magnitudes, cuts, start) for start, chunk in chunks]
    assert same_bits(np.concatenate(parts), trim_elect(deltas, weights, magnitudes, cuts, 0))
    balances = [sign_balance(chunk, weights, magnitudes, cuts, start) for start, chunk in chunks]
    assert sum(balances) == sign_balance(deltas, weights, magnitudes, cuts, 0)


@given(st.integers(0, 3000), st.sampled_from(HOWS), st.sampled_from(ELECTS))
def test_one_model_of_weight_one_comes_back(size, how, elect):
    deltas = normal(1, size)
    assert same_bits(trim_elect(deltas, np.ones(1, np.float32), *untrimmed(1), 0, how, elect), deltas[0])


@cases
def test_negating_every_delta_negates_the_result(how, elect):
    deltas, weights = coarse(3, 500), np.float32([0.5, 1, 0.25])
    merged = trim_elect(deltas, weights, *untrimmed(3), 0, how, elect)
    assert (trim_elect(-deltas, weights, *untrimmed(3), 0, how, elect) == -merged).all()


def test_a_negative_weight_votes_for_the_opposite_sign():
    deltas = np.float32([[1], [3]])
    assert trim_elect(deltas, np.float32([1, -1]), *untrimmed(2), 0).tolist() == [-3.0]
    assert trim_elect(deltas, np.float32([1, -1]), *untrimmed(2), 0, "mean", "unweighted").tolist() == [-1.0]


def test_a_vote_that_is_not_a_number_elects_nothing():
    deltas = np.float32([[np.inf, np.nan, np.inf], [1, 1, -np.inf]])
    merged = trim_elect(deltas, np.ones(2, np.float32), *untrimmed(2), 0)
    assert merged.tolist() == [np.inf, 0.0, 0.0]


def test_torch_tensors_go_in_and_come_out():
    deltas, weights, magnitudes, cuts = tensors(normal(2, 50), np.ones(2, np.float32), *untrimmed(2))
    out = torch.empty(50)
    assert trim_elect(deltas, weights, magnitudes, cuts, 0, out=out) is out
    assert torch.equal(trim_elect(deltas, weights, magnitudes, cuts, 0), out)
    assert isinstance(sign_balance(deltas, weights, magnitudes, cuts, 0), torch.Tensor)
    meta = [tensor.to("meta") for tensor in (deltas, weights, magnitudes, cuts)]
    assert trim_elect(*meta, 0).shape == (50,)
    assert sign_balance(*meta, 0).shape == (1,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"how": "median"}, "how: found 'median', expected one of 'mean', 'count', 'sum', 'max'"),
        ({"elect": "loudest"}, "elect: found 'loudest', expected one of 'weighted'"),
        ({"zero_vote_sign": 2}, "zero_vote_sign: found 2, expected -1, 0 or 1"),
        ({"cuts": np.zeros(3, np.int64)}, r"cuts: found int64 \[3\], expected C-contiguous int64 \[2\]"),
        ({"deltas": normal(2, 8)[:, ::2]}, "deltas: found non-contiguous float32"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(changes, words):
    magnitudes, cuts = untrimmed(2)
    good = {"deltas": normal(2, 4), "weights": normal(2), "magnitudes": magnitudes, "cuts": cuts, "start": 0}
    with pytest.raises(ValueError, match=words):
        trim_elect(**good | changes)
