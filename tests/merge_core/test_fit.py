"""Holding what was published against a base by names and shapes."""

import numpy as np

from merge_core.deltas import Delta, Dense, LowRank, Replacement
from merge_core.fit import fit
from merge_core.formats import Artefact
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec

BASE = {"model.a.weight": (8, 6), "model.b.weight": (6, 6), "model.b.bias": (6,), "model.c.weight": ()}


def stored(*shape: int, name: str = "w") -> StoredTensor:
    data = np.zeros(4 * int(np.prod(shape)), dtype=np.uint8)
    return StoredTensor(TensorSpec(name, DType.F32, shape), data, "f.safetensors")


def low_rank(rows: int, columns: int, *, transposed: bool = False) -> LowRank:
    shape = (columns, rows) if transposed else (rows, columns)
    return LowRank(stored(2, columns), stored(rows, 2), 1.0, shape, transposed)


def adapter(deltas: dict[str, Delta], new: frozenset[str] = frozenset(), kind: str = "delta") -> Artefact:
    return Artefact("test", kind, deltas, {}, new)


def test_deltas_land_under_the_bases_names_and_a_head_may_be_new() -> None:
    deltas = {"a.weight": low_rank(8, 6), "b.bias": Dense(stored(6), 1.0), "score.weight": Replacement(stored(2, 6))}
    held = fit(adapter(deltas, frozenset({"score.weight"})), BASE)
    assert held.fits
    assert set(held.deltas) == {"model.a.weight", "model.b.bias"}
    assert held.new == ("score.weight",)


def test_every_misfit_is_told_with_its_name_and_both_shapes() -> None:
    deltas = {"model.a.weight": low_rank(8, 7), "model.b.weight": low_rank(6, 6), "model.q.weight": low_rank(6, 6)}
    held = fit(adapter(deltas), BASE)
    assert not held.fits
    assert held.misfits == ("'model.q.weight' is no tensor of it", "'model.a.weight' is [8, 7], and [8, 6] there")


def test_a_base_that_stores_the_other_way_round_fits_where_its_kind_or_shapes_say_so() -> None:
    conv = {"h.0.attn.c_attn.weight": (6, 18), "h.0.attn.c_proj.weight": (6, 6)}
    deltas: dict[str, Delta] = {"h.0.attn.c_attn.weight": low_rank(18, 6), "h.0.attn.c_proj.weight": low_rank(6, 6)}
    assert fit(adapter(deltas), conv, "gpt2").fits
    assert not fit(adapter(deltas), conv, "llama").fits
    flagged: dict[str, Delta] = {"h.0.attn.c_attn.weight": low_rank(18, 6, transposed=True)}
    assert fit(adapter(flagged), conv).fits
    square: dict[str, Delta] = {"h.0.attn.c_proj.weight": low_rank(6, 6, transposed=True)}
    assert fit(adapter(square), conv).fits, "either way round it fits; planning asks which"


def test_a_delta_of_nothing_fits_and_one_for_a_scalar_does_not() -> None:
    assert fit(adapter({}), BASE).fits
    held = fit(adapter({"model.c.weight": low_rank(8, 6, transposed=True)}), BASE)
    assert held.misfits == ("'model.c.weight' is [6, 8], and [] there",)


def test_a_full_checkpoint_may_have_more_than_its_base() -> None:
    tensors = {name: Replacement(stored(*shape)) for name, shape in BASE.items()}
    held = fit(adapter(tensors | {"more.weight": Replacement(stored(3))}, kind="base"), BASE)
    assert (held.fits, held.new, set(held.deltas)) == (True, ("more.weight",), set(BASE))
