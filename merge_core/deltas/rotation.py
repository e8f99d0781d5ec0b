"""Weights whose inputs are rotated, block by block: OFT and BOFT."""

from dataclasses import dataclass, field, replace
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from kernels.low_rank_add import low_rank_add
from kernels.storage import widen
from merge_core.deltas.contract import Reads, Rows, unbounded
from merge_core.stored import StoredTensor

Blocks = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cayley:
    """How a skew-symmetric block Q becomes a rotation: (I − Q)(I + Q)⁻¹, or its power series cut off.

    With `most`, Q is first shortened to that norm divided by the root of the number of blocks (COFT).
    """

    terms: int | None = None
    most: float | None = None

    def rotations(self, skew: Blocks) -> Blocks:
        """One for each block, not finite where numbers are too large for float64 or have no solution."""
        with unbounded():
            return self._rotations(skew)

    def _rotations(self, skew: Blocks) -> Blocks:
        skew = skew if self.most is None else _shortened(skew, self.most / sqrt(len(skew)))
        one = np.broadcast_to(np.eye(skew.shape[-1]), skew.shape)
        if self.terms is not None:
            return _series(one, skew, self.terms)
        # X (I + Q) = I − Q, as (I + Q)ᵀ Xᵀ = (I − Q)ᵀ with Qᵀ = −Q.
        try:
            solved = np.linalg.solve(one - skew, one + skew)
        except np.linalg.LinAlgError:
            return np.full_like(skew, np.nan)
        return solved.astype(np.float64, copy=False).transpose(0, 2, 1)


@dataclass(frozen=True, slots=True, eq=False)
class BlockRotation:
    """W = base · Mᵀ, M of rotations along its diagonal; base · M for an embedding, whose outputs are rotated.

    `stored` is [blocks, n], each row the upper triangle of a skew-symmetric block, or one row for all blocks.
    Qiu et al., 2023, https://arxiv.org/abs/2306.07280, section 3.2; Liu et al., 2024, arXiv 2506.19847.
    """

    stored: StoredTensor
    cayley: Cayley
    shape: tuple[int, ...]
    is_embedding: bool = False
    is_shared: bool = False
    kind = "rotation"
    reads: Reads = field(default="row", init=False)

    @property
    def nbytes(self) -> int:
        return self.stored.spec.nbytes

    @property
    def block(self) -> int:
        """Length of a block's side: n = block · (block − 1) / 2."""
        return round((1 + sqrt(1 + 8 * self.stored.spec.shape[1])) / 2)

    @property
    def open_bytes(self) -> int:
        return 48 * self.stored.spec.shape[0] * self.block**2

    def fit(self, shape: tuple[int, ...]) -> "BlockRotation | None":
        blocks, rest = divmod(prod(shape[1:]), self.block)
        fits = len(shape) > 1 and rest == 0 and (self.is_shared or blocks == self.stored.spec.shape[0])
        return replace(self, shape=shape) if fits else None

    def open(self) -> "RotationLoader":
        values = widen(self.stored.storage(), self.stored.spec.dtype.label).reshape(self.stored.spec.shape)
        skew = np.zeros((len(values), self.block, self.block))
        rows, columns = np.triu_indices(self.block, 1)
        skew[:, rows, columns] = values
        rotations = self.cayley.rotations(skew - skew.transpose(0, 2, 1))
        factors = rotations if self.is_embedding else rotations.transpose(0, 2, 1)
        count = prod(self.shape[1:]) // self.block
        return RotationLoader((Stage(_rounded(factors), count),), None, prod(self.shape[1:]))


