"""What every reader of a format other than PEFT's owes, whatever file it reads: each is written once, by name."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from merge_core.errors import InputError
from merge_core.formats import READERS, inspect
from merge_core.sources import folder_source
from tests.merge_core.building import built, mix, relative_rms, write_model
from tests.merge_core.formats.golden_cases import cases
from tests.merge_core.formats.test_sparse_formats import encoding, spt_files, write_sft, write_spiel
from tests.merge_core.formats.test_weighted_formats import (
    dsee_state,
    lofit_state,
    pack,
    ssf_parts,
    write_loldu,
    write_state,
)


def sft(root: Path) -> None:
    write_model(root / "base", {"w": torch.ones(2, 3), "v": torch.ones(4)})
    write_sft(root / "adapter", {"diffs": {"w": encoding()}, "abs": {}})


def spiel(root: Path) -> None:
    write_model(root / "base", {"l.weight": torch.ones(4, 3), "v": torch.ones(4)})
    write_spiel(root / "adapter", {"l": (torch.tensor([0.5, -2.0]), torch.tensor([7, 2], dtype=torch.int32))})


def spt(root: Path) -> None:
    case = cases("spt_sparse_linear")[0]
    base = {
        "fc.weight": case.tensors["in.weight"],
        "fc.bias": case.tensors["in.bias"],
        "other.weight": torch.ones(2, 5),
    }
    write_model(root / "base", base)
    spt_files(root / "adapter", case)


def sara(root: Path) -> None:
    case = cases("sara")[0]
    write_model(root / "base", case.part("in.base."))
    (root / "adapter").mkdir()
    (root / "adapter" / "unet.pt").write_bytes(case.files()[0].read_bytes())


def ssf(root: Path) -> None:
    base, added, _ = ssf_parts(cases("ssf")[0])
    write_model(root / "base", base)
    write_state(root / "adapter", base | added)


def lofit(root: Path) -> None:
    base, heads = lofit_state(next(case for case in cases("lofit") if "bias" in case.name))
    write_model(root / "base", base)
    write_state(root / "adapter", heads)


def dsee(root: Path) -> None:
    base, parts = dsee_state(cases("dsee")[0])
    write_model(root / "base", base)
    write_state(root / "adapter", parts, lora_alpha=8)


def loldu(root: Path) -> None:
    case = next(case for case in cases("loldu") if case.params["init_method"] == "lu")
    write_model(root / "base", {"l.weight": case.tensors["in.base"]})
    write_loldu(root / "adapter", case, lora_alpha=case.params["lora_alpha"], init_method="lu")


def bitdelta(root: Path) -> None:
    write_model(root / "base", {"m.q_proj.weight": torch.ones(5, 32)})
    (root / "adapter").mkdir()
    state = {"m.q_proj.mask": pack(torch.rand(5, 32) > 0.5), "m.q_proj.coeff": torch.tensor(0.25)}
    torch.save(state, root / "adapter" / "diff.pt")


def emr_task(root: Path) -> None:
    write_model(root / "base", {"w": torch.ones(4, 5)})
    (root / "adapter").mkdir()
    state = {"w.unified": torch.randn(4, 5), "w.mask": torch.rand(4, 5) > 0.5, "rescaler": torch.tensor(1.5)}
    save_file(state, root / "adapter" / "task.safetensors")


FORMATS: dict[str, Callable[[Path], None]] = {
    "composable_sft": sft,
    "spiel": spiel,
    "spt": spt,
    "sara": sara,
    "ssf": ssf,
    "lofit": lofit,
    "dsee": dsee,
    "loldu": loldu,
    "bitdelta": bitdelta,
    "emr_task": emr_task,
}
WrittenOf = Callable[[str], Path]
of_every_format = pytest.mark.parametrize("kind", FORMATS)


@pytest.fixture(scope="module")
def written_of(tmp_path_factory: pytest.TempPathFactory) -> WrittenOf:
    @cache
    def write(kind: str) -> Path:
        torch.manual_seed(0)
        root = tmp_path_factory.mktemp("written")
        FORMATS[kind](root)
        return root

    return write


def merged(root: Path, weight: float = 1.0, threads: int = 2, base: str = "base") -> dict[str, torch.Tensor]:
    return built(root, mix("adapter", weights=(weight,), base=base, method="task_arithmetic"), threads)


@of_every_format
def test_exactly_one_reader_says_yes_and_gives_it_its_name(kind: str, written_of: WrittenOf) -> None:
    files = folder_source("adapter", written_of(kind)).files
    found = inspect(files)
    assert (found.kind, found.format, found.reason) == ("delta", kind, None)
    assert sum(reader.recognises(files) for reader in READERS if reader.NAME not in ("checkpoint", "peft_lora")) == 1
    assert found.summary["bytes"] > 0


@of_every_format
def test_it_changes_the_base_half_of_its_weight_half_as_much_and_none_not_at_all(
    kind: str, written_of: WrittenOf
) -> None:
    root = written_of(kind)
    base, whole, half, none = load_file(root / "base/model.safetensors"), *(merged(root, w) for w in (1.0, 0.5, 0.0))
    assert any(not torch.equal(whole[name], base[name]) for name in base)
    for name in base:
        assert torch.equal(none[name], base[name])
        assert relative_rms(half[name], (base[name].double() + whole[name].double()) / 2) < 1e-6, name


@of_every_format
def test_bytes_do_not_depend_on_threads(kind: str, written_of: WrittenOf) -> None:
    root = written_of(kind)
    one, other = merged(root, 0.7, threads=1), merged(root, 0.7, threads=3)
    assert all(torch.equal(one[name], other[name]) for name in one)


@of_every_format
def test_a_base_of_other_names_or_other_shapes_is_refused(kind: str, written_of: WrittenOf, tmp_path: Path) -> None:
    root = written_of(kind)
    (tmp_path / "adapter").symlink_to(root / "adapter")
    base = load_file(root / "base/model.safetensors")
    write_model(tmp_path / "renamed", {name[::-1] + ".x": tensor for name, tensor in base.items()})
    write_model(tmp_path / "reshaped", {name: torch.ones(2, 1, 7, dtype=tensor.dtype) for name, tensor in base.items()})
    for other in ("renamed", "reshaped"):
        if kind == "sara" and other == "renamed":
            continue  # its file has no names: counts tell what is meant
        with pytest.raises(InputError) as caught:
            merged(tmp_path, base=other)
        assert len(str(caught.value)) < 1000
