"""mergekit's YAML, read as recipes: `is_mergekit` recognises it, `translate` gives the recipe that means the same.

`read_yaml` takes a file of either kind.
"""

from merge_core.mergekit.documents import is_mergekit, read_yaml, translate
from merge_core.mergekit.translation import Translation

__all__ = ["Translation", "is_mergekit", "read_yaml", "translate"]
