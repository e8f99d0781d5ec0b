"""What the papers' own code gave, against the whole way from recipe to file. The cases lie in tests/golden.

Each has a sidecar with parameters, origin and tolerance; `in.` tensors are what went in, `out.` what came out.
"""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from merge_core.errors import RecipeError
from tests.merge_core.building import built, mix, write_model

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Case:
    """One golden case; a case without a file fails where it is read."""

    name: str

    @cached_property
    def sidecar(self) -> dict[str, Any]:
        return json.loads((GOLDEN / f"{self.name}.json").read_text())

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(GOLDEN / f"{self.name}.safetensors")

    @property
    def params(self) -> dict[str, Any]:
        return self.sidecar["params"]

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def write(self, root: Path, stem: str) -> list[str]:
        """The inputs as model folders: `base` where there is one, and each of `in.<stem>0`, `in.<stem>1` …"""
        count = self.params.get("n_models", 1)
        if self.part("in.base."):
            write_model(root / "base", self.part("in.base."))
        return [write_model(root / f"{stem}{i}", self.part(f"in.{stem}{i}.")) for i in range(count)]

    def check(self, found: dict[str, torch.Tensor], prefix: str) -> None:
        compare, expected = self.sidecar["compare"], self.part(prefix)
        assert compare["mode"] == "allclose"
        assert expected
        for name, tensor in expected.items():
            close = {"rtol": compare["rtol"], "atol": compare["atol"]}
            torch.testing.assert_close(
                found[name].double(), tensor.double(), **close, msg=lambda m, n=name: f"{n}: {m}"
            )


def cases(folder: str, *beginnings: str) -> list[str]:
    names = sorted(path.stem for path in (GOLDEN / folder).glob("*.json"))
    return [f"{folder}/{name}" for name in names if name.startswith(beginnings or "")]


def raising(names: list[str]) -> list[str]:
    return [name for name in names if "expect" in Case(name).sidecar]


def returning(names: list[str]) -> list[str]:
    return [name for name in names if name not in raising(names)]


def density(k: float) -> float:
    """The TIES code reads K above 1 as a percentage."""
    return k / 100 if k > 1 else k


@pytest.mark.parametrize("name", cases("soup", "greedy"))
def test_a_uniform_soup_is_what_model_soups_makes(name: str, tmp_path: Path) -> None:
    case = Case(name)
    found = built(tmp_path, mix(*case.write(tmp_path, "model"), method="linear"))
    if name.endswith("_bf16ingredients"):
        _check_soup_rounded_once(case, found)
    else:
        case.check(found, "out.uniform.")


def _check_soup_rounded_once(case: Case, found: dict[str, torch.Tensor]) -> None:
    """The original rounds every product and sum to bfloat16; of N models that is up to 2N half-steps of 2⁻⁸."""
    for name, tensor in case.part("out.uniform.").items():
        exact = sum(case.tensors[f"in.model{i}.{name}"].double() for i in range(9)) / 9
        assert torch.equal(found[name], exact.bfloat16())
        size = sum(case.tensors[f"in.model{i}.{name}"].double().abs() for i in range(9)) / 9
        assert ((tensor.double() - found[name].double()).abs() <= 2 * 9 * 2.0**-9 * size + 2.0**-8 * size).all()


@pytest.mark.parametrize("name", cases("soup", "wiseft"))
def test_wise_ft_is_a_linear_mix_with_the_base(name: str, tmp_path: Path) -> None:
    case = Case(name)
    case.write(tmp_path, "ft")
    alpha = case.params["alpha"]
    case.check(built(tmp_path, mix("base", "ft0", weights=(1 - alpha, alpha), method="linear")), "out.")


SIGNS = {"sum": [1.0] * 8, "single": [1.0], "neg": [-1.0], "analogy_add_neg": [-1.0, 1.0, 1.0]}
"""The weights that say what the original says with operators; of an analogy C + B − A the first model is A."""


@pytest.mark.parametrize("name", [name for name in returning(cases("task_arithmetic")) if "int_buffers" not in name])
def test_task_arithmetic_is_what_task_vectors_makes(name: str, tmp_path: Path) -> None:
    case = Case(name)
    names = case.write(tmp_path, "ft")
    weights = tuple(SIGNS[case.params["op"]][: len(names)])
    method = {"base": "base", "method": "task_arithmetic", "scale": case.params["scaling_coef"]}
    case.check(built(tmp_path, mix(*names, weights=weights, **method)), "out.merged.")


def test_an_analogy_written_as_in_the_readme_is_weights_where_the_original_raises(tmp_path: Path) -> None:
    case = Case("task_arithmetic/readme_minus_raises")
    base, *tuned = ({**case.part(f"in.{who}.")} for who in ("base", "ft0", "ft1", "ft2"))
    for who, tensors in zip(("base", "ft0", "ft1", "ft2"), (base, *tuned), strict=True):
        write_model(tmp_path / who, tensors)
    recipe = mix("ft2", "ft1", "ft0", weights=(1, 1, -1), base="base", method="task_arithmetic", scale=0.8)
    for name, found in built(tmp_path, recipe).items():
        a, b, c, zero = (tensors[name].double() for tensors in (*tuned, base))
        assert torch.allclose(found.double(), zero + 0.8 * ((c - zero) + (b - zero) - (a - zero)), 1e-5, 1e-6)


