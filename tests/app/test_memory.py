"""What does not fit is refused before anything is queued; what fits is built with no more threads than fit."""

from pathlib import Path
from typing import Any

import pytest

from app.memory import PROCESS_BYTES, threads_within
from app.settings import Settings
from merge_core.errors import InputError
from tests.app.jobs.kitchen import Kitchen, kitchen

MIB = 1 << 20


@pytest.mark.parametrize(("text", "nbytes"), [("1GiB", 1 << 30), ("512 MiB", 512 * MIB), ("2000000000", 2 * 10**9)])
def test_memory_is_said_with_a_unit_or_in_bytes(text: str, nbytes: int) -> None:
    settings = Settings.from_environment({"STOCKPOT_MEMORY_BYTES": text})
    assert settings.memory_bytes == nbytes
    assert Settings.from_environment(settings.environment()) == settings


@pytest.mark.parametrize("text", ["much", "1MiB", "-2GiB", "0", "1e400GiB"])
def test_memory_that_is_no_size_or_too_little_for_any_process_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="STOCKPOT_MEMORY_BYTES"):
        Settings.from_environment({"STOCKPOT_MEMORY_BYTES": text})


def test_workers_of_one_machine_share_its_memory(tmp_path: Path) -> None:
    assert Settings(data=tmp_path, memory_bytes=900 * MIB, workers=3).build_bytes == 300 * MIB
    assert Settings(data=tmp_path, memory_bytes=900 * MIB, workers=0).build_bytes == 900 * MIB


def test_as_many_threads_work_as_fit(tmp_path: Path) -> None:
    with kitchen(tmp_path / "data") as place:
        plan = place.plan()
        room: list[Any] = [None, PROCESS_BYTES, PROCESS_BYTES + 3 * plan.memory_bytes, 1 << 40]
        assert [threads_within(plan, 8, memory_bytes) for memory_bytes in room] == [8, 1, 3, 8]


def test_a_worker_with_less_memory_than_who_planned_fails_the_job_by_name(tmp_path: Path) -> None:
    with kitchen(tmp_path / "data") as place:
        small = Kitchen(place.settings.model_copy(update={"memory_bytes": PROCESS_BYTES}))
        composition = place.compose()
        small.start("worker")
        place.wait(lambda: not place.composition(composition).is_open)
        error = place.composition(composition).error
        small.close()
    assert error is not None
    assert (error["type"], error["where"]) == ("CapacityError", "tensor 'layer.0.weight'")
    assert error["message"].startswith("task_arithmetic needs more memory")
