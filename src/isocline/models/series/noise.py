"""What observations say about predictions."""

from math import log, pi

import torch
from torch import Tensor, nn

from isocline.checks import check_numbers
from isocline.models.series.batch import Series, beside


class GaussianNoise(nn.Module):
    r"""Observations :math:`x \sim N(\mu, \sigma^2)`, each by itself.

    Args:
        channels: C, or 1 for one sigma for all channels.
        std: sigma, one number.
        learned: whether sigma is a parameter, one a channel, that starts there.

    Example:
        >>> import isocline as iso, torch
        >>> noise = iso.models.GaussianNoise(1, std=0.5)
        >>> series = iso.Series.of([[0.0]], [[0.0]])
        >>> round(noise.log_likelihood(torch.zeros(1, 1, 1), series).item(), 4)  # -log(0.5 sqrt(2 pi))
        -0.2258
    """

    log_std: Tensor

    def __init__(self, channels: int, std: float = 0.1, *, learned: bool = False) -> None:
        """Make the parameter, or a constant."""
        super().__init__()
        check_numbers("std must be a number", std)
        if not 0 < std < float("inf"):
            raise ValueError(f"std must be positive, got {std}")
        log_std = torch.full((channels,), log(std))
        if learned:
            self.log_std = nn.Parameter(log_std)
        else:
            self.register_buffer("log_std", log_std)

    @property
    def std(self) -> Tensor:
        """Sigma, (C,)."""
        return self.log_std.exp()

    def log_likelihood(self, mean: Tensor, target: Series) -> Tensor:
        """Return the log-density of all that was observed of each series: (B, ...) for means (T, B, ..., C)."""
        scaled = (mean - beside(target.values, mean)) / self.std
        density = -0.5 * (scaled.square() + log(2 * pi)) - self.log_std
        return torch.where(beside(target.observed, mean), density, 0.0).sum((0, -1))
