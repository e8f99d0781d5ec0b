"""Which known base a commit's files belong to: the one that they name, or the only one that they fit."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Generic, TypeVar

from app.jobs.perform import Work
from app.store.records import EVERYBODY, KnownBase, Repo, StoredHash
from app.store.resolve import PlanningResolve
from app.store.store import Store
from merge_core.deltas import Replacement
from merge_core.errors import NotFoundError, StockpotError
from merge_core.fit import Fit, Shapes, fit
from merge_core.formats import Artefact, read
from merge_core.stored import StoredTensor

MOST_LAYOUTS = 64
"""Kinds of model that files of no known base are held against, those published first."""
LEAST_MATCHED = 0.5
"""The share of a full checkpoint's tensors that a base of it has too."""
MATRIX = 2
"""Dimensions from which on equal tensors say something: biases of zeros and scales of ones are in every new model."""

Held = TypeVar("Held")


@dataclass(frozen=True, slots=True)
class Found:
    """The base with how the files lie on it, or why there is none: `candidates` fit alike, or `reason` speaks."""

    base: KnownBase | None = None
    fit: Fit | None = None
    is_named: bool = False
    candidates: tuple[str, ...] = ()
    reason: str | None = None


class Memory(Generic[Held]):
    """What a process keeps of bases, by the hash of what it says: good for whatever database it came from."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, Held] = {}

    def of(self, digest: str, load: Callable[[], Held]) -> Held:
        """The value of this hash, the last to be forgotten from now on."""
        value = self._held.pop(digest) if digest in self._held else load()
        self._held[digest] = value
        if len(self._held) > self._most:
            del self._held[next(iter(self._held))]
        return value


_SHAPES: Memory[Shapes] = Memory(MOST_LAYOUTS)
_TENSORS: Memory[Mapping[str, StoredHash]] = Memory(8)


class KnownBases:
    """The bases that those who read a repo may know of."""

    def __init__(self, work: Work, repo: Repo) -> None:
        self._work = work
        self._repo = repo

    @cached_property
    def _known(self) -> list[KnownBase]:
        """All of them: many, where most adapters need the one that they name."""
        return self._work.store.known_bases(self._repo)

    def of_delta(self, artefact: Artefact, declared: str | None) -> Found:
        """The base of an adapter, or of what else touches some tensors."""
        named, is_exact = self._named(declared)
        if named is None and is_exact:  # its tensors will be known later, and this commit is looked at again
            return Found()
        found = None if named is None else self._held(artefact, named)
        if named is not None and found is not None and found.fits:
            return Found(named, found, is_named=True)
        others = Found() if is_exact else self._that_fit(artefact)
        if named is None or found is None or others.base is not None or others.candidates:
            return others
        return Found(reason=_refusal(named, found))

    def of_checkpoint(self, artefact: Artefact, declared: str | None, tensors: Iterable[StoredHash]) -> Found:
        """What a full checkpoint was fine-tuned from: the base that it names, or the one with the most equal tensors.

        A checkpoint is a model by itself, so a name that it does not fit says nothing.
        """
        named, _ = self._named(declared)
        found = None if named is None else self._held(artefact, named)
        if named is not None and found is not None and _is_model_of(artefact, found):
            return Found(named, found, is_named=True)
        return self._most_equal(artefact, tensors)

    def _named(self, declared: str | None) -> tuple[KnownBase | None, bool]:
        """The base of this name; or, and then not exactly, the only one whose name ends as this one does.

        Exactly none for a repo that is here and not known as a base, or not yet.
        """
        name, _, commit = (declared or "").partition("@")
        full_name = name.strip("/")
        exact = self._work.store.known_bases(self._repo, full_name) if full_name.count("/") == 1 else []
        if exact:
            return (self._work.store.known_base(full_name, commit) if commit else None) or exact[0], True
        if self._is_stored(full_name):
            return None, True
        last = full_name.rpartition("/")[2].casefold()
        alike = [base for base in self._known if base.repo.rpartition("/")[2].casefold() == last]
        return (alike[0] if len(alike) == 1 else None), False

    def _is_stored(self, full_name: str) -> bool:
        """Whether there is such a repo, for all that readers of this one may know."""
        if full_name.count("/") != 1:
            return False
        repo = self._work.store.get_repo(*full_name.split("/"))
        own = self._repo
        is_hidden = repo is not None and repo.private and not (own.private and own.namespace == repo.namespace)
        return repo is not None and repo.id != own.id and not is_hidden

    def _that_fit(self, artefact: Artefact) -> Found:
        fitting: list[tuple[KnownBase, Fit]] = []
        for same in list(_by_layout(self._known))[:MOST_LAYOUTS]:
            held = self._held(artefact, same[0])
            fitting += [(base, held) for base in same if held.fits and held.deltas]
        if not fitting:
            return Found()
        # Bases that are equal in all that is touched are one base; the first that was published stands for it.
        touched = {self._touched(base, held) for base, held in fitting}
        if len(touched) > 1:
            return Found(candidates=tuple(base.name for base, _ in fitting))
        first, held = min(fitting, key=lambda pair: pair[0].repo_id)
        return Found(first, held)

    def _touched(self, base: KnownBase, held: Fit) -> str:
        tensors = hashes_of(self._work.store, base)
        return digest_of(tensors[name] for name in held.deltas)

    def _most_equal(self, artefact: Artefact, tensors: Iterable[StoredHash]) -> Found:
        """Only bases that were there before: a model would otherwise be the fine-tune of its own fine-tunes."""
        matrices = {tensor.sha256 for tensor in tensors if len(tensor.shape) >= MATRIX and tensor.length}
        equal = self._work.store.equal_tensors(matrices)
        older = [base for base in self._known if base.repo_id < self._repo.id and equal.get(base.key)]
        most = max((equal[base.key] for base in older), default=0)
        best = [(base, self._held(artefact, base)) for base in older if equal[base.key] == most]
        fitting = [(base, held) for base, held in best if _is_model_of(artefact, held)]
        if len({base.contents for base, _ in fitting}) > 1:
            return Found(candidates=tuple(base.name for base, _ in fitting))
        return Found(*fitting[0]) if fitting else Found()

    def _held(self, artefact: Artefact, base: KnownBase) -> Fit:
        """The artefact against one base, opened only where nothing less settles what the artefact means."""
        try:
            settled = artefact if artefact.settle is None else artefact.settle(self.opened(base))
        except StockpotError as error:
            return Fit({}, (), (str(error),))
        return fit(settled, shapes_of(self._work.store, base), base.model_type)

    def opened(self, base: KnownBase) -> Mapping[str, StoredTensor]:
        """The base's tensors as planning sees them: in an object store its weights stay there."""
        return read(PlanningResolve(self._work.store, self._work.blobs, EVERYBODY)(base.name).files).tensors


