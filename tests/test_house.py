"""The rules of the house, kept on every run; and each rule is shown to see what it is there for."""

from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import pytest

from tests import house_rules as rules
from tests.house_rules import LAYERS, LONG_LINES, Module, read_modules

Rule = Callable[[Module], Iterator[str]]

CODE = read_modules(*LAYERS)
TESTS = read_modules("tests")
RULES_OF_CODE: list[Rule] = [
    rules.import_directions,
    rules.no_environment,
    rules.function_sizes,
    rules.file_sizes,
    rules.names_that_say_something,
    rules.narrow_excepts,
    rules.status_codes_in_one_place,
    rules.docstrings,
    rules.no_promises,
]
RULES_OF_TESTS: list[Rule] = [rules.sentences_as_names, rules.no_test_is_left_out, rules.no_promises]


def _require_none(faults: list[str]) -> None:
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def _circle(modules: list[Module]) -> list[str]:
    graph = rules.import_graph(modules)
    try:
        TopologicalSorter({name: set(targets) for name, targets in graph.items()}).prepare()
    except CycleError as error:
        # The circle comes in the order "is imported by", its first module again at its end.
        circle = list(reversed(error.args[1]))
        return [graph[importer][imported] for importer, imported in pairwise(circle)]
    return []


@pytest.mark.parametrize("rule", RULES_OF_CODE, ids=lambda rule: rule.__name__)
def test_the_code_keeps_each_rule_of_the_house(rule: Rule) -> None:
    _require_none([fault for module in CODE for fault in rule(module)])


@pytest.mark.parametrize("rule", RULES_OF_TESTS, ids=lambda rule: rule.__name__)
def test_the_tests_keep_each_rule_of_the_house(rule: Rule) -> None:
    _require_none([fault for module in TESTS for fault in rule(module)])


@pytest.mark.parametrize("layer", LAYERS)
def test_no_imports_go_in_a_circle(layer: str) -> None:
    _require_none(_circle([module for module in CODE if module.layer == layer]))


@pytest.mark.parametrize("layer", LAYERS)
def test_nine_functions_in_ten_are_under_thirty_lines(layer: str) -> None:
    found = [(module, one) for module in CODE if module.layer == layer for one in module.functions()]
    long = [(module, one) for module, one in found if rules.length(one) >= LONG_LINES]
    if len(long) > len(found) / 10:
        _require_none([module.at(one, f"{one.name} has {rules.length(one)} lines") for module, one in long])


