"""Sizes as people write them: `1GiB`, `512 MiB`, `2000000000`."""

from merge_core.errors import InputError

BINARY = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
DECIMAL = {"kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4}
UNITS = {**BINARY, **DECIMAL, "b": 1}


def parse_size(text: str, where: str) -> int:
    """In bytes. Raises InputError, which names `where` the text stands."""
    number = text.strip().lower()
    unit = next((unit for unit in UNITS if number.endswith(unit)), "")
    try:
        size = int(float(number.removesuffix(unit)) * UNITS.get(unit, 1)) if unit else int(number)
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise InputError("not a size", where=where, found=repr(text), expected="such as 1GiB, 512MiB or 2TB")
    return size
