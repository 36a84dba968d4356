"""NumPy arrays and numbers inside pickles: the constructors for `read_pickle`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from extract.restricted_pickle import Call, Constructor, Named

PLAIN_KINDS = "biuf"  # yes/no, signed, unsigned, floating point
MAX_AXES = 32


def _text(value: object) -> str:
    """Text, also where Python 2 wrote it."""
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {type(value).__name__}")
    return value


def _encode(call: Call) -> bytes:
    """Bytes as Python 3 writes them into old protocols: text and an encoding."""
    text, encoding = call.plain_args(2)
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("expected text in latin1")
    return text.encode("latin1")


def _dtype(call: Call) -> np.dtype[Any]:
    if not call.args or call.items:
        raise ValueError("expected the code of a number type")
    code = _text(call.args[0])
    kind, size = code[:1], code[1:]
    if kind not in PLAIN_KINDS or size not in ("1", "2", "4", "8"):
        raise ValueError(f"expected numbers of 1 to 8 bytes, got the type '{code[:20]}'")
    order = "="
    if call.has_state:
        if not isinstance(call.state, tuple) or len(call.state) < 2:
            raise ValueError("expected a byte order")
        order = _text(call.state[1])
    if order not in ("<", ">", "|", "="):
        raise ValueError("expected a byte order")
    return np.dtype((order if order != "|" else "") + code)


def _array(call: Call) -> np.ndarray:
    """An array whose content comes with the state: shape, type, order of axes, bytes."""
    if len(call.args) != 3 or call.args[0] != Named("numpy", "ndarray") or call.items:
        raise ValueError("expected a plain array")
    if not isinstance(call.state, tuple) or len(call.state) != 5:
        raise ValueError("expected the state of an array")
    _, shape, dtype, is_fortran, data = call.state
    return _from_bytes(data, dtype, shape, is_fortran=bool(is_fortran))


def _from_buffer(call: Call) -> np.ndarray:
    """The form of protocol 5."""
    data, dtype, shape, order = call.plain_args(4)
    return _from_bytes(data, dtype, shape, is_fortran=order == "F")


def _from_bytes(data: object, dtype: object, shape: object, *, is_fortran: bool) -> np.ndarray:
    if not isinstance(data, bytes) or not isinstance(dtype, np.dtype):
        raise ValueError("expected bytes and a number type")
    if not isinstance(shape, tuple) or len(shape) > MAX_AXES:
        raise ValueError("expected a shape")
    if any(type(side) is not int or side < 0 for side in shape):
        raise ValueError("expected a shape of counts")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"expected {len(data)} bytes' worth of numbers, got the shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _scalar(call: Call) -> bool | int | float:
    dtype, data = call.plain_args(2)
    value: bool | int | float = _from_bytes(data, dtype, (), is_fortran=False).item()
    return value


NUMPY_SCALARS: Mapping[tuple[str, str], Constructor | None] = {
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}  # become Python numbers

NUMPY_ARRAYS: Mapping[tuple[str, str], Constructor | None] = {
    **NUMPY_SCALARS,
    ("numpy", "ndarray"): None,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}  # arrays are read-only views of the bytes
