"""A neural ODE with room to move aside."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from isocline.checks import check_whole
from isocline.models.ode_block import NeuralODE
from isocline.tree import Tree


class AugmentedNeuralODE(nn.Module):
    """A ``NeuralODE`` on the state extended by channels that start at zero.

    Trajectories of an ODE cannot cross, so a plain neural ODE cannot learn x -> -x on a line; with one more dimension
    it can, by going around. The layer returns the extended state; a linear layer behind it is the usual projection.

    Args:
        field: a field on the extended state.
        channels: number of zero channels added.
        dim: dimension they are added to: 1 is the features of (B, d) and the channels of (B, C, H, W).
        settings: everything else goes to ``NeuralODE``.

    References:
        Dupont, Doucet & Teh 2019, Augmented Neural ODEs, arXiv:1904.01681.

    Example:
        >>> import isocline as iso, torch
        >>> layer = iso.AugmentedNeuralODE(lambda t, y: -y, channels=2)
        >>> layer(torch.ones(4, 1)).shape
        torch.Size([4, 3])
    """

    def __init__(self, field: Callable[..., Tree], channels: int, *, dim: int = 1, **settings: Any) -> None:
        """Make the layer."""
        super().__init__()
        check_whole("channels", channels, 1)
        self.ode = NeuralODE(field, **settings)
        self.channels = channels
        self.dim = dim

    def forward(self, y0: Tensor, *args: Any) -> Tree:
        """Extend y0 with zeros and solve."""
        if not -y0.ndim <= self.dim < y0.ndim:
            raise ValueError(f"dim={self.dim} is not a dimension of y0, which has shape {tuple(y0.shape)}")
        shape = list(y0.shape)
        shape[self.dim] = self.channels
        return self.ode(torch.cat([y0, y0.new_zeros(shape)], dim=self.dim), *args)
