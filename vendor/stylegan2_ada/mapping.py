"""The mapping network: latents and labels to intermediate latents w.

Source: Karras et al. 2018, arXiv:1812.04948, Section 2 and Appendix B (truncation); Karras et al. 2020,
arXiv:2006.06676, Appendix C (class-conditional input).
"""

import torch
from torch import Tensor, nn

from .layers import FullyConnectedLayer, normalize_second_moment


class MappingNetwork(nn.Module):
    """z and label to w.

    Args:
        z_dim: size of the latents; 0 = map the label alone, as the discriminator does.
        c_dim: size of the labels; 0 = unlabeled.
        w_dim: size of the result.
        num_ws: copies of w, one a style input of the synthesis network; None = a single w, for which no
            average is tracked.
        lr_multiplier: learning rate of the layers relative to the rest of the network.
        w_avg_beta: decay of the running average of w per call.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        *,
        num_layers: int = 8,
        lr_multiplier: float = 0.01,
        w_avg_beta: float = 0.995,
    ) -> None:
        super().__init__()
        if z_dim + c_dim < 1:
            raise ValueError("a mapping network needs latents or labels, got z_dim=0 and c_dim=0")
        self.z_dim, self.c_dim, self.w_dim, self.num_ws = z_dim, c_dim, w_dim, num_ws
        self.w_avg_beta = w_avg_beta
        if num_ws is not None:
            self.register_buffer("w_avg", torch.zeros([w_dim]))
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, w_dim)
        features = z_dim + (w_dim if c_dim > 0 else 0)
        self.layers: list[str] = []
        for index in range(num_layers):
            layer = FullyConnectedLayer(features, w_dim, activation="lrelu", lr_multiplier=lr_multiplier)
            self.add_module(f"fc{index}", layer)
            self.layers.append(f"fc{index}")
            features = w_dim

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        skip_w_avg_update: bool = False,
    ) -> Tensor:
        """Map a batch.

        Args:
            z: (N, z_dim) unit normal latents; ignored if z_dim is 0.
            c: (N, c_dim) one-hot (or dense) labels; ignored if c_dim is 0.
            truncation_psi: 1 = as trained, 0 = always the average w.
            truncation_cutoff: how many of the first style inputs are truncated; None = all.
            skip_w_avg_update: leave the running average alone in training mode.

        Returns:
            (N, num_ws, w_dim), or (N, w_dim) without num_ws.
        """
        inputs = []
        if self.z_dim > 0:
            inputs.append(normalize_second_moment(_checked(z, self.z_dim, "z")))
        if self.c_dim > 0:
            inputs.append(normalize_second_moment(self.embed(_checked(c, self.c_dim, "c"))))
        w = torch.cat(inputs, 1)
        for name in self.layers:
            w = getattr(self, name)(w)  # (N, w_dim)
        if self.num_ws is None:
            return w

        if self.training and not skip_w_avg_update:
            with torch.no_grad():
                self.w_avg.copy_(w.detach().mean(0).lerp(self.w_avg, self.w_avg_beta))
        ws = w[:, None].expand(-1, self.num_ws, -1)
        if truncation_psi == 1:
            return ws
        truncated = self.w_avg.lerp(ws, truncation_psi)
        if truncation_cutoff is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], ws[:, truncation_cutoff:]], 1)


def _checked(rows: Tensor | None, size: int, name: str) -> Tensor:
    if rows is None or rows.ndim != 2 or rows.shape[1] != size:
        got = "none" if rows is None else tuple(rows.shape)
        raise ValueError(f"{name} must have shape (N, {size}), got {got}")
    return rows.to(torch.float32)
