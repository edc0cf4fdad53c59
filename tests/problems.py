"""Initial value problems with known solutions, for the numerical tests.

The DETEST problems are those of Hull, Enright, Fellen & Sedgwick 1972, SIAM J. Numer. Anal. 9, doi:10.1137/0709052.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import sqrt
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.special import ellipj
from torch import Tensor

import isocline as iso
from isocline.solvers import Splitting

Field = Callable[[Tensor, Tensor], Tensor]

ANY_STATE = [name for name, solver in iso.METHODS.items() if not isinstance(solver, Splitting)]
"""Methods that solve for a state of any structure; the others want a pair (q, p), and have their own tests."""


@dataclass(frozen=True)
class Problem:
    """``y' = f(t, y)``, ``y(t0) = y0``, wanted on [t0, t1]; the state is the last dimension of y."""

    name: str
    f: Field
    y0: tuple[float, ...]
    t1: float = 20.0
    t0: float = 0.0
    exact: Callable[[Tensor], Tensor] | None = None
    """Closed form: times (T,) to states (T, n)."""

    @property
    def start(self) -> Tensor:
        """y0 in float64."""
        return torch.tensor(self.y0, dtype=torch.float64)

    def numpy_field(self, t: float, y: Any) -> Any:
        """The field as SciPy calls it."""
        return self.f(torch.tensor(t, dtype=torch.float64), torch.from_numpy(y)).numpy()

    def end(self) -> Tensor:
        """State at t1, by the closed form or SciPy's DOP853 at 1e-13."""
        if self.exact is not None:
            return self.exact(torch.tensor([self.t1], dtype=torch.float64))[0]
        return _reference(self)

    def __str__(self) -> str:
        return self.name


@cache
def _reference(problem: Problem) -> Tensor:
    solution = solve_ivp(
        problem.numpy_field,
        (problem.t0, problem.t1),
        np.array(problem.y0),
        method="DOP853",
        rtol=1e-13,
        atol=1e-13,
    )
    assert solution.success
    return torch.from_numpy(solution.y[:, -1].copy())


def _columns(f: Callable[..., tuple[Tensor, ...]]) -> Field:
    """A field written with one argument a component."""
    return lambda t, y: torch.stack(torch.broadcast_tensors(*f(t, *y.unbind(-1))), dim=-1)


def _linear(matrix: Tensor) -> Field:
    return lambda t, y: y @ matrix.T


def _chain(rates: Tensor) -> Tensor:
    """Each species decays into the next; the last stays."""
    n = len(rates) + 1
    matrix = torch.zeros(n, n, dtype=torch.float64)
    for i, rate in enumerate(rates):
        matrix[i, i] -= rate
        matrix[i + 1, i] += rate
    return matrix


def _heat(n: int) -> Tensor:
    one = torch.ones(n, dtype=torch.float64)
    return torch.diag(-2 * one) + torch.diag(one[1:], 1) + torch.diag(one[1:], -1)


def _first(n: int) -> tuple[float, ...]:
    return (1.0, *[0.0] * (n - 1))


def _rate_chain(t: Tensor, y1: Tensor, y2: Tensor, y3: Tensor) -> tuple[Tensor, ...]:
    return -y1, y1 - y2**2, y2**2


def _torus(t: Tensor, y1: Tensor, y2: Tensor, y3: Tensor) -> tuple[Tensor, ...]:
    r = (y1**2 + y2**2).sqrt()
    return -y2 - y1 * y3 / r, y1 - y2 * y3 / r, y1 / r


def _rigid_body(t: Tensor, y1: Tensor, y2: Tensor, y3: Tensor) -> tuple[Tensor, ...]:
    return y2 * y3, -y1 * y3, -0.51 * y1 * y2


def _jacobi(t: Tensor) -> Tensor:
    """sn, cn, dn: the closed form of the rigid body started at (0, 1, 1)."""
    return torch.from_numpy(np.stack(ellipj(t.numpy(), 0.51)[:3], axis=-1))


def _kepler(t: Tensor, x: Tensor, y: Tensor, vx: Tensor, vy: Tensor) -> tuple[Tensor, ...]:
    r3 = (x**2 + y**2) ** 1.5
    return vx, vy, -x / r3, -y / r3


