"""Which weight of a base a kohya name means: dots are underscores in it, and a prefix says which model it is of."""

from collections.abc import Iterable, Mapping

from merge_core.errors import RecipeError, nearest

COMPONENTS: Mapping[str, str] = {
    "lora_unet_": "unet.",
    "lora_transformer_": "transformer.",
    "lora_te1_": "text_encoder.",
    "lora_te2_": "text_encoder_2.",
    "lora_te3_": "text_encoder_3.",
    "lora_te_": "text_encoder.",
    "lora_prior_unet_": "prior.",
    "lora_prior_te_": "prior_text_encoder.",
    "lycoris_": "",
    "lora_": "",
}
"""Prefix → how names begin in a base that holds several models. The first that fits counts."""


def spelt_out(names: Iterable[str], base: Iterable[str]) -> dict[str, str]:
    """Each name → the base's name for it: equal but for dots and underscores, or one of the two is the other's end.

    Raises RecipeError for a name that means no tensor of the base, or several.
    """
    wanted = {name: _stem(name) for name in names}
    known = list(base)
    ends = _ends(known, {stem for _, stem in wanted.values()})
    whole = {_flat(name): name for name in known}
    return {name: _meant(name, *wanted[name], ends, whole) for name in wanted}


def _stem(name: str) -> tuple[str, str]:
    """(how the base's name may begin, the name without the prefix), all dots underscores."""
    flat = _flat(name)
    for prefix, begins in COMPONENTS.items():
        if flat.startswith(prefix):
            return begins, flat.removeprefix(prefix)
    return "", flat


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _ends(known: Iterable[str], wanted: set[str]) -> dict[str, list[str]]:
    """Wanted stem → the base's names that end in it, after a dot or from the beginning."""
    found: dict[str, list[str]] = {}
    for name in known:
        start = 0
        while True:
            flat = _flat(name[start:])
            if flat in wanted:
                found.setdefault(flat, []).append(name)
            start = name.find(".", start) + 1
            if start == 0:
                break
    return found


def _meant(name: str, begins: str, stem: str, ends: Mapping[str, list[str]], whole: Mapping[str, str]) -> str:
    if stem in whole:
        return whole[stem]
    candidates = ends.get(stem, [])
    own = [candidate for candidate in candidates if begins and candidate.startswith(begins)]
    candidates = own or candidates or _beginning(stem, whole)
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        message, found = "an adapter tensor means several tensors of the base", " and ".join(map(repr, candidates[:3]))
        raise RecipeError(message, where=repr(name[:200]), found=found, expected="one of them")
    known = nearest(stem.replace("_", "."), whole.values())
    raise RecipeError("an adapter tensor lands on no tensor of the base", found=repr(name[:200]), expected=known)


def _beginning(stem: str, whole: Mapping[str, str]) -> list[str]:
    """The base's name that is the longest end of the stem: a base saved without its outermost module."""
    start = stem.find("_") + 1
    while start:
        if stem[start:] in whole and "." in whole[stem[start:]].rpartition(".")[0]:
            return [whole[stem[start:]]]
        start = stem.find("_", start) + 1
    return []
