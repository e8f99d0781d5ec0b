from concurrent.futures import ThreadPoolExecutor
from time import sleep

import numpy as np
from rich.progress import Progress

from app.command.label import Label
from kernels.compiled import inlined


def test_a_bar_that_cannot_move_yet_says_that_kernels_are_compiled() -> None:
    bar, label, seen = Progress(), Label(), set()
    bar.add_task("merging mix")
    [task] = bar.tasks
    kernel = inlined(lambda x: np.sqrt(x) + x)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(kernel, 4.0)
        while not call.done():
            seen.add(label.render(task).plain)
            sleep(0.001)
    assert call.result() == 6.0
    assert "compiling kernels (once)" in seen
    assert label.render(task).plain == "merging mix"
