"""The house rules of the code as functions: each reads one module and yields `file:line: what is wrong`."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("kernels", "merge_core", "app")

# What a layer may import from outside, besides the standard library; None: anything but what is refused below.
OUTSIDE: dict[str, set[str] | None] = {
    "kernels": {"numpy", "torch", "numba", "llvmlite", "triton"},
    "merge_core": {"numpy", "torch", "pydantic", "pydantic_core", "safetensors", "threadpoolctl", "yaml", "zstandard"},
    "app": None,
}
# HTTP, SQL, the clock and global randomness stay out of what computes; arithmetic on tensors out of the app.
_IMPURE = {"time", "datetime", "random", "http", "urllib", "socket", "ssl", "sqlite3", "ftplib", "smtplib"}
REFUSED = {"kernels": _IMPURE, "merge_core": _IMPURE, "app": {"numpy", "torch", "numba", "triton", "safetensors"}}

MOST_LINES = 60
LONG_LINES = 30
MOST_FILE_LINES = 300
# A public function this long does more than its signature can say.
SPEAKS_FOR_ITSELF_LINES = 10
# The one place that may catch everything: a worker survives whatever a job throws.
CATCHES_ALL = "app/jobs/worker.py"
STATUS_CODES = "app/problems.py"
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of Python: its path from the root, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def name(self) -> str:
        """Dotted, with a package's `__init__` under the package's own name."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def layer(self) -> str:
        return self.name.partition(".")[0]

    def at(self, node: ast.AST, fault: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {fault}"

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


def read_modules(*folders: str) -> list[Module]:
    """Every Python file under the folders of the repository, in order of path."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return [Module(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def imports(module: Module, tree: ast.AST | None = None) -> Iterator[tuple[ast.stmt, str]]:
    """Each thing imported, dotted: `from a.b import c` gives a.b.c, whether c is a module or a name in one."""
    for node in ast.walk(tree or module.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            yield from ((node, f"{source}.{alias.name}") for alias in node.names)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    kept = parts[: len(parts) - node.level + module.path.endswith("/__init__.py")]
    return ".".join([*kept, *filter(None, [node.module])])


def import_directions(module: Module) -> Iterator[str]:
    """Arrows point one floor down: app → merge_core → kernels; what each floor may use from outside is listed."""
    floor = LAYERS.index(module.layer)
    below = {*LAYERS[max(floor - 1, 0) : floor], module.layer}
    allowed = OUTSIDE[module.layer]
    for node, target in imports(module):
        top = target.partition(".")[0]
        if top in LAYERS or top == "tests":
            if top not in below:
                yield module.at(node, f"{module.layer} imports {target}; expected only {' and '.join(sorted(below))}")
        elif top in REFUSED[module.layer]:
            yield module.at(node, f"{module.layer} imports {top}, which its floor has no business with")
        elif allowed is not None and top not in allowed and top not in sys.stdlib_module_names:
            yield module.at(node, f"{module.layer} imports {top}; expected only {', '.join(sorted(allowed))}")


def no_environment(module: Module) -> Iterator[str]:
    """What computes reads no environment variable: it gets parameters."""
    for node in module.nodes(ast.Attribute):
        named = ast.unparse(node)
        if module.layer != "app" and named in ("os.environ", "os.environb", "os.getenv"):
            yield module.at(node, f"{module.layer} reads {named}; expected a parameter")
    for statement, target in imports(module):
        if module.layer != "app" and target in ("os.environ", "os.environb", "os.getenv"):
            yield module.at(statement, f"{module.layer} imports {target}; expected a parameter")


def import_graph(modules: list[Module]) -> dict[str, dict[str, str]]:
    """Module → the modules it imports when it is loaded or run → where; what is only for types is left out."""
    names = {module.name for module in modules}
    graph: dict[str, dict[str, str]] = {}
    for module in modules:
        targets = graph.setdefault(module.name, {})
        for node, target in imports(module, _without_types(module)):
            while target and target not in names:
                target = target.rpartition(".")[0]
            if target and target != module.name:
                targets.setdefault(target, module.at(node, f"{module.name} imports {target}"))
    return graph


def _without_types(module: Module) -> ast.AST:
    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return Drop().visit(ast.parse(module.text, module.path))


def length(function: Function) -> int:
    """Lines from `def` to the last one, docstring included, decorators not."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def function_sizes(module: Module) -> Iterator[str]:
    for function in module.functions():
        if length(function) > MOST_LINES:
            yield module.at(function, f"{function.name} has {length(function)} lines; expected at most {MOST_LINES}")


def file_sizes(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines >= MOST_FILE_LINES:
        yield f"{module.path}:{lines}: the file has {lines} lines; expected fewer than {MOST_FILE_LINES}"


def names_that_say_something(module: Module) -> Iterator[str]:
    for part in module.name.split("."):
        if EMPTY_NAMES & set(part.split("_")):
            yield f"{module.path}:1: the name {part!r} says nothing; expected what it holds"
    for node in module.nodes(ast.ClassDef):
        assert isinstance(node, ast.ClassDef)
        if re.search(r"(Utils?|Helpers?|Manager|Mixin)$", node.name):
            yield module.at(node, f"the name {node.name!r} says nothing; expected a noun of the field")


def narrow_excepts(module: Module) -> Iterator[str]:
    """No `except Exception`; BaseException only to clean up and raise again."""
    if module.path == CATCHES_ALL:
        return
    for node in ast.walk(module.tree):
        too_wide = _caught(node) & {"everything", "Exception", "BaseException"}
        if too_wide:
            yield module.at(node, f"catches {', '.join(sorted(too_wide))}; expected the errors that can happen here")


def _caught(node: ast.AST) -> set[str]:
    """What a handler, or contextlib.suppress, keeps from going on."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
        return {ast.unparse(one) for one in node.args}
    if not isinstance(node, ast.ExceptHandler):
        return set()
    if node.type is None:
        return {"everything"}
    caught = {ast.unparse(one) for one in (node.type.elts if isinstance(node.type, ast.Tuple) else [node.type])}
    raises_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
    return caught - {"BaseException"} if raises_again else caught


def status_codes_in_one_place(module: Module) -> Iterator[str]:
    """A code that means an error is written in app/problems.py, or not at all."""
    if module.path == STATUS_CODES:
        return
    for node in ast.walk(module.tree):
        fault = _status_fault(node)
        if fault:
            yield module.at(node, f"{fault}; expected an error of merge_core/errors.py, mapped in {STATUS_CODES}")


def _status_fault(node: ast.AST) -> str | None:
    values: list[ast.expr | None] = []
    if isinstance(node, ast.keyword) and node.arg in ("status_code", "status", "code"):
        values = [node.value]
    elif isinstance(node, ast.keyword) and node.arg == "responses" and isinstance(node.value, ast.Dict):
        values = list(node.value.keys)
    elif isinstance(node, ast.Compare) and "status" in ast.unparse(node.left):
        values = list(node.comparators)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("HTTPException"):
        return "raises HTTPException"
    found = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, int)]
    found = [value for value in found if 400 <= value <= 599]
    named = isinstance(node, ast.Attribute) and re.match(r"HTTP_[45]\d\d_", node.attr)
    return f"names the status {found[0]}" if found else f"names {node.attr}" if named else None


def docstrings(module: Module) -> Iterator[str]:
    """Every module, public class, and public function too long to be said by its signature."""
    if module.tree.body and not ast.get_docstring(module.tree):
        yield f"{module.path}:1: the module does not say what it is for"
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | Function) and _owes_docstring(module, node) and not ast.get_docstring(node):
            yield module.at(node, f"{node.name} has no docstring")


def _owes_docstring(module: Module, node: ast.ClassDef | Function) -> bool:
    # kernels/gram/cpu.py and reference.py have a `gram` that kernels/gram/__init__.py documents once for all.
    folder, file = module.path.split("/")[-2:]
    is_variant = module.layer == "kernels" and folder == node.name and file != "__init__.py"
    is_short = not isinstance(node, ast.ClassDef) and length(node) < SPEAKS_FOR_ITSELF_LINES
    return not (node.name.startswith("_") or is_variant or is_short)


def no_promises(module: Module) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT and re.search(r"\b(TODO|FIXME|XXX)\b", token.string):
            yield f"{module.path}:{token.start[0]}: a promise for later; expected the work, or nothing"


def sentences_as_names(module: Module) -> Iterator[str]:
    for function in module.functions():
        words = function.name.split("_")
        if words[0] == "test" and len([word for word in words[1:] if word]) < 3:
            yield module.at(function, f"{function.name} is no sentence; expected at least three words after test_")


def no_test_is_left_out(module: Module) -> Iterator[str]:
    for node in module.nodes(ast.Attribute):
        if re.fullmatch(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)", ast.unparse(node)):
            yield module.at(node, f"{ast.unparse(node)}: a test runs or does not exist")
