"""Names that two models spell differently."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_core.alignment import align
from merge_core.errors import nearest

EXPERTS = [
    f"layers.{layer}.mlp.experts.{expert}.{part}.weight"
    for layer in range(40)
    for expert in range(64)
    for part in ("up_proj", "down_proj")
]


def spelt(prefix: str, names: list[str]) -> list[str]:
    return [prefix + name for name in names]


@pytest.mark.parametrize(
    ("own", "base"),
    [("", ""), ("bert.", ""), ("", "bert."), ("model.", ""), ("", "model."), ("a.b.", ""), ("", "a.b.")],
)
def test_the_prefix_under_which_most_names_meet_is_chosen(own: str, base: str) -> None:
    names = ["x.weight", "x.bias", "layer.0.weight", "layer.1.weight"]
    known = dict.fromkeys([*spelt(base, names), "pooler.weight"])
    assert align([*spelt(own, names), "classifier.weight"], known) == dict(
        zip(spelt(own, names), spelt(base, names), strict=True)
    )


def test_names_that_agree_are_left_alone_though_a_prefix_would_fit_too() -> None:
    base = dict.fromkeys(["model.layer.0", "layer.0", "model.layer.1"])
    assert align(["model.layer.0", "model.layer.1"], base) == {
        name: name for name in ("model.layer.0", "model.layer.1")
    }


LAYERS = [f"layers.{layer}.self_attn.{part}.weight" for layer in (0, 1) for part in ("q_proj", "v_proj")]


@pytest.mark.parametrize(
    ("own", "base"),
    [("bert.", "model."), ("language_model.model.", "model.language_model."), ("a.b.c.", "x.")],
)
def test_a_prefix_is_exchanged_for_another_where_nothing_else_meets(own: str, base: str) -> None:
    known = dict.fromkeys([*spelt(base, LAYERS), "lm_head.weight"])
    assert align(spelt(own, LAYERS), known) == dict(zip(spelt(own, LAYERS), spelt(base, LAYERS), strict=True))


def test_a_prefix_that_could_be_exchanged_for_two_is_left_alone() -> None:
    known = dict.fromkeys([*spelt("vision.", LAYERS), *spelt("text.", LAYERS)])
    assert align(spelt("model.", LAYERS), known) == {}


def test_a_field_alone_is_no_ground_for_an_exchange() -> None:
    assert align(["encoder.qery.weight"], dict.fromkeys(["pooler.weight", "pooler.dense.weight"])) == {}


@given(names=st.lists(st.text("ab.", max_size=5), max_size=6), base=st.lists(st.text("ab.", max_size=5), max_size=6))
def test_every_name_that_is_aligned_means_a_tensor_of_the_base(names: list[str], base: list[str]) -> None:
    aligned = align(names, dict.fromkeys(base))
    assert set(aligned.values()) <= set(base)
    assert set(names) & set(base) <= set(aligned) <= set(names)


def test_the_names_of_a_large_model_are_aligned_and_looked_up_in_linear_time() -> None:
    base = dict.fromkeys(EXPERTS)
    assert align(spelt("model.", EXPERTS), base) == dict(zip(spelt("model.", EXPERTS), EXPERTS, strict=True))
    assert align(EXPERTS, dict.fromkeys(spelt("model.", EXPERTS)))[EXPERTS[0]] == f"model.{EXPERTS[0]}"
    assert "'layers.39.mlp.experts.63.up_proj.weight'" in nearest("layers.39.mlp.experts.63.upproj.weight", EXPERTS)
