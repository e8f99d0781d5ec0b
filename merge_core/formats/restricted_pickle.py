"""Pickles read without running them: an interpreter of the harmless opcodes, with bounds on everything.

Python's own unpickler imports and calls what a pickle names. Here a pickle can make numbers, texts, lists,
tuples, dicts, and the records of `pickle_objects`; any other opcode or name is refused.
"""

import io
import pickletools
from collections.abc import Callable
from typing import Any

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.pickle_objects import FUNCTIONS, find, misused, settle

MOST_BYTES = 100_000_000
MOST_OPCODES = 5_000_000
"""A checkpoint has some forty opcodes for each tensor."""
MOST_DEPTH = 100
"""Marks open at a time: what torch writes has a handful."""
MOST_DIGITS = 30

SMALL = ("BININT1", "BININT2", "BININT")
"""Integers of 1, 2 and 4 bytes. A sparse fine-tune has a list of millions of them, which are read in one go."""
WIDTHS = {0x4B: 1, 0x4D: 2, 0x4A: 4}
"""Opcode → bytes of its integer."""
BYTE = b"K"
WINDOW = 128
"""Bytes in which integers of one byte are looked for together."""

Persistent = Callable[[object], Any]
"""Makes a storage of a persistent id."""

CALLABLE = frozenset(map(id, FUNCTIONS.values()))

