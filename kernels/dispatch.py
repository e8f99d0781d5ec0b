"""Where an operation runs: numpy arrays and CPU tensors in numba, tensors elsewhere in Triton or plain torch.

The only place that asks what device an argument is on. torch is never imported here: an argument can only
be a tensor if somebody has imported it already.
"""

import sys
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def operation(on_arrays: Callable[P, R]) -> Callable[P, R]:
    """`on_arrays`, written for numpy, taking torch tensors as well.

    CPU tensors share their memory with the kernel and a tensor comes back. For tensors on another device
    the function of the same name in the folder's `triton_kernel.py`, or else `reference.py`, is called.
    """

    @wraps(on_arrays)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for value in args:
            if type(value) is np.ndarray:  # the hot path: one look, no torch
                return on_arrays(*args, **kwargs)
        return _dispatch(on_arrays, args, kwargs)

    return call


def _dispatch(on_arrays: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    devices = {value.device.type for value in (*args, *kwargs.values()) if _is_tensor(value)}
    if devices - {"cpu"}:
        return device_version(on_arrays.__module__, on_arrays.__name__)(*args, **kwargs)  # type: ignore[no-any-return]
    return _on_shared_memory(on_arrays, args, kwargs) if devices else on_arrays(*args, **kwargs)


@cache
def device_version(folder: str, name: str) -> Callable[..., Any]:
    """The function that runs an operation away from the CPU."""
    triton = f"{folder}.triton_kernel"
    module = import_module(triton if find_spec(triton) else f"{folder}.reference")
    return getattr(module, name)  # type: ignore[no-any-return]


def _on_shared_memory(on_arrays: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    arrays = [_as_array(value) for value in args]
    named = {key: _as_array(value) for key, value in kwargs.items()}
    result = on_arrays(*arrays, **named)
    for given, array in zip((*args, *kwargs.values()), (*arrays, *named.values()), strict=True):
        if array is result:
            return given
    return sys.modules["torch"].from_numpy(result) if isinstance(result, np.ndarray) else result


def _as_array(value: Any) -> Any:
    if not _is_tensor(value):
        return value
    torch = sys.modules["torch"]
    tensor = value.detach()
    is_half = tensor.dtype in (torch.bfloat16, torch.float16)
    return (tensor.view(torch.uint16) if is_half else tensor).numpy()


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
