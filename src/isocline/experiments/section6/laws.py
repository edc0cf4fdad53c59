"""Fields of one number that break a condition of Picard's theorem, each in its own way."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan

import torch
from torch import Tensor

EPS = 1e-12
"""How far starts beside 0 are from it."""


@dataclass(frozen=True)
class Law:
    """y' = f(y).

    Attributes:
        breaks: What of the theorem's conditions is not met, and what follows.
        f: The field.
        starts: Where to start, at time 0.
        t1: The end.
        exact: y(t1) from y0; nan where there are many solutions, inf where there is none.
        slope: dy(t1)/dy0.
        slope_starts: Where to differentiate.
    """

    breaks: str
    f: Callable[[Tensor], Tensor]
    starts: tuple[float, ...]
    t1: float
    exact: Callable[[float], float]
    slope: Callable[[float], float]
    slope_starts: tuple[float, ...]


def _two_speeds(y: Tensor) -> Tensor:
    return torch.where(y < 0, 1.0, 2.0).to(y.dtype)


AROUND = (-EPS, 0.0, EPS)

LAWS = {
    "y' = y^(1/3)": Law(
        "not Lipschitz at 0: from 0 it may rest, or leave at any time, up or down",
        lambda y: y.sign() * y.abs() ** (1 / 3),
        AROUND,
        1.0,
        lambda y: (abs(y) ** (2 / 3) + 2 / 3) ** 1.5 * (1 if y > 0 else -1) if y else nan,
        lambda y: (1 + 2 / 3 / abs(y) ** (2 / 3)) ** 0.5 if y else inf,
        (0.0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3),
    ),
    "y' = |y|^(1/2)": Law(
        "not Lipschitz at 0: from 0 and from below it may rest at 0, or leave it at any time, up",
        lambda y: y.abs().sqrt(),
        AROUND,
        1.0,
        lambda y: (y**0.5 + 1 / 2) ** 2 if y > 0 else nan,
        lambda y: 1 + 1 / 2 / y**0.5 if y > 0 else inf,
        (0.0, 1e-12),
    ),
    "y' = 3 y^(2/3)": Law(
        "not Lipschitz at 0: from 0 and from below it may rest at 0, or leave it at any time, up",
        lambda y: 3 * y.abs() ** (2 / 3),
        AROUND,
        1.0,
        lambda y: (y ** (1 / 3) + 1) ** 3 if y > 0 else nan,
        lambda y: (1 + y ** (-1 / 3)) ** 2 if y > 0 else inf,
        (0.0, 1e-12),
    ),
    "y' = sign(y)": Law(
        "not continuous at 0: from 0 it may rest, or leave at any time, up or down",
        torch.sign,
        AROUND,
        1.0,
        lambda y: y + (1 if y > 0 else -1) if y else nan,
        lambda y: 1.0 if y else inf,
        (0.0, EPS),
    ),
    "y' = -sign(y)": Law(
        "not continuous at 0, where solutions end up and stay, though no step can",
        lambda y: -y.sign(),
        (0.7,),
        1.0,
        lambda y: 0.0,
        lambda y: 0.0,
        (0.7,),
    ),
    "y' = 1 below 0, 2 above": Law(
        "not continuous at 0, but solutions pass it, and are unique",
        _two_speeds,
        (-0.5,),
        1.0,
        lambda y: 2 * (y + 1),
        lambda y: 2.0,
        (-0.5,),
    ),
    "y' = y^2": Law(
        "Lipschitz only in bounded regions: from 1 the solution is infinite at time 1",
        torch.square,
        (1.0,),
        2.0,
        lambda y: y / (1 - 2 * y) if 2 * y < 1 else inf,
        lambda y: (1 - 2 * y) ** -2,
        (0.25,),
    ),
}
