"""Files being written: complete under their final names, or not there at all."""

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from merge_core.errors import CapacityError
from merge_core.layout import Shard, lay_out
from merge_core.sink import Sink
from merge_core.tensors import DType, TensorSpec


def shards(size: int = 6) -> tuple[Shard, ...]:
    return lay_out([TensorSpec("a", DType.U8, (size,)), TensorSpec("b", DType.U8, (size,))], size, {})


def fill(sink: Sink, size: int = 6) -> None:
    for name in ("a", "b"):
        sink.write(name, 0, np.arange(size).astype(np.uint8))


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("durable", [True, False])
def test_files_have_their_final_names_after_the_commit_and_not_before(tmp_path: Path, durable: bool) -> None:
    with Sink(tmp_path / "out", shards(), durable=durable) as sink:
        fill(sink)
        assert all(name.endswith(".partial") for name in names(tmp_path / "out"))
        paths = sink.commit({"config.json": b"{}", "1_Pooling/config.json": b"[]"})
    expected = ["config.json", "1_Pooling/config.json", *(shard.name for shard in shards())]
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in paths) == sorted(expected)
    assert names(tmp_path / "out") == sorted([*expected, "1_Pooling"])
    assert (tmp_path / "out" / shards()[0].name).read_bytes() == shards()[0].header + bytes(range(6))
    assert (tmp_path / "out" / "1_Pooling/config.json").read_bytes() == b"[]"


def test_writes_may_come_in_any_order_and_in_parts(tmp_path: Path) -> None:
    with Sink(tmp_path, shards(), durable=False) as sink:
        sink.write("b", 3, np.array([3, 4, 5], np.uint8))
        sink.write("a", 0, np.arange(6).astype(np.uint8))
        sink.write("b", 0, np.array([0, 1, 2], np.uint8))
        for path in sink.commit({}):
            assert path.read_bytes().endswith(bytes(range(6)))


def test_leaving_without_a_commit_leaves_nothing(tmp_path: Path) -> None:
    with Sink(tmp_path / "out", shards()) as sink:
        fill(sink)
    assert names(tmp_path) == ["out"]


def test_a_partial_file_from_a_killed_process_is_written_over(tmp_path: Path) -> None:
    stale = tmp_path / f"{shards()[0].name}.partial"
    stale.write_bytes(b"x" * 10_000)
    with Sink(tmp_path, shards(), durable=False) as sink:
        fill(sink)
        sink.commit({})
    assert (tmp_path / shards()[0].name).stat().st_size == shards()[0].nbytes
    assert not stale.exists()


def test_a_link_in_the_place_of_a_partial_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / f"{shards()[1].name}.partial").symlink_to(victim)
    with pytest.raises(OSError), Sink(folder, shards()):
        pass
    assert victim.read_text() == "mine"
    assert names(folder) == [f"{shards()[1].name}.partial"], "what was not ours is left alone"


def test_a_final_name_that_cannot_be_taken_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / shards()[1].name).mkdir()
    with Sink(tmp_path, shards(), durable=False) as sink:
        fill(sink)
        with pytest.raises(IsADirectoryError):
            sink.commit({"config.json": b"{}"})
    assert not any(name.endswith(".partial") for name in names(tmp_path))


def test_the_index_appears_only_after_what_it_names(tmp_path: Path) -> None:
    with Sink(tmp_path, shards(), durable=False) as sink:
        fill(sink)
        paths = sink.commit({"model.safetensors.index.json": b"{}"})
    assert [path.name for path in paths][-1] == "model.safetensors.index.json"


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file may grow beyond 4096 bytes; the signal that says so is Python's to ignore, as it does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield 4096
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit_is_a_lack_of_capacity_and_leaves_nothing(tmp_path: Path, small_files: int) -> None:
    large = shards(2 * small_files)
    with pytest.raises(CapacityError, match=r"model-00001-of-00002\.safetensors: .*no room"), Sink(tmp_path, large):
        pass
    assert names(tmp_path) == []


def test_a_side_file_that_does_not_fit_leaves_nothing(tmp_path: Path, small_files: int) -> None:
    with Sink(tmp_path, shards()) as sink:
        fill(sink)
        with pytest.raises(CapacityError, match=r"tokenizer\.json: .*no room"):
            sink.commit({"sub/config.json": b"{}", "tokenizer.json": b"x" * 2 * small_files})
    assert names(tmp_path) == []


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Sink(tmp_path, shards(), durable=False) as sink:
        fill(sink)
        sink.commit({"config.json": b"{}"})
    with pytest.raises(KeyError), Sink(tmp_path, shards(), durable=False) as sink:
        raise KeyError
    assert len(list(Path("/proc/self/fd").iterdir())) == before
