"""Files as the official code writes them, made independently of our reader, from the description alone.

Python's own pickler and PyTorch's own tensors do the writing; the modules that such files name exist only
while they are written.
"""

import io
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

SOURCE = "open({trace!r}, 'w').write('the source in the file was run')\n"


class EasyDict(dict):
    """Stands for the dictionary class of the official code while a file is written."""

    __module__ = "dnnlib.util"


class Network:
    """Stands for the TensorFlow network class."""

    __module__ = "dnnlib.tflib.network"

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        return self.state

    def __getnewargs__(self) -> tuple:
        return ()


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError("the function that the file names was called")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


@contextmanager
def official_modules() -> Iterator[None]:
    """The modules that the pickler looks up names in."""
    names = {
        "torch_utils": {},
        "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
        "dnnlib": {}, "dnnlib.util": {"EasyDict": EasyDict},
        "dnnlib.tflib": {}, "dnnlib.tflib.network": {"Network": Network},
    }  # fmt: skip
    before = {name: sys.modules.get(name) for name in names}
    for name, content in names.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


class Persistent:
    """Pickles as the official code pickles one of its modules."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.meta = meta

    def __reduce__(self) -> tuple:
        return _reconstruct_persistent_obj, (self.meta,)


class Writer:
    """How a file of official modules differs from the next.

    Args:
        ordered: dictionaries of modules as OrderedDict, as old PyTorch has them.
        numpy_gains: gains as NumPy numbers, as the official layers keep them.
    """

    def __init__(self, *, ordered: bool, numpy_gains: bool, trace: str) -> None:
        self.table = OrderedDict if ordered else dict
        self.numpy_gains = numpy_gains
        self.source = SOURCE.format(trace=trace) + "# and much more" * 2000

    def module(self, module: nn.Module, args: tuple = (), kwargs: dict | None = None) -> Persistent:
        state = self.state(module)
        state["_init_args"], state["_init_kwargs"] = args, EasyDict(kwargs or {})
        return Persistent(self.meta(type(module).__name__, state))

    def meta(self, class_name: str, state: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": class_name,
            "state": state,
        }

    def state(self, module: nn.Module) -> dict[str, Any]:
        gain = np.float64(np.sqrt(2)) if self.numpy_gains else float(np.sqrt(2))
        return {
            "training": False,
            "_parameters": self.table(module._parameters),
            "_buffers": self.table(module._buffers),
            "_non_persistent_buffers_set": set(module._non_persistent_buffers_set),
            "_backward_hooks": OrderedDict(),
            "_is_full_backward_hook": None,
            "_forward_hooks": OrderedDict(),
            "_state_dict_hooks": OrderedDict(),
            "_modules": self.table((name, self.module(part)) for name, part in module._modules.items()),
            "act_gain": gain,
            "some": [1, (2.5, None), EasyDict(a=1)],
        }


GENERATOR_ORDER = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")


def generator_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    own = {name: settings[name] for name in GENERATOR_ORDER}
    own["mapping_kwargs"] = EasyDict(num_layers=settings["num_mapping_layers"])
    rest = (
        "channel_base",
        "channel_max",
        "num_fp16_res",
        "conv_clamp",
        "architecture",
        "resample_filter",
        "use_noise",
    )
    own["synthesis_kwargs"] = EasyDict({name: settings[name] for name in rest if name in settings})
    return own


def discriminator_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    names = (
        "c_dim", "img_resolution", "img_channels", "architecture", "channel_base", "channel_max",
        "num_fp16_res", "conv_clamp",
    )  # fmt: skip
    own = {name: settings[name] for name in names if name in settings}
    own["block_kwargs"] = EasyDict(freeze_layers=settings.get("freeze_layers", 0))
    own["mapping_kwargs"] = EasyDict(num_layers=settings.get("num_mapping_layers", 8))
    own["epilogue_kwargs"] = EasyDict(mbstd_group_size=settings["mbstd_group_size"])
    return own


def official_content(
    networks: dict[str, nn.Module],
    settings: dict[str, Any],
    *,
    trace: str,
    ordered: bool = False,
    numpy_gains: bool = False,
    positional: bool = False,
) -> dict[str, Any]:
    """The dictionary of an official file; to be pickled within `official_modules`."""
    writer = Writer(ordered=ordered, numpy_gains=numpy_gains, trace=trace)
    content: dict[str, Any] = {"training_set_kwargs": EasyDict(class_name="training.dataset.X", path="x.zip")}
    for name in ("G", "D", "G_ema"):
        make = discriminator_arguments if name == "D" else generator_arguments
        arguments = make(settings["D" if name == "D" else "G"])
        args: tuple = ()
        if positional:
            first = [key for key in arguments if not key.endswith("kwargs")][:3]
            args = tuple(arguments.pop(key) for key in first)
        content[name] = writer.module(networks[name], args, arguments)
    pipe = networks.get("augment_pipe")
    content["augment_pipe"] = None if pipe is None else writer.module(pipe, (), settings["augment"])
    return content


def write(value: object, protocol: int = 4) -> bytes:
    """Pickle a value that holds official objects."""
    with official_modules():
        return pickle.dumps(value, protocol)


def replace_tensor(value: object, change: Any) -> bytes:
    """Pickle a value with each tensor's reduction changed: `change(args) -> args` of `_rebuild_tensor_v2`."""
    buffer = io.BytesIO()

    class Pickler(pickle.Pickler):
        def reducer_override(self, obj: object) -> Any:
            if isinstance(obj, torch.Tensor) and not isinstance(obj, nn.Parameter):
                function, args = obj.__reduce_ex__(2)[:2]
                return function, change(args)
            return NotImplemented

    with official_modules():
        Pickler(buffer, 4).dump(value)
    return buffer.getvalue()
