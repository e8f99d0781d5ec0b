"""Sizes as people write them, from bytes to tebibytes."""

import pytest

from app.sizes import parse_size
from merge_core.errors import InputError

SIZES = {
    "2000": 2000,
    "7 B": 7,
    "3kB": 3000,
    "1KiB": 1024,
    "512 MiB": 512 << 20,
    "2GB": 2 * 10**9,
    "1gib": 1 << 30,
    "1TB": 10**12,
    "1TiB": 1 << 40,
    "1.5 tib": 3 << 39,
}


@pytest.mark.parametrize("text", SIZES)
def test_a_size_is_read_in_any_unit(text: str) -> None:
    assert parse_size(text, "--memory") == SIZES[text]


@pytest.mark.parametrize("text", ["", "1PB", "TiB", "0TB", "-1TiB", "infTB", "nanTiB", "1 T"])
def test_what_is_no_size_is_refused_where_it_stands(text: str) -> None:
    with pytest.raises(InputError, match=r"^--memory: not a size; .*expected such as 1GiB"):
        parse_size(text, "--memory")
