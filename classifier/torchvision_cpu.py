"""Let torchvision be imported beside a torch without CUDA.

The torchvision wheel of the common registries is built for CUDA. Its compiled part cannot be loaded beside a
CPU-only torch, and then its import stops with "operator torchvision::nms does not exist", because its Python
part registers shapes for two operators that only the compiled part declares. timm and fastai import
torchvision, though nothing here calls either operator: declaring the two is enough.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

SCHEMAS = tuple(
    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")
)

_declared: list[object] = []  # torch forgets a library that nobody holds


class _TorchvisionGuard(MetaPathFinder):
    """Finds nothing itself: it acts once, just before the first `import torchvision`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare_where_missing()
        return None


def install_torchvision_guard() -> None:
    """Prepare for a later `import torchvision`; imports nothing, and does nothing the second time."""
    if "torchvision" in sys.modules or any(isinstance(finder, _TorchvisionGuard) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _TorchvisionGuard())


def _declare_where_missing() -> None:
    import torch

    if torch.version.cuda or torch.version.hip:
        return  # a wheel that does not fit there is a broken installation, and torchvision should say so
    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None or _compiled_part_loads(Path(spec.origin).parent):
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)


def _compiled_part_loads(folder: Path) -> bool:
    import torch

    for path in [*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]:
        try:
            torch.ops.load_library(path)
        except OSError:
            continue
        return True
    return False
