"""The classifiers of R. T. Q. Chen et al., "Neural Ordinary Differential Equations" (arXiv 1806.07366), Table 1.

As in section 3 there, they share stem and head. Between those, a ResNet has six residual blocks of weights of
their own; an RK-Net and an ODE-Net have the solution, at time 1, of an ODE whose field is made of the same
layers. The RK-Net differentiates straight through the solver's operations, the ODE-Net solves the adjoint ODE
backwards. Two more are controls: one residual block, which has as many parameters as the ODE-Net, and no block at all.
"""

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

import isocline as iso

ModelName = Literal["mlp", "stem", "small-resnet", "resnet", "rknet", "odenet", "odenet-kinetic"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)


@dataclass(frozen=True)
class About:
    """A row of the table.

    Attributes:
        title: What it is called.
        paper_error: Test error in the paper's Table 1, in per cent; None if it is not there.
        paper_parameters: Parameters there, in millions.
    """

    title: str
    paper_error: float | None = None
    paper_parameters: float | None = None


ABOUT: dict[ModelName, About] = {
    "mlp": About("1-layer MLP", 1.60, 0.24),
    "stem": About("stem without blocks"),
    "small-resnet": About("ResNet, 1 block"),
    "resnet": About("ResNet", 0.41, 0.60),
    "rknet": About("RK-Net", 0.47, 0.22),
    "odenet": About("ODE-Net", 0.42, 0.22),
    "odenet-kinetic": About("ODE-Net, kinetic"),
}


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


class KineticODE(iso.NeuralODE):
    """An ODE that also integrates the kinetic energy of its path, which training holds down.

    Attributes:
        energy: The last call's, a mean over images and over the numbers of a state.
    """

    energy: Tensor

    def __init__(self, field: nn.Module, **settings: Any) -> None:
        """As a NeuralODE."""
        super().__init__(iso.Regularised(field, kinetic=True), **settings)

    def forward(self, y0: Any, *args: Any) -> Tensor:
        """The state at the end."""
        y, penalties = cast(tuple[Tensor, dict[str, Tensor]], super().forward(y0, *args))
        self.energy = penalties["kinetic"].mean() / y[0].numel()
        return y


class Classifier(nn.Module):
    """Stem, body and head: images (N, 1, height, width) to logits (N, 10).

    Attributes:
        body: An `isocline.NeuralODE`, or the residual blocks.
    """

    def __init__(self, stem: nn.Module, body: nn.Module, head: nn.Module) -> None:
        """One after the other."""
        super().__init__()
        self.stem, self.body, self.head = stem, body, head

    def forward(self, x: Tensor) -> Tensor:
        """The logits of each image."""
        state = self.stem(x).to(x.dtype)  # under autocast the layers may be of 16 bits: states are not
        return cast(Tensor, self.head(self.body(state)))

    def penalty(self) -> "Tensor | float":
        """What training adds to the last call's loss, before its weight: the kinetic energy, if it is integrated."""
        return self.body.energy if isinstance(self.body, KineticODE) else 0.0


def build_classifier(
    name: ModelName, channels: int, pixels: int, rtol: float = 1e-3, atol: float = 1e-3, seed: int = 0
) -> Classifier:
    """Makes one of the models, its initial weights decided by `seed` alone.

    Args:
        name: Which.
        channels: Width of all the layers; 64 in the paper.
        pixels: Height and width of the images. As in the paper, MNIST's 28 are halved twice; fewer only once.
        rtol: Relative tolerance of the solves, forward and backward.
        atol: Absolute tolerance of the same.
        seed: Seeds torch's global generator for the time of the call only.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "mlp":  # of as many hidden units as that of LeCun et al. 1998, whose error the paper quotes
            hidden = 300
            layers = nn.Linear(pixels**2, hidden), nn.Tanh()
            return Classifier(nn.Flatten(), nn.Sequential(*layers), nn.Linear(hidden, 10))
        stem = _stem(channels, halvings=2 if pixels >= 28 else 1)
        body = _body(name, channels, rtol, atol)
        head = [_norm(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
        return Classifier(stem, body, nn.Sequential(*head))


def residual_blocks(channels: int, depth: int) -> nn.Module:
    """So many blocks one after the other."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(depth)))


def _stem(channels: int, halvings: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, padding=1)]
    for _ in range(halvings):
        layers += [_norm(channels), nn.ReLU(), nn.Conv2d(channels, channels, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)


def _body(name: ModelName, channels: int, rtol: float, atol: float) -> nn.Module:
    match name:
        case "stem":
            return nn.Identity()
        case "small-resnet":
            return residual_blocks(channels, 1)
        case "resnet":
            return residual_blocks(channels, 6)
    if name == "odenet-kinetic":
        return KineticODE(ConvField(channels), rtol=rtol, atol=atol)
    gradient = iso.BacksolveAdjoint(rtol=rtol, atol=atol) if name == "odenet" else iso.DirectAdjoint()
    return iso.NeuralODE(ConvField(channels), rtol=rtol, atol=atol, gradient=gradient)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 2), channels)
