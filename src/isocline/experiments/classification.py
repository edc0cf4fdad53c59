"""The three classifiers of R. T. Q. Chen et al., "Neural Ordinary Differential Equations" (arXiv 1806.07366).

As in section 3 there, they share stem and head. Between those, a ResNet has six residual blocks of weights of
their own; an RK-Net and an ODE-Net have the solution, at time 1, of an ODE whose field is made of the same
layers. The RK-Net differentiates straight through the solver's operations, the ODE-Net solves the adjoint ODE
backwards.
"""

from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

import isocline as iso

ModelName = Literal["resnet", "rknet", "odenet"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)


class TimeConv(nn.Module):
    """A 3 × 3 convolution that keeps shape (N, C, height, width) and sees the time as one channel more."""

    def __init__(self, channels: int) -> None:
        """`channels` is C, of input and output."""
        super().__init__()
        self.conv = nn.Conv2d(channels + 1, channels, 3, padding=1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """The convolution of `x` at time `t`."""
        time = t.to(x.dtype).expand(x.shape[0], 1, *x.shape[2:])
        return cast(Tensor, self.conv(torch.cat([time, x], dim=1)))


class ConvField(nn.Module):
    """The field dy/dt = f(t, y) of the RK-Net and the ODE-Net, on states of shape (N, C, height, width)."""

    def __init__(self, channels: int) -> None:
        """`channels` is C."""
        super().__init__()
        self.norms = nn.ModuleList(_norm(channels) for _ in range(3))
        self.convs = nn.ModuleList(TimeConv(channels) for _ in range(2))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """The derivative of `y` at time `t`."""
        for norm, conv in zip(self.norms, self.convs, strict=False):
            y = conv(t, torch.relu(norm(y)))
        return cast(Tensor, self.norms[-1](y))


class ResidualBlock(nn.Module):
    """x + f(x), f being norm, ReLU, 3 × 3 convolution, twice; keeps shape (N, C, height, width)."""

    def __init__(self, channels: int) -> None:
        """`channels` is C."""
        super().__init__()
        self.layers = nn.Sequential(
            *(_norm(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)),
            *(_norm(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return x + cast(Tensor, self.layers(x))


class Classifier(nn.Module):
    """Stem, body and head: images (N, 1, height, width) to logits (N, 10).

    Attributes:
        body: An `isocline.NeuralODE`, or the residual blocks.
    """

    def __init__(self, body: nn.Module, channels: int, halvings: int) -> None:
        """Builds stem and head around a body.

        Args:
            body: Keeps shape (N, channels, height, width).
            channels: Width of all the layers.
            halvings: How often the stem halves height and width.
        """
        super().__init__()
        stem: list[nn.Module] = [nn.Conv2d(1, channels, 3, padding=1)]
        for _ in range(halvings):
            stem += [_norm(channels), nn.ReLU(), nn.Conv2d(channels, channels, 4, stride=2, padding=1)]
        self.stem = nn.Sequential(*stem)
        self.body = body
        head = [_norm(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
        self.head = nn.Sequential(*head)

    def forward(self, x: Tensor) -> Tensor:
        """The logits of each image."""
        return cast(Tensor, self.head(self.body(self.stem(x))))

    def parameter_count(self) -> int:
        """The number of trained values."""
        return sum(p.numel() for p in self.parameters())


def build_classifier(
    name: ModelName, channels: int, halvings: int, rtol: float = 1e-3, atol: float = 1e-3, seed: int = 0
) -> Classifier:
    """Makes one of the three models, its initial weights decided by `seed` alone.

    Args:
        name: "resnet", "rknet" or "odenet".
        channels: Width of all the layers; 64 in the paper.
        halvings: How often the stem halves height and width; twice in the paper.
        rtol: Relative tolerance of the solves, forward and backward.
        atol: Absolute tolerance of the same.
        seed: Seeds torch's global generator for the time of the call only.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "resnet":
            body: nn.Module = nn.Sequential(*(ResidualBlock(channels) for _ in range(6)))
        else:
            gradient = iso.BacksolveAdjoint(rtol=rtol, atol=atol) if name == "odenet" else iso.DirectAdjoint()
            body = iso.NeuralODE(ConvField(channels), rtol=rtol, atol=atol, gradient=gradient)
        return Classifier(body, channels, halvings)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 2), channels)
