"""What every reader of an adapter owes, whoever wrote it: a newcomer in PUBLISHED is tested here."""

import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from merge_core.delta_facts import Measuring
from merge_core.errors import FileError, InputError, RecipeError
from merge_core.fit import fit
from merge_core.formats import READERS, inspect, read
from merge_core.orientation import model_type
from merge_core.sources import folder_source
from tests.merge_core.building import Tensors, built, mix, relative_rms
from tests.merge_core.formats.published import PUBLISHED, Expected

TOLERANCE = 1e-6
"""Relative RMS: both sides compute in float32, and differ in the order of sums and in where they round; PEFT
solves for rotations in float32 too."""

WrittenOf = Callable[[str], tuple[Path, Expected]]
of_every_kind = pytest.mark.parametrize("kind", PUBLISHED)


@pytest.fixture(scope="module")
def written_of(tmp_path_factory: pytest.TempPathFactory) -> WrittenOf:
    """The folder with base and adapter, and what their library merges them to; written once."""

    @cache
    def write(kind: str) -> tuple[Path, Expected]:
        root = tmp_path_factory.mktemp("published")
        return root, PUBLISHED[kind][1](root)

    return write


def weights_of(adapter: Path) -> Path:
    (path,) = adapter.glob("*.safetensors")
    return path


def changed(root: Path, copy: Path, change: Callable[[dict[str, torch.Tensor]], Tensors]) -> Path:
    """A copy of the adapter beside a link to the base, its tensors changed."""
    shutil.copytree(root / "adapter", copy / "adapter")
    (copy / "base").symlink_to(root / "base")
    path = weights_of(copy / "adapter")
    save_file({name: t.contiguous() for name, t in change(load_file(path)).items()}, path)
    return copy


def merged(root: Path, threads: int = 2) -> dict[str, torch.Tensor]:
    return built(root, mix("adapter", base="base", method="task_arithmetic"), threads)


@of_every_kind
def test_weight_1_gives_what_the_library_itself_merges(kind: str, written_of: WrittenOf) -> None:
    root, expected = written_of(kind)
    found, base = merged(root), load_file(root / "base/model.safetensors")
    assert found.keys() >= base.keys()
    for name, tensor in found.items():
        assert relative_rms(tensor, expected[name]) < TOLERANCE, name
    assert any(not torch.equal(found[name], base[name]) for name in base)


@of_every_kind
def test_exactly_one_reader_says_yes_and_gives_it_its_name(kind: str, written_of: WrittenOf) -> None:
    files = folder_source(str(written_of(kind)[0] / "adapter")).files
    found = inspect(files)
    assert (found.kind, found.format, found.reason) == ("delta", PUBLISHED[kind][0], None)
    assert sum(found.format == reader.NAME and reader.recognises(files) for reader in READERS) == 1


@of_every_kind
def test_it_fits_its_base_and_is_as_large_as_what_it_changes(kind: str, written_of: WrittenOf) -> None:
    root, expected = written_of(kind)
    source, weights = folder_source(str(root / "base")), load_file(root / "base/model.safetensors")
    artefact, base = read(folder_source(str(root / "adapter")).files), read(source.files).tensors
    settled = artefact if artefact.settle is None else artefact.settle(base)
    held = fit(settled, {name: stored.spec.shape for name, stored in base.items()}, model_type(source))
    assert held.fits, held.misfits
    for name, delta in held.deltas.items():
        facts = Measuring(base).facts(name, delta)
        change = expected[name].double() - weights[name].double()
        # What the library has merged is rounded to float32: a change is known to within the weight's last bit.
        assert facts.norm == pytest.approx(float(change.norm()), rel=1e-4, abs=1e-6 * float(weights[name].norm())), name
        assert facts.density is None or facts.density >= float((change != 0).double().mean()) - 1e-9, name


@of_every_kind
def test_half_of_a_weight_is_half_of_the_delta(kind: str, written_of: WrittenOf) -> None:
    root, expected = written_of(kind)
    base = load_file(root / "base/model.safetensors")
    half = built(root, mix("adapter", weights=(0.5,), base="base", method="task_arithmetic"))
    for name in base:
        assert relative_rms(half[name], (base[name].double() + expected[name].double()) / 2) < TOLERANCE, name