@dataclass(frozen=True, slots=True, eq=False)
class Butterfly:
    """W = diag(s) · base · Mᵀ, M a product of rotations with permutations between them.

    `stored` is [factors, blocks, side, side] of any matrices, whose skew-symmetric parts count.
    Liu et al., "BOFT", 2024, https://arxiv.org/abs/2311.06243, section 4.
    """

    stored: StoredTensor
    scales: StoredTensor
    shape: tuple[int, ...]
    kind = "rotation"
    reads: Reads = field(default="row", init=False)

    @property
    def nbytes(self) -> int:
        return self.stored.spec.nbytes + self.scales.spec.nbytes

    @property
    def open_bytes(self) -> int:
        return 48 * self.stored.spec.size + 4 * self.scales.spec.size

    def fit(self, shape: tuple[int, ...]) -> "Butterfly | None":
        """The same for a convolution's weight, whose kernel is rotated as it lies in memory."""
        fits = len(shape) > 1 and shape[0] == self.shape[0] and prod(shape) == prod(self.shape)
        return replace(self, shape=shape) if fits else None

    def open(self) -> "RotationLoader":
        count, blocks, side, _ = self.stored.spec.shape
        values = widen(self.stored.storage(), self.stored.spec.dtype.label).reshape(-1, side, side).astype(np.float64)
        with unbounded():
            skew = 0.5 * (values - values.transpose(0, 2, 1))
        rotations = Cayley().rotations(skew)
        factors = _rounded(rotations.transpose(0, 2, 1)).reshape(count, blocks, side, side)
        stages = tuple(
            Stage(factor, blocks, butterfly_order(blocks * side, blocks >> level, side // 2) if count > 1 else None)
            for level, factor in enumerate(factors)
        )
        scales = widen(self.scales.storage(), self.scales.spec.dtype.label)
        return RotationLoader(stages, scales, prod(self.shape[1:]))


def butterfly_order(length: int, blocks: int, half: int) -> NDArray[np.int64]:
    """Within each block, the runs of `half` inputs at even places, then those at odd ones."""
    runs = np.arange(length, dtype=np.int64).reshape(blocks, -1, half)
    return np.concatenate([runs[:, 0::2], runs[:, 1::2]], axis=1).reshape(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Multiplies `count` blocks of a row's elements, each by its float32 factor [side, side], or all by one.

    With an `order`, element i stands at place order[i] for the time being.
    """

    factors: Rows
    count: int
    order: NDArray[np.int64] | None = None

    def apply(self, rows: Rows) -> Rows:
        turned = rows
        if self.order is not None:
            turned = np.empty_like(rows)
            turned[:, self.order] = rows
        turned = self._multiplied(turned)
        return turned if self.order is None else turned[:, self.order]

    def _multiplied(self, rows: Rows) -> Rows:
        side = self.factors.shape[1]
        out = np.empty_like(rows)
        for block in range(self.count):
            columns = slice(block * side, (block + 1) * side)
            factor = self.factors[block if len(self.factors) > 1 else 0]
            product = np.zeros(len(rows) * side, dtype=np.float32)
            low_rank_add(product, side, 0, np.ascontiguousarray(rows[:, columns]), factor, 1.0)
            out[:, columns] = product.reshape(-1, side)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class RotationLoader:
    """Gets whole rows of `length`, puts them through the stages, and scales each by its own factor."""

    stages: tuple[Stage, ...]
    scales: Rows | None
    length: int

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a rotation without a base"
        rows = base.reshape(-1, self.length)
        for stage in self.stages:
            rows = stage.apply(rows)
        if self.scales is not None:
            first = start // self.length
            with unbounded():
                rows = rows * self.scales[first : first + len(rows), None]
        out[:] = rows.reshape(-1)

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a rotation without a base"
        self.load_weight(out, start, base)
        with unbounded():
            out -= base


def _series(one: Blocks, skew: Blocks, terms: int) -> Blocks:
    """I + 2Q + 2Q² + …, as PEFT cuts it off: the power terms − 1, and 3 at least, comes last and counts once."""
    last = max(terms - 1, 3) if terms > 2 else terms - 1
    total, power = one.copy(), one
    for exponent in range(1, last + 1):
        power = power @ skew
        total += power if exponent == last and terms > 2 else 2.0 * power
    return total


def _shortened(skew: Blocks, most: float) -> Blocks:
    norms = np.sqrt(np.square(skew).sum(axis=(1, 2), keepdims=True))
    return np.where(norms <= most, skew, most * skew / np.where(norms == 0, 1.0, norms))


def _rounded(factors: Blocks) -> Rows:
    with unbounded():
        return np.ascontiguousarray(factors, dtype=np.float32)
