import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.gap_code import BLOCK, MOST_BYTES, Decoder, encode, entropy_bits, reference
from kernels.ternary import pack, unpack

DENSITIES = [0.05, 0.1, 0.2, 0.3, 0.5]


def ternary(size, density, seed=0):
    random = np.random.default_rng(seed)
    signs = np.where(random.random(size) < 0.5, 1.0, -1.0)
    return np.where(random.random(size) < density, signs, 0.0).astype(np.float32)


def decoded(block, size):
    planes = Decoder().decode(block, size)
    assert not isinstance(planes, str), planes
    return unpack(planes, 1.0, size)


def as_block(content):
    return np.frombuffer(bytes(content), np.uint8)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000, BLOCK - 1, BLOCK])
@pytest.mark.parametrize("density", [0.0, 1e-4, 0.01, *DENSITIES, 0.9, 1.0])
def test_a_block_comes_back_and_is_as_defined(size, density):
    values = ternary(size, density)
    block = encode(pack(values), size)
    assert np.array_equal(decoded(block, size), values)
    if block.size:
        assert block.tobytes() == reference.encode(
            torch.from_numpy(values), int.from_bytes(block[2:4].tobytes(), "little")
        )


@pytest.mark.parametrize("divisor", [1, 2, 3, 5, 8, 100, 65535])
def test_every_divisor_is_decoded_as_defined(divisor):
    values = ternary(3000, 0.02)
    block = reference.encode(torch.from_numpy(values), divisor)
    assert np.array_equal(decoded(as_block(block), 3000), values)
    assert np.array_equal(reference.decode(block, 3000).numpy(), values)


@pytest.mark.parametrize("density", DENSITIES)
def test_blocks_are_within_two_percent_of_the_entropy(density):
    blocks = [ternary(BLOCK, density, seed) for seed in range(8)]
    found = sum(8 * (encode(pack(values), BLOCK).size + 2) for values in blocks)
    assert found <= 1.02 * sum(entropy_bits(int(np.count_nonzero(values)), BLOCK) for values in blocks)


def test_entries_that_keep_together_cost_less_than_independent_ones():
    values = ternary(BLOCK, 0.5)
    values[BLOCK // 5 :] = 0.0
    assert 8 * encode(pack(values), BLOCK).size < 0.75 * entropy_bits(int(np.count_nonzero(values)), BLOCK)


def test_the_bound_is_that_of_the_paper():
    assert entropy_bits(20, 100) == pytest.approx(92.2, abs=0.05)
    assert (entropy_bits(0, 100), entropy_bits(100, 100)) == (0.0, 100.0)


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.0, 0.0, 1.0]), min_size=1, max_size=600))
def test_any_signs_come_back(signs):
    values = np.array(signs, np.float32)
    assert np.array_equal(decoded(encode(pack(values), values.size), values.size), values)


@given(st.binary(max_size=400), st.integers(1, 2000))
def test_any_bytes_are_a_block_or_a_fault(content, size):
    planes = Decoder().decode(as_block(content), size)
    if not isinstance(planes, str):
        values = unpack(planes, 1.0, size)
        assert np.count_nonzero(values) == (1 + int.from_bytes(content[:2], "little") if content else 0)


@given(st.integers(0, 10**6), st.integers(1, 255), st.sampled_from([0.02, 0.2, 0.6]))
def test_a_changed_byte_gives_another_tensor_or_a_fault(place, change, density):
    values = ternary(2000, density)
    block = encode(pack(values), 2000)
    block[place % block.size] ^= change
    planes = Decoder().decode(block, 2000)
    assert isinstance(planes, str) or not np.array_equal(unpack(planes, 1.0, 2000), values)


def header(count, divisor):
    return (count - 1).to_bytes(2, "little") + divisor.to_bytes(2, "little")


HOSTILE = {
    "too short": header(1, 1)[:3],
    "too short ": header(65536, 1) + bytes(9),
    "divisor 0": header(1, 0) + b"\1\0",
    "run out": header(2, 3) + b"\0\0",
    "run out ": header(2, 1) + b"\1\0",
    "run out  ": header(1, 65535) + bytes(4000) + b"\0",
    "past the end": header(1, 60000) + b"\xff\xff\xff\0",
    "past the end ": header(1, 1) + bytes(200) + b"\1\0",
    "longer": header(1, 3) + b"\1\0\0\0",
    "longer ": header(1, 1) + b"\1\0\0",
    "belong to no": header(1, 3) + b"\xff\0",
    "belong to no ": header(1, 3) + b"\1\2",
    "another count": header(1, 1) + b"\3\0",
    "longer than any": bytes(MOST_BYTES + 1),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_block_is_named_for_what_is_wrong(fault):
    planes = Decoder().decode(as_block(HOSTILE[fault]), 1000)
    assert isinstance(planes, str)
    assert fault.strip() in planes


def test_only_the_planes_of_one_block_are_encoded():
    with pytest.raises(ValueError, match="planes"):
        encode(pack(ternary(65, 0.5)), 64)
