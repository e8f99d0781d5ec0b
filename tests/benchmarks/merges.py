"""The merges that are timed: each as a recipe of stockpot's, in mergekit's words, and, where short, in plain torch."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

from merge_core.methods import catalogue
from tests.benchmarks.contest import Contestant, Task
from tests.benchmarks.measure import BenchmarkError
from tests.benchmarks.models import WEIGHTS_NAME, Shape
from tests.benchmarks.peer import OPTIONS, Peer

HERE = Path(__file__).parent
OURS, FLOOR, COPY, TORCH, PEER = "stockpot", "floor", "cp", "plain torch", "mergekit"

Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Merge:
    """One merge, asked of both in their own words. `name` is mergekit's for it."""

    name: str
    method: Parameters
    has_base: bool = True
    models: int = 4
    weight: float | None = 1.0
    scale: float = 1.0
    peer_parameters: Parameters = field(default_factory=dict)
    in_plain_torch: bool = False

    def recipe(self, base: Path, models: list[Path]) -> Parameters:
        """Stockpot's recipe."""
        weight = {} if self.weight is None else {"weight": self.weight}
        ingredients = [{"source": str(model)} | weight for model in models]
        scale = {"scale": self.scale} if self.has_base else {}
        return {"method": self.method, "ingredients": ingredients} | scale | self._base("base", base)

    def peer_config(self, base: Path, models: list[Path]) -> Parameters:
        """mergekit's."""
        weight = {} if self.weight is None else {"weight": self.weight}
        entries = [{"model": str(model), "parameters": weight} for model in models]
        # Its slerp calls the first of its two models the base.
        base_model = {"base_model": str(models[0])} if self.name == "slerp" else self._base("base_model", base)
        parameters = self.peer_parameters | ({"lambda": self.scale} if self.has_base else {})
        config = {"merge_method": self.name, "dtype": "bfloat16", "models": entries, "parameters": parameters}
        return config | base_model

    def _base(self, key: str, base: Path) -> Parameters:
        return {key: str(base)} if self.has_base else {}


MERGES = (
    Merge("linear", {"name": "linear"}, has_base=False, in_plain_torch=True),
    Merge("task_arithmetic", {"name": "task_arithmetic"}, weight=0.5),
    Merge("slerp", {"name": "slerp", "t": 0.5}, has_base=False, models=2, weight=None, peer_parameters={"t": 0.5}),
    Merge("ties", {"name": "ties", "density": 0.2}, peer_parameters={"density": 0.2}, in_plain_torch=True),
    Merge(
        "dare_ties",
        {"name": "dare_ties", "density": 0.5, "aggregate": "sum"},
        peer_parameters={"density": 0.5},
    ),
    # Its epsilon is half of the paper's and ours.
    Merge(
        "della",
        {"name": "della", "density": 0.5, "epsilon": 0.2},
        peer_parameters={"density": 0.5, "epsilon": 0.1},
    ),
    Merge("sce", {"name": "sce", "select_topk": 0.2}, weight=None, peer_parameters={"select_topk": 0.2}),
    Merge("karcher", {"name": "karcher"}, has_base=False, weight=None),
    Merge("model_stock", {"name": "model_stock"}, weight=None),
)


def what_is_missing(merge: Merge) -> str | None:
    """Why stockpot cannot do the merge today, by its own catalogue; None where it can."""
    entry = next((entry for entry in catalogue() if entry["name"] == merge.method["name"]), None)
    if entry is None:
        return f"stockpot has no method {merge.method['name']!r} yet"
    unknown = sorted(set(merge.method) - {"name"} - set(entry["parameters"]))
    return f"stockpot's {entry['name']} has no parameter {', '.join(unknown)}" if unknown else None


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the models are, where to write, and the peer, if there is one."""

    shape: Shape
    models: list[Path]
    work: Path
    peer: Peer | None

    def task(self, merge: Merge, *, label: str | None = None, with_floor: bool = True) -> Task:
        """All contestants at one merge."""
        read = self.models[1 : merge.models + 1]
        files = [model / WEIGHTS_NAME for model in ([self.models[0], *read] if merge.has_base else read)]
        contestants = [self._ours(merge, read), *self._torch(merge, files)]
        contestants += self._floor(files) if with_floor else []
        contestants += self._peer(merge, read)
        moved = self.shape.file_bytes * (len(files) + 1)
        shape = f"{len(files)} × {self.shape.name}"
        return Task(label or merge.name, shape, "bf16", moved, tuple(contestants), tuple(files))

    def _ours(self, merge: Merge, read: list[Path]) -> Contestant:
        recipe = self._write(f"{merge.name}-stockpot.yaml", merge.recipe(self.models[0], read))
        out = self.work / "out"
        return Contestant(OURS, (stockpot(), "merge", str(recipe), str(out), "--no-fsync"), out)

    def _peer(self, merge: Merge, read: list[Path]) -> Iterator[Contestant]:
        if self.peer is not None:
            config = self._write(f"{merge.name}-mergekit.yaml", merge.peer_config(self.models[0], read))
            out = self.work / "out"
            yield Contestant(PEER, (str(self.peer.command), str(config), str(out), *OPTIONS), out)

    def _torch(self, merge: Merge, files: list[Path]) -> Iterator[Contestant]:
        if merge.in_plain_torch:
            out = self.work / "out.safetensors"
            program = str(HERE / "plain_torch.py")
            yield Contestant(TORCH, (sys.executable, program, merge.name, str(out), *map(str, files)), out)

    def _floor(self, files: list[Path]) -> Iterator[Contestant]:
        out = self.work / "copy.safetensors"
        yield Contestant(FLOOR, (sys.executable, "-S", str(HERE / "floor.py"), str(out), *map(str, files)), out)
        yield Contestant(COPY, ("cp", str(files[0]), str(out)), out)

    def _write(self, name: str, content: Parameters) -> Path:
        """JSON is YAML too."""
        path = self.work / f"{self.shape.name}-{name}"
        path.write_text(json.dumps(content, indent=1))
        return path


def stockpot() -> str:
    """The installed command, beside the Python that runs this or on the path."""
    beside = Path(sys.executable).with_name("stockpot")
    found = str(beside) if beside.exists() else which("stockpot")
    if found is None:
        raise BenchmarkError("the command stockpot is not installed: pip install -e .")
    return found


def chosen(names: list[str] | None, say: Callable[[str], None]) -> list[Merge]:
    """The merges of those names, or all, without those that stockpot does not have: `say` tells of each."""
    unknown = sorted(set(names or ()) - {merge.name for merge in MERGES})
    if unknown:
        raise BenchmarkError(f"no merge {', '.join(unknown)}; expected {', '.join(merge.name for merge in MERGES)}")
    wanted = [merge for merge in MERGES if names is None or merge.name in names]
    for merge in wanted:
        if what_is_missing(merge):
            say(f"{merge.name} is left out: {what_is_missing(merge)}")
    return [merge for merge in wanted if not what_is_missing(merge)]
