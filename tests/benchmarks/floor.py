"""The least a merge can do: read every byte of all inputs once and write one output, on every core.

python floor.py OUT INPUT...
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

BLOCK = 1 << 17
"""Bytes at a time: a buffer that stays in the cache. With 4 MiB the same work took five times the CPU time."""


def main(out: str, *inputs: str) -> None:
    """Write to `out` as many bytes as the first input has."""
    sources = [os.open(path, os.O_RDONLY) for path in inputs]
    target = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    size, threads = os.fstat(sources[0]).st_size, len(os.sched_getaffinity(0))
    # Into a file that is sparse, threads that write by turns took from two to ten times as long.
    os.posix_fallocate(target, 0, size)

    def copy(first: int) -> None:
        buffer = bytearray(BLOCK)
        for start in range(first * BLOCK, size, threads * BLOCK):
            for source in sources:
                got = os.preadv(source, [buffer], start)
            os.pwrite(target, memoryview(buffer)[:got], start)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(copy, range(threads)))


if __name__ == "__main__":
    main(*sys.argv[1:])
