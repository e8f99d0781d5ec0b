import subprocess
import sys

RUN_EVERYTHING = """
import sys
import numpy as np
from kernels.gram import gram
from kernels.kth_magnitude import kth_magnitude
from kernels.low_rank_add import low_rank_add
from kernels.philox import uniform
from kernels.storage import add_scaled_narrow, narrow, widen, widen_difference
from kernels.trim_elect import sign_balance, trim_elect
from kernels.weighted_sum import weighted_sum

x = np.ones((2, 10), np.float32)
one = np.ones(2, np.float32)
raw = narrow(x[0], "bfloat16")
widen(raw, label="bfloat16")
widen_difference(raw, "bfloat16", x[0])
add_scaled_narrow(x[0], x[1], 1.0, "float16")
weighted_sum(stack=x, weights=one)
gram(x)
kth_magnitude(x[0], 3)
trim_elect(x, one, one, np.zeros(2, np.int64), 0)
sign_balance(x, one, one, np.zeros(2, np.int64), 0)
low_rank_add(x[0], 5, 0, np.ones((2, 1), np.float32), np.ones((1, 5), np.float32), 1.0)
uniform(0, "a", 0, 0, x[0])
assert "torch" not in sys.modules
"""


def test_no_kernel_on_numpy_arrays_imports_torch():
    done = subprocess.run([sys.executable, "-c", RUN_EVERYTHING], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
