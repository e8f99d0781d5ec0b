import re
from pathlib import Path

import pytest

from tests.benchmarks.adapters import adapter_lines


@pytest.mark.slow
def test_adapters_of_one_base_are_published_known_and_counted(tmp_path: Path) -> None:
    speed, sizes = adapter_lines(tmp_path, count=16)
    assert float(re.findall(r"([\d.]+) a second", speed)[0]) > 0
    [share] = re.findall(r"\(([\d.]+) of them\)", sizes)
    assert 0.9 < float(share) < 1, "the configuration is the same in all of them"
