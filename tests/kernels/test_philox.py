import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.philox import cpu, reference, uniform
from kernels.philox.blocks import DRAWS
from kernels.philox.stream import LARGEST_SEED, MOST_ELEMENTS, stream_of
from tests.kernels.arrays import SIZES, dirty, same_bits

# Random123, tests/kat_vectors: counter, key, expected of the three "philox4x32 10" lines.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_published_known_answers(counter, key, expected):
    tensors = [torch.tensor([word]) for word in words(counter)]
    assert [int(word) for word in reference.rounds(tensors, words(key))] == words(expected)
    low, high, *names = words(counter)
    draws = dirty(DRAWS)
    cpu.whole_steps(np.array([*words(key), *names, 0], np.uint64), np.uint64(low | high << 32), draws)
    assert draws[:4].tolist() == [(word >> 8) / 2**24 for word in words(expected)]


def test_an_element_takes_the_upper_24_bits_of_its_word_of_its_block():
    stream = stream_of(7 + (9 << 32), "layer.0.weight", 3)
    block = (1 << 40) + 5
    counter = [block & 0xFFFFFFFF, block >> 32 | 3 << 16, stream.name_low, stream.name_high]
    drawn = reference.rounds([torch.tensor([word]) for word in counter], [7, 9])
    out = uniform(7 + (9 << 32), "layer.0.weight", 3, 4 * block, dirty(4))
    assert out.tolist() == [(int(word) >> 8) / 2**24 for word in drawn]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("start", [0, 1, 3, (1 << 34) - 2, (1 << 34) - 5, MOST_ELEMENTS - 20000])
def test_uniform_is_its_definition_bit_for_bit(size, start):
    for seed in (0, LARGEST_SEED):
        expected = reference.uniform(seed, "a", 65535, start, torch.empty(size))
        assert same_bits(uniform(seed, "a", 65535, start, dirty(size)), expected.numpy())


@given(st.integers(0, 1000), st.integers(0, 40), st.integers(0, 40))
def test_a_draw_does_not_depend_on_the_chunk_it_is_drawn_in(start, before, size):
    whole = uniform(1, "w", 0, start, dirty(before + size))
    assert same_bits(uniform(1, "w", 0, start + before, dirty(size)), whole[before:])


def test_seed_name_and_ingredient_each_change_every_draw():
    first = uniform(1, "a", 0, 0, dirty(1000))
    others = [
        uniform(2, "a", 0, 0, dirty(1000)),
        uniform(1, "b", 0, 0, dirty(1000)),
        uniform(1, "a", 1, 0, dirty(1000)),
    ]
    assert all((first != other).mean() > 0.99 for other in others)


def test_draws_are_in_the_half_open_unit_interval_and_even():
    draws = uniform(0, "even", 0, 0, dirty(1 << 20))
    assert draws.min() >= 0
    assert draws.max() < 1
    # Mean and share of a tenth of 2^20 draws: five standard deviations are 1.5e-3 and 1.5e-3.
    assert abs(draws.mean(dtype=np.float64) - 0.5) < 1.5e-3
    assert np.abs(np.histogram(draws, 10, (0, 1))[0] / draws.size - 0.1).max() < 1.5e-3


def test_a_torch_tensor_is_filled():
    out = torch.empty(10)
    assert uniform(1, "a", 0, 0, out) is out
    assert same_bits(out.numpy(), uniform(1, "a", 0, 0, out=dirty(10)))
    assert uniform(1, "a", 0, 0, torch.empty(10, device="meta")).shape == (10,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1, "a", 0, 0), "seed: found -1, expected 0 to 18446744073709551615"),
        ((0, "a", 65536, 0), "ingredient: found 65536, expected 0 to 65535"),
        ((0, "a", 0, -1), "start: found -1, expected 0 to"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(arguments, words):
    with pytest.raises(ValueError, match=words):
        uniform(*arguments, np.zeros(4, np.float32))
