import pytest
import torch

from tests.merge_core.methods.on_zero import ODD_SHAPES, merge, merge_models, normal


def authors(stack: torch.Tensor, ratio: float) -> torch.Tensor:
    """The steps of the published code in its own order, in float64."""

    def clamp(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
        ordered, size = x.sort(dim=1).values, x.shape[1]
        return x.clamp(ordered[:, int(size * low), None], ordered[:, int(size * (1 - high) - 1), None])

    def normalize(x: torch.Tensor) -> torch.Tensor:
        low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
        return (x - low) / (high - low)

    sizes = clamp(stack.abs(), 0.0001, 0.0001)
    within = torch.exp(len(stack) * normalize(sizes) ** 2)
    competition = within * torch.tanh(stack * stack.sum(0))
    scale = normalize(clamp(competition, 1 - ratio, 0))
    return (stack.sign() * sizes * scale).sum(0) / scale.sum(0).clamp(min=1e-12)


@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_random_task_vectors_merge_as_in_the_authors_code(count: int, ratio: float) -> None:
    deltas = [normal(30_000, seed=i) * 0.5 for i in range(count)]
    found = merge(deltas, {"name": "pcb", "density": ratio}, scale=1.2)
    expected = 1.2 * authors(torch.stack(deltas).double(), ratio)
    # Of an entry barely above the threshold the share is a small difference, known to float32's last bits only.
    assert ((found - expected).abs() <= 1e-4 * expected.abs() + 1e-4).double().mean() > 0.999
    assert torch.sqrt((found - expected).square().mean() / expected.square().mean()) < 1e-3


def test_thresholds_span_all_tensors() -> None:
    deltas = [normal(3000, seed=i) for i in range(3)]
    whole = merge(deltas, {"name": "pcb", "density": 0.2})
    parts = merge_models([{"a": d[:1000], "b": d[1000:]} for d in deltas], {"name": "pcb", "density": 0.2})
    assert torch.equal(torch.cat([parts["a"], parts["b"]]), whole)


def test_a_task_against_all_others_competes_among_its_own_losses() -> None:
    """Its β are all negative, and so is the threshold of its share."""
    first = normal(2000).abs() + 0.5
    deltas = [first, first, -0.5 * first]
    expected = authors(torch.stack(deltas).double(), 0.3)
    assert torch.allclose(merge(deltas, {"name": "pcb", "density": 0.3}).double(), expected, 1e-3, 1e-4)


def test_density_zero_gives_the_base() -> None:
    assert not merge([normal(50), normal(50, seed=1)], {"name": "pcb", "density": 0.0}).any()


@pytest.mark.parametrize("shape", ODD_SHAPES)
@pytest.mark.parametrize("density", [0.05, 1.0])
def test_any_shape_has_a_finite_result(shape: tuple[int, ...], density: float) -> None:
    found = merge([normal(*shape), normal(*shape, seed=1)], {"name": "pcb", "density": density})
    assert found.shape == shape
    assert torch.isfinite(found).all()


def test_a_single_entry_of_a_single_model_comes_back() -> None:
    assert merge([torch.tensor([2.0])], "pcb").tolist() == [2.0]