PUSHES = frozenset(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES
    SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    """.split()  # noqa: SIM905 - a list of nineteen quoted names is harder to read
)
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = ("PROTO", "FRAME")
MEMO = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET")
STEPS = """
    MARK POP POP_MARK DUP TUPLE LIST DICT APPEND APPENDS SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID
    """.split()  # noqa: SIM905 - a list of sixteen quoted names is harder to read
OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
KNOWN = frozenset(("STOP", *PUSHES, *CONSTANTS, *TUPLES, *IGNORED, *MEMO, *STEPS))


def interpret(data: bytes, file: str, persistent: Persistent, start: int = 0) -> tuple[Any, int]:
    """The value of the pickle that starts at `start`, and where it ends.

    Raises FileError for a broken one, UnsupportedError for one that wants more than data.
    """
    if len(data) - start > MOST_BYTES:
        found, expected = f"{len(data)} bytes", f"at most {MOST_BYTES}"
        raise FileError("the pickle is too large", where=file, found=found, expected=expected)
    stream = io.BytesIO(data)
    stream.seek(start)
    machine = _Machine(file, persistent)
    try:
        for _ in range(MOST_OPCODES):
            name, argument = _next(stream, file)
            if name == "STOP":
                return machine.pop(), stream.tell()
            machine.step(name, argument)
            if name in SMALL:
                stream.seek(machine.push_run(data, stream.tell()))
    except (ValueError, IndexError, OverflowError) as error:
        # pickletools' own words for a cut or malformed argument.
        raise FileError("the pickle is broken", where=file, found=str(error)[:200]) from error
    raise FileError("the pickle is too long", where=file, expected=f"at most {MOST_OPCODES} steps")


def _next(stream: io.BytesIO, file: str) -> tuple[str, Any]:
    """The next opcode and its argument. Raises ValueError for none, UnsupportedError for one that does more."""
    opcode = OPCODES.get(stream.read(1).decode("latin-1"))
    if opcode is None:
        raise ValueError("no opcode")
    name = opcode.name
    if name not in KNOWN:
        message, expected = "the pickle does more than hold data", "tensors in dicts, lists and tuples"
        raise UnsupportedError(message, where=file, found=f"opcode {name}", expected=expected)
    if name in ("GLOBAL", "STRING"):
        return name, f"{_line(stream)} {_line(stream)}" if name == "GLOBAL" else _line(stream).strip("'\"")
    return name, opcode.arg.reader(stream) if opcode.arg is not None else None


def _line(stream: io.BytesIO) -> str:
    """Text up to the end of the line. pickletools would warn of escapes, which no name has."""
    text = stream.readline()
    if not text.endswith(b"\n") or b"\\" in text:
        raise ValueError("a text without an end, or with escapes")
    return text[:-1].decode("ascii")


class _Machine:
    """The unpickler's stack and memo."""

    def __init__(self, file: str, persistent: Persistent) -> None:
        self._file = file
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            "MARK": self._mark,
            "POP": self._drop,
            "POP_MARK": lambda _: self._to_mark().clear(),
            "DUP": lambda _: self._stack.append(self._top()),
            "TUPLE": lambda _: self._push_marked(tuple),
            "LIST": lambda _: self._push_marked(list),
            "DICT": self._dict,
            "APPEND": self._append,
            "APPENDS": lambda _: self._extend(self._to_mark()),
            "SETITEM": lambda _: self._update(self._last(2)),
            "SETITEMS": lambda _: self._update(self._to_mark()),
            "GLOBAL": lambda argument: self._global(*argument.split(" ", 1)),
            "STACK_GLOBAL": self._stack_global,
            "REDUCE": self._reduce,
            "BUILD": self._build,
            "BINPERSID": self._load,
        }

    def step(self, name: str, argument: Any) -> None:
        if name in PUSHES:
            self._push(argument)
        elif name in CONSTANTS:
            self._stack.append(CONSTANTS[name]())
        elif name in TUPLES:
            self._stack.append(tuple(self._last(TUPLES[name])))
        elif name in self._steps:
            self._steps[name](argument)
        elif name not in IGNORED:
            self._remember(name, argument)

    def push_run(self, data: bytes, at: int) -> int:
        """Push the integers that follow each other from `at` on; where they end."""
        end = len(data)
        while at < end and (width := WIDTHS.get(data[at], 0)) and at + width < end:
            if width == 1:
                codes = data[at : min(at + WINDOW, end - 1) : 2]
                count = len(codes) - len(codes.lstrip(BYTE))
                self._stack.extend(data[at + 1 : at + 2 * count : 2])
                at += 2 * count
            else:
                self._stack.append(int.from_bytes(data[at + 1 : at + 1 + width], "little", signed=width == 4))
                at += 1 + width
        return at

    def pop(self) -> Any:
        if not self._stack:
            raise self._broken("nothing on the stack")
        return self._stack.pop()

    def _push(self, argument: Any) -> None:
        if isinstance(argument, int) and abs(argument) >= 10**MOST_DIGITS:
            raise self._broken(f"an integer of more than {MOST_DIGITS} digits")
        self._stack.append(argument)

    def _remember(self, name: str, argument: Any) -> None:
        """What is left are the opcodes of the memo."""
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._top()
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
        else:
            if argument not in self._memo:
                raise self._broken(f"no memo {argument}")
            self._stack.append(self._memo[argument])

    def _mark(self, _: Any) -> None:
        if len(self._marked) >= MOST_DEPTH:
            raise self._broken(f"nested deeper than {MOST_DEPTH}")
        self._marked.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        if not self._marked:
            raise self._broken("no mark")
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _push_marked(self, make: Callable[[list[Any]], Any]) -> None:
        items = self._to_mark()
        self._stack.append(make(items))

    def _load(self, _: Any) -> None:
        identity = self.pop()
        self._stack.append(self._persistent(identity))

    def _append(self, _: Any) -> None:
        item = self.pop()
        self._extend([item])

    def _drop(self, _: Any) -> None:
        """POP takes the last value, or a mark where there is none above it."""
        if self._stack:
            self._stack.pop()
        else:
            self._to_mark()

    def _top(self) -> Any:
        if not self._stack:
            raise self._broken("nothing on the stack")
        return self._stack[-1]

    def _last(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise self._broken("too little on the stack")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _dict(self, _: Any) -> None:
        items = self._to_mark()
        self._stack.append({})
        self._update(items)

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise self._broken(f"an entry for a {type(target).__name__}")
        target.extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(items) % 2:
            raise self._broken(f"a key for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a tuple descends into it, as deep as it goes.
            if type(key) not in (str, int):
                raise self._broken(f"a {type(key).__name__} as a key")
            target[key] = value

    def _global(self, module: str, name: str) -> None:
        self._stack.append(find(module, name, self._file))

    def _stack_global(self, _: Any) -> None:
        module, name = self._last(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise self._broken("a global without a name")
        self._global(module, name)

    def _reduce(self, _: Any) -> None:
        function, arguments = self._last(2)
        if id(function) not in CALLABLE or not isinstance(arguments, tuple):
            raise misused("REDUCE", self._file, f"a call of a {type(function).__name__}")
        self._stack.append(function(arguments, self._file))

    def _build(self, _: Any) -> None:
        state = self.pop()
        settle(self._top(), state, self._file)

    def _broken(self, found: str) -> FileError:
        return FileError("the pickle is broken", where=self._file, found=found, expected="what torch.save writes")
