"""What an output kind decides in planning: which tensors are computed, and into which files they go."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from merge_core.layout import Shard
from merge_core.planning.factors import Built
from merge_core.planning.tensors import TensorPlan
from merge_core.recipe import Recipe
from merge_core.sources import Source
from merge_core.stored import StoredTensor


class OutputSink(Protocol):
    """Where computed tensors go, in any order and from any thread; nothing is left without `commit`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, tensor: str, byte_offset: int, data: NDArray[Any]) -> None: ...

    def commit(self, extra: Mapping[str, bytes]) -> list[Path]: ...


OpenSink = Callable[[Path, Iterable[Shard], bool], OutputSink]
"""The folder, the shards to write, and whether to wait until they are safe on disk."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A recipe whose tensors are planned; `donor` is the source that configs and tokenizers come from."""

    recipe: Recipe
    tensors: Mapping[str, TensorPlan]
    base: Mapping[str, StoredTensor] | None
    donor: Source
    metadata: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arranged:
    """What will be written. A tensor has a slot in one of the `shards`, under its name in `tensors`.

    `write_bytes` is the memory that the sink takes for each thread that writes. `is_foreseen` where every file, its
    size, and all but the values of its tensors are known in planning.
    """

    tensors: Mapping[str, Built]
    shards: tuple[Shard, ...]
    side_files: Mapping[str, bytes]
    open_sink: OpenSink
    notes: tuple[str, ...] = field(default=())
    write_bytes: int = 0
    is_foreseen: bool = False
