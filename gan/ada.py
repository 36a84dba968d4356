"""Adaptive discriminator augmentation (ADA): the feedback loop that sets p.

Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", arXiv:2006.06676,
Section 3.1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdaConfig:
    """Settings of the loop; the defaults are the paper's, the ceiling is ours."""

    target: float = 0.6  # r_t to hold; 0 = no overfitting, 1 = complete
    ramp_kimg: float = 500.0  # thousands of real images for p to travel 0 -> 1
    interval: int = 4  # minibatches between two adjustments
    ceiling: float = 1.0  # the official loop has none and must then work off its overshoot


def adjust_p(p: float, r_t: float, num_images: int, config: AdaConfig) -> float:
    """Move p one step towards holding r_t at its target.

    Args:
        p: augmentation probability in use, in [0, config.ceiling].
        r_t: mean of sign(D(x)) over real images since the last step, in [-1, 1]; NaN leaves p as it is.
        num_images: training images since the last step; sets the length of the step.

    Returns:
        The next p. The official loop clamps at 0 only; beyond 1 every augmentation is applied to every image
        already, so that a p above 1 changes nothing but the time it takes to fall again.
    """
    direction = int(r_t > config.target) - int(r_t < config.target)
    return min(max(p + direction * num_images / (config.ramp_kimg * 1000), 0.0), config.ceiling)


class AdaController:
    """Averages the signs of the real logits; adjusts p every `config.interval` minibatches."""

    def __init__(self, config: AdaConfig, p: float = 0.0) -> None:
        self.config, self.p = config, p
        self._sign_sum: Tensor | float = 0.0
        self._num_signs, self._num_images, self._num_batches = 0, 0, 0

    def observe(self, real_logits: Tensor) -> None:
        """Take the (N, 1) logits of real images, from the main and from the R1 phase of D."""
        self._sign_sum = self._sign_sum + real_logits.detach().sign().sum()  # stays on its device
        self._num_signs += real_logits.numel()

    def end_batch(self, batch_size: int, total: Callable[[Sequence[float]], Sequence[float]] = list) -> float:
        """Count one minibatch of training; return the p to use for the next.

        Args:
            batch_size: images of the minibatch, in all processes together.
            total: sums numbers over the processes that train together; each has observed a part.
        """
        self._num_images += batch_size
        self._num_batches += 1
        if self._num_batches == self.config.interval:
            sign_sum, num_signs = total([float(self._sign_sum), self._num_signs])
            r_t = sign_sum / num_signs if num_signs else float("nan")
            self.p = adjust_p(self.p, r_t, self._num_images, self.config)
            self._sign_sum, self._num_signs, self._num_images, self._num_batches = 0.0, 0, 0, 0
        return self.p

    def state(self) -> dict[str, float]:
        """Everything a resumed training needs, as plain numbers."""
        return {
            "p": self.p,
            "sign_sum": float(self._sign_sum),
            "num_signs": self._num_signs,
            "num_images": self._num_images,
            "num_batches": self._num_batches,
        }

    def forget_signs(self) -> None:
        """Leave the signs collected so far to another process, which `add_signs` of this one's state."""
        self._sign_sum, self._num_signs = 0.0, 0

    def add_signs(self, state: Mapping[str, float]) -> None:
        self._sign_sum = self._sign_sum + float(state["sign_sum"])
        self._num_signs += int(state["num_signs"])

    def restore(self, state: dict[str, float], device: torch.device) -> None:
        self.p = float(state["p"])
        self._sign_sum = torch.tensor(float(state["sign_sum"]), device=device)
        self._num_signs = int(state["num_signs"])
        self._num_images = int(state["num_images"])
        self._num_batches = int(state["num_batches"])
