"""Whether contestants computed the same thing: a fast wrong answer wins no race."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from tests.benchmarks.contest import Contestant

SAMPLED = "model.layers.0.self_attn.q_proj.weight"


class Agreement:
    """The first result's sample of each contestant, for comparison with one of them."""

    def __init__(self) -> None:
        self._samples: dict[str, Tensor] = {}

    def inspect(self, contestant: Contestant) -> None:
        """Keep one tensor of what the contestant has just written, where it is a model."""
        found = next(_samples(contestant.out), None)
        if found is not None:
            self._samples[contestant.name] = found

    def difference(self, name: str, reference: str) -> float | None:
        """RMS of the difference over RMS of the reference."""
        if name not in self._samples or reference not in self._samples:
            return None
        expected = self._samples[reference]
        return float((self._samples[name] - expected).norm() / expected.norm())


def _samples(out: Path) -> Iterator[Tensor]:
    for path in sorted(out.glob("*.safetensors")) if out.is_dir() else [out]:
        with safe_open(path, "pt") as file:
            if SAMPLED in file.keys():  # noqa: SIM118 (an open safetensors file is no dict)
                yield file.get_tensor(SAMPLED).to(torch.float64)
