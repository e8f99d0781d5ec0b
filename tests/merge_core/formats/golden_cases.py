"""Golden cases of formats: with the files that the originals saved, and by method where folders hold several."""

import json
from pathlib import Path

import torch

from tests.merge_core.test_golden import GOLDEN
from tests.merge_core.test_golden import Case as GoldenCase


class Case(GoldenCase):
    """One case of a format."""

    def files(self) -> list[Path]:
        return [GOLDEN / Path(self.name).parent / name for name in self.sidecar.get("files", [])]

    def check_close(self, found: torch.Tensor, expected: torch.Tensor) -> None:
        """As the sidecar compares."""
        limits = self.sidecar["compare"]
        torch.testing.assert_close(found.double(), expected.double(), rtol=limits["rtol"], atol=limits["atol"])


def cases(method: str, *, failing: bool = False) -> list[Case]:
    """The cases of a method; those where the original fails, or all others."""
    found = []
    for path in sorted(GOLDEN.glob("*/*.json")):
        sidecar = json.loads(path.read_text())
        if isinstance(sidecar, dict) and sidecar.get("method") == method and ("expect" in sidecar) == failing:
            found.append(Case(sidecar["id"]))
    return found
