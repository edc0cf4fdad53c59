"""Vector fields that the experiments share, in float64: modules, so that they have parameters to differentiate."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Attracted(nn.Module):
    """y' = -k (y - cos t): solutions approach each other at the rate k, and a moving target, on which they stay."""

    def __init__(self, k: float) -> None:
        """`k` is the rate, per unit of time."""
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """The derivative of `y` (..., n)."""
        return -self.k * (y - t.cos())


class LotkaVolterra(nn.Module):
    """x' = a x - b x z, z' = c x z - d z: prey and predators on closed orbits."""

    def __init__(self) -> None:
        """Parameters a, b, c, d."""
        super().__init__()
        self.rates = nn.Parameter(torch.tensor([1.3, 0.9, 0.8, 1.8], dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """The derivative of `y` (..., 2)."""
        a, b, c, d = self.rates
        x, z = y.unbind(-1)
        return torch.stack([a * x - b * x * z, c * x * z - d * z], dim=-1)


class Lorenz(nn.Module):
    """Lorenz's equations: forwards, distances grow as exp(0.9 t) in one direction and shrink as exp(-14.6 t) in one."""

    def __init__(self) -> None:
        """Parameters sigma, rho, beta."""
        super().__init__()
        self.constants = nn.Parameter(torch.tensor([10.0, 28.0, 8 / 3], dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """The derivative of `y` (..., 3)."""
        sigma, rho, beta = self.constants
        x, y_, z = y.unbind(-1)
        return torch.stack([sigma * (y_ - x), x * (rho - z) - y_, x * y_ - beta * z], dim=-1)


class VanDerPol(nn.Module):
    """x' = v, v' = mu (1 - x^2) v - x."""

    def __init__(self, mu: float) -> None:
        """`mu` is the strength of the damping; large is stiff."""
        super().__init__()
        self.mu = nn.Parameter(torch.tensor(mu, dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """The derivative of `y` (..., 2)."""
        x, v = y.unbind(-1)
        return torch.stack([v, self.mu * (1 - x**2) * v - x], dim=-1)


class SpiralNet(nn.Module):
    """A tanh net of one hidden layer that has learnt the spiral y' = y^3 A, from its slopes.

    The hidden layer is random and the last one solves the (regularised) least squares problem, so that it is a trained
    net, and the same everywhere.
    """

    def __init__(self, hidden: int = 50) -> None:
        """`hidden` is the number of hidden units."""
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        first, last = (nn.Linear(*shape, dtype=torch.float64) for shape in ((2, hidden), (hidden, 2)))
        self.layers = nn.Sequential(first, nn.Tanh(), last)
        points = 4.4 * torch.rand(2000, 2, dtype=torch.float64, generator=generator) - 2.2
        slopes = points**3 @ torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=torch.float64)
        with torch.no_grad():
            first.weight.copy_(torch.randn(hidden, 2, dtype=torch.float64, generator=generator))
            first.bias.copy_(torch.randn(hidden, dtype=torch.float64, generator=generator))
            units = torch.cat([first(points).tanh(), torch.ones(len(points), 1, dtype=torch.float64)], dim=1)
            ridge = 1e-3 * torch.eye(hidden + 1, dtype=torch.float64)
            weights = torch.linalg.solve(units.T @ units + ridge, units.T @ slopes)
            last.weight.copy_(weights[:-1].T)
            last.bias.copy_(weights[-1])

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """The derivative of `y` (..., 2)."""
        out: Tensor = self.layers(y)
        return out


@dataclass(frozen=True)
class Case:
    """An initial value problem with parameters.

    Attributes:
        name: What it is called in tables and figures.
        field: Makes the field, anew each time.
        y0: The n numbers of the initial state.
        t1: Where the solution is wanted; it starts at 0.
    """

    name: str
    field: Callable[[], nn.Module]
    y0: tuple[float, ...]
    t1: float

    def start(self) -> Tensor:
        """The initial state, (n,), in float64."""
        return torch.tensor(self.y0, dtype=torch.float64)
