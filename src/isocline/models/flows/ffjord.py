"""Free-form dynamics: nets whose layers all see the time."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from isocline.checks import check_whole
from isocline.models.flows.conditions import condition

Layer = Callable[[int, int], nn.Module]
"""Makes a linear layer from the numbers of its inputs and outputs, which are in dimension 1."""

conv3x3 = partial(nn.Conv2d, kernel_size=3, padding=1)
"""For images: ``FFJORDField(channels, (16, 16), layer=conv3x3)``."""


class Concat(nn.Module):
    """``layer([c, x])``: time and context are further inputs."""

    def __init__(self, layer: Layer, inputs: int, outputs: int, conditions: int) -> None:
        """Make the layer."""
        super().__init__()
        self.layer = layer(conditions + inputs, outputs)

    def forward(self, c: Tensor, x: Tensor) -> Tensor:
        """Return (B, outputs, ...) for c (1 or B, conditions) and x (B, inputs, ...)."""
        out: Tensor = self.layer(torch.cat([_over(c, x).expand(len(x), -1, *x.shape[2:]), x], dim=1))
        return out


class ConcatSquash(nn.Module):
    """``layer(x) * sigmoid(gate(c)) + shift(c)``: time and context open and shift each output."""

    def __init__(self, layer: Layer, inputs: int, outputs: int, conditions: int) -> None:
        """Make the layer, its gates and shifts."""
        super().__init__()
        self.layer = layer(inputs, outputs)
        self.gate = nn.Linear(conditions, outputs)
        self.shift = nn.Linear(conditions, outputs, bias=False)

    def forward(self, c: Tensor, x: Tensor) -> Tensor:
        """Return (B, outputs, ...) for c (1 or B, conditions) and x (B, inputs, ...)."""
        out: Tensor = self.layer(x) * _over(self.gate(c).sigmoid(), x) + _over(self.shift(c), x)
        return out


class FFJORDField(nn.Module):
    """A net of (t, z), and of a context, whose every layer sees the time.

    Args:
        channels: numbers of an event, or channels of an image.
        hidden: widths of the hidden layers.
        layer: makes the layers: ``nn.Linear`` for events (d,), ``conv3x3`` for images (C, H, W), or the like.
        mix: how time comes in: ``ConcatSquash``, or ``Concat``.
        activation: makes the nonlinearity between layers; it should be smooth, because its derivative is integrated.
        context: numbers of the context of a sample; see ``CNF.given``.

    References:
        Grathwohl, Chen, Bettencourt, Sutskever & Duvenaud 2019, FFJORD, arXiv:1810.01367, appendix B.

    Example:
        >>> import torch
        >>> from isocline.models.flows import FFJORDField, conv3x3
        >>> FFJORDField(2)(torch.tensor(0.0), torch.randn(8, 2)).shape
        torch.Size([8, 2])
        >>> FFJORDField(3, (8,), layer=conv3x3)(torch.tensor(0.0), torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 3, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        hidden: Sequence[int] = (64, 64),
        *,
        layer: Layer = nn.Linear,
        mix: type[Concat] | type[ConcatSquash] = ConcatSquash,
        activation: Callable[[], nn.Module] = nn.Tanh,
        context: int = 0,
    ) -> None:
        """Make the layers."""
        super().__init__()
        widths = (channels, *hidden, channels)
        for width in widths:
            check_whole("channels and hidden widths", width, 1)
        check_whole("context", context, 0)
        self.context = context
        self.layers = nn.ModuleList(mix(layer, a, b, 1 + context) for a, b in pairwise(widths))
        self.activation = activation()

    def forward(self, t: Tensor, z: Tensor, *context: Tensor) -> Tensor:
        """Return dz/dt for z (B, channels, ...), t that broadcasts against it, and context (B, c)."""
        c = condition(t, z, context, self.context)
        for layer in self.layers[:-1]:
            z = self.activation(layer(c, z))
        out: Tensor = self.layers[-1](c, z)
        return out


def _over(c: Tensor, x: Tensor) -> Tensor:
    """Return c (B, k) in a shape that broadcasts against x (B, k, ...)."""
    return c.reshape(*c.shape, *[1] * (x.ndim - 2))
