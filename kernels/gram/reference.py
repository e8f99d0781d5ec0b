"""Block-wise Gram matrices in plain torch: the definition, up to the order of a block's float64 sum."""

import torch
from torch import Tensor

from kernels.gram import BLOCK


def gram(stack: Tensor, out: Tensor | None = None) -> Tensor:
    models, size = stack.shape
    blocks = -(-size // BLOCK)
    wide = torch.nn.functional.pad(stack.double(), (0, blocks * BLOCK - size))
    tiles = wide.reshape(models, blocks, BLOCK).transpose(0, 1)
    values = tiles @ tiles.transpose(1, 2)
    return values if out is None else out.copy_(values)


def squares(stack: Tensor, mask: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    values = gram(stack if mask is None else torch.where(mask, stack, 0.0)).diagonal(dim1=1, dim2=2).contiguous()
    return values if out is None else out.copy_(values)


def row_gram(stack: Tensor, columns: int) -> Tensor:
    rows = stack.double().reshape(len(stack), -1, columns).transpose(0, 1)
    return rows @ rows.transpose(1, 2)
