"""A slowly moving average of the weights, which is judged and kept in place of the weights themselves."""

import torch
from fastai.callback.core import Callback
from torch import Tensor

WARM_UP = 10  # the decay begins at 1 / 10 and approaches its value: early weights are forgotten fast


class WeightAverage(Callback):
    """Follows weights and running moments; stands in the model's place during each look at the validation.

    Source: Polyak and Juditsky 1992; the warm-up is that of Tensorflow's ExponentialMovingAverage.
    """

    order = 80  # after each step's update; around the look of `Looks`, which has order 70

    def __init__(self, decay: float) -> None:
        self.decay, self.num_updates = decay, 0
        self.average: dict[str, Tensor] = {}
        self._own: dict[str, Tensor] = {}

    def before_fit(self) -> None:
        if not self.average:
            self.average = self._copied_state()

    def after_batch(self) -> None:
        if not self.training:
            return
        decay = min(self.decay, (1 + self.num_updates) / (WARM_UP + self.num_updates))
        self.num_updates += 1
        with torch.no_grad():
            for name, value in self.learn.model.state_dict().items():
                if value.dtype.is_floating_point:
                    self.average[name].lerp_(value, 1 - decay)
                else:
                    self.average[name].copy_(value)

    def before_validate(self) -> None:
        self._own = self._copied_state()
        self.learn.model.load_state_dict(self.average)

    def after_validate(self) -> None:
        self.learn.model.load_state_dict(self._own)
        self._own = {}

    def _copied_state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.learn.model.state_dict().items()}
