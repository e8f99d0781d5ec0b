"""What all methods on singular values owe: edges, threads, honest memory needs."""

from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from merge_core.errors import CapacityError, FileError
from merge_core.methods.iso_c import IsoC
from merge_core.methods.iso_cts import IsoCts
from merge_core.methods.knots import Knots
from merge_core.methods.lapack import Serial, serial
from merge_core.methods.spectral import polar, thin_svd
from merge_core.methods.swudi import Swudi
from merge_core.methods.tsv_m import TsvM
from tests.merge_core import oracles_spectral as oracles
from tests.merge_core.building import mix, planned, write_model
from tests.merge_core.methods.spectra import by_oracle, is_near, merged_delta, random_deltas
from tests.merge_core.oracles import ties

METHODS = [TsvM(), IsoC(), IsoCts(), Knots(), Swudi()]
ORACLES = [oracles.tsv_m, oracles.iso_c, oracles.iso_cts, oracles.knots(ties), oracles.swudi]

of_each = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.title())
with_its_oracle = pytest.mark.parametrize(
    ("method", "oracle"), [*zip(METHODS, ORACLES, strict=True)], ids=[method.title() for method in METHODS]
)


@with_its_oracle
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (2, 5), (30, 2), (40, 20), (2, 3000)])
@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.5, -0.25)])
def test_a_merge_is_what_the_printed_formulas_give(method, oracle, shape, weights):
    deltas = random_deltas(len(weights), *shape)
    assert is_near(merged_delta(method, *deltas, weights=weights), by_oracle(oracle, *deltas, weights=weights))


@with_its_oracle
def test_float32_noise_of_low_rank_deltas_does_not_matter(method, oracle):
    deltas = random_deltas(3, 40, 30, rank=3)
    exact = [delta.double() for delta in deltas]
    noisy = [(delta.double() * (1 + 5e-8 * torch.randn(40, 30).double())).float() for delta in deltas]
    assert is_near(merged_delta(method, *noisy), by_oracle(oracle, *exact), 1e-5)


@of_each
@pytest.mark.parametrize("shape", [(4, 6), (3,), (), (2, 3, 2), (1, 5), (5, 1), (0, 4), (0,)])
def test_zero_deltas_leave_the_base_whatever_the_shape(method, shape):
    assert torch.equal(merged_delta(method, torch.zeros(shape), torch.zeros(shape)), torch.zeros(shape))


@of_each
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 2), (2, 3, 2, 2)])
def test_what_is_no_matrix_gets_the_mean_of_weighted_deltas(method, shape):
    first, second = torch.randn(shape), torch.randn(shape)
    found = merged_delta(method, first, second, weights=(1.0, -0.5))
    assert is_near(found, (first.double() - 0.5 * second.double()) / 2)


@of_each
def test_a_zero_delta_beside_another_breaks_nothing(method):
    assert merged_delta(method, random_deltas(1, 8, 6)[0], torch.zeros(8, 6)).isfinite().all()


@of_each
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_named(method, bad):
    deltas = random_deltas(2, 4, 4)
    deltas[1][2, 3] = bad
    with pytest.raises(FileError, match=r"tensor 'w'.*NaN or infinity in ingredient 1"):
        merged_delta(method, *deltas)


@of_each
def test_the_order_of_inputs_does_not_matter(method):
    deltas = random_deltas(3, 12, 9)
    weights = (1.0, 0.5, 2.0)
    swapped = merged_delta(method, *deltas[::-1], weights=weights[::-1])
    assert is_near(swapped, merged_delta(method, *deltas, weights=weights), 1e-6)


@of_each
def test_bytes_do_not_depend_on_how_many_threads_lapack_had(method):
    deltas = random_deltas(2, 300, 200)
    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads, "blas"):
            found.append(merged_delta(method, *deltas).numpy().tobytes())
    assert found == found[:1] * 3


def _blas_threads(of: Serial) -> set[int]:
    return {library["num_threads"] for library in of.libraries().info() if library["user_api"] == "blas"}


def test_every_thread_has_lapack_to_itself_with_one_thread_and_leaves_it_as_it_was():
    before, seen, inside = _blas_threads(serial), [], []

    def use() -> None:
        with serial():
            inside.append(1)
            seen.append((len(inside), _blas_threads(serial)))
            inside.pop()

    threads = [Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(1, {1})] * 4
    assert _blas_threads(serial) == before


def test_a_polar_factor_has_orthonormal_columns_and_none_for_what_repeats():
    matrix = np.random.default_rng(0).standard_normal((9, 4))
    assert np.allclose(polar(matrix).T @ polar(matrix), np.eye(4), atol=1e-14)
    twice = polar(np.concatenate([matrix, matrix], axis=1))
    assert np.allclose(twice @ twice.T, polar(matrix) @ polar(matrix).T, atol=1e-13)


def test_a_thin_svd_drops_what_is_negligible_beside_the_largest():
    assert thin_svd(np.diag([1.0, 1e-5, 1e-7])).sigma.tolist() == [1.0, 1e-5]
    assert thin_svd(np.zeros((3, 2))).sigma.shape == (0,)
    assert thin_svd(np.zeros((3, 0))).u.shape == (3, 0)


@of_each
def test_a_matrix_that_does_not_fit_in_memory_is_refused_in_planning(method, tmp_path: Path):
    for name in ("base", "m0", "m1"):
        write_model(tmp_path / name, {"w": torch.zeros(64, 32)})
    recipe = mix("m0", "m1", base="base", method=method.title())
    need = planned(tmp_path, recipe).memory_bytes
    assert need > 8 * 64 * 32 * 4
    with pytest.raises(CapacityError, match=rf"tensor 'w': {method.title()} needs more memory.*found {need} bytes"):
        planned(tmp_path, recipe, need - 1)