IN = "kernels/x.py", "merge_core/x.py", "app/x.py"
BROKEN: list[tuple[Rule, str, str]] = [
    (rules.import_directions, IN[0], "import merge_core.recipe"),
    (rules.import_directions, IN[0], "from app import main"),
    (rules.import_directions, IN[0], "import pydantic"),
    (rules.import_directions, IN[1], "from app.settings import Settings"),
    (rules.import_directions, IN[1], "from ..app import settings"),
    (rules.import_directions, IN[1], "def f():\n    import httpx"),
    (rules.import_directions, IN[1], "from time import monotonic"),
    (rules.import_directions, IN[1], "from datetime import datetime"),
    (rules.import_directions, IN[1], "import sqlalchemy as sa"),
    (rules.import_directions, IN[2], "import torch"),
    (rules.import_directions, IN[2], "from kernels.gram import gram"),
    (rules.import_directions, IN[2], "from tests.demo import base"),
    (rules.no_environment, IN[1], "import os\nthreads = os.environ['THREADS']"),
    (rules.no_environment, IN[0], "from os import getenv"),
    (rules.function_sizes, IN[0], "def f():\n" + "    x = 1\n" * 60),
    (rules.file_sizes, IN[0], "x = 1\n" * 300),
    (rules.names_that_say_something, "app/file_utils.py", ""),
    (rules.names_that_say_something, "app/common/x.py", ""),
    (rules.names_that_say_something, IN[2], "class BlobManager: ..."),
    (rules.narrow_excepts, IN[2], "try:\n    f()\nexcept:\n    raise"),
    (rules.narrow_excepts, IN[2], "try:\n    f()\nexcept Exception:\n    raise"),
    (rules.narrow_excepts, IN[2], "try:\n    f()\nexcept (OSError, Exception) as error:\n    log(error)"),
    (rules.narrow_excepts, IN[2], "try:\n    f()\nexcept BaseException:\n    pass"),
    (rules.narrow_excepts, IN[2], "with contextlib.suppress(Exception):\n    f()"),
    (rules.status_codes_in_one_place, IN[2], "Response(status_code=404)"),
    (rules.status_codes_in_one_place, IN[2], "raise HTTPException(detail='no')"),
    (rules.status_codes_in_one_place, IN[2], "found = answer.status_code == 409"),
    (rules.status_codes_in_one_place, IN[2], "code = status.HTTP_404_NOT_FOUND"),
    (rules.status_codes_in_one_place, IN[2], "@router.get('/', responses={422: Problem})\ndef f(): ..."),
    (rules.docstrings, IN[1], "x = 1"),
    (rules.docstrings, IN[1], '"""About."""\nclass Plan: ...'),
    (rules.docstrings, IN[1], '"""About."""\ndef plan():\n' + "    x = 1\n" * 10),
    (rules.docstrings, "kernels/gram/__init__.py", '"""About."""\ndef gram():\n' + "    x = 1\n" * 10),
    (rules.no_promises, IN[1], "x = 1  # TODO: make it 2"),
    (rules.sentences_as_names, "tests/test_x.py", "def test_two_words(): ..."),
    (rules.no_test_is_left_out, "tests/test_x.py", "@pytest.mark.skip\ndef test_that_this_is_seen(): ..."),
]


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN, ids=lambda value: getattr(value, "__name__", "")[:40])
def test_a_rule_sees_what_breaks_it_and_says_where(rule: Rule, path: str, text: str) -> None:
    faults = list(rule(Module(path, text)))
    assert len(faults) == 1, faults
    assert faults[0].startswith(f"{path}:")


KEPT: list[tuple[Rule, str, str]] = [
    (rules.import_directions, IN[2], "from merge_core.plan import make_plan\nimport httpx, time"),
    (rules.import_directions, IN[1], "import numpy as np\nfrom kernels import gram\nfrom merge_core import recipe"),
    (rules.import_directions, IN[0], "from . import y\nimport torch, math"),
    (rules.narrow_excepts, IN[1], "try:\n    f()\nexcept BaseException:\n    remove()\n    raise"),
    (rules.narrow_excepts, "app/jobs/worker.py", "try:\n    f()\nexcept Exception:\n    log()"),
    (rules.status_codes_in_one_place, "app/problems.py", "Response(status_code=404)"),
    (rules.status_codes_in_one_place, IN[2], "Response(status_code=202)\nlimit = 500"),
    (rules.docstrings, "app/__init__.py", ""),
    (rules.docstrings, "kernels/gram/cpu.py", '"""About."""\ndef gram():\n' + "    x = 1\n" * 10),
    (rules.no_promises, IN[1], "x = '# TODO'"),
]


@pytest.mark.parametrize(("rule", "path", "text"), KEPT, ids=lambda value: getattr(value, "__name__", "")[:40])
def test_a_rule_is_silent_where_it_is_kept(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module(path, text))) == []


def test_a_circle_of_imports_is_seen_and_named_by_its_lines() -> None:
    modules = [
        Module("app/a.py", "from app import b"),
        Module("app/b.py", "\nfrom .c import thing"),
        Module("app/c/__init__.py", "def late():\n    from app.a import b"),
    ]
    assert sorted(fault.partition(": ")[0] for fault in _circle(modules)) == [
        "app/a.py:1",
        "app/b.py:2",
        "app/c/__init__.py:2",
    ]


def test_an_import_for_types_alone_makes_no_circle() -> None:
    modules = [
        Module("app/a.py", "from app import b"),
        Module("app/b.py", "if TYPE_CHECKING:\n    from app import a"),
    ]
    assert _circle(modules) == []


def test_the_rules_read_real_code() -> None:
    assert {module.layer for module in CODE} == set(LAYERS)
