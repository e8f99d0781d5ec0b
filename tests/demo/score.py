"""Held-out accuracy of an encoder: a text's class is the class name whose vector, by the frozen base, is nearest."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from peft import PeftModel
from torch import Tensor

from tests.demo.encoder import Encoder
from tests.demo.tasks import TASKS, Example, class_names, read_split

Heads = Mapping[str, Tensor]
Scores = dict[str, float]


def make_heads(base: Encoder) -> Heads:
    """For each task its class names' vectors, the same for every model that is scored."""
    return {task: base.encode(class_names(task)) for task in TASKS}


def score(encoder: Encoder, heads: Heads, split: str = "test", every: int = 1) -> Scores:
    """The share of right answers in [0, 1] for each task, over every `every`-th text of the split."""
    texts = {task: read_split(task, split)[::every] for task in TASKS}
    return {task: accuracy(encoder, heads[task], class_names(task), texts[task]) for task in TASKS}


def accuracy(encoder: Encoder, head: Tensor, names: Sequence[str], examples: Sequence[Example]) -> float:
    vectors = encoder.encode([example.text for example in examples])
    nearest: list[int] = (vectors @ head.T).argmax(dim=1).tolist()
    right = sum(names[index] == example.label for index, example in zip(nearest, examples, strict=True))
    return right / len(examples)


def mean(scores: Scores) -> float:
    return sum(scores.values()) / len(scores)


def load_expert(base_folder: Path, adapter: Path) -> Encoder:
    """The base with the adapter on it, as `peft` computes it."""
    base = Encoder.load(base_folder)
    return Encoder(PeftModel.from_pretrained(base.model, str(adapter)).eval(), base.tokenizer)
