from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.storage import add_scaled_narrow, narrow, widen
from kernels.ternary import Planes, pack, plane_bytes, reference, signed_election, signed_sum, tally, ternarize, unpack
from kernels.trim_elect import trim_elect
from kernels.weighted_sum import weighted_sum
from tests.kernels.arrays import AWKWARD, LABELS, dirty, normal, same_bits

SIZES = [1, 63, 64, 1000, 4100]
STARTS = [0, 64, 77]


def as_tensors(planes):
    return torch.from_numpy(planes.positive), torch.from_numpy(planes.negative), planes.start


def experts(size):
    """Three experts that begin at a bit, a word and neither."""
    return [pack(normal(size + 200, seed=seed), 0.7)._replace(start=start) for seed, start in enumerate(STARTS)]


def base(size, label):
    values = normal(size, seed=9)
    values[::7] = -0.0
    return narrow(values, label), label


VALUES, WEIGHTS = np.array([0.1, 0.2, 1e-3], np.float32), np.array([0.5, -0.25, 1.0], np.float32)


@pytest.mark.parametrize("size", [0, *SIZES])
@pytest.mark.parametrize("magnitude", [1e-45, 0.7, 3e38])
def test_planes_have_the_signs_of_what_is_large_enough(size, magnitude):
    values = normal(size)
    values[: min(size, AWKWARD.size)] = AWKWARD[:size]
    planes = pack(values, magnitude, dirty((2, plane_bytes(size)), np.uint8))
    positive, negative, _ = reference.pack(torch.from_numpy(values), magnitude)
    assert same_bits(planes.positive, positive)
    assert same_bits(planes.negative, negative)
    assert tally(planes) == reference.tally(as_tensors(planes))


@pytest.mark.parametrize(("size", "start"), list(product(SIZES, STARTS)))
def test_any_run_of_bits_is_unpacked(size, start):
    planes = pack(normal(size + 100), 0.7)._replace(start=start)
    expected = reference.unpack(as_tensors(planes), 0.3, size)
    assert same_bits(unpack(planes, 0.3, size, dirty(size)), expected)


@pytest.mark.parametrize(("magnitude", "ties"), [(0.0, 0), (0.5, 3), (0.5, 99), (np.inf, 99)])
def test_what_is_kept_becomes_one_value_with_its_sign(magnitude, ties):
    values = np.repeat(np.array([0.5, -0.5, 0.0, -0.0, 1.0, -2.0, 1e-45, 0.1], np.float32), 9)
    expected = reference.ternarize(torch.from_numpy(values), magnitude, ties, 0.25)
    assert same_bits(ternarize(values, magnitude, ties, 0.25, dirty(values.size)), expected)


@pytest.mark.parametrize(
    ("size", "kind", "label"), [*product(SIZES, LABELS, ["bfloat16"]), (1000, "bfloat16", "float32")]
)
@pytest.mark.parametrize("scale", [None, 0.7])
def test_a_sum_is_as_defined_and_as_the_dense_kernels_give_it_bit_for_bit(size, kind, label, scale):
    stored, planes = base(size, kind), experts(size)
    found = signed_sum(stored, planes, VALUES, WEIGHTS, label, scale)
    arguments = (as_tensors(one) for one in planes), torch.from_numpy(VALUES), torch.from_numpy(WEIGHTS), label, scale
    defined = reference.signed_sum((torch.from_numpy(stored[0]), kind), list(arguments[0]), *arguments[1:])
    assert found.tobytes() == defined.numpy().tobytes()
    rows = np.stack([unpack(one, value, size) for one, value in zip(planes, VALUES, strict=True)])
    if scale is None:
        dense = narrow(weighted_sum(rows + widen(*stored), WEIGHTS), label)
    else:
        dense = add_scaled_narrow(widen(*stored), weighted_sum(rows, WEIGHTS), scale, label)
    assert found.tobytes() == dense.tobytes()


CHOICES = [*product(["mean", "count", "sum"], ["weighted", "unweighted", "frequency"], [-1, 0, 1])]


