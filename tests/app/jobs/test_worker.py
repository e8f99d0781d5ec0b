import subprocess
import sys

SCRIPT = """
import sys, threading
from app.jobs.worker import preload
preload()
assert "app.jobs.build" in sys.modules
assert "torch" not in sys.modules and "triton" not in sys.modules, "the parent must not touch a GPU before a fork"
assert threading.active_count() == 1, "threads do not live through a fork"
"""


def test_a_worker_has_everything_loaded_and_neither_torch_nor_threads() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
