"""Checkpoints stored against their base, so that every byte comes back: see docs/packed.md for the file."""

from merge_core.packing.index import Origin
from merge_core.packing.pack import Known, Packing, pack
from merge_core.packing.packed import Packed, Plain, Ranges

__all__ = ["Known", "Origin", "Packed", "Packing", "Plain", "Ranges", "pack"]
