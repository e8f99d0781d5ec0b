from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.jobs.kitchen import Kitchen, kitchen


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Kitchen]:
    with kitchen(tmp_path / "data") as ready:
        yield ready
