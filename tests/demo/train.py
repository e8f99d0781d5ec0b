"""Trains the three experts anew: `python -m tests.demo.train [TASK ...]`, about a minute each on two cores."""

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional

from tests.demo.encoder import Encoder, base_folder
from tests.demo.score import accuracy
from tests.demo.tasks import EXPERTS, TASKS, Example, class_names, read_split

BASE_REPO = "stock/minilm"
BATCH = 32
SEED = 0
# Cosines become logits: a smaller factor asks for wider margins, hence for larger deltas.
TEMPERATURE = 20.0
RANK, ALPHA = 8, 16
ADAPTED = ["query", "value"]


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast an expert learns; the rate rises over the first tenth and falls to zero."""

    epochs: int
    rate: float


COURSES = {"intent": Course(3, 2e-3), "language": Course(3, 2e-3), "sentiment": Course(2, 1e-3)}


def train(task: str, course: Course, folder: Path) -> Encoder:
    """Fit the task's adapter to the class names' frozen vectors and save it the way `peft` does."""
    torch.manual_seed(SEED)
    base = Encoder.load(base_folder())
    names, examples = class_names(task), read_split(task, "train")
    head = base.encode(names).clone()
    # eval() turns the base's own dropout off: with so few steps it only adds noise.
    expert = Encoder(
        get_peft_model(base.model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=ADAPTED)).eval(), base.tokenizer
    )
    fit(expert, head, names, examples, course)
    _save(expert, folder)
    return expert


def fit(expert: Encoder, head: Tensor, names: Sequence[str], examples: list[Example], course: Course) -> None:
    """Move those weights that want gradients until texts lie near the vectors of their classes."""
    rng = random.Random(SEED)
    batches = [batch for _ in range(course.epochs) for batch in _batches(examples, rng)]
    weights = [weight for weight in expert.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=course.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, course.rate, total_steps=len(batches), pct_start=0.1)
    for batch in batches:
        optimizer.zero_grad()
        torch.autograd.backward(_loss(expert, head, names, batch))
        optimizer.step()
        schedule.step()


def _loss(expert: Encoder, head: Tensor, names: Sequence[str], batch: Sequence[Example]) -> Tensor:
    wanted = torch.tensor([names.index(example.label) for example in batch])
    cosines = expert.embed([example.text for example in batch]) @ head.T
    return functional.cross_entropy(cosines * TEMPERATURE, wanted)


def _batches(examples: Sequence[Example], rng: random.Random) -> Iterator[list[Example]]:
    """One epoch in random order; texts of like length share a batch, so that little of it is padding."""
    shuffled, pool = rng.sample(list(examples), len(examples)), BATCH * 8
    pools = [sorted(shuffled[at : at + pool], key=lambda e: len(e.text)) for at in range(0, len(shuffled), pool)]
    batches = [part[at : at + BATCH] for part in pools for at in range(0, len(part), BATCH)]
    rng.shuffle(batches)
    yield from batches


def _save(expert: Encoder, folder: Path) -> None:
    expert.model.save_pretrained(folder)
    (folder / "README.md").unlink()  # peft's empty model card
    config = folder / "adapter_config.json"
    # peft records the base's folder on this machine, and the modules in the order of a set.
    corrected = json.loads(config.read_text()) | {"base_model_name_or_path": BASE_REPO, "target_modules": ADAPTED}
    config.write_text(json.dumps(corrected, indent=2, sort_keys=True) + "\n")


def main(tasks: Sequence[str]) -> None:
    for task in tasks or TASKS:
        start = time.perf_counter()
        expert = train(task, COURSES[task], EXPERTS / task)
        seconds = time.perf_counter() - start
        names = class_names(task)
        head = Encoder.load(base_folder()).encode(names)
        print(f"{task}: {accuracy(expert, head, names, read_split(task, 'test')):.3f} held out, {seconds:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