def _orbit(name: str, e: float) -> Problem:
    return Problem(name, _columns(_kepler), (1 - e, 0.0, 0.0, sqrt((1 + e) / (1 - e))))


def _bessel(t: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    return v, -(v / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * y)


def van_der_pol(mu: float) -> Field:
    """``y'' = mu (1 - y^2) y' - y``."""
    return _columns(lambda t, y, v: (v, mu * (1 - y**2) * v - y))


PLANET_MASSES = (0.000954786104043, 0.000285583733151, 0.0000437273164546, 0.0000517759138449, 0.00000277777777778)
PLANETS = (
    (3.42947415189, 3.35386959711, 1.35494901715),
    (6.64145542550, 5.97156957878, 2.18231499728),
    (11.2630437207, 14.6952576794, 6.27960525067),
    (-30.1552268759, 1.65699966404, 1.43785752721),
    (-21.1238353380, 28.4465098142, 15.3882659679),
)
PLANET_SPEEDS = (
    (-0.557160570446, 0.505696783289, 0.230578543901),
    (-0.415570776342, 0.365682722812, 0.169143213293),
    (-0.325325669158, 0.189706021964, 0.0877265322780),
    (-0.0240476254170, -0.287659532608, -0.117219543175),
    (-0.176860753121, -0.216393453025, -0.0148647893090),
)


def _planets(t: Tensor, y: Tensor) -> Tensor:
    """Sun and five outer planets; coordinates relative to the Sun."""
    mass = torch.tensor(PLANET_MASSES, dtype=y.dtype)
    x, v = y.unflatten(-1, (2, 5, 3)).unbind(-3)
    cubed = x.norm(dim=-1, keepdim=True) ** 3
    apart = x.unsqueeze(-3) - x.unsqueeze(-2)  # [j, k]: from planet j to planet k
    distance = (apart.norm(dim=-1, keepdim=True) + torch.eye(5, dtype=y.dtype).unsqueeze(-1)) ** 3
    pull = apart / distance - (x / cubed).unsqueeze(-3) * (1 - torch.eye(5, dtype=y.dtype).unsqueeze(-1))
    others = (mass.unsqueeze(-1) * pull).sum(-2)
    a = 2.95912208286 * (-(1.00000597682 + mass.unsqueeze(-1)) * x / cubed + others)
    return torch.cat([v.flatten(-2), a.flatten(-2)], dim=-1)


def _flat(rows: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    return tuple(x for row in rows for x in row)


DETEST = (
    Problem("A1", lambda t, y: -y, (1.0,), exact=lambda t: (-t).exp().unsqueeze(-1)),
    Problem("A2", lambda t, y: -(y**3) / 2, (1.0,), exact=lambda t: (1 / (t + 1).sqrt()).unsqueeze(-1)),
    Problem("A3", lambda t, y: y * t.cos(), (1.0,), exact=lambda t: t.sin().exp().unsqueeze(-1)),
    Problem(
        "A4",
        lambda t, y: y / 4 * (1 - y / 20),
        (1.0,),
        exact=lambda t: (20 / (1 + 19 * (-t / 4).exp())).unsqueeze(-1),
    ),
    Problem("A5", lambda t, y: (y - t) / (y + t), (4.0,)),
    Problem("B1", _columns(lambda t, a, b: (2 * (a - a * b), -(b - a * b))), (1.0, 3.0)),
    Problem("B2", _columns(lambda t, a, b, c: (-a + b, a - 2 * b + c, b - c)), (2.0, 0.0, 1.0)),
    Problem("B3", _columns(_rate_chain), (1.0, 0.0, 0.0)),
    Problem("B4", _columns(_torus), (3.0, 0.0, 0.0)),
    Problem("B5", _columns(_rigid_body), (0.0, 1.0, 1.0), exact=_jacobi),
    Problem("C1", _linear(_chain(torch.ones(9))), _first(10)),
    Problem("C2", _linear(_chain(torch.arange(1.0, 10.0))), _first(10)),
    Problem("C3", _linear(_heat(10)), _first(10)),
    Problem("C4", _linear(_heat(51)), _first(51)),
    Problem("C5", _planets, _flat(PLANETS) + _flat(PLANET_SPEEDS)),
    *(_orbit(f"D{i}", e) for i, e in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), start=1)),
    Problem("E1", _columns(_bessel), (0.6713967071418030, 0.09540051444747446)),
    Problem("E2", van_der_pol(1.0), (2.0, 0.0)),
    Problem("E3", _columns(lambda t, y, v: (v, y**3 / 6 - y + 2 * (2.78535 * t).sin())), (0.0, 0.0)),
    Problem("E4", _columns(lambda t, y, v: (v, 0.032 - 0.4 * v**2)), (30.0, 0.0)),
    Problem("E5", _columns(lambda t, y, v: (v, (1 + v**2).sqrt() / (25 - t))), (0.0, 0.0)),
)


