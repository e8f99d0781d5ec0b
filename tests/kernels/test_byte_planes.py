import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kernels.byte_planes import WIDTHS, join_planes, reference, split_planes
from tests.kernels.arrays import AWKWARD, SIZES, normal


def patterns(width, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size * width, dtype=np.uint8).view(f"u{width}")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", SIZES)
def test_planes_are_their_definition_and_come_back(width, size):
    values, base = patterns(width, size), patterns(width, size, 1)
    for origin in (None, base):
        planes = split_planes(values, origin)
        expected = reference.split_planes(
            torch.from_numpy(values), None if origin is None else torch.from_numpy(origin)
        )
        assert np.array_equal(planes, expected.numpy())
        assert np.array_equal(join_planes(planes, np.empty_like(values), origin), values)
        given_base = None if origin is None else torch.from_numpy(origin)
        back = reference.join_planes(torch.from_numpy(planes), torch.empty_like(torch.from_numpy(values)), given_base)
        assert np.array_equal(back.numpy(), values)


@pytest.mark.parametrize("width", WIDTHS)
@given(data=st.data())
def test_every_pair_of_bit_patterns_comes_back(width, data):
    pair = data.draw(arrays(f"u{width}", (2, 5)))
    values, base = pair[0].copy(), pair[1].copy()
    assert np.array_equal(join_planes(split_planes(values, base), np.empty_like(values), base), values)


def test_neighbours_are_one_step_apart_across_zero_and_signs_of_zero():
    values = np.float32([1.0, -1.0, 1e-45, -1e-45, 0.0, -0.0]).view(np.uint32)
    base = np.nextafter(values.view(np.float32), np.float32([2, -2, 0, 0, -1, 1])).view(np.uint32)
    planes = split_planes(values, base)
    assert not planes[1:].any()
    assert planes[0].max() <= 4  # two steps where a zero of the other sign lies between


def test_an_element_equal_to_its_base_is_zero_everywhere():
    values = np.concatenate([AWKWARD, normal(100)]).view(np.uint32)
    assert not split_planes(values, values).any()


def test_what_does_not_fit_is_refused_in_words():
    with pytest.raises(ValueError, match="base: found uint16"):
        split_planes(patterns(2, 4), patterns(2, 3))
    with pytest.raises(ValueError, match="planes: found"):
        join_planes(split_planes(patterns(2, 4)), np.empty(5, np.uint16))
    with pytest.raises(ValueError, match="elements of 1 bytes"):
        split_planes(np.zeros(3, np.uint8))
