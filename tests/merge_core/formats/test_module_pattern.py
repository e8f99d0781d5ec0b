"""Patterns for modules: the same choice as PEFT makes, and never for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from merge_core.errors import UnsupportedError
from merge_core.formats.module_pattern import first_matches

MODULES = [f"encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1, 11) for part in ("query", "value")]
PATTERNS = st.sampled_from(
    [
        "query",
        "self.query",
        "uery",
        ".*query",
        r"^encoder\.layer\.1\..*",
        r"layer\.(0|11)\.attention\.self\.value",
        r".*\.[0-9]+\..*",
        "encoder.layer.1.attention.self.value",
        "(?:query|value)",
        "self.quer?y",
        "^query$",
        "nothing",
    ]
)


@given(patterns=st.lists(PATTERNS, unique=True, max_size=4))
def test_the_first_pattern_that_peft_finds_is_found(patterns: list[str]) -> None:
    found = first_matches(patterns, MODULES, "here")
    for module in MODULES:
        assert found.get(module, module) == get_pattern_key(patterns, module)


def test_more_expressions_than_anybody_writes_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"here: the pattern could take for ever.*300 expressions"):
        first_matches([f"a{number}.?" for number in range(300)], MODULES, "here")


def test_expressions_that_people_write_are_matched_on_a_large_model() -> None:
    modules = [f"model.layers.{layer}.self_attn.{part}_proj" for layer in range(80) for part in "qkvo"]
    patterns = [r".*layers\.([0-9]|1[0-9])\.self_attn\.(q|k)_proj", r"layers\.\d+\..*v_proj"]
    found = first_matches(patterns, modules, "here")
    assert [list(found.values()).count(pattern) for pattern in patterns] == [40, 80]
