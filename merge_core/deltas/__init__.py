"""What an ingredient says of one tensor: one file for each form."""

from merge_core.deltas.absent import Absent
from merge_core.deltas.composite import Composite
from merge_core.deltas.contract import Delta, Loader, Reads, Rows, fitted, reads_of
from merge_core.deltas.cored import Cored
from merge_core.deltas.decomposed import Decomposed
from merge_core.deltas.dense import Dense
from merge_core.deltas.gathered import Gathered
from merge_core.deltas.hadamard import Hadamard
from merge_core.deltas.kronecker import Kronecker
from merge_core.deltas.low_rank import LowRank, LowRankLoader
from merge_core.deltas.product import Product
from merge_core.deltas.replacement import Replacement, ReplacementLoader
from merge_core.deltas.rotation import BlockRotation, Butterfly, Cayley
from merge_core.deltas.row_replacement import RowReplacement
from merge_core.deltas.scale import Scale
from merge_core.deltas.shared_factors import SharedFactors
from merge_core.deltas.sparse import Sparse
from merge_core.deltas.ternary import Ternary, TernaryLoader
from merge_core.deltas.tucker import Tucker

__all__ = [
    "Absent",
    "BlockRotation",
    "Butterfly",
    "Cayley",
    "Composite",
    "Cored",
    "Decomposed",
    "Delta",
    "Dense",
    "Gathered",
    "Hadamard",
    "Kronecker",
    "Loader",
    "LowRank",
    "LowRankLoader",
    "Product",
    "Reads",
    "Replacement",
    "ReplacementLoader",
    "RowReplacement",
    "Rows",
    "Scale",
    "SharedFactors",
    "Sparse",
    "Ternary",
    "TernaryLoader",
    "Tucker",
    "fitted",
    "reads_of",
]
