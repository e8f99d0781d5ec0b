"""RegMean beyond what the conformance suite asks."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merge_core.errors import FileError, RecipeError
from tests.merge_core.building import built, mix, write_model

SHAPE = (4, 3)


def models(root: Path, grams: list[torch.Tensor]) -> list[torch.Tensor]:
    """Models of one linear layer and a bias, with the Gram matrices that are given; the layers come back."""
    layers = []
    for position, gram in enumerate(grams):
        layers.append(torch.randn(SHAPE, generator=torch.Generator().manual_seed(position)))
        write_model(root / f"m{position}", {"l.weight": layers[-1], "l.bias": torch.full((4,), float(position))})
        save_file({"l.weight": gram}, root / f"m{position}" / "regmean_gram.safetensors")
    return layers


def inputs_of(position: int) -> torch.Tensor:
    return torch.randn(50, 3, generator=torch.Generator().manual_seed(100 + position)) * torch.tensor([1.0, 5.0, 0.2])


def test_without_shrinking_it_is_the_least_squares_fit_to_all_outputs(tmp_path: Path) -> None:
    inputs = [inputs_of(0), inputs_of(1)]
    layers = models(tmp_path, [x.T @ x for x in inputs])
    found = built(tmp_path, mix("m0", "m1", method={"name": "regmean", "off_diagonal": 1.0}))
    targets = torch.cat([x @ layer.T for x, layer in zip(inputs, layers, strict=True)])
    fit = torch.linalg.lstsq(torch.cat(inputs).double(), targets.double()).solution.T
    torch.testing.assert_close(found["l.weight"].double(), fit, rtol=1e-5, atol=1e-5)
    assert found["l.bias"].tolist() == [0.5] * 4


def test_models_that_agree_come_back_and_so_does_one_alone(tmp_path: Path) -> None:
    layers = models(tmp_path, [inputs_of(0).T @ inputs_of(0)])
    assert torch.equal(built(tmp_path, mix("m0", method="regmean"))["l.weight"], layers[0])
    found = built(tmp_path, mix("m0", "m0", weights=(1.0, 7.0), method="regmean"))["l.weight"]
    torch.testing.assert_close(found, layers[0])


def test_an_input_that_is_never_used_has_the_mean_of_its_columns(tmp_path: Path) -> None:
    unused = torch.diag(torch.tensor([2.0, 0.0, 1.0]))
    layers = models(tmp_path, [unused, 3 * unused])
    found = built(tmp_path, mix("m0", "m1", method="regmean"))["l.weight"]
    torch.testing.assert_close(found[:, 1], (layers[0][:, 1] + layers[1][:, 1]) / 2)
    torch.testing.assert_close(found[:, 0], (layers[0][:, 0] + 3 * layers[1][:, 0]) / 4)


def test_a_gram_matrix_that_only_some_have_or_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    models(tmp_path, [torch.eye(3), torch.eye(3)])
    recipe = mix("m0", "m1", method="regmean")
    file = tmp_path / "m1" / "regmean_gram.safetensors"
    save_file({}, file)
    with pytest.raises(RecipeError, match=r"tensor 'l\.weight': .*found nothing in regmean_gram.safetensors of 'm1'"):
        built(tmp_path, recipe)
    save_file({"l.weight": torch.eye(4)}, file)
    with pytest.raises(RecipeError, match=r"found \[4, 4\] in .* of 'm1'; expected float32 \[3, 3\]"):
        built(tmp_path, recipe)
    save_file({"l.weight": torch.eye(3), "l.bias": torch.eye(4)}, file)
    with pytest.raises(RecipeError, match=r"tensor 'l\.bias': .*found nothing in .* of 'm0'; expected nothing, or"):
        built(tmp_path, recipe)
    file.unlink()
    with pytest.raises(RecipeError, match=r"found no regmean_gram\.safetensors in 'm1'"):
        built(tmp_path, recipe)


NO_GRAMS = {
    "negative diagonal": torch.diag(torch.tensor([1.0, -1.0, 1.0])),
    "not positive definite": torch.tensor([[1.0, 9.0, 0.0], [9.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    "off the diagonal": torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    "NaN": torch.full((3, 3), float("nan")),
}


@pytest.mark.parametrize("fault", NO_GRAMS)
def test_what_is_no_gram_matrix_is_refused_by_tensor(fault: str, tmp_path: Path) -> None:
    models(tmp_path, [NO_GRAMS[fault], NO_GRAMS[fault]])
    with pytest.raises(FileError, match=rf"regmean_gram.safetensors: tensor 'l\.weight': .*{fault}"):
        built(tmp_path, mix("m0", "m1", method="regmean"))