def _three_body(t: Tensor, x: Tensor, y: Tensor, vx: Tensor, vy: Tensor) -> tuple[Tensor, ...]:
    moon = 0.012277471
    earth = 1 - moon
    r1 = ((x + moon) ** 2 + y**2) ** 1.5
    r2 = ((x - earth) ** 2 + y**2) ** 1.5
    return (
        vx,
        vy,
        x + 2 * vy - earth * (x + moon) / r1 - moon * (x - earth) / r2,
        y - 2 * vx - earth * y / r1 - moon * y / r2,
    )


# Hairer, Norsett & Wanner 1993, II.0 and II.10.
ARENSTORF = Problem(
    "Arenstorf",
    _columns(_three_body),
    (0.994, 0.0, 0.0, -2.00158510637908252240537862224),
    t1=17.0652165601579625588917206249,
)


def _seven_stars(t: Tensor, z: Tensor) -> Tensor:
    x, y, vx, vy = z.unflatten(-1, (4, 7)).unbind(-2)
    mass = torch.arange(1.0, 8.0, dtype=z.dtype)
    dx = x.unsqueeze(-2) - x.unsqueeze(-1)
    dy = y.unsqueeze(-2) - y.unsqueeze(-1)
    cubed = (dx**2 + dy**2 + torch.eye(7, dtype=z.dtype)) ** 1.5
    return torch.cat([vx, vy, (mass * dx / cubed).sum(-1), (mass * dy / cubed).sum(-1)], dim=-1)


PLEIADES = Problem(
    "Pleiades",
    _seven_stars,
    _flat(
        (
            (3.0, 3.0, -1.0, -3.0, 2.0, -2.0, 2.0),
            (3.0, -3.0, 2.0, 0.0, 0.0, -4.0, 4.0),
            (0.0, 0.0, 0.0, 0.0, 0.0, 1.75, -1.5),
            (0.0, 0.0, 0.0, -1.25, 1.0, 0.0, 0.0),
        )
    ),
    t1=3.0,
)

VAN_DER_POL_10 = Problem("van der Pol, mu=10", van_der_pol(10.0), (2.0, 0.0), t1=20.0)


def _robertson(t: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    slow, fast = 0.04 * a - 1e4 * b * c, 3e7 * b**2
    return -slow, slow - fast, fast


ROBERTSON = Problem("Robertson", _columns(_robertson), (1.0, 0.0, 0.0), t1=1.0)

LORENZ = Problem(
    "Lorenz",
    _columns(lambda t, x, y, z: (10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z)),
    (1.0, 1.0, 1.0),
    t1=5.0,
)

# Three on which the order of convergence is measured: smooth, with closed forms.
RELAXATION = Problem(
    "cos(t) - y",
    lambda t, y: t.cos() - y,
    (0.2,),
    t1=4.0,
    exact=lambda t: ((t.cos() + t.sin()) / 2 - 0.3 * (-t).exp()).unsqueeze(-1),
)
LOGISTIC = Problem(
    "y (1 - y)",
    lambda t, y: y * (1 - y),
    (0.2,),
    t1=5.0,
    exact=lambda t: (1 / (1 + 4 * (-t).exp())).unsqueeze(-1),
)


def _hopf(t: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    rate = 0.1 * (1 - x**2 - y**2)
    return rate * x - y, rate * y + x


def _spiral(t: Tensor) -> Tensor:
    r = (1 / (1 + 3 * (-0.2 * t).exp())).sqrt()
    return torch.stack([r * t.cos(), r * t.sin()], dim=-1)


HOPF = Problem("Hopf", _columns(_hopf), (0.5, 0.0), t1=4.0, exact=_spiral)
