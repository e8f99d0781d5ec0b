"""LAPACK under control: on one thread, alone, and its failures as errors that name the tensor."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
from threadpoolctl import ThreadpoolController

from merge_core.errors import UnsupportedError


class Serial:
    """LAPACK's bytes depend on its number of threads, which is the process's: a place where one at a time uses one.

    It enters and leaves in the same thread, because threadpoolctl lets no other thread change the number meanwhile.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._controller: ThreadpoolController | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold BLAS and LAPACK to one thread, alone."""
        with self._lock, self.libraries().limit(limits=1, user_api="blas"):
            yield

    def libraries(self) -> ThreadpoolController:
        """The libraries that the process has loaded, looked for once: it takes milliseconds."""
        self._controller = self._controller or ThreadpoolController()
        return self._controller


serial = Serial()


@contextmanager
def decomposing(tensor: str, method: str) -> Iterator[None]:
    """LAPACK on one thread, alone. Raises UnsupportedError for a tensor whose singular values it does not find."""
    with serial():
        try:
            yield
        except np.linalg.LinAlgError as error:
            message, expected = "the decomposition fails", "a rule in `tensors` that takes it from the base, or no SVD"
            found = f"{error}, in {method}"
            raise UnsupportedError(message, where=f"tensor '{tensor}'", found=found, expected=expected) from error
