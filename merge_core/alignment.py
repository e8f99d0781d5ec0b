"""Which base tensor an artefact's name means, when the two spell it differently.

A fine-tune saved from a task class has a prefix (`bert.`, `model.`) that the base lacks, or the other way
round. One prefix is chosen for the whole artefact: the one under which most names meet their tensor.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping


def align(names: Iterable[str], base: Mapping[str, object]) -> dict[str, str]:
    """Artefact name → base name, for every name that has a counterpart; the rest are left out."""
    wanted = list(names)
    candidates = Counter(prefix for name in wanted for prefix in _prefixes(name, base))
    candidates["", ""] += 0
    strip, add = max(candidates, key=lambda prefix: (candidates[prefix], prefix == ("", ""), prefix))
    pairs = ((name, renamed(name, strip, add)) for name in wanted)
    aligned = {name: target for name, target in pairs if target is not None and target in base}
    return {name: aligned.get(name, name) for name in wanted if name in aligned or name in base}


def renamed(name: str, strip: str, add: str) -> str | None:
    """`name` without the prefix `strip` and with `add` in its place; None when it does not start with `strip`."""
    return add + name.removeprefix(strip) if name.startswith(strip) else None


def _prefixes(name: str, base: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The (strip, add) pairs under which `name` means a tensor of the base."""
    if name in base:
        yield "", ""
    parts = name.split(".")
    for cut in range(1, len(parts)):
        if ".".join(parts[cut:]) in base:
            yield ".".join(parts[:cut]) + ".", ""
    for prefix in _base_prefixes(base):
        if prefix + name in base:
            yield "", prefix


def _base_prefixes(base: Mapping[str, object]) -> list[str]:
    """The first components of the base's names, and the first two: what a task class adds."""
    prefixes: dict[str, None] = {}
    for name in base:
        parts = name.split(".")
        for cut in (1, 2):
            if len(parts) > cut:
                prefixes[".".join(parts[:cut]) + "."] = None
    return list(prefixes) if len(prefixes) <= 64 else []
