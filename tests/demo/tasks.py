"""The three tasks of the demo: labelled texts, and the class names that serve as the frozen head."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TASKS = ("intent", "language", "sentiment")
HERE = Path(__file__).parent
DATA = HERE / "data"
EXPERTS = HERE / "experts"


@dataclass(frozen=True, slots=True)
class Example:
    """A text, its class name, and the template or snippet it comes from (no group is in both splits)."""

    label: str
    group: str
    text: str


def read_split(task: str, split: str) -> list[Example]:
    """Examples of the split "train" or "test"."""
    lines = (DATA / f"{task}.{split}.tsv").read_text(encoding="utf-8").splitlines()
    return [Example(*line.split("\t")) for line in lines]


def write_split(path: Path, examples: Iterable[Example]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{e.label}\t{e.group}\t{e.text}\n" for e in examples), encoding="utf-8")


def class_names(task: str) -> list[str]:
    """Every label of the task, sorted."""
    return sorted({example.label for example in read_split(task, "train")})
