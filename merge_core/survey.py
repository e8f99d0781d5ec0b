"""Surveys: rounds over every piece of a tensor, or of the whole model, that end in a method's state."""

from collections.abc import Callable

import numpy as np

from merge_core.methods import Blocks, Both, Counts, Partial, Surveyed
from merge_core.run import Run
from merge_core.schedule import Batch, Piece, Stage, Task, pieces, read_ahead


def survey_stages(runs: list[Run], finished: Callable[[Piece], None]) -> Stage:
    """The survey rounds of one level of a group: the same recipe's run for each of its tensors.

    `finished` is called from the thread that has surveyed a piece.
    """
    method = runs[0].merge.method
    for round_ in range(method.rounds):
        live = [run for run in runs if run.merge.spec.size > 0 and method.wants_round(round_, run.state)]
        if live:
            tally = _Tally(round_, live)
            tasks = [_survey_task(piece, round_, finished) for piece in tally.work]
            yield Batch(tasks, tally.collect, tally.conclude, read_ahead(tally.work))


def _survey_task(piece: Piece, round_: int, finished: Callable[[Piece], None]) -> Task:
    def survey() -> Partial:
        reader, counts, blocks = piece.run.open(), None, []
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

    def __init__(self, round_: int, runs: list[Run]) -> None:
        self._round, self._runs = round_, runs
        self._is_shared = runs[0].merge.method.surveys == "model"
        self.work = [piece for run in runs for piece in pieces(run)]
        self._counts: dict[int, Counts] = {}
        self._blocks: dict[int, Blocks] = {}

    def collect(self, position: int, partial: Partial) -> None:
        """Add counts to those that share a total, at once; keep blocks for their place in the order."""
        own, blocks = _parted(partial)
        self._blocks.update((position, block) for block in blocks)
        if own is not None:
            counts = self._counts.setdefault(self._key(self.work[position].run), own)
            if counts is not own:
                np.add(counts.values, own.values, out=counts.values)

    def conclude(self) -> None:
        """Hand each total to the runs that share it."""
        for group in [self._runs] if self._is_shared else [[run] for run in self._runs]:
            self._conclude(group)

    def _conclude(self, group: list[Run]) -> None:
        total = self._total(self._key(group[0]))
        size = sum(run.merge.spec.size for run in group)
        first_block = 0
        for run in group:
            blocks = range(first_block, first_block + self._blocks_of(run))
            over = Surveyed(run.merge.spec.name, size, blocks)
            run.state = run.merge.method.conclude(self._round, total, over, run.weights, run.state)
            first_block = blocks.stop

    def _blocks_of(self, run: Run) -> int:
        own = (self._blocks.get(position) for position, piece in enumerate(self.work) if piece.run is run)
        return sum(len(blocks.values) for blocks in own if blocks is not None)

    def _total(self, key: int) -> Partial:
        own = [position for position, piece in enumerate(self.work) if self._key(piece.run) == key]
        return _joined(self._counts.get(key), [self._blocks[position] for position in own if position in self._blocks])

    def _key(self, run: Run) -> int:
        return 0 if self._is_shared else id(run)