def shapes_of(store: Store, base: KnownBase) -> Shapes:
    """The shapes of a base's tensors by name."""
    return _SHAPES.of(base.layout, lambda: {name: tensor.shape for name, tensor in hashes_of(store, base).items()})


def hashes_of(store: Store, base: KnownBase) -> Mapping[str, StoredHash]:
    """The tensors of a base by name. Raises NotFoundError when it has been deleted meanwhile."""
    return _TENSORS.of(base.contents, lambda: _read_tensors(store, base))


def _read_tensors(store: Store, base: KnownBase) -> Mapping[str, StoredHash]:
    tensors = {tensor.name: tensor for tensor in store.base_tensors(base.key)}
    if not tensors:
        raise NotFoundError("the base has been deleted", where="base", found=base.name)
    return tensors


def digest_of(touched: Iterable[StoredHash]) -> str:
    """One hash for tensors with their names: what a delta's base is, whatever its repo is called."""
    return sha256(json.dumps(sorted([tensor.name, tensor.sha256] for tensor in touched)).encode()).hexdigest()


def _by_layout(known: Iterable[KnownBase]) -> Iterator[list[KnownBase]]:
    same: dict[str, list[KnownBase]] = {}
    for base in known:
        same.setdefault(base.layout, []).append(base)
    return iter(same.values())


def _is_model_of(artefact: Artefact, held: Fit) -> bool:
    """All shapes fit, and the tensors that are new, such as a head, are few."""
    return held.fits and len(held.deltas) >= LEAST_MATCHED * len(artefact.deltas)


def _refusal(base: KnownBase, held: Fit, most: int = 5) -> str:
    """Why the files are no delta of the base that they name."""
    count = len(held.misfits)
    more = f"; and {count - most} more" if count > most else ""
    differ = "; ".join(held.misfits[:most])
    return f"the files do not fit the base that they name, '{base.name}': tensors that differ: {count}: {differ}{more}"


def without_unchanged(held: Fit, base: Mapping[str, StoredHash], own: Mapping[str, StoredHash]) -> Fit:
    """The fit of a full checkpoint without the tensors that are byte for byte the base's."""
    names = {name: delta.stored.spec.name for name, delta in held.deltas.items() if isinstance(delta, Replacement)}
    same = {
        name
        for name, mine in names.items()
        if (own[mine].sha256, own[mine].dtype) == (base[name].sha256, base[name].dtype)
    }
    return replace(held, deltas={name: delta for name, delta in held.deltas.items() if name not in same})
