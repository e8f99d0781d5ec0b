"""What stands before a progress bar."""

from rich.progress import ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from merge_core.first_use import is_compiling


class Label(ProgressColumn):
    """What is being done; while nothing can move because kernels are compiled, that."""

    def get_table_column(self) -> Column:
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        return Text("compiling kernels (once)" if is_compiling() else task.description)
