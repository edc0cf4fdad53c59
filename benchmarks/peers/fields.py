"""The vector fields, each written twice: `forward` for torch, `array` for numpy and JAX, with the same weights."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

Weights = dict[str, Any]


class Field(nn.Module):
    """dy/dt. `array` serves a batch and a single sample alike, so that SciPy and `jax.vmap` can share it."""

    @staticmethod
    def array(xp: ModuleType, weights: Weights, t: Any, y: Any, *args: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def jax_forward(cls, weights: Weights, t: Any, y: Any, *args: Any) -> Any:
        """Return the same in the way that JAX does quickest if there is no gradient to take."""
        import jax.numpy as jnp

        return cls.array(jnp, weights, t, y, *args)


def dense(weights: Weights, layer: str, x: Any) -> Any:
    return x @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]


class Mlp(Field):
    """d-hidden-hidden-d, tanh. Weights are doubled, so that the solution bends enough to need some steps."""

    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(d, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, d)
        )
        with torch.no_grad():
            for layer in self.net[::2]:
                layer.weight *= 2

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        dy: Tensor = self.net(y)
        return dy

    @staticmethod
    def array(xp: ModuleType, weights: Weights, t: Any, y: Any, *args: Any) -> Any:
        return dense(weights, "net.4", xp.tanh(dense(weights, "net.2", xp.tanh(dense(weights, "net.0", y)))))


class Conv(Field):
    """Two 3 by 3 convolutions with tanh between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        dy: Tensor = self.second(torch.tanh(self.first(y)))
        return dy

    @staticmethod
    def array(xp: ModuleType, weights: Weights, t: Any, y: Any, *args: Any) -> Any:
        # Nine matrix products: the gradient of JAX's own convolution takes six times as long in a loop on a CPU.
        def conv(layer: str, x: Any) -> Any:
            height, width = x.shape[1:3]
            padded = xp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            kernel = weights[f"{layer}.weight"]
            shifts = ((i, j) for i in range(3) for j in range(3))
            out = sum(padded[:, i : i + height, j : j + width] @ kernel[:, :, i, j].T for i, j in shifts)
            return out + weights[f"{layer}.bias"]

        return conv("second", xp.tanh(conv("first", y.transpose(0, 2, 3, 1)))).transpose(0, 3, 1, 2)

    @classmethod
    def jax_forward(cls, weights: Weights, t: Any, y: Any, *args: Any) -> Any:
        from jax import lax, numpy

        # Channels last: the other way round, a convolution in a loop takes thirty times as long on a CPU.
        def conv(layer: str, x: Any) -> Any:
            kernel = weights[f"{layer}.weight"].transpose(2, 3, 1, 0)
            out = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            return out + weights[f"{layer}.bias"]

        return conv("second", numpy.tanh(conv("first", y.transpose(0, 2, 3, 1)))).transpose(0, 3, 1, 2)


class Flow(Field):
    """A continuous normalising flow: points and their log density, with the exact trace in closed form."""

    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.into = nn.Linear(d, hidden)
        self.out = nn.Linear(hidden, d)
        self.drift = nn.Parameter(torch.randn(hidden))

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        z, _ = state
        h = torch.tanh(self.into(z) + t * self.drift)
        trace = (1 - h * h) @ (self.into.weight * self.out.weight.T).sum(1)
        return self.out(h), -trace

    @staticmethod
    def array(xp: ModuleType, weights: Weights, t: Any, y: Any, *args: Any) -> Any:
        z, _ = y
        h = xp.tanh(dense(weights, "into", z) + t * weights["drift"])
        trace = (1 - h * h) @ (weights["into.weight"] * weights["out.weight"].T).sum(1)
        return dense(weights, "out", h), -trace


class VanDerPol(Field):
    """A sample's stiffness mu is an argument of the field."""

    def forward(self, t: Tensor, y: Tensor, mu: Tensor) -> Tensor:
        x, v = y.unbind(-1)
        return torch.stack([v, mu * (1 - x**2) * v - x], dim=-1)

    @staticmethod
    def array(xp: ModuleType, weights: Weights, t: Any, y: Any, *args: Any) -> Any:
        (mu,) = args
        x, v = y[..., 0], y[..., 1]
        return xp.stack([v, mu * (1 - x**2) * v - x], axis=-1)


class CostlyVanDerPol(VanDerPol):
    """The same solution from a costly field: an MLP is added with weight 0, which no compiler may know to be 0."""

    share: Tensor

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = Mlp(2, hidden)
        self.register_buffer("share", torch.zeros(()))

    def forward(self, t: Tensor, y: Tensor, mu: Tensor) -> Tensor:
        return super().forward(t, y, mu) + self.share * self.mlp(t, y)

    @staticmethod
    def array(xp: ModuleType, weights: Weights, t: Any, y: Any, *args: Any) -> Any:
        inner = {name.removeprefix("mlp."): weight for name, weight in weights.items()}
        return VanDerPol.array(xp, {}, t, y, *args) + weights["share"] * Mlp.array(xp, inner, t, y)


class Lorenz(Field):
    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        a, b, c = y.unbind(-1)
        return torch.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], dim=-1)

    @staticmethod
    def array(xp: ModuleType, weights: Weights, t: Any, y: Any, *args: Any) -> Any:
        a, b, c = y[..., 0], y[..., 1], y[..., 2]
        return xp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], axis=-1)
