"""adapter_model.safetensors being written; the errors that were found on the way are put into its header.

They are numbers of a fixed width, so that the header has its length before they are known.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from merge_core.errors import FileError
from merge_core.formats.safetensors_file import read_header
from merge_core.layout import Shard, lay_out
from merge_core.sink import Sink

FILE = "adapter_model.safetensors"
METADATA = "stockpot.relative_errors"
REPORT = "stockpot_report.json"
SMALLEST = 1e-99
"""Below this an exponent has three digits."""


class LoraSink(Sink):
    """An output folder that gets one adapter. `slots` says under which name a weight that is stored whole goes."""

    def __init__(
        self,
        folder: Path,
        shards: Iterable[Shard],
        durable: bool,
        *,
        slots: Mapping[str, str],
        metadata: Mapping[str, str],
        errors: Mapping[str, float],
    ) -> None:
        super().__init__(folder, shards, durable=durable)
        self._slots, self._metadata = slots, metadata
        self._errors = dict(errors)
        self._noting = Lock()

    def write(self, tensor: str, byte_offset: int, data: NDArray[Any]) -> None:
        super().write(self._slots.get(tensor, tensor), byte_offset, data)

    def report(self, tensor: str, relative_error: float) -> None:
        """Take down how far a weight's factors are from its delta."""
        with self._noting:
            self._errors[tensor] = relative_error

    def commit(self, extra: Mapping[str, bytes]) -> list[Path]:
        """As any sink does, once the header says what was found."""
        for shard in self._shards:
            specs, metadata = [slot.spec for slot in shard.slots], {**self._metadata, **noted_errors(self._errors)}
            [final] = lay_out(specs, 2**63, metadata, FILE.removesuffix(".safetensors"))
            assert len(final.header) == len(shard.header), "errors are written in a fixed width"
            self._write_at(shard.name, 0, memoryview(final.header))
        # Side files come with the last shard; a shard built alone leaves the report to whoever adds them.
        report = error_report(read_noted(noted_errors(self._errors))) if extra else {}
        return super().commit({**extra, **report})


def noted_errors(errors: Mapping[str, float]) -> dict[str, str]:
    """Relative errors by the weight's name, as the file's metadata has them."""
    parts = (f"{json.dumps(name)}: {_fixed(error)}" for name, error in sorted(errors.items()))
    return {METADATA: "{" + ", ".join(parts) + "}"}


def _fixed(error: float) -> str:
    return f"{error if error >= SMALLEST else 0.0:.6e}"


def read_errors(folder: Path) -> dict[str, float]:
    """The relative error of each weight that the adapter in `folder` has factors of."""
    metadata = read_header(folder / FILE, FILE).metadata
    if METADATA not in metadata:
        raise FileError("the adapter does not say how exact it is", where=FILE, found="nothing", expected=METADATA)
    return read_noted(metadata)


def read_noted(metadata: Mapping[str, str]) -> dict[str, float]:
    """What `noted_errors` has written."""
    return {str(name): float(error) for name, error in json.loads(metadata[METADATA]).items()}


def error_report(errors: Mapping[str, float]) -> dict[str, bytes]:
    """The file that says how exact an adapter is, by its name."""
    return {REPORT: (json.dumps({"relative_errors": dict(sorted(errors.items()))}, indent=2) + "\n").encode()}
