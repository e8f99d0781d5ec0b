"""Hostile safetensors files: each lie is refused by name, and what we accept the official library accepts."""

import os
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from merge_core.errors import FileError
from merge_core.formats.safetensors_file import open_tensors, read_json
from tests.merge_core.formats.raw_safetensors import entry, raw_file, written

GOOD = save(
    {"a.weight": torch.arange(6.0).reshape(2, 3), "ids": torch.arange(3), "none": torch.zeros(0, 4)},
    metadata={"format": "pt"},
)

PAIR = {"a": entry(), "b": entry(offsets=(8, 16))}

LIES = {
    "zero length": (b"", "at least 8"),
    "shorter than the prefix": (b"\x01\0\0", "3 bytes"),
    "prefix alone": (bytes(8), "'{'"),
    "header past the end": (raw_file({}, length=10_000), "10000; expected at most 10"),
    "header of 2^63 bytes": (raw_file({}, length=2**63), "9223372036854775808"),
    "header of -1 bytes": (raw_file({}, length=2**64 - 1), "at most 10"),
    "not JSON": (raw_file(b"{'a': 1}"), "not valid JSON"),
    "not UTF-8": (raw_file(b'{"\xff\xfe": 1}'), "not valid JSON"),
    "a byte order mark": (raw_file(b"\xef\xbb\xbf{}", b""), "'{'"),
    "leading space": (raw_file(b" {}", b""), "'{'"),
    "a list": (raw_file([]), "'{'"),
    "a key twice": (raw_file(b'{"a": 1, "a": 2}'), "'a' appears twice"),
    "a key twice in an entry": (raw_file(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "'dtype' appears twice"),
    "deep nesting": (raw_file(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "not valid JSON"),
    "a number of 5000 digits": (raw_file(b'{"a": ' + b"9" * 5000 + b"}"), "not valid JSON"),
    "too many entries": (raw_file(b'{"a":[' + b"[]," * 2_000_000 + b"[]]}"), "too many entries"),
    "an entry that is no object": (raw_file({"a": 3}), "tensor 'a'.*malformed; found int"),
    "an entry that lacks its shape": (raw_file({"a": {"dtype": "F32", "data_offsets": [0, 8]}}), "tensor 'a'"),
    "an entry with more to say": (raw_file({"a": entry() | {"strides": [1]}}), "strides"),
    "NaN as a length": (raw_file({"a": entry(shape=[float("nan")])}), r"tensor 'a'.*shape.*\[nan\]"),
    "infinity as an offset": (raw_file({"a": entry(offsets=[0, float("inf")])}), r"data_offsets.*\[0, inf\]"),
    "a negative length": (raw_file({"a": entry(shape=[-2])}), "a negative number, -2"),
    "minus zero": (raw_file(b'{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}', b""), "negative number, -0"),
    "a float as length": (raw_file({"a": entry(shape=[2.0])}), r"shape.*\[2.0\]"),
    "a bool as length": (raw_file({"a": entry(shape=[True])}), r"shape.*\[True\]"),
    "a string as length": (raw_file({"a": entry(shape=["2"])}), "shape"),
    "a shape that is no list": (raw_file({"a": entry(shape=2)}), "shape.*found 2"),
    "a length past 64 bits": (raw_file({"a": entry(shape=[2**64])}), "shape"),
    "a product past 64 bits": (raw_file({"a": entry(shape=[2**40, 2**40])}), "too large"),
    "a product past 64 bits times zero": (
        raw_file({"a": entry(shape=[2**40, 2**40, 0], offsets=[0, 0])}, b""),
        "large",
    ),
    "a product that wraps to the size": (raw_file({"a": entry(shape=[2**63, 2, 2])}), "shape"),
    "seventeen dimensions": (raw_file({"a": entry(shape=[1] * 17)}), "found 17; expected at most 16"),
    "an unknown dtype": (
        raw_file({"a": entry("F31")}),
        "tensor 'a': unknown dtype; found 'F31'; expected one of 'F32'",
    ),
    "a dtype of a megabyte": (raw_file({"a": entry("F" * 1_000_000)}), "unknown dtype"),
    "a dtype that is no string": (raw_file({"a": entry(None)}), "unknown dtype; found None"),
    "one offset": (raw_file({"a": entry(offsets=[0])}), "data_offsets"),
    "reversed offsets": (raw_file({"a": entry(offsets=[8, 0])}), "found -8 bytes; expected 8 bytes"),
    "fewer bytes than the shape": (raw_file({"a": entry(shape=[3])}), r"8 bytes; expected 12 bytes for float32\[3\]"),
    "overlapping tensors": (raw_file(PAIR | {"b": entry(offsets=(4, 12))}, bytes(12)), "tensor 'b'.*overlaps"),
    "the same bytes twice": (raw_file(PAIR | {"b": entry()}), "tensor 'b'.*overlaps"),
    "a hole": (raw_file(PAIR | {"b": entry(offsets=(12, 20))}, bytes(20)), "tensor 'b'.*hole"),
    "a hole before the first": (raw_file({"a": entry(offsets=(4, 12))}, bytes(12)), "tensor 'a'.*hole"),
    "trailing bytes": (raw_file({"a": entry()}, bytes(9)), "the file's size does not fit"),
    "cut short": (raw_file({"a": entry()}, bytes(7)), "the file's size does not fit"),
    "a name with ..": (raw_file({"../../etc/passwd": entry()}), "tensor '../../etc/passwd'.*name is not acceptable"),
    "a name with .. and backslashes": (raw_file({"..\\x": entry()}), "name is not acceptable"),
    "an empty name": (raw_file({"": entry()}), "name is not acceptable; found 0 characters"),
    "a name with a newline": (raw_file({"a\nb": entry()}), "name is not acceptable"),
    "a name with a zero byte": (raw_file({"a\0": entry()}), "name is not acceptable"),
    "a name that turns the text around": (raw_file({"a\u202e": entry()}), "name is not acceptable"),
    "a name of half a surrogate": (raw_file(rb'{"\ud800": {}}'), "name is not acceptable"),
    "a name of a megabyte": (raw_file({"a" * 1_000_000: entry()}), "found 1000000 characters"),
    "metadata that is a list": (raw_file({"__metadata__": [], "a": entry()}), "__metadata__"),
    "metadata that is null": (raw_file({"__metadata__": None, "a": entry()}), "__metadata__"),
    "metadata of numbers": (raw_file({"__metadata__": {"format": 1}, "a": entry()}), "__metadata__"),
    "metadata of half a surrogate": (raw_file(rb'{"__metadata__": {"a": "\udfff"}}', b""), "surrogate"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_by_name(lie: str, tmp_path: Path) -> None:
    content, found = LIES[lie]
    with pytest.raises(FileError, match=f"(?s)^model.safetensors: .*{found}") as caught:
        open_tensors(written(tmp_path, content))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("lie", ["a dtype of a megabyte", "deep nesting", "a name of a megabyte", "too many entries"])
def test_a_lie_costs_little_more_memory_than_the_header(lie: str, tmp_path: Path) -> None:
    path = written(tmp_path, LIES[lie][0])
    tracemalloc.start()
    with pytest.raises(FileError):
        open_tensors(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * path.stat().st_size + 1_000_000


def test_a_key_twice_among_many_is_found_in_one_pass(tmp_path: Path) -> None:
    names = b",".join(b'"%d":0' % number for number in range(300_000))
    with pytest.raises(FileError, match="'299999' appears twice"):
        open_tensors(written(tmp_path, raw_file(b"{" + names + b',"299999":0}')))


def test_a_file_without_tensors_is_sound(tmp_path: Path) -> None:
    assert open_tensors(written(tmp_path, raw_file({}, b""))) == {}


def test_opening_a_terabyte_reads_its_header_only(tmp_path: Path) -> None:
    path = written(tmp_path, raw_file({"a": entry("F32", [2**38], [0, 2**40])}, b""))
    os.truncate(path, path.stat().st_size + 2**40)
    (tensor,) = open_tensors(path).values()
    assert tensor.storage().size == 2**38


def _accepts(path: Path) -> bool:
    try:
        open_tensors(path)
    except FileError:
        return False
    return True


def _officially_accepted(path: Path) -> bool:
    try:
        with safe_open(path, "numpy"):
            return True
    except SafetensorError:
        return False


Edit = tuple[int, int, bytes]
edits = st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 4), st.binary(max_size=4)), max_size=4)
json_bytes = st.lists(st.tuples(st.integers(8, len(GOOD)), st.just(1), st.sampled_from([b"0", b"-", b"9", b'"', b"]"])))


def _edited(content: bytes, changes: list[Edit]) -> bytes:
    for at, removed, inserted in changes:
        content = content[:at] + inserted + content[at + removed :]
    return content


@settings(max_examples=300)
@given(changes=edits | json_bytes, fix_length=st.booleans())
@example(changes=[], fix_length=False)
def test_any_edit_of_a_file_is_refused_or_read_as_the_official_library_reads_it(
    changes: list[Edit], fix_length: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = _edited(GOOD, changes)
    if fix_length:
        content = (len(content) - len(GOOD) + int.from_bytes(GOOD[:8], "little")).to_bytes(8, "little") + content[8:]
    path = written(tmp_path_factory.getbasetemp(), content)
    if not _accepts(path):
        return
    assert _officially_accepted(path)
    with safe_open(path, "numpy") as official:
        for name, tensor in open_tensors(path).items():
            assert official.get_tensor(name).tobytes() == tensor.data.tobytes()
            assert official.get_slice(name).get_shape() == list(tensor.spec.shape)


claims = st.dictionaries(
    st.text(max_size=3) | st.just("__metadata__"),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "U8", "I64", "F16"]),
            "shape": st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**62, -1]), max_size=3),
            "data_offsets": st.lists(st.sampled_from([0, 1, 2, 4, 8, 12, 16, 24]), min_size=2, max_size=2),
        }
    )
    | st.dictionaries(st.text(max_size=2), st.text(max_size=2) | st.none(), max_size=2),
    max_size=4,
)


