"""The weighted sum in numba: four models a pass, over a stretch of the output that stays in the L1 cache."""

from typing import Any

from kernels.checks import Floats
from kernels.compiled import inlined, uncounted

STRETCH = 2048


@inlined
def _first(a: Any, x: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = a * x[i]


@inlined
def _first_two(a: Any, b: Any, x: Any, y: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = a * x[i] + b * y[i]


@inlined
def _first_four(w: Any, p: Any, q: Any, r: Any, s: Any, out: Any) -> None:
    a, b, c, d = w[0], w[1], w[2], w[3]
    for i in range(out.size):
        out[i] = ((a * p[i] + b * q[i]) + c * r[i]) + d * s[i]


@inlined
def _next(a: Any, x: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = out[i] + a * x[i]


@inlined
def _next_four(w: Any, p: Any, q: Any, r: Any, s: Any, out: Any) -> None:
    a, b, c, d = w[0], w[1], w[2], w[3]
    for i in range(out.size):
        out[i] = (((out[i] + a * p[i]) + b * q[i]) + c * r[i]) + d * s[i]


@uncounted
def weighted_sum(stack: Floats, weights: Floats, out: Floats) -> None:
    models = weights.size
    for lo in range(0, out.size, STRETCH):
        hi = min(lo + STRETCH, out.size)
        part = out[lo:hi]
        if models >= 4:
            _first_four(weights, stack[0, lo:hi], stack[1, lo:hi], stack[2, lo:hi], stack[3, lo:hi], part)
            k = 4
        elif models >= 2:
            _first_two(weights[0], weights[1], stack[0, lo:hi], stack[1, lo:hi], part)
            k = 2
        else:
            _first(weights[0], stack[0, lo:hi], part)
            k = 1
        while k + 4 <= models:
            rest = stack[k : k + 4, lo:hi]
            _next_four(weights[k : k + 4], rest[0], rest[1], rest[2], rest[3], part)
            k += 4
        while k < models:
            _next(weights[k], stack[k, lo:hi], part)
            k += 1
