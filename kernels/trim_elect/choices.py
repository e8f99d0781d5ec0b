"""The choices that TIES' variants differ in."""

from typing import Literal, get_args

How = Literal["mean", "count", "sum", "max"]
Elect = Literal["weighted", "unweighted", "frequency"]

HOWS: tuple[How, ...] = get_args(How)
ELECTS: tuple[Elect, ...] = get_args(Elect)
