import re
from pathlib import Path

from tests.benchmarks.packing import packing_lines


def test_the_lines_on_packed_fine_tunes_beat_a_general_compressor(tmp_path: Path) -> None:
    lines = list(packing_lines(tmp_path, elements=1 << 20))
    times = [[float(found) for found in re.findall(r"([\d.]+) times", line)] for line in lines]
    assert len(times) == 2
    assert all(packed > general for packed, general in times)
