"""Pickles of torch.save, read without running them: equal to what torch reads, or refused cleanly."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge_core.errors import FileError, InputError, UnsupportedError
from merge_core.formats import read
from merge_core.formats.inspection import check_file
from merge_core.formats.torch_file import open_pickled, open_torch_file
from merge_core.sources import folder_source
from tests.merge_core.building import built, mix, raw, write_model

Factory = pytest.TempPathFactory
LAYOUTS = [(True, protocol) for protocol in (2, 3, 4, 5)] + [(False, 2), (False, 4)]


def state() -> dict[str, Any]:
    torch.manual_seed(0)
    plain = {label: torch.randn(3, 5).to(dtype) for label, dtype in (("d", torch.float64), ("h", torch.float16))}
    whole = torch.randn(4, 6, 5)
    return plain | {
        "b": torch.randn(7).to(torch.bfloat16),
        "view": whole[1:3],
        "strided": whole[:, ::2, 1:],
        "transposed": torch.randn(4, 6).t(),
        "tied": whole,
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "long": torch.arange(4),
        "bool": torch.tensor([True, False]),
    }


def saved(path: Path, content: Any, zipped: bool = True, protocol: int = 2) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return path


@pytest.mark.parametrize(("zipped", "protocol"), LAYOUTS)
def test_tensors_come_back_bit_for_bit_in_every_layout(zipped: bool, protocol: int, tmp_path: Path) -> None:
    expected = state()
    found = open_pickled(saved(tmp_path / "x.bin", expected, zipped, protocol))
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert (found[name].spec.shape, found[name].spec.dtype.label) == (
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
        )
        assert found[name].data.tobytes() == raw(tensor.detach()), name


def test_a_state_dict_of_a_module_is_read(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    found = open_pickled(saved(tmp_path / "x.bin", module.state_dict()))
    assert list(found) == list(module.state_dict())


def test_numpy_scalars_sizes_and_lists_are_values(tmp_path: Path) -> None:
    content = {"a": [np.int64(3), np.float32(0.5), np.bool_(True)], "size": torch.Size([2, 3]), "t": (None, "x")}
    assert open_torch_file(saved(tmp_path / "x.bin", content)).content == {
        "a": [3, 0.5, True],
        "size": (2, 3),
        "t": (None, "x"),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_long_lists_of_integers_of_every_width_come_back(zipped: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    edges = [0, 1, 75, 77, 74, 255, 256, 65535, 65536, -1, -(2**31), 2**31 - 1, 2**31, 2**62]
    numbers = random.choice(edges, 3000).tolist() + list(range(500)) + [7]
    content = open_torch_file(saved(tmp_path / "x", [numbers, numbers[:1], numbers[-9:]], zipped)).content
    assert content == [numbers, numbers[:1], numbers[-9:]]


def test_pickled_weights_are_checked_at_the_door_and_others_kept(tmp_path: Path) -> None:
    bad = {"w": torch.tensor([1.0, float("nan")])}
    with pytest.raises(FileError, match=r"adapter_model\.bin: tensor 'w': a value is not finite"):
        check_file("adapter_model.bin", saved(tmp_path / "one", bad))
    check_file("training_args.bin", saved(tmp_path / "two", bad))
    check_file("pytorch_model.bin", saved(tmp_path / "three", {"w": Evil(os.system, "false")}))


def test_a_pickled_checkpoint_merges_as_its_safetensors_twin(tmp_path: Path) -> None:
    base, tuned = {"w": torch.randn(5, 4), "b": torch.randn(5)}, {"w": torch.randn(5, 4), "b": torch.randn(5)}
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "twin", tuned)
    (tmp_path / "tuned").mkdir()
    saved(tmp_path / "tuned" / "pytorch_model.bin", OrderedDict(tuned))
    found, expected = (
        built(tmp_path, mix(name, base="base", method="task_arithmetic", scale=0.5)) for name in ("tuned", "twin")
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_sharded_pickled_checkpoint_is_read_through_its_index(tmp_path: Path) -> None:
    saved(tmp_path / "pytorch_model-00001-of-00002.bin", {"a": torch.ones(2)})
    saved(tmp_path / "pytorch_model-00002-of-00002.bin", {"b": torch.ones(3)})
    shards = '{"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}'
    (tmp_path / "pytorch_model.bin.index.json").write_text(shards)
    assert sorted(read(folder_source(str(tmp_path)).files).tensors) == ["a", "b"]


def test_safetensors_go_before_a_pickle_of_the_same_model(tmp_path: Path) -> None:
    write_model(tmp_path / "both", {"a": torch.ones(2)})
    (tmp_path / "both" / "pytorch_model.bin").write_bytes(b"no pickle at all")
    assert list(read(folder_source(str(tmp_path / "both")).files).tensors) == ["a"]


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> Any:
        return self.made


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"a": Evil(os.system, "false")}, "posix.system"),
        ({"a": Evil(eval, "1")}, "eval"),
        ({"a": Evil(getattr, 1, "real")}, "getattr"),
        ({"a": torch.nn.Linear(2, 2)}, "torch.nn.modules.linear.Linear"),
        ({"a": np.ones(3)}, "_reconstruct"),
        ({"a": {1, 2}}, "set"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_whatever_is_no_data_is_refused_by_name(content: Any, found: str, zipped: bool, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=found):
        open_torch_file(saved(tmp_path / "x.bin", content, zipped))


def pickled(content: bytes, **storages: bytes) -> bytes:
    """An archive as torch writes one, of this pickle and these storages."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", content)
        for key, data in storages.items():
            archive.writestr(f"x/data/{key}", data)
    return file.getvalue()


