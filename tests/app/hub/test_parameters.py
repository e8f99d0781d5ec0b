"""Headers of files that somebody pushed are counted or passed over, whatever they hold."""

import json
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.hub.parameters import count_parameters
from app.hub.snapshots import SnapshotFile
from tests.app.api.conftest import Pot


def counted(pot: Pot, content: bytes) -> object:
    pot.inside.blobs.put_bytes(content)
    digest = sha256(content).hexdigest()
    return count_parameters(pot.inside.blobs, [SnapshotFile("model.safetensors", len(content), digest)])


def framed(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def test_numbers_are_summed_by_type(pot: Pot) -> None:
    header = {"__metadata__": {"a": "b"}, "x": {"dtype": "BF16", "shape": [2, 3]}, "y": {"dtype": "F32", "shape": []}}
    assert counted(pot, framed(header)) == {"parameters": {"BF16": 6, "F32": 1}, "total": 7}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 3,
        b"\xff" * 20,
        framed([]),
        framed({"x": None}),
        framed({"x": {"dtype": 1, "shape": [1]}}),
        framed({"x": {"dtype": "F32", "shape": ["1"]}}),
    ],
)
def test_what_is_no_header_counts_nothing(pot: Pot, content: bytes) -> None:
    assert counted(pot, content) is None


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_no_bytes_break_it(pot: Pot, content: bytes) -> None:
    counted(pot, content)
    counted(pot, len(content).to_bytes(8, "little") + content)
