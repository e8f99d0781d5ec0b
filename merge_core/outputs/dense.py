"""The tensors that differ from the base, each whole, in the patch's file."""

from merge_core.outputs.patch import arrange_dense as arrange

__all__ = ["arrange"]
