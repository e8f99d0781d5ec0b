"""Which base tensor an artefact's name means, when the two spell it differently.

A fine-tune saved from a task class has a prefix (`bert.`, `model.`) that the base lacks, or the other way
round. One prefix is chosen for the whole artefact: the one under which most names meet their tensor.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

MOST_PREFIXES = 64
"""A base with more first components than this has none that a task class added."""

MOST_CUTS = 3
"""Components of a prefix that is exchanged for another."""


def align(names: Iterable[str], base: Mapping[str, object]) -> dict[str, str]:
    """Artefact name → base name, for every name that has a counterpart; the rest are left out.

    Two names may come out as one: an artefact that spells a tensor in two ways.
    """
    wanted = list(names)
    added = _base_prefixes(base)
    candidates = Counter(prefix for name in wanted for prefix in _prefixes(name, base, added))
    candidates = candidates or _exchanged(wanted, base, added)
    candidates["", ""] += 0
    strip, add = max(candidates, key=lambda prefix: (candidates[prefix], prefix == ("", ""), prefix))
    pairs = ((name, renamed(name, strip, add)) for name in wanted)
    aligned = {name: target for name, target in pairs if target is not None and target in base}
    return {name: aligned.get(name, name) for name in wanted if name in aligned or name in base}


def renamed(name: str, strip: str, add: str) -> str | None:
    """`name` without the prefix `strip` and with `add` in its place; None when it does not start with `strip`."""
    return add + name.removeprefix(strip) if name.startswith(strip) else None


def _prefixes(name: str, base: Mapping[str, object], added: Collection[str]) -> Iterator[tuple[str, str]]:
    """The (strip, add) pairs under which `name` means a tensor of the base."""
    if name in base:
        yield "", ""
    end = name.find(".")
    while end >= 0:
        if name[end + 1 :] in base:
            yield name[: end + 1], ""
        end = name.find(".", end + 1)
    for prefix in added:
        if prefix + name in base:
            yield "", prefix


def _exchanged(names: Collection[str], base: Mapping[str, object], added: Collection[str]) -> Counter[tuple[str, str]]:
    """The one exchange of a prefix for another under which most names meet; nothing where two are as good.

    What is left of a name has a module and its field at least: a lone `weight` would meet anything. Prefixes that
    end alike would be a longer way to say the same.
    """
    found = Counter(
        (name[:end], prefix)
        for name in names
        for end in _cuts(name)
        for prefix in added
        if prefix + name[end:] in base and prefix.split(".")[-2] != name[:end].split(".")[-2]
    )
    best = found.most_common(2)
    return Counter(dict(best[:1])) if len(best) == 1 or (best and best[0][1] > best[1][1]) else Counter()


def _cuts(name: str) -> list[int]:
    """Where a prefix may end that leaves three components or more."""
    dots = [place for place, letter in enumerate(name) if letter == "."]
    return [place + 1 for place in dots[:-2]][:MOST_CUTS]


def _base_prefixes(base: Mapping[str, object]) -> list[str]:
    """The first components of the base's names, and the first two: what a task class adds."""
    prefixes: dict[str, None] = {}
    for name in base:
        parts = name.split(".", 2)
        for cut in range(1, len(parts)):
            prefixes[".".join(parts[:cut]) + "."] = None
    return list(prefixes) if len(prefixes) <= MOST_PREFIXES else []
