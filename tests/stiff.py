"""Stiff problems for the tests of implicit methods: fields over states (..., n), and where they end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

F64 = torch.float64


@dataclass(frozen=True)
class Stiff:
    """``y' = f(t, y)`` from y0 at 0; ``end`` is the state at t1 by SciPy's Radau at rtol 1e-12 with exact Jacobians."""

    name: str
    f: Callable[[Tensor, Tensor], Tensor]
    y0: tuple[float, ...]
    t1: float
    end: tuple[float, ...]
    smallest: float = 1.0
    """Size of the state below which accuracy is absolute: the absolute tolerance in units of the relative one."""

    @property
    def start(self) -> Tensor:
        """y0 in float64."""
        return torch.tensor(self.y0, dtype=F64)

    def error(self, y: Tensor) -> float:
        """The worst error of a state at t1, in units of a relative tolerance of one."""
        end = torch.tensor(self.end, dtype=F64)
        return float(((y - end).abs() / (self.smallest + end.abs())).max())

    def scipy(self, rtol: float) -> Any:
        """The solution by SciPy's Radau, with the exact Jacobian."""

        def f(t: float, y: Any) -> Any:
            return self.f(torch.tensor(t, dtype=F64), torch.from_numpy(y)).numpy()

        def jacobian(t: float, y: Any) -> Any:
            return torch.func.jacrev(lambda y: self.f(torch.tensor(t, dtype=F64), y))(torch.from_numpy(y)).numpy()

        span, start, atol = (0.0, self.t1), np.array(self.y0), rtol * self.smallest
        return solve_ivp(f, span, start, method="Radau", rtol=rtol, atol=atol, jac=jacobian)

    def __str__(self) -> str:
        return self.name


def robertson(t: Tensor, y: Tensor, rates: Tensor) -> Tensor:
    """Rates are (3,), or (B, 3) for B samples."""
    a, b, c = y.unbind(-1)
    k1, k2, k3 = rates.unbind(-1)
    slow, fast = k1 * a - k3 * b * c, k2 * b**2
    return torch.stack([-slow, slow - fast, fast], dim=-1)


def van_der_pol(t: Tensor, y: Tensor, mu: "float | Tensor") -> Tensor:
    """In the time t / mu; mu is a number, or (B,) for B samples."""
    x, v = y.unbind(-1)
    return torch.stack([v, mu**2 * ((1 - x**2) * v - x)], dim=-1)


def plant(t: Tensor, y: Tensor) -> Tensor:
    y1, y2, y3, y4, y5, y6, y7, y8 = y.unbind(-1)
    bound = 280 * y6 * y8 - 1.81 * y7
    parts = (
        -1.71 * y1 + 0.43 * y2 + 8.32 * y3 + 0.0007,
        1.71 * y1 - 8.75 * y2,
        -10.03 * y3 + 0.43 * y4 + 0.035 * y5,
        8.32 * y2 + 1.71 * y3 - 1.12 * y4,
        -1.745 * y5 + 0.43 * y6 + 0.43 * y7,
        -280 * y6 * y8 + 0.69 * y4 + 1.71 * y5 - 0.43 * y6 + 0.69 * y7,
        bound,
        -bound,
    )
    return torch.stack(parts, dim=-1)


def oregonator(t: Tensor, y: Tensor) -> Tensor:
    a, b, c = y.unbind(-1)
    parts = 77.27 * (b + a * (1 - 8.375e-6 * a - b)), (c - (1 + a) * b) / 77.27, 0.161 * (a - c)
    return torch.stack(parts, dim=-1)


RATES = torch.tensor([0.04, 3e7, 1e4], dtype=F64)

ROBERTSON = Stiff(
    "Robertson",
    lambda t, y: robertson(t, y, RATES),
    (1.0, 0.0, 0.0),
    t1=1e11,
    end=(2.083340149700302e-08, 8.333360770330774e-14, 0.9999999791665202),
    smallest=1e-6,
)
VAN_DER_POL_1E3 = Stiff(
    "van der Pol, mu=1e3",
    lambda t, y: van_der_pol(t, y, 1e3),
    (2.0, 0.0),
    t1=2.0,
    end=(1.7061677321704936, -0.8928097010247862),
)
# At rtol 1e-8: SciPy gets no further.
VAN_DER_POL_1E6 = Stiff(
    "van der Pol, mu=1e6",
    lambda t, y: van_der_pol(t, y, 1e6),
    (2.0, 0.0),
    t1=2.0,
    end=(1.7055462174, -0.8934763627),
)
HIRES = Stiff(
    "HIRES",
    plant,
    (1.0, *[0.0] * 6, 0.0057),
    t1=321.8122,
    end=(
        *(0.0007371312573325715, 0.0001442485726316194, 5.888729740967664e-05, 0.0011756513432831575),
        *(0.00238635619883148, 0.006238968252743283, 0.0028499983951858735, 0.0028500016048141168),
    ),
    smallest=1e-4,
)
OREGONATOR = Stiff(
    "Oregonator",
    oregonator,
    (1.0, 2.0, 3.0),
    t1=360.0,
    end=(1.0008148703185227, 1228.1785215498999, 132.05549428465832),
)

STIFF = (ROBERTSON, VAN_DER_POL_1E3, VAN_DER_POL_1E6, HIRES, OREGONATOR)
