"""The demo's encoder tuned in full on a task, as people do it, and kept against the encoder as it was."""

from collections.abc import Iterator
from pathlib import Path

import torch

from tests.benchmarks.packing import DTYPES, packing_line
from tests.demo.encoder import Encoder, base_folder
from tests.demo.tasks import class_names, read_split
from tests.demo.train import SEED, Course, fit

TASK = "intent"
COURSE = Course(epochs=1, rate=2e-5)
"""A usual rate for tuning an encoder of this size."""


def real_packing_lines(work: Path, course: Course = COURSE) -> Iterator[str]:
    """A line for each type of weights, of one fine-tune that takes about a minute to make."""
    before, after = _weights(Encoder.load(base_folder())), _weights(tuned(course))
    for dtype in DTYPES:
        cast = [{name: tensor.to(dtype) for name, tensor in tensors.items()} for tensors in (before, after)]
        yield packing_line(f"{TASK} encoder, tuned in full", *cast, work)


def tuned(course: Course) -> Encoder:
    """The encoder with every weight fitted to the task."""
    torch.manual_seed(SEED)
    expert = Encoder.load(base_folder())
    names = class_names(TASK)
    fit(expert, expert.encode(names).clone(), names, read_split(TASK, "train"), course)
    return expert


def _weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    state = encoder.model.state_dict()
    return {name: tensor.detach().clone() for name, tensor in state.items() if tensor.is_floating_point()}
