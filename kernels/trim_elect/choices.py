"""The choices that TIES' variants differ in."""

from typing import Literal, get_args

How = Literal["mean", "count", "sum", "max"]
Elect = Literal["weighted", "unweighted", "frequency"]
Merge = Literal["mean", "count", "sum", "max", "all"]
"""How what is left of thinned rows is merged: as `trim_elect` does, or all of it added up without an election."""

HOWS: tuple[How, ...] = get_args(How)
ELECTS: tuple[Elect, ...] = get_args(Elect)
MERGES: tuple[Merge, ...] = get_args(Merge)