def tensor(offset: int, shape: str, strides: str, elements: int = 6) -> bytes:
    """The pickle of {'a': tensor} over the storage `s`, in protocol 0's words."""
    storage = f"(S'storage'\nctorch\nFloatStorage\nS's'\nS'cpu'\nI{elements}\nt".encode()
    view = f"Q I{offset}\n({shape}t({strides}tI00\nt".replace(" ", "").encode()
    return b"}(S'a'\nctorch._utils\n_rebuild_tensor_v2\n((" + storage[1:] + view + b"Ru."


def lengths(*numbers: int) -> str:
    return "".join(f"I{number}\n" for number in numbers)


def test_the_claims_that_the_next_test_bends_are_sound_unbent(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickled(tensor(0, lengths(2, 3), lengths(3, 1)), s=bytes(24)))
    assert open_pickled(tmp_path / "x")["a"].spec.shape == (2, 3)


BENT = {
    "beyond": tensor(1, lengths(2, 3), lengths(3, 1)),
    "negative offset": tensor(-1, lengths(2, 3), lengths(3, 1)),
    "negative stride": tensor(0, lengths(2, 3), lengths(-3, 1)),
    "negative length": tensor(0, lengths(-2, 3), lengths(3, 1)),
    "huge": tensor(0, lengths(2**40, 2**40), lengths(0, 0)),
    "expanded": tensor(0, lengths(1000, 3), lengths(0, 1)),
    "overlapping": tensor(0, lengths(2, 3), lengths(1, 1)),
    "far stride": tensor(0, lengths(2, 2), lengths(2**59, 1)),
    "other elements": tensor(0, lengths(2, 3), lengths(3, 1), elements=7),
    "fewer strides": tensor(0, lengths(2, 3), lengths(3)),
    "many dimensions": tensor(0, lengths(*[1] * 40), lengths(*[1] * 40)),
}


@pytest.mark.parametrize("content", BENT.values(), ids=BENT)
def test_a_tensor_that_does_not_lie_within_its_storage_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickled(content, s=bytes(24)))
    with pytest.raises(FileError):
        open_pickled(tmp_path / "x")


