import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.storage import add_scaled_narrow, narrow, reference, storage_dtype, widen, widen_difference
from tests.kernels.arrays import AWKWARD, LABELS, SIZES, dirty, normal, same_bits

sized = pytest.mark.parametrize("size", SIZES)
labelled = pytest.mark.parametrize("label", LABELS)


def every_half():
    return np.arange(1 << 16, dtype=np.uint16)


def as_torch(stored, label):
    return torch.from_numpy(stored).view(getattr(torch, label))


def same_stored(left, right, label):
    values = [as_torch(stored, label).to(torch.float64).numpy() for stored in (left, right)]
    return left.dtype == right.dtype and same_bits(*values)


@pytest.mark.parametrize("label", ["bfloat16", "float16"])
def test_every_half_widens_to_what_torch_says_and_narrows_back(label):
    wide = widen(every_half(), label, dirty(1 << 16))
    assert same_bits(wide, as_torch(every_half(), label).float().numpy())
    assert same_stored(narrow(wide, label), every_half(), label)


@labelled
@sized
def test_storage_agrees_with_its_definition(label, size):
    values, base = normal(size), normal(size, seed=1)
    values[: min(size, AWKWARD.size)] = AWKWARD[:size]
    raw = narrow(values, label, dirty(size, storage_dtype(label)))
    stored, torch_values, torch_base = (torch.from_numpy(array) for array in (raw, values, base))
    assert same_stored(raw, reference.narrow(torch_values, label).numpy(), label)
    assert same_bits(widen(raw, label, dirty(size)), reference.widen(stored, label).numpy())
    difference = widen_difference(raw, label, base, dirty(size))
    assert same_bits(difference, reference.widen_difference(stored, label, torch_base).numpy())
    added = add_scaled_narrow(base, values, 0.3, label, dirty(size, storage_dtype(label)))
    assert same_stored(added, reference.add_scaled_narrow(torch_base, torch_values, 0.3, label).numpy(), label)


@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.sampled_from(LABELS))
def test_narrowing_rounds_any_float_as_torch_does(values, label):
    array = np.array(values, np.float32)
    assert same_stored(narrow(array, label), reference.narrow(torch.from_numpy(array), label).numpy(), label)


@given(st.integers(0x7F800001, 0x7FFFFFFF), st.booleans())
def test_a_nan_stays_nan_when_narrowed(bits, negative):
    array = np.array([bits | (negative << 31)], np.uint32).view(np.float32)
    assert np.isnan(widen(narrow(array, "bfloat16"), "bfloat16")).all()
    assert np.isnan(widen(narrow(array, "float16"), "float16")).all()


def test_float16_overflow_becomes_inf():
    assert widen(narrow(np.float32([65519.99, 65520.0, -1e30]), "float16"), "float16").tolist() == [
        65504.0,
        np.inf,
        -np.inf,
    ]


@pytest.mark.parametrize("label", LABELS)
def test_adding_a_zero_delta_returns_the_base_bit_for_bit(label):
    raw = narrow(normal(1000), label)
    base = widen(raw, label)
    assert same_bits(add_scaled_narrow(base, np.zeros(1000, np.float32), 1.0, label), raw)


@labelled
def test_read_only_and_unaligned_storage_is_read(label):
    raw = narrow(normal(1000), label)
    unaligned = np.frombuffer(b"x" + raw.tobytes(), raw.dtype, offset=1)
    assert not unaligned.flags.aligned or raw.itemsize == 1
    assert not unaligned.flags.writeable
    assert same_bits(widen(unaligned, label), widen(raw, label))
    assert same_bits(widen_difference(unaligned, label, normal(1000)), widen_difference(raw, label, normal(1000)))


@pytest.mark.parametrize("label", LABELS)
def test_torch_tensors_go_in_and_come_out_sharing_memory(label):
    values = torch.from_numpy(normal(63))
    stored = values.to(getattr(torch, label))
    out = torch.full((63,), torch.nan)
    assert widen(stored, label, out) is out
    assert torch.equal(out, stored.float())
    assert torch.equal(widen(stored, label=label), stored.float())
    narrowed = torch.zeros_like(stored)
    assert narrow(values, label, narrowed) is narrowed
    assert torch.equal(narrowed, stored)


def test_a_tensor_on_another_device_runs_the_definition():
    meta = torch.empty(5, dtype=torch.bfloat16, device="meta")
    assert widen(meta, "bfloat16").dtype == torch.float32
    assert widen(meta, "bfloat16").device.type == "meta"


@pytest.mark.parametrize(
    ("raw", "label", "words"),
    [
        (np.zeros(4, np.float32), "bfloat16", r"raw: found float32 \[4\], expected C-contiguous uint16 \[any\]"),
        (np.zeros(8, np.uint16)[::2], "float16", "raw: found non-contiguous uint16"),
        (np.zeros((2, 2), np.uint16), "float16", r"raw: found uint16 \[2, 2\]"),
        (np.zeros(4, np.uint16), "int8", "label: found 'int8', expected one of 'bfloat16'"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(raw, label, words):
    with pytest.raises(ValueError, match=words):
        widen(raw, label)


def test_a_read_only_output_and_a_mix_of_libraries_are_refused():
    out = np.zeros(4, np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out: found a read-only array"):
        widen(np.zeros(4, np.uint16), "bfloat16", out)
    with pytest.raises(TypeError, match="base: found Tensor, expected a numpy array"):
        widen_difference(np.zeros(4, np.uint16), "bfloat16", torch.zeros(4))
