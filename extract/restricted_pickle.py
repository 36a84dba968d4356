"""Pickles read as data: nothing that a file names is imported or called.

A pickle is a program for a small stack machine, and one of its instructions calls any function of the
process that reads it. Here that program runs on a machine of our own. A function that the file wants called
becomes a note of the name and the arguments, and only once the whole file has been read and its size and
shape were found to be in order, a table of the caller says what each note stands for. What is not in the
table ends the reading with its name.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from extract.pickle_machine import (
    Call,
    Constructor,
    Machine,
    Named,
    Note,
    Outside,
    PickleLimits,
    RefusedPickle,
    printable,
)

__all__ = ["Call", "Constructor", "Named", "PickleLimits", "RefusedPickle", "printable", "read_pickle"]


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
    machine = Machine(content, allowed, what, limits, persistent is not None)
    result = machine.run()
    if not isinstance(data, bytes):
        data.seek(machine.position - len(content), 1)
    elif machine.position != len(content):
        raise RefusedPickle(
            f"{what}: expected the end of the file after the pickle, got {len(content) - machine.position} "
            "more bytes; get the file anew"
        )
    order = _in_order(result, what, limits)
    return _build(order, result, allowed, what, persistent, len(content))


def _children(value: object) -> Iterator[object]:
    if isinstance(value, Note):
        yield from value.call.args
        yield from value.call.items.values()
        if value.call.has_state:
            yield value.call.state
    elif isinstance(value, Outside):
        yield value.identity
    elif type(value) is dict:
        yield from value.values()
    elif type(value) in (list, tuple):
        yield from value  # type: ignore[misc]


def _is_container(value: object) -> bool:
    return isinstance(value, (Note, Outside)) or type(value) in (dict, list, tuple)


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
    file_size: int,
) -> object:
    """Containers and what the constructors make of the notes, from the innermost outwards."""
    built: dict[int, object] = {}
    num_bytes = 0  # that constructors made: a large text could be turned into bytes again and again

    def of(value: object) -> Any:
        return built.get(id(value), value)

    for value in order:
        made: object
        if isinstance(value, Note):
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
        elif isinstance(value, Outside):
            assert persistent is not None
            made = _construct(lambda: persistent(of(value.identity)), "a persistent id", what)  # type: ignore[union-attr]  # noqa: B023
        elif type(value) is dict:
            made = {key: of(item) for key, item in value.items()}
        elif type(value) is list:
            made = [of(item) for item in value]
        else:
            assert type(value) is tuple
            made = tuple(of(item) for item in value)
        if isinstance(made, bytes):
            num_bytes += len(made)
            if num_bytes > file_size:
                raise RefusedPickle(
                    f"{what}: expected no more bytes than the file has, got {num_bytes} made of "
                    f"{file_size}; the file was made to do harm, and nothing of it was run"
                )
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
