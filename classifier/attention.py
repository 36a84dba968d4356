"""What a vision transformer looks at: the attention of its last block, and rolled out over all blocks.

Source of the rollout: Abnar and Zuidema 2020, "Quantifying attention flow in transformers",
arXiv:2005.00928, Section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from classifier.data import ImageTable
from classifier.gradcam import EXPLAIN_BATCH, batches
from classifier.layers import num_prefix_tokens, token_grid, undisturbed
from classifier.run import Classifier
from extract.errors import SettingsError


@dataclass(frozen=True)
class Attention:
    """Attention of what the network decides by, to each patch; rows of patches from the top."""

    heads: np.ndarray  # (N, heads, rows, columns) of the last block, each map sums to at most 1
    rollout: np.ndarray  # (N, rows, columns) over all blocks, likewise


def attention_maps(
    classifier: Classifier, images: ImageTable, *, batch_size: int = EXPLAIN_BATCH
) -> Attention:
    """The attention that the class token (or, where patches are averaged, all of them) pays to each patch.

    The rollout takes each block as half attention, averaged over its heads, and half itself, because the
    residual path hands on half unchanged, and multiplies the blocks.

    Raises:
        SettingsError: if the network is no transformer whose tokens are the whole picture's patches.
    """
    model = classifier.model
    prefix, grid = _require_tokens(model)
    by_class_token = prefix > 0 and getattr(model, "global_pool", "token") == "token"
    found_heads: list[np.ndarray] = []
    found_rollouts: list[np.ndarray] = []
    with undisturbed(model), torch.no_grad(), _unfused(model):
        for _, batch in batches(classifier, images, batch_size):
            with AttentionRecord() as record:
                model(batch)
            num_tokens = prefix + grid[0] * grid[1]
            if record.last is None or record.rollout is None or record.last.shape[2] != num_tokens:
                raise _no_attention()
            for found, weights in ((found_heads, record.last), (found_rollouts, record.rollout[:, None])):
                paid = weights[:, :, :1] if by_class_token else weights[:, :, prefix:]
                maps = paid.mean(dim=2)[:, :, prefix:].unflatten(2, grid)  # (N, heads or 1, rows, columns)
                found.append(maps.float().cpu().numpy())
    if not found_heads:
        return Attention(np.zeros((0, 1, *grid), np.float32), np.zeros((0, *grid), np.float32))
    return Attention(np.concatenate(found_heads), np.concatenate(found_rollouts)[:, 0])


class AttentionRecord(TorchFunctionMode):
    """Within the block: the last attention, (N, heads, T, T), and the rollout so far, (N, T, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None
        self.rollout: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | kwargs
            self._note(given["query"], given["key"], given.get("attn_mask"), given.get("scale"))
        return func(*args, **kwargs)

    def _note(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None) -> None:
        if query.ndim != 4 or query.shape[2] != key.shape[2]:
            return  # no attention among the tokens themselves
        scores = (query @ key.transpose(-2, -1)) * (scale or 1 / math.sqrt(query.shape[-1]))
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        self.last = scores.softmax(dim=-1)
        step = (self.last.mean(dim=1) + torch.eye(query.shape[2], device=query.device)) / 2  # (N, T, T)
        if self.rollout is None or self.rollout.shape != step.shape:
            self.rollout = step
        else:
            self.rollout = step @ self.rollout


def patch_size(model: nn.Module) -> tuple[int, int]:
    """Height and width of the patches that a vision transformer cuts its input into.

    Raises:
        SettingsError: if the network is none.
    """
    size = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if size is None or token_grid(model) is None:
        raise SettingsError(
            "the network does not cut its images into patches: the patch figure is for vision transformers"
        )
    return (int(size[0]), int(size[1])) if isinstance(size, tuple | list) else (int(size), int(size))


@contextmanager
def _unfused(model: nn.Module) -> Iterator[None]:
    """Let every attention go through torch's own function, where it can be seen; put back afterwards."""
    own = [module for module in model.modules() if hasattr(module, "fused_attn")]
    before = [module.fused_attn for module in own]
    try:
        for module in own:
            module.fused_attn = True  # type: ignore[assignment]
        yield
    finally:
        for module, value in zip(own, before, strict=True):
            module.fused_attn = value  # type: ignore[assignment]


def _require_tokens(model: nn.Module) -> tuple[int, tuple[int, int]]:
    prefix, grid = num_prefix_tokens(model), token_grid(model)
    if prefix is None or grid is None:
        raise _no_attention()
    return prefix, grid


def _no_attention() -> SettingsError:
    return SettingsError(
        "the network has no attention over the whole picture: attention maps are for vision transformers "
        "(vit_..., deit_...); use --method grad-cam"
    )