@pytest.mark.parametrize("choices", CHOICES)
def test_an_election_is_as_defined_and_as_the_dense_kernels_give_it_bit_for_bit(choices):
    size, label = 4100, "bfloat16"
    stored, planes = base(size, label), experts(size)
    found = signed_election(stored, planes, VALUES, WEIGHTS, label, 0.7, *choices)
    tensors = [as_tensors(one) for one in planes], torch.from_numpy(VALUES), torch.from_numpy(WEIGHTS)
    defined = reference.signed_election((torch.from_numpy(stored[0]), label), *tensors, label, 0.7, *choices)
    assert found.tobytes() == defined.numpy().tobytes()
    rows = np.stack([unpack(one, value, size) for one, value in zip(planes, VALUES, strict=True)])
    untrimmed = np.zeros(3, np.float32), np.full(3, size, np.int64)
    merged = trim_elect(rows, WEIGHTS, *untrimmed, 0, *choices)
    assert found.tobytes() == add_scaled_narrow(widen(*stored), merged, 0.7, label).tobytes()


@given(st.integers(1, 5000), st.data())
def test_any_cut_into_chunks_gives_the_same_bits(size, data):
    cut, (raw, label), planes = data.draw(st.integers(0, size)), base(size, "bfloat16"), experts(size)
    runs = {}
    for first, stop in ((0, cut), (cut, size), (0, size)):
        own = [one._replace(start=one.start + first) for one in planes]
        given_to = (raw[first:stop], label), own, VALUES, WEIGHTS, label
        runs[first, stop] = np.stack([signed_sum(*given_to), signed_election(*given_to, 1.0)])
    assert np.concatenate([runs[0, cut], runs[cut, size]], axis=1).tobytes() == runs[0, size].tobytes()


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=300))
def test_what_is_packed_comes_back(signs):
    values = np.array(signs, np.float32)
    assert same_bits(unpack(pack(values), 1.0, values.size), values + np.float32(0))


def test_planes_that_are_too_short_are_refused():
    planes = pack(normal(64))
    for bad in (planes._replace(start=1), planes._replace(start=-1), Planes(planes.positive, planes.negative[:0])):
        with pytest.raises(ValueError, match="planes"):
            unpack(bad, 1.0, 64)
    with pytest.raises(ValueError, match="magnitude"):
        pack(normal(3), 0.0)
    with pytest.raises(ValueError, match="experts"):
        signed_sum(base(3, "float32"), [], VALUES[:0], WEIGHTS[:0], "float32")


@pytest.mark.parametrize("weights", [[0.0, -1.0, 1e-30], [-1.0, -0.5, -2.0], [1.0, 1.0, 0.0]])
@pytest.mark.parametrize("values", [[0.1, 0.0, 1e-30], [0.25, 0.25, 0.25], [0.0, 0.0, 0.0]])
def test_what_comes_to_nothing_has_the_sign_of_its_definition(values, weights):
    """Weights and values of 0 or whose product is, votes and sums that cancel, on a base of −0.0."""
    size, planes = 1000, experts(1000)
    stored = np.full(size, 0x8000, np.uint16), "bfloat16"
    values, weights = np.array(values, np.float32), np.array(weights, np.float32)
    tensors = (torch.from_numpy(stored[0]), "bfloat16"), [as_tensors(one) for one in planes]
    arguments = torch.from_numpy(values), torch.from_numpy(weights), "bfloat16"
    for one, value in zip(planes, map(float, values), strict=True):
        assert same_bits(unpack(one, value, size), reference.unpack(as_tensors(one), value, size))
    for scale in (None, -0.7):
        found = signed_sum(stored, planes, values, weights, "bfloat16", scale)
        assert found.tobytes() == reference.signed_sum(*tensors, *arguments, scale).numpy().tobytes()
    for choices in CHOICES:
        found = signed_election(stored, planes, values, weights, "bfloat16", -0.7, *choices)
        assert found.tobytes() == reference.signed_election(*tensors, *arguments, -0.7, *choices).numpy().tobytes()
