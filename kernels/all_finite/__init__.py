"""Whether stored elements hold no NaN and no infinity."""

from typing import Any

from numpy.typing import NDArray

from kernels.all_finite import cpu
from kernels.checks import check_array
from kernels.dispatch import operation
from kernels.storage import storage_dtype
from kernels.stored_rows import Rows, table_of


@operation
def all_finite(raw: NDArray[Any], label: str) -> bool:
    """True when no element of the 1-D storage array (see `kernels.storage`) is NaN or infinite; true of none at all."""
    check_array("raw", raw, storage_dtype(label), (None,))
    return bool(cpu.ALL_FINITE[label](raw))


@operation
def rows_are_finite(rows: Rows) -> bool:
    """True when no float32 of `rows` [models, elements] is NaN or infinite; true of none at all."""
    table, models, size = table_of("rows", rows)
    return bool(cpu.rows_are_finite(table, models, size))
