"""Surveys: rounds over every piece of a tensor, or of the whole model, that end in a method's state."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge_core.methods import Blocks, Both, Counts, Partial, Surveyed
from merge_core.run import Run
from merge_core.schedule import Batch, Piece, Stage, Task, pieces


def survey_stages(runs: list[Run], finished: Callable[[Piece], None]) -> Stage:
    """The survey rounds of one level of a group: the same recipe's run for each of its tensors.

    `finished` is called from the thread that has surveyed a piece, and for what a round has no need to look at.
    """
    for round_ in range(runs[0].merge.method.rounds):
        asked = [(run, _asked(run, round_)) for run in runs]
        for run, elements in asked:
            finished(Piece(run, 0, run.merge.spec.size - len(elements), run.merge.spec.size))
        live = [(run, elements) for run, elements in asked if elements]
        if live:
            tally = _Tally(round_, live)
            tasks = [_survey_task(piece, round_, finished) for piece in tally.work]
            yield Batch(tasks, tally.collect, tally.conclude)


def _asked(run: Run, round_: int) -> range:
    """The elements that a round has to look at."""
    method, size = run.merge.method, run.merge.spec.size
    is_wanted = size > 0 and method.wants_round(round_, run.state)
    return method.looks_at(round_, size, run.state) if is_wanted else range(0)


def _survey_task(piece: Piece, round_: int, finished: Callable[[Piece], None]) -> Task:
    def survey() -> Partial:
        piece.check()
        reader, counts, blocks = piece.run.open(piece.elements), None, []
        for start, size in piece.chunks():
            counts, own = _parted(reader.survey(round_, start, size, counts))
            blocks += own
        finished(piece)
        return _joined(counts, blocks)

    return survey


def _parted(partial: Partial) -> tuple[Counts | None, list[Blocks]]:
    if isinstance(partial, Both):
        return Counts(partial.values), [partial.blocks]
    return (partial, []) if isinstance(partial, Counts) else (None, [partial])


def _joined(counts: Counts | None, blocks: list[Blocks]) -> Partial:
    if counts is None:
        return Blocks.total(blocks)
    return Both(counts.values, Blocks.total(blocks)) if blocks else counts


class _Tally:
    """One round's totals, for each tensor or for all of them, as its pieces come in."""

    def __init__(self, round_: int, asked: Sequence[tuple[Run, range]]) -> None:
        self._round, self._runs = round_, [run for run, _ in asked]
        self._is_shared = self._runs[0].merge.method.surveys == "model"
        self.work = [piece for run, elements in asked for piece in pieces(run, elements, run.is_scanned)]
        self._counts: dict[int, Counts] = {}
        self._blocks: dict[int, NDArray[Any]] = {}
        self._rows: Counter[int] = Counter()
        self._places = [self._place(piece) for piece in self.work]

    def _place(self, piece: Piece) -> range:
        """Where in its total the piece's blocks belong."""
        key, merge = self._key(piece.run), piece.run.merge
        first = self._rows[key]
        self._rows[key] += sum(merge.method.blocks(merge.spec.shape, size) for _, size in piece.chunks())
        return range(first, self._rows[key])

    def collect(self, position: int, partial: Partial) -> None:
        """Add counts to those that share a total, at once; put blocks in their place."""
        own, blocks = _parted(partial)
        key = self._key(self.work[position].run)
        if blocks:
            self._put(key, self._places[position], Blocks.total(blocks).values)
        if own is not None:
            counts = self._counts.setdefault(key, own)
            if counts is not own:
                np.add(counts.values, own.values, out=counts.values)

    def _put(self, key: int, place: range, rows: NDArray[Any]) -> None:
        """All blocks have room from the first on: kept one by one, they would take it twice when they are joined."""
        if key not in self._blocks:
            self._blocks[key] = np.empty((self._rows[key], *rows.shape[1:]), rows.dtype)
        assert len(rows) == len(place), "a method says how many blocks it gives"
        self._blocks[key][place.start : place.stop] = rows

    def conclude(self) -> None:
        """Hand each total to the runs that share it."""
        for group in [self._runs] if self._is_shared else [[run] for run in self._runs]:
            self._conclude(group)

    def _conclude(self, group: list[Run]) -> None:
        key = self._key(group[0])
        total = _joined(self._counts.get(key), [Blocks(self._blocks[key])] if key in self._blocks else [])
        size = sum(run.merge.spec.size for run in group)
        owned = self._owned()
        for run in group:
            over = Surveyed(run.merge.spec.name, size, owned[id(run)] if key in self._blocks else range(0))
            run.state = run.merge.method.conclude(self._round, total, over, run.weights, run.state)

    def _owned(self) -> dict[int, range]:
        """The blocks of each run."""
        owned: dict[int, range] = {}
        for piece, place in zip(self.work, self._places, strict=True):
            owned[id(piece.run)] = range(owned.get(id(piece.run), place).start, place.stop)
        return owned

    def _key(self, run: Run) -> int:
        return 0 if self._is_shared else id(run)