def test_integers_that_differ_are_refused_where_the_original_keeps_the_base(tmp_path: Path) -> None:
    case = Case("task_arithmetic/int_buffers_skipped")
    names = case.write(tmp_path, "ft")
    recipe = mix(*names, base="base", method="task_arithmetic", scale=case.params["scaling_coef"])
    with pytest.raises(RecipeError, match=r"bn\.num_batches_tracked.*int64 tensors are not averaged.*take: base"):
        built(tmp_path, recipe)
    rules = [{"match": name, "take": "base"} for name in ("*num_batches_tracked", "u8")]
    found = built(tmp_path, recipe | {"tensors": rules})
    case.check(found, "out.merged.")
    assert found["u8"].tolist() == [1, 2]


def original_ties(case: Case, share: float) -> dict[str, object]:
    aggregate = case.params.get("aggregator", "dis-mean").removeprefix("dis-")
    return {
        "name": "ties",
        "density": share,
        "aggregate": aggregate,
        "scope": "model",
        "convention": "original",
    }


@pytest.mark.parametrize("name", returning(cases("ties")))
def test_ties_by_the_original_convention_is_what_the_authors_code_makes(name: str, tmp_path: Path) -> None:
    case = Case(name)
    names = case.write(tmp_path, "ft")
    method = original_ties(case, density(case.params["K"]))
    case.check(built(tmp_path, mix(*names, base="base", method=method, scale=case.params["lambda_"])), "out.merged.")


@pytest.mark.parametrize("name", raising(cases("ties")))
def test_ties_of_full_density_keeps_everything_where_the_original_raises(name: str, tmp_path: Path) -> None:
    case = Case(name)
    assert case.params["K"] == 100
    names = case.write(tmp_path, "ft")
    found = built(tmp_path, mix(*names, base="base", method=original_ties(case, 1.0)))
    base = case.part("in.base.")
    for name, tensor in found.items():
        deltas = torch.stack([case.tensors[f"in.{ft}.{name}"].double() - base[name].double() for ft in names])
        agreeing = deltas * (deltas.sign() == deltas.sum(0).sign())
        expected = base[name].double() + agreeing.sum(0) / (agreeing != 0).sum(0).clamp(min=1)
        assert torch.allclose(tensor.double(), expected, 1e-5, 1e-6)


LEAVE_THE_HEAD = [{"match": "*classifier*", "take": "base"}]


@pytest.mark.parametrize("name", cases("mergelm", "average"))
def test_a_linear_soup_is_what_mergelm_averages(name: str, tmp_path: Path) -> None:
    case = Case(name)
    names = case.write(tmp_path, "ft")
    case.check(built(tmp_path, mix(*names, base="base", method="linear", tensors=LEAVE_THE_HEAD)), "out.")


@pytest.mark.parametrize("name", cases("mergelm", "task_arithmetic"))
def test_task_arithmetic_is_what_mergelm_makes(name: str, tmp_path: Path) -> None:
    case = Case(name)
    names = case.write(tmp_path, "ft")
    settings = {"method": "task_arithmetic", "scale": case.params["scaling_coefficient"], "tensors": LEAVE_THE_HEAD}
    case.check(built(tmp_path, mix(*names, base="base", **settings)), "out.")


@pytest.mark.parametrize("name", cases("mergelm", "ties"))
def test_ties_is_what_mergelm_makes(name: str, tmp_path: Path) -> None:
    """MergeLM names the share that it removes, and keeps size − int(size · rate) + 1 entries."""
    case = Case(name)
    names = case.write(tmp_path, "ft")
    size = sum(tensor.numel() for tensor in case.part("out.").values())
    share = (size - int(size * case.params["param_value_mask_rate"]) + 0.5) / size
    settings = {"scale": case.params["scaling_coefficient"], "tensors": LEAVE_THE_HEAD}
    case.check(built(tmp_path, mix(*names, base="base", method=original_ties(case, share), **settings)), "out.")


@pytest.mark.parametrize("name", cases("peft_weighted", "mu_ties"))
def test_ties_by_the_peft_convention_is_what_peft_makes(name: str, tmp_path: Path) -> None:
    case = Case(name)
    inputs = case.part("in.")
    write_model(tmp_path / "base", {"t": torch.zeros_like(inputs["t0"])})
    names = [write_model(tmp_path / name, {"t": tensor}) for name, tensor in sorted(inputs.items())]
    votes = case.params["majority_sign_method"]
    method = {"name": "ties", "density": case.params["density"], "convention": "peft", "votes": votes}
    found = built(tmp_path, mix(*names, weights=tuple(case.params["weights"]), base="base", method=method))
    case.check({"": found["t"]}, "out.ties")


@pytest.mark.parametrize("name", cases("selma"))
def test_selma_is_what_diffusers_fuses_by_its_script(name: str, tmp_path: Path) -> None:
    case = Case(name)
    write_model(tmp_path / "base", case.part("in.base."))
    experts = [_expert(tmp_path, name, i) for i in range(case.params["n_experts"])]
    weights = tuple(case.params["adapter_weights"])
    case.check(built(tmp_path, mix(*experts, weights=weights, base="base", method="selma")), "out.fused.")


def test_selma_without_weights_is_the_mean_that_the_paper_intends(tmp_path: Path) -> None:
    case = Case("selma/three_mean")
    write_model(tmp_path / "base", case.part("in.base."))
    experts = [_expert(tmp_path, case.name, i) for i in range(3)]
    case.check(built(tmp_path, mix(*experts, base="base", method="selma")), "out.fused.")


def _expert(root: Path, case: str, position: int) -> str:
    """The file that diffusers wrote, under the name that it gives."""
    folder = root / f"expert{position}"
    folder.mkdir()
    shutil.copy(
        GOLDEN / f"{case}.expert{position}.pytorch_lora_weights.safetensors",
        folder / "pytorch_lora_weights.safetensors",
    )
    return folder.name
