"""Computing with bfloat16 where the settings ask for it: products in 16 bits, sums and weights in 32."""

import torch
from fastai.callback.core import Callback


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a network computes with "fp32" or "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


class Autocast(Callback):
    """Runs the network of each step in that context; the loss and the optimiser stay in 32 bits."""

    order = 10

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def before_batch(self) -> None:
        self._context = autocast(self.xb[0].device, self.precision)
        self._context.__enter__()

    def after_pred(self) -> None:
        self._context.__exit__(None, None, None)
        self.learn.pred = self.pred.float()

    def after_cancel_batch(self) -> None:
        self._context.__exit__(None, None, None)
