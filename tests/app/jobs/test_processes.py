import os
import subprocess
import sys

from app.jobs.processes import is_known_dead, new_worker_name

NAME = "from app.jobs.processes import new_worker_name; print(new_worker_name())"


def test_a_worker_is_known_dead_when_its_process_is_gone() -> None:
    ended = subprocess.run([sys.executable, "-c", NAME], check=True, capture_output=True, text=True).stdout.strip()
    assert is_known_dead(ended)
    assert not is_known_dead(new_worker_name())


def test_nothing_is_known_of_workers_elsewhere() -> None:
    for name in ("0" * 12 + "-1-abcd", f"host-{os.getpid()}", "", "x", f"{new_worker_name().partition('-')[0]}-x-y"):
        assert not is_known_dead(name)