@settings(max_examples=300)
@given(header=claims, size=st.integers(0, 24))
def test_any_header_that_is_accepted_is_officially_accepted(
    header: dict[str, object], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.getbasetemp(), raw_file(header, bytes(size)))
    assert not _accepts(path) or _officially_accepted(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "not valid JSON"),
        (b"[1]", "not a JSON object; found list"),
        (b"null", "not a JSON object; found NoneType"),
        (b"\xff", "not valid JSON"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        (b'{"a":' * 50_000, "not valid JSON"),
        (b'{"a":' + b"1" * 5000 + b"}", "not valid JSON"),
        (b" " * 2000, "2000 bytes; expected at most 1000"),
    ],
)
def test_a_config_that_is_no_json_object_is_refused(content: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=f"^config.json: .*{found}"):
        read_json(path, "config.json", most_bytes=1000 if found.startswith("2000") else 1_000_000)


def test_a_file_that_has_changed_or_was_cut_is_read_anew(tmp_path: Path) -> None:
    assert list(open_tensors(written(tmp_path, raw_file({"a": entry()})))) == ["a"]
    assert list(open_tensors(written(tmp_path, raw_file({"b": entry()})))) == ["b"]
    with pytest.raises(FileError):
        open_tensors(written(tmp_path, raw_file({"b": entry()})[:-1]))