BROKEN = {
    "no end": b"}",
    "nothing": b".",
    "deep marks": b"(" * 1000 + b".",
    "no memo": b"h\x07.",
    "append to a dict": b"}I1\na.",
    "key for a list": b"]I1\nI2\ns.",
    "odd items": b"}(I1\nu.",
    "tuple as a key": b"})I1\ns.",
    "a call of a number": b"I1\n)R.",
    "a call with a list": b"ccollections\nOrderedDict\n]R.",
    "state of a number": b"I1\n}b.",
    "a long integer": b"L" + b"9" * 100 + b"L\n.",
    "a longer integer": b"L" + b"9" * 100_000 + b"L\n.",
    "cut text": b"X\xff\xff\xff\x7fabc.",
    "negative text": b"T\xff\xff\xff\xffabc.",
    "no such opcode": b"\xff.",
    "a bad persistent id": b"(S'storage'\nI1\nI2\nI3\nI4\ntQ.",
    "a missing storage": tensor(0, lengths(2, 3), lengths(3, 1)),
    "a list": b"].",
    "a number as a tensor": b"}S'a'\nI1\ns.",
    "an object": b"(imod\ncls\n.",
    "an extension": b"\x82\x01.",
    "an empty size": b"ctorch\nSize\n)R.",
    "a tensor of nothing": b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "a scalar of another length": b"cnumpy\ndtype\n(S'f4'\ntR)R.",
    "a big-endian type": b"cnumpy\ndtype\n(S'>f4'\ntR.",
    "an encoder of something else": b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_broken_pickle_is_refused_cleanly(content: bytes, zipped: bool, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickled(content) if zipped else content)
    with pytest.raises((FileError, UnsupportedError)):
        open_pickled(tmp_path / "x")


def test_a_deeply_nested_pickle_costs_nothing_and_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickled(b")" + b"\x85" * 1_000_000 + b"."))
    with pytest.raises(FileError, match="something else; found a tuple"):
        open_pickled(tmp_path / "x")


def test_a_memo_beyond_memory_is_a_memo_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickled(b"}r\xff\xff\xff\x7f."))
    assert open_pickled(tmp_path / "x") == {}


def test_tensors_that_share_their_bytes_a_thousand_times_are_refused(tmp_path: Path) -> None:
    one = torch.ones(10_000)
    with pytest.raises(FileError, match="share their bytes too often"):
        open_pickled(saved(tmp_path / "x", {f"t{place}": one for place in range(1000)}))


def archive(tmp_path: Path) -> bytes:
    return saved(tmp_path / "sound.bin", {"a": torch.arange(6.0)}).read_bytes()


def test_a_compressed_member_is_never_inflated(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", b"}." + bytes(10**6))
    with pytest.raises(UnsupportedError, match="only stored members are read; found method 8"):
        open_pickled(tmp_path / "x")


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    content = bytearray(pickled(b"}.", s=bytes(50)))
    directory = struct.unpack_from("<L", content, len(content) - 6)[0]
    second = content.index(b"PK\x01\x02", directory + 4)
    struct.pack_into("<L", content, second + 42, 0)
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FileError, match="members overlap"):
        open_pickled(tmp_path / "x")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_anywhere_is_refused(zipped: bool, tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole", {"a": torch.arange(6.0)}, zipped).read_bytes()
    for end in range(0, len(whole), 7):
        (tmp_path / "x").write_bytes(whole[:end])
        with pytest.raises(InputError):
            open_pickled(tmp_path / "x")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_changed_bytes_give_tensors_or_a_clean_error(data: st.DataObject, tmp_path_factory: Factory) -> None:
    folder = tmp_path_factory.getbasetemp()
    torch.save(state(), folder / "seed", _use_new_zipfile_serialization=data.draw(st.booleans()))
    content = bytearray((folder / "seed").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content) - 1, 4000)))] = data.draw(st.integers(0, 255))
    (folder / "changed").write_bytes(content)
    with suppress(InputError):
        for stored in open_pickled(folder / "changed").values():
            assert stored.data.size == stored.spec.nbytes


def test_magic_numbers_beyond_the_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pickle.dumps(1234, 2) * 5)
    with pytest.raises(FileError, match=r"expected a file of torch\.save"):
        open_pickled(tmp_path / "x")
