"""Pickles written by hand, for readers whose modules are not here.

Python's own pickler insists on importing what it names. This one writes names as they are told. Protocol 3,
which every Python 3 reads.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PROTOCOL = 3


@dataclass(frozen=True)
class Name:
    """A function or class of the reader's."""

    module: str
    name: str


@dataclass(frozen=True)
class Made:
    """What the reader makes by calling `function` with `args`."""

    function: Name
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Outside:
    """A value that the reader looks up by this id."""

    identity: tuple[Any, ...]


ORDERED_DICT = Name("collections", "OrderedDict")
STORAGE_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_PROTOCOL = 1001


def write_pickle(value: Any) -> bytes:
    """A pickle of None, bool, int, float, str, bytes, tuple, list, dict, set, and the records above.

    Raises:
        TypeError: for a value of any other type, a NumPy number for instance.
    """
    pieces = [b"\x80", bytes([PROTOCOL])]
    _write(value, pieces)
    pieces.append(b".")
    return b"".join(pieces)


def _write(value: Any, out: list[bytes]) -> None:
    kind = type(value)
    if value is None:
        out.append(b"N")
    elif kind is bool:
        out.append(b"\x88" if value else b"\x89")
    elif kind is int:
        _write_int(value, out)
    elif kind is float:
        out.append(b"G" + struct.pack(">d", value))
    elif kind is str:
        _write_sized(b"X", value.encode("utf-8"), out)
    elif kind is bytes:
        _write_sized(b"B", value, out)
    elif kind is tuple:
        _write_marked(value, b"t", out)
    elif kind is list:
        out.append(b"]")
        _write_marked(value, b"e", out)
    elif kind is dict:
        out.append(b"}")
        _write_marked([part for pair in value.items() for part in pair], b"u", out)
    elif kind is set:
        _write(Made(Name("builtins", "set"), (sorted(value),)), out)
    elif kind is Name:
        out.append(f"c{value.module}\n{value.name}\n".encode())
    elif kind is Made:
        _write(value.function, out)
        _write(value.args, out)
        out.append(b"R")
    elif kind is Outside:
        _write(value.identity, out)
        out.append(b"Q")
    else:
        raise TypeError(f"expected plain values, got {kind.__module__}.{kind.__name__}")


def _write_int(value: int, out: list[bytes]) -> None:
    if -(2**31) <= value < 2**31:
        out.append(b"J" + struct.pack("<i", value))
        return
    size = value.bit_length() // 8 + 1
    out.append(b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True))


def _write_sized(code: bytes, data: bytes, out: list[bytes]) -> None:
    out += [code, struct.pack("<I", len(data)), data]


def _write_marked(values: Sequence[Any], code: bytes, out: list[bytes]) -> None:
    out.append(b"(")
    for value in values:
        _write(value, out)
    out.append(code)


def tensor(array: np.ndarray) -> Made:
    """A float32 tensor on the CPU, as PyTorch itself would have pickled it."""
    array = np.ascontiguousarray(array, "<f4").reshape(array.shape)
    stride = tuple(step // array.itemsize for step in array.strides)
    storage = Made(Name("torch.storage", "_load_from_bytes"), (_storage(array),))
    hooks = Made(ORDERED_DICT, ())
    return Made(Name("torch._utils", "_rebuild_tensor_v2"), (storage, 0, array.shape, stride, False, hooks))


def parameter(array: np.ndarray) -> Made:
    """A parameter without gradient."""
    return Made(Name("torch._utils", "_rebuild_parameter"), (tensor(array), False, Made(ORDERED_DICT, ())))


def _storage(array: np.ndarray) -> bytes:
    """The little file inside the file: PyTorch's format before version 1.6, which every version reads."""
    machine: Mapping[str, Any] = {
        "protocol_version": STORAGE_PROTOCOL,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    identity = ("storage", Name("torch", "FloatStorage"), "0", "cpu", array.size, None)
    parts = (STORAGE_MAGIC, STORAGE_PROTOCOL, machine, Outside(identity), ["0"])
    return b"".join(write_pickle(part) for part in parts) + struct.pack("<q", array.size) + array.tobytes()
