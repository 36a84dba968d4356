"""Pickles read as data: nothing that a file names is imported or called.

A pickle is a program for a small stack machine, and one of its instructions calls any function of the
process that reads it. Here that program runs on a machine of our own. A function that the file wants called
becomes a note of the name and the arguments, and only once the whole file has been read and its size and
shape were found to be in order, a table of the caller says what each note stands for. What is not in the
table ends the reading with its name.

Source: the instruction set as documented in the standard library's `pickletools`.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from extract.errors import ExtractError

MAX_INTEGER_BYTES = 64  # of one integer: larger ones cost time to print and mean nothing here
MAX_NAME_BYTES = 256  # of a module or function name


class RefusedPickle(ExtractError):
    """A pickle that is damaged, names what it may not, or would take too much memory."""


@dataclass(frozen=True)
class PickleLimits:
    """Bounds on what a file may ask for; honest ones stay far below."""

    num_instructions: int = 300_000
    depth: int = 100  # containers within containers
    num_values: int = 2_000_000  # of the result written out as a tree, shared parts once each time


@dataclass(frozen=True)
class Named:
    """A function or class that the file mentions, as its name alone."""

    module: str
    name: str

    def __str__(self) -> str:
        return printable(f"{self.module}.{self.name}")


@dataclass
class Call:
    """What the file wanted called, with which arguments, and what it wanted done to the result."""

    args: tuple[Any, ...]
    items: dict[Any, Any] = field(default_factory=dict)  # to set on the result
    state: Any = None  # to install in the result
    has_state: bool = False

    def plain_args(self, num: int) -> tuple[Any, ...]:
        """The arguments, if there are `num` and nothing was to be done to the result.

        Raises:
            ValueError: otherwise.
        """
        if len(self.args) != num or self.items or self.has_state:
            raise ValueError(f"expected {num} arguments and no more, got {len(self.args)}")
        return self.args


Constructor = Callable[[Call], object]


@dataclass
class _Note:
    """A call on the stack of the machine: not carried out."""

    function: Named
    call: Call


class _Mark:
    """Where on the stack a tuple or a group of items begins."""


def read_pickle(
    data: bytes | BinaryIO,
    allowed: Mapping[tuple[str, str], Constructor | None],
    *,
    what: str,
    limits: PickleLimits | None = None,
    persistent: Callable[[object], object] | None = None,
) -> object:
    """Read a pickle of protocol 2 to 5 without running anything of it.

    Args:
        data: bytes that hold one pickle and nothing else; or a seekable binary file, of which one pickle is
            read, its position then being behind it.
        allowed: what the file may name, (module, name) to our function that is given the `Call` and returns
            what takes its place; None = may be mentioned, not called. A constructor refuses what it
            does not expect with a ValueError.
        what: the file as the user knows it, for errors.
        limits: bounds on size and nesting; None = the defaults.
        persistent: given the built id of each reference to something outside the file, returns that; None =
            such references are refused.

    Returns:
        None, bool, int, float, str, bytes (Python 2 strings too), tuple, list, dict and set, what the
        constructors made, and `Named` for a mention. Keys are strings, bytes or integers.

    Raises:
        RefusedPickle: in one sentence, with the name of what was refused.
    """
    limits = limits or PickleLimits()
    content = data if isinstance(data, bytes) else data.read()
    machine = _Machine(content, allowed, what, limits, persistent is not None)
    result = machine.run()
    if not isinstance(data, bytes):
        data.seek(machine.position - len(content), 1)
    elif machine.position != len(content):
        raise RefusedPickle(
            f"{what}: expected the end of the file after the pickle, got {len(content) - machine.position} "
            "more bytes; get the file anew"
        )
    order = _in_order(result, what, limits)
    return _build(order, result, allowed, what, persistent)


def printable(name: str, length: int = 80) -> str:
    """A name from a file, fit for a line on the screen."""
    shown = "".join(char if char.isprintable() else "?" for char in name[: length + 1])
    return shown if len(shown) <= length else shown[:length] + "..."


class _Outside:
    """A reference to something outside the file, not followed."""

    def __init__(self, identity: object) -> None:
        self.identity = identity


class _Machine:
    """The stack machine: reads instructions, builds containers and notes, calls nothing."""

    def __init__(
        self,
        content: bytes,
        allowed: Mapping[tuple[str, str], Constructor | None],
        what: str,
        limits: PickleLimits,
        has_persistent: bool,
    ) -> None:
        self.content, self.position = content, 0
        self.allowed, self.what, self.limits = allowed, what, limits
        self.has_persistent = has_persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        if self._take(1) != b"\x80":
            raise self._refusal("a pickle of protocol 2 to 5", "a file that starts otherwise")
        self._check_protocol()
        for _ in range(self.limits.num_instructions):
            code = self._take(1)[0]
            if code == ord("."):
                result = self._pop()
                if self.stack:
                    raise self._refusal("one value at the end", f"{len(self.stack)} more on the stack")
                return result
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise self._refusal("instructions that data needs", _describe(code))
            instruction(self)
        raise self._refusal(f"at most {self.limits.num_instructions:,} instructions", "more")

    def _refusal(self, expected: str, got: str) -> RefusedPickle:
        return RefusedPickle(
            f"{self.what}: expected {expected}, got {got} at byte {self.position}; the file is damaged or "
            "was made to do harm, and nothing of it was run"
        )

    # The bytes of the file

    def _take(self, size: int) -> bytes:
        left = len(self.content) - self.position
        if size > left:  # before anything of that size is made
            raise self._refusal(f"{size} more bytes", f"{left} until the end of the file")
        self.position += size
        return self.content[self.position - size : self.position]

    def _size(self, num_bytes: int) -> int:
        return int.from_bytes(self._take(num_bytes), "little")

    def _line(self) -> str:
        end = self.content.find(b"\n", self.position, self.position + MAX_NAME_BYTES)
        if end < 0:
            raise self._refusal(f"a name of at most {MAX_NAME_BYTES} bytes", "none")
        return self._text(self._take(end + 1 - self.position)[:-1])

    def _text(self, data: bytes) -> str:
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise self._refusal("text in UTF-8", f"bytes that are none ({error.reason})") from error

    # The stack

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _pop(self) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise self._refusal("a value on the stack", "none")
        return self.stack.pop()

    def _top(self) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise self._refusal("a value on the stack", "none")
        return self.stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[index], _Mark):
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise self._refusal("a mark on the stack", "none")

    # Instructions

    def _check_protocol(self) -> None:
        protocol = self._take(1)[0]
        if not 2 <= protocol <= 5:
            raise self._refusal("a pickle of protocol 2 to 5", f"protocol {protocol}")

    def _frame(self) -> None:
        size, left = self._size(8), len(self.content) - self.position
        if size > left:
            raise self._refusal(f"{size} more bytes", f"{left} until the end of the file")

    def _mark(self) -> None:
        self._push(_Mark())

    def _integer(self, num_bytes: int) -> None:
        if num_bytes > MAX_INTEGER_BYTES:
            raise self._refusal(f"integers of at most {MAX_INTEGER_BYTES} bytes", f"one of {num_bytes}")
        self._push(int.from_bytes(self._take(num_bytes), "little", signed=True))

    def _float(self) -> None:
        self._push(struct.unpack(">d", self._take(8))[0])

    def _pop_tuple(self, num: int) -> None:
        values = [self._pop() for _ in range(num)]
        self._push(tuple(values[::-1]))

    def _marked_tuple(self) -> None:
        self._push(tuple(self._pop_to_mark()))

    def _marked_list(self) -> None:
        self._push(self._pop_to_mark())

    def _marked_dict(self) -> None:
        values = self._pop_to_mark()
        self._push({})
        self._set(values)

    def _append(self) -> None:
        value = self._pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise self._refusal("a list to append to", _kind(target))
        target.extend(values)

    def _set_item(self) -> None:
        value = self._pop()
        key = self._pop()
        self._set([key, value])

    def _set_items(self) -> None:
        self._set(self._pop_to_mark())

    def _set(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, _Note):
            target = target.call.items
        if type(target) is not dict or len(values) % 2:
            raise self._refusal("pairs for a dictionary", f"{len(values)} values for {_kind(target)}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[self._key(key)] = value

    def _add_items(self) -> None:
        values = self._pop_to_mark()
        target = self._top()
        if type(target) is not set:
            raise self._refusal("a set to add to", _kind(target))
        target.update(self._key(value) for value in values)

    def _key(self, key: Any) -> Any:
        """A key whose hash costs little: a tuple of tuples of ... could take for ever."""
        if not is_key(key):
            raise self._refusal("strings, bytes or 64-bit integers as keys", _kind(key))
        return key

    def _remember(self, index: int) -> None:
        if index > self.limits.num_instructions:
            raise self._refusal(f"at most {self.limits.num_instructions:,} remembered values", f"no. {index}")
        self.memo[index] = self._top()

    def _recall(self, index: int) -> None:
        if index not in self.memo:
            raise self._refusal("a value that was remembered", f"a reference to no. {index}, which was not")
        self._push(self.memo[index])

    def _global(self) -> None:
        self._name(self._line(), self._line())

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise self._refusal("names as text", f"{_kind(module)} and {_kind(name)}")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        named = Named(module, name)
        if (module, name) not in self.allowed:
            raise RefusedPickle(
                f"{self.what}: expected only names that such a file needs, got {named}; the file would run "
                "code when opened the usual way, so it is refused and nothing of it was run"
            )
        self._push(named)

    def _reduce(self) -> None:
        args, function = self._pop(), self._pop()
        if not isinstance(function, Named) or type(args) is not tuple:
            raise self._refusal("a name and its arguments", f"{_kind(function)} and {_kind(args)}")
        if self.allowed[(function.module, function.name)] is None:
            raise self._refusal(f"{function} to be mentioned only", "a call of it")
        self._push(_Note(function, Call(args)))

    def _install(self) -> None:
        state, target = self._pop(), self._top()
        if not isinstance(target, _Note) or target.call.has_state:
            raise self._refusal("an object without state to install one in", _kind(target))
        target.call.state, target.call.has_state = state, True

    def _outside(self) -> None:
        identity = self._pop()
        if not self.has_persistent:
            raise self._refusal("no references to anything outside the file", "one (a persistent id)")
        self._push(_Outside(identity))


def is_key(value: object) -> bool:
    """Whether a value may be a key or an element of a set: its hash is cheap and cannot be chosen."""
    if type(value) is int:
        return -(2**63) <= value < 2**64
    return type(value) in (str, bytes)


def _kind(value: object) -> str:
    if isinstance(value, _Note):
        return f"a {value.function}"
    if isinstance(value, Named):
        return f"the name {value}"
    return f"a value of type {type(value).__name__.lstrip('_').lower()}"


def _sized_bytes(num_bytes: int) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(machine._take(machine._size(num_bytes)))


def _sized_text(num_bytes: int) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(machine._text(machine._take(machine._size(num_bytes))))


def _constant(value: object) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(value)


def _fresh(make: Callable[[], object]) -> Callable[[_Machine], None]:
    return lambda machine: machine._push(make())


_INSTRUCTIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine._check_protocol,
    0x95: _Machine._frame,
    ord("("): _Machine._mark,
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("J"): lambda machine: machine._integer(4),
    ord("K"): lambda machine: machine._push(machine._size(1)),
    ord("M"): lambda machine: machine._push(machine._size(2)),
    0x8A: lambda machine: machine._integer(machine._size(1)),
    0x8B: lambda machine: machine._integer(machine._size(4)),
    ord("G"): _Machine._float,
    ord("U"): _sized_bytes(1),  # Python 2 strings: bytes, their encoding is anybody's guess
    ord("T"): _sized_bytes(4),
    ord("C"): _sized_bytes(1),
    ord("B"): _sized_bytes(4),
    0x8E: _sized_bytes(8),
    0x96: _sized_bytes(8),
    0x8C: _sized_text(1),
    ord("X"): _sized_text(4),
    0x8D: _sized_text(8),
    ord(")"): _constant(()),
    0x85: lambda machine: machine._pop_tuple(1),
    0x86: lambda machine: machine._pop_tuple(2),
    0x87: lambda machine: machine._pop_tuple(3),
    ord("t"): _Machine._marked_tuple,
    ord("]"): _fresh(list),
    ord("l"): _Machine._marked_list,
    ord("a"): _Machine._append,
    ord("e"): _Machine._appends,
    ord("}"): _fresh(dict),
    ord("d"): _Machine._marked_dict,
    ord("s"): _Machine._set_item,
    ord("u"): _Machine._set_items,
    0x8F: _fresh(set),
    0x90: _Machine._add_items,
    ord("q"): lambda machine: machine._remember(machine._size(1)),
    ord("r"): lambda machine: machine._remember(machine._size(4)),
    0x94: lambda machine: machine._remember(len(machine.memo)),
    ord("h"): lambda machine: machine._recall(machine._size(1)),
    ord("j"): lambda machine: machine._recall(machine._size(4)),
    ord("c"): _Machine._global,
    0x93: _Machine._stack_global,
    ord("R"): _Machine._reduce,
    0x81: _Machine._reduce,  # creation of an object: to us the same note
    ord("b"): _Machine._install,
    ord("Q"): _Machine._outside,
}

_REFUSED_INSTRUCTIONS = {
    0x82: "the extension registry (EXT1)",
    0x83: "the extension registry (EXT2)",
    0x84: "the extension registry (EXT4)",
    0x92: "an object with keyword arguments (NEWOBJ_EX)",
    0x97: "a buffer outside the file (NEXT_BUFFER)",
    0x98: "a buffer outside the file (READONLY_BUFFER)",
    ord("i"): "an object made in the manner of protocol 0 (INST)",
    ord("o"): "an object made in the manner of protocol 1 (OBJ)",
    ord("P"): "a reference to something outside the file (PERSID)",
}


def _describe(code: int) -> str:
    return _REFUSED_INSTRUCTIONS.get(code, f"instruction 0x{code:02x}")


# From notes to the result


def _children(value: object) -> Iterator[object]:
    if isinstance(value, _Note):
        yield from value.call.args
        yield from value.call.items.values()
        if value.call.has_state:
            yield value.call.state
    elif isinstance(value, _Outside):
        yield value.identity
    elif type(value) is dict:
        yield from value.values()
    elif type(value) in (list, tuple):
        yield from value  # type: ignore[misc]


def _is_container(value: object) -> bool:
    return isinstance(value, (_Note, _Outside)) or type(value) in (dict, list, tuple)


def _in_order(root: object, what: str, limits: PickleLimits) -> list[object]:
    """All containers, each after what it contains; refuses cycles, depth and trees that grow too large."""
    order: list[object] = []
    sizes: dict[int, int] = {}  # by identity: values in the written-out tree
    depths: dict[int, int] = {}
    is_open: set[int] = set()
    pending = [(root, False)] if _is_container(root) else []
    while pending:
        value, is_done = pending.pop()
        key = id(value)
        if not is_done:
            if key in sizes:
                continue
            if key in is_open:
                raise RefusedPickle(
                    f"{what}: expected values that do not contain themselves, got one that does; the file is "
                    "damaged or was made to do harm, and nothing of it was run"
                )
            is_open.add(key)
            pending.append((value, True))
            pending.extend((child, False) for child in _children(value) if _is_container(child))
            continue
        is_open.discard(key)
        size, depth = 1, 0
        for child in _children(value):
            size += sizes.get(id(child), 1)
            depth = max(depth, depths.get(id(child), 0))
        sizes[key], depths[key] = size, depth + 1
        if depth + 1 > limits.depth:
            raise RefusedPickle(
                f"{what}: expected at most {limits.depth} containers within one another, got more; the file "
                "was made to do harm, and nothing of it was run"
            )
        if size > limits.num_values:
            raise RefusedPickle(
                f"{what}: expected at most {limits.num_values:,} values, got a file that unfolds to more; it "
                "was made to do harm, and nothing of it was run"
            )
        order.append(value)
    return order


def _build(
    order: list[object],
    root: object,
    allowed: Mapping[tuple[str, str], Constructor | None],
    what: str,
    persistent: Callable[[object], object] | None,
) -> object:
    """Containers and what the constructors make of the notes, from the innermost outwards."""
    built: dict[int, object] = {}

    def of(value: object) -> Any:
        return built.get(id(value), value)

    for value in order:
        made: object
        if isinstance(value, _Note):
            call = value.call
            given = Call(
                tuple(of(argument) for argument in call.args),
                {key: of(item) for key, item in call.items.items()},
                of(call.state),
                call.has_state,
            )
            constructor = allowed[(value.function.module, value.function.name)]
            assert constructor is not None  # or it had not become a note
            made = _construct(lambda: constructor(given), str(value.function), what)  # noqa: B023
        elif isinstance(value, _Outside):
            assert persistent is not None
            made = _construct(lambda: persistent(of(value.identity)), "a persistent id", what)  # type: ignore[union-attr]  # noqa: B023
        elif type(value) is dict:
            made = {key: of(item) for key, item in value.items()}
        elif type(value) is list:
            made = [of(item) for item in value]
        else:
            assert type(value) is tuple
            made = tuple(of(item) for item in value)
        built[id(value)] = made
    return of(root)


def _construct(make: Callable[[], object], name: str, what: str) -> object:
    try:
        return make()
    except RefusedPickle as error:  # a pickle inside the pickle
        raise RefusedPickle(f"{what}: {error}") from error
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise RefusedPickle(
            f"{what}: expected what {name} is given in an honest file, got another thing: "
            f"{printable(str(error), 300)}; the file is damaged or of another kind"
        ) from error
