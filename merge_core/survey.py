"""Surveys: rounds over every piece of a tensor, or of the whole model, that end in a method's state."""

from collections.abc import Callable

import numpy as np

from kernels.gram import BLOCK
from merge_core.methods import Blocks, Counts, Partial, Surveyed
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
            partial = reader.survey(round_, start, size, counts)
            if isinstance(partial, Counts):
                counts = partial
            else:
                blocks.append(partial)
        finished(piece)
        return counts if counts is not None else Blocks.total(blocks)

    return survey


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
        if isinstance(partial, Blocks):
            self._blocks[position] = partial
            return
        key = self._key(self.work[position].run)
        counts = self._counts.setdefault(key, partial)
        if counts is not partial:
            np.add(counts.values, partial.values, out=counts.values)

    def conclude(self) -> None:
        """Hand each total to the runs that share it."""
        for group in [self._runs] if self._is_shared else [[run] for run in self._runs]:
            self._conclude(group)

    def _conclude(self, group: list[Run]) -> None:
        total = self._total(self._key(group[0]))
        size = sum(run.merge.spec.size for run in group)
        first_block = 0
        for run in group:
            over = Surveyed(run.merge.spec.name, size, first_block)
            run.state = run.merge.method.conclude(self._round, total, over, run.weights, run.state)
            first_block += -(-run.merge.spec.size // BLOCK)

    def _total(self, key: int) -> Partial:
        if key in self._counts:
            return self._counts[key]
        return Blocks.total(
            [self._blocks[position] for position, piece in enumerate(self.work) if self._key(piece.run) == key]
        )

    def _key(self, run: Run) -> int:
        return 0 if self._is_shared else id(run)
