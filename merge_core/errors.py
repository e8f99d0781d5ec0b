"""Everything that can go wrong, in one tree.

    StockpotError
    ├── InputError               what came from outside is not acceptable
    │   ├── MalformedError       a text is not the JSON or YAML that it should be
    │   ├── FileError            a file's bytes are broken, truncated or unsafe
    │   ├── RecipeError          a field of a recipe is wrong, or does not fit the tensors it names
    │   └── UnsupportedError     well formed, and refused by name with the reason
    ├── NotFoundError            no such repo, revision, file, delta, composition or job
    ├── ForbiddenError           known, and not allowed
    │   └── GatedError           a repo that all may see, and whose files not everybody may read
    ├── UnauthorizedError        no token, or one that is not known
    ├── ConflictError            the state has moved on, a name is taken
    │   └── StaleParentError     a commit on a parent that is not the newest any more
    ├── CapacityError            needs more memory, disk or time than it is given
    └── CancelledError           somebody asked for the work to stop

Every error says where (a recipe field, a tensor or a file), what was found and what was expected.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from heapq import nlargest
from typing import Self


class StockpotError(Exception):
    """The root: a message plus the parts that a program wants to read one by one."""

    def __init__(
        self, message: str, *, where: str | None = None, found: object = None, expected: object = None
    ) -> None:
        self.message = message
        self.where = where
        self.found = found
        self.expected = expected
        super().__init__(self._sentence())

    def within(self, place: str) -> Self:
        """The same error, with `place` (a source, a file) named before where it is."""
        where = f"{place}: {self.where}" if self.where else place
        return type(self)(self.message, where=where, found=self.found, expected=self.expected)

    def _sentence(self) -> str:
        where = f"{self.where}: " if self.where else ""
        found = f"; found {self.found}" if self.found is not None else ""
        expected = f"; expected {self.expected}" if self.expected is not None else ""
        return f"{where}{self.message}{found}{expected}"


class InputError(StockpotError):
    """What came from outside is not acceptable."""


class MalformedError(InputError):
    """A text is not the JSON or YAML that it should be."""


class FileError(InputError):
    """A file's bytes are broken, truncated or unsafe."""


class RecipeError(InputError):
    """A field of a recipe is wrong, or does not fit the tensors it names."""


class UnsupportedError(InputError):
    """Well formed, and refused by name with the reason."""


class NotFoundError(StockpotError):
    """No such repo, revision, file, delta, composition or job."""


class ForbiddenError(StockpotError):
    """Known, and not allowed."""


class GatedError(ForbiddenError):
    """A repo that all may see, and whose files not everybody may read."""


class UnauthorizedError(StockpotError):
    """No token, or one that is not known."""


class ConflictError(StockpotError):
    """The state has moved on: a stale parent, a name that is taken."""


class StaleParentError(ConflictError):
    """A commit on a parent that is not the newest any more."""


class CapacityError(StockpotError):
    """Needs more memory, disk or time than it is given."""


class CancelledError(StockpotError):
    """Somebody asked for the work to stop."""


MOST_COMPARED = 500


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names closest to `name`, as a phrase for an error's `expected`."""
    parts = set(name.split("."))
    # Comparing letter by letter takes seconds over the names of a large model.
    candidates = nlargest(MOST_COMPARED, known, key=lambda candidate: len(parts.intersection(candidate.split("."))))
    close = get_close_matches(name, candidates, n=3, cutoff=0.4) or candidates[:3]
    return "one of " + ", ".join(repr(candidate) for candidate in close) if close else "nothing: the list is empty"
