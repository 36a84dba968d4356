"""What official network pickles are made of: modules and tensors, as inert records.

A module in such a file is a note that asks for a class to be made from source text in the file. Here it
becomes a record of its class's name, its constructor's arguments, tensors and parts; the text is left alone.
"""

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.pickled_arrays import NUMPY_SCALARS
from extract.restricted_pickle import Call, Constructor, Named, read_pickle

PERSISTENCE_VERSION = 6  # of the only published form of these files
STORAGE_MAGIC = 0x1950A86A20F9469CFC6C  # first value of a storage file
STORAGE_PROTOCOL = 1001
FLOAT_STORAGE = Named("torch", "FloatStorage")
MAX_AXES = 8


@dataclass(frozen=True)
class ModuleRecord:
    """A module of the file, with nothing in it that could run.

    Attributes:
        tensors: parameters, then persistent buffers, by name: float32 views of the file's bytes.
        parts: sub-modules by name.
    """

    class_name: str
    init_args: tuple[Any, ...]
    init_kwargs: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]
    parts: Mapping[str, "ModuleRecord"]

    def state_dict(self) -> dict[str, np.ndarray]:
        """All tensors by their full names, in the order in which PyTorch lists them."""
        return dict(self._named_tensors(""))

    def _named_tensors(self, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
        for name, tensor in self.tensors.items():
            yield prefix + name, tensor
        for name, part in self.parts.items():
            yield from part._named_tensors(f"{prefix}{name}.")


def _module(call: Call) -> ModuleRecord:
    (meta,) = call.plain_args(1)
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise ValueError("expected the record of a class")
    if meta.get("version") != PERSISTENCE_VERSION:
        raise ValueError(f"expected version {PERSISTENCE_VERSION}, got {meta.get('version')!r}")
    state, class_name = meta["state"], meta.get("class_name")
    if not isinstance(class_name, str):
        raise ValueError("expected the name of a class")
    skipped = state.get("_non_persistent_buffers_set", set())
    if not isinstance(skipped, set):
        raise ValueError("expected a set of names of buffers")
    tensors = _named(state, "_parameters", np.ndarray)
    tensors |= {
        name: buffer for name, buffer in _named(state, "_buffers", np.ndarray).items() if name not in skipped
    }
    args, kwargs = state.get("_init_args", ()), state.get("_init_kwargs", {})
    if not isinstance(args, tuple) or not isinstance(kwargs, dict):
        raise ValueError("expected the arguments of the constructor")
    return ModuleRecord(class_name, args, kwargs, tensors, _named(state, "_modules", ModuleRecord))


def _named(state: Mapping[Any, Any], name: str, kind: type) -> dict[str, Any]:
    """One of a module's dictionaries; entries that are None (no bias, for instance) are left out."""
    values = state.get(name)
    if not isinstance(values, dict):
        raise ValueError(f"expected a dictionary '{name}'")
    for key, value in values.items():
        if not isinstance(key, str) or not (value is None or isinstance(value, kind)):
            raise ValueError(f"expected in '{name}' tensors or modules by name, got {type(value).__name__}")
    return {key: value for key, value in values.items() if value is not None}


def _ordered_dict(call: Call) -> dict[Any, Any]:
    if call.args or call.has_state:
        raise ValueError("expected an empty dictionary to fill")
    return call.items


def _easy_dict(call: Call) -> dict[Any, Any]:
    if call.args or call.state:
        raise ValueError("expected an empty dictionary to fill")
    return call.items


def _set(call: Call) -> set[Any]:
    (values,) = call.plain_args(1)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("expected a list of names")
    return set(values)


def _parameter(call: Call) -> np.ndarray:
    tensor, _, _ = call.plain_args(3)
    if not isinstance(tensor, np.ndarray):
        raise ValueError("expected a tensor")
    return tensor


def _tensor(call: Call) -> np.ndarray:
    """A strided view of a storage, once it is known to stay inside."""
    storage, offset, size, stride, _, _ = call.plain_args(6)
    if not isinstance(storage, np.ndarray) or storage.ndim != 1:
        raise ValueError("expected a storage")
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride):
        raise ValueError("expected as many strides as sides")
    numbers = (offset, *size, *stride)
    if len(size) > MAX_AXES or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("expected an offset, sides and strides that are counts")
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    is_empty = 0 in size
    if (last >= len(storage) and not is_empty) or math.prod(size) > len(storage):
        raise ValueError(
            f"expected a tensor inside its storage of {len(storage)} numbers, got the shape {size} with "
            f"strides {stride} from {offset}"
        )
    if is_empty:
        return np.empty(size, np.float32)
    itemsize = storage.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], size, [step * itemsize for step in stride], writeable=False
    )


def _storage(call: Call) -> np.ndarray:
    """The numbers of a tensor: a small file of its own, in PyTorch's old format."""
    (data,) = call.plain_args(1)
    if not isinstance(data, bytes):
        raise ValueError("expected the bytes of a storage")
    return read_storage(data)


def read_storage(data: bytes) -> np.ndarray:
    """One float32 storage from the format that PyTorch wrote before version 1.6, as a read-only view.

    The file is four pickles (a magic number, a version, the machine, what there is) and a list of keys, then
    the number of elements and the elements.

    Raises:
        ValueError: if it is anything else; `RefusedPickle` if one of its pickles names something.
    """
    stream = io.BytesIO(data)
    what = "the storage of a tensor"
    if read_pickle(stream, {}, what=what) != STORAGE_MAGIC:
        raise ValueError("expected a storage in PyTorch's old format")
    if read_pickle(stream, {}, what=what) != STORAGE_PROTOCOL:
        raise ValueError("expected a storage of protocol 1001")
    machine = read_pickle(stream, {}, what=what)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("expected a storage of a little-endian machine")
    names: Mapping[tuple[str, str], Constructor | None] = {("torch", kind): None for kind in _STORAGE_KINDS}
    identity = read_pickle(stream, names, what=what, persistent=lambda given: given)
    if (
        not isinstance(identity, tuple)
        or len(identity) != 6
        or identity[0] != "storage"
        or identity[5] is not None
    ):
        raise ValueError("expected one storage")
    _, kind, key, _, num_elements, _ = identity
    if kind != FLOAT_STORAGE:
        raise ValueError(f"expected numbers in float32, got {kind if isinstance(kind, Named) else 'others'}")
    if read_pickle(stream, {}, what=what) != [key]:
        raise ValueError("expected one storage and its key")
    start = stream.tell() + 8
    stored = int.from_bytes(data[start - 8 : start], "little")
    if stored != num_elements or len(data) - start != stored * 4:
        raise ValueError(
            f"expected {num_elements} numbers, got {max(len(data) - start, 0)} bytes for {stored} of them"
        )
    return np.frombuffer(data, "<f4", offset=start)


_STORAGE_KINDS = (
    "FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "IntStorage",
    "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage",
)  # may be named so that the error can say what came; only the first is taken  # fmt: skip

MODULE_NAMES: Mapping[tuple[str, str], Constructor | None] = {
    **NUMPY_SCALARS,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _module,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): _ordered_dict,
    ("dnnlib.util", "EasyDict"): _easy_dict,
    ("builtins", "set"): _set,
}
