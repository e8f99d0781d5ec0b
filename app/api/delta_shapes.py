"""What the routes answer with about deltas, as the documentation shows it."""

from datetime import datetime
from typing import Any, Self

from pydantic import Field

from app.api.shapes import Shape
from app.store.records import DeltaRecord, DeltaState


class SourceFile(Shape):
    """A file that a delta was read from."""

    path: str
    sha256: str
    bytes: int


class DeltaFacts(Shape):
    """What a delta amounts to over all the tensors that it touches; null where that is not known. See docs/records.md.

    For a full checkpoint, what it changed of the base that it is a fine-tune of.
    """

    base_is_named: bool = Field(False, description="the files name the base; else it is the only one that they fit")
    base_sha256: str | None = Field(None, description="hash of the names and hashes of the base's touched tensors")
    candidates: list[str] = Field([], description="the bases that fit alike, where none was chosen")
    tensors: int | None = Field(None, description="how many tensors of the base are touched")
    new_tensors: int | None = Field(None, description="how many tensors are new to the base")
    unchanged_tensors: int | None = Field(None, description="of a full checkpoint: byte for byte those of the base")
    elements: int | None = Field(None, description="entries of the touched tensors")
    density: float | None = Field(None, description="the share of those entries that may change")
    rank: int | None = Field(None, description="the highest rank of the factors")
    norm: float | None = Field(None, description="Frobenius norm of the change")
    bytes: int | None = Field(None, description="what the delta takes")
    dense_bytes: int | None = Field(None, description="what the touched tensors take in the base")
    files: list[SourceFile] = Field([], description="what it was read from")


class TouchedTensor(Shape):
    """What a delta does to one tensor of its base."""

    name: str
    kind: str
    shape: list[int]
    rank: int | None
    density: float | None
    norm: float | None
    bytes: int
    base_sha256: str | None = Field(description="hash of the base's tensor, where the base is known")


class DeltaShape(Shape):
    """What a commit's files were found to be: a delta, a base, other files, or refused with the reason.

    `base` is the one that the files name, `base_repo` and `base_commit` the one that they were found to be of.
    """

    id: str
    repo: str
    commit: str
    base: str | None
    kind: str
    format: str
    state: DeltaState
    reason: str | None
    summary: dict[str, Any]
    created_at: datetime
    base_repo: str | None
    base_commit: str | None
    facts: DeltaFacts


class DeltaDetail(DeltaShape):
    """One record with a row for each tensor that is touched."""

    stored_bytes: int = Field(description="what the files it was read from take in the store: see docs/packed.md")
    by_tensor: list[TouchedTensor]

    @classmethod
    def with_tensors(cls, record: DeltaRecord, stored_bytes: int, by_tensor: list[dict[str, Any]]) -> Self:
        """The record, what its files take, and its rows."""
        rows = [TouchedTensor(**row) for row in by_tensor]
        return cls(**DeltaShape.of(record).model_dump(), stored_bytes=stored_bytes, by_tensor=rows)