@of_every_kind
def test_every_tensor_has_a_say_or_is_missed(kind: str, written_of: WrittenOf, tmp_path: Path) -> None:
    """Without any one of its tensors an adapter is refused, or gives something else."""
    root, whole = written_of(kind)[0], merged(written_of(kind)[0])
    names = sorted(name for name in load_file(weights_of(root / "adapter")) if not _may_be_left_out(name))
    for name in names[:: max(len(names) // 5, 1)]:
        copy = changed(root, tmp_path / str(names.index(name)), lambda t, n=name: {k: t[k] for k in t if k != n})
        try:
            less = merged(copy)
        except InputError:
            continue
        assert any(k not in less or not torch.equal(less[k], whole[k]) for k in whole), name


def _may_be_left_out(name: str) -> bool:
    """A copy of the base's own weight; an alpha, which is any one number, and of no say where it is the rank."""
    return ".base_layer." in name or name.endswith(".alpha")


@of_every_kind
def test_a_tensor_of_unknown_meaning_is_refused_by_name(kind: str, written_of: WrittenOf, tmp_path: Path) -> None:
    root, _ = written_of(kind)
    name = sorted(load_file(weights_of(root / "adapter")))[0]
    extra = name.rpartition(".")[0] + "_quux.weight"
    copy = changed(root, tmp_path / "copy", lambda tensors: tensors | {extra: torch.ones(2, 2)})
    with pytest.raises(InputError, match=r"quux|nothing in") as caught:
        merged_strictly(copy, extra)
    assert "quux" in str(caught.value)


def merged_strictly(root: Path, extra: str) -> None:
    """Merges; a name that is not part of a delta is a trained copy, which comes along by its own name."""
    found = merged(root)
    if any("quux" in name for name in found):
        raise RecipeError("kept", found=extra)


@of_every_kind
def test_a_module_that_the_base_lacks_is_refused_with_the_nearest_names(
    kind: str, written_of: WrittenOf, tmp_path: Path
) -> None:
    root, _ = written_of(kind)
    copy = changed(root, tmp_path / "copy", lambda tensors: {_misspelt(name): t for name, t in tensors.items()})
    with pytest.raises(RecipeError, match=r"lands on no tensor of the base.*expected one of '"):
        merged(copy)


def _misspelt(name: str) -> str:
    """The name with another module in it, its ending kept: the module's letters turned around."""
    return re.sub(r"(attention|q_proj|two|point|c_attn|attn2|0_to_q)(?=[._])", lambda found: found[1][::-1] + "x", name)


@of_every_kind
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 1, 1, 1, 3)])
def test_a_part_of_another_shape_is_refused_by_name(
    kind: str, shape: tuple[int, ...], written_of: WrittenOf, tmp_path: Path
) -> None:
    root, _ = written_of(kind)
    names = sorted(name for name in load_file(weights_of(root / "adapter")) if not _may_be_left_out(name))
    for position, name in enumerate(names[:2]):
        copy = changed(root, tmp_path / str(position), lambda t, n=name: t | {n: torch.ones(shape)})
        with pytest.raises((FileError, RecipeError)) as caught:
            merged(copy)
        assert len(str(caught.value)) < 1000


@of_every_kind
def test_parts_of_integers_are_refused(kind: str, written_of: WrittenOf, tmp_path: Path) -> None:
    copy = changed(written_of(kind)[0], tmp_path / "copy", lambda tensors: {k: t.long() for k, t in tensors.items()})
    with pytest.raises((FileError, RecipeError), match="int64"):
        merged(copy)


@of_every_kind
def test_half_precision_parts_are_multiplied_in_float32(kind: str, written_of: WrittenOf, tmp_path: Path) -> None:
    root, _ = written_of(kind)
    half = changed(root, tmp_path / "half", lambda tensors: {k: t.bfloat16() for k, t in tensors.items()})
    full = changed(root, tmp_path / "full", lambda tensors: {k: t.bfloat16().float() for k, t in tensors.items()})
    one, other = merged(half, threads=1), merged(full, threads=2)
    assert all(torch.equal(one[name].float(), other[name].float()) for name in other)


@of_every_kind
def test_numbers_that_overflow_are_refused_with_the_tensor_and_no_warning(
    kind: str, written_of: WrittenOf, tmp_path: Path
) -> None:
    """Warnings are errors here."""
    root, _ = written_of(kind)
    name = sorted(name for name in load_file(weights_of(root / "adapter")) if not _may_be_left_out(name))[-1]
    copy = changed(root, tmp_path / "copy", lambda tensors: tensors | {name: torch.full_like(tensors[name], 3e38)})
    refusal = _refusal(copy)
    assert refusal is None or re.search(r"tensor '.*': a (merged value is too large|value is not finite)", refusal)


def _refusal(root: Path) -> str | None:
    """Why the adapter is not merged; None for one that is, into finite weights."""
    try:
        found = merged(root)
    except FileError as error:
        return str(error)
    assert all(tensor.isfinite().all() for tensor in found.values())
    return None
