"""The 25 non-stiff problems of DETEST: single equations, small systems, moderate systems, orbits, second order."""

from collections.abc import Callable
from functools import partial
from math import pi, sqrt

import numpy as np
import torch
from scipy.special import ellipj
from torch import Tensor

from benchmarks.problems.problem import Field, Problem, columns, flat

SOURCE = "Hull, Enright, Fellen & Sedgwick 1972, SIAM J. Numer. Anal. 9, doi:10.1137/0709052"

problem = partial(Problem, source=SOURCE)


def single(exact: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda t: exact(t).unsqueeze(-1)


def spiral(t: Tensor) -> Tensor:
    """A5 in polar coordinates of the (t, y) plane: ``r = 4 exp(pi/2 - theta)``; theta by Newton's method."""
    theta = torch.full_like(t, pi / 4)
    for _ in range(50):
        r = 4 * (pi / 2 - theta).exp()
        theta = theta + (r * theta.cos() - t) / (r * (theta.cos() + theta.sin()))
    return 4 * (pi / 2 - theta).exp() * theta.sin()


def linear(matrix: Tensor) -> Field:
    return lambda t, y: y @ matrix.T


def linear_problem(name: str, matrix: Tensor, y0: tuple[float, ...], about: str) -> Problem:
    def exact(t: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(t[:, None, None] * matrix) @ torch.tensor(y0, dtype=torch.float64)

    return problem(name, linear(matrix), y0, exact=exact, about=about)


def chain(rates: Tensor) -> Tensor:
    """Each species decays into the next; the last stays."""
    n = len(rates) + 1
    matrix = torch.zeros(n, n, dtype=torch.float64)
    for i, rate in enumerate(rates):
        matrix[i, i] -= rate
        matrix[i + 1, i] += rate
    return matrix


def heat(n: int) -> Tensor:
    one = torch.ones(n, dtype=torch.float64)
    return torch.diag(-2 * one) + torch.diag(one[1:], 1) + torch.diag(one[1:], -1)


def first(n: int) -> tuple[float, ...]:
    return (1.0, *[0.0] * (n - 1))


def reaction(t: Tensor, y1: Tensor, y2: Tensor, y3: Tensor) -> tuple[Tensor, ...]:
    return -y1, y1 - y2**2, y2**2


def torus(t: Tensor, y1: Tensor, y2: Tensor, y3: Tensor) -> tuple[Tensor, ...]:
    r = (y1**2 + y2**2).sqrt()
    return -y2 - y1 * y3 / r, y1 - y2 * y3 / r, y1 / r


def rigid_body(t: Tensor, y1: Tensor, y2: Tensor, y3: Tensor) -> tuple[Tensor, ...]:
    return y2 * y3, -y1 * y3, -0.51 * y1 * y2


def jacobi(t: Tensor) -> Tensor:
    """sn, cn, dn: the closed form of the rigid body started at (0, 1, 1)."""
    return torch.from_numpy(np.stack(ellipj(t.numpy(), 0.51)[:3], axis=-1))


def kepler(t: Tensor, x: Tensor, y: Tensor, vx: Tensor, vy: Tensor) -> tuple[Tensor, ...]:
    r3 = (x**2 + y**2) ** 1.5
    return vx, vy, -x / r3, -y / r3


def ellipse(t: Tensor, e: float) -> Tensor:
    """Kepler's equation ``E - e sin E = t`` by Newton's method, and the orbit from it."""
    mean = torch.remainder(t + pi, 2 * pi) - pi
    angle = mean + e * mean.sin()
    for _ in range(50):
        angle = angle - (angle - e * angle.sin() - mean) / (1 - e * angle.cos())
    cos, sin, b = angle.cos(), angle.sin(), sqrt(1 - e**2)
    rate = 1 / (1 - e * cos)
    return torch.stack([cos - e, b * sin, -sin * rate, b * cos * rate], dim=-1)


def orbit(name: str, e: float, t1: float = 20.0) -> Problem:
    start = (1 - e, 0.0, 0.0, sqrt((1 + e) / (1 - e)))
    about = f"Kepler's two bodies, eccentricity {e}"
    return problem(name, columns(kepler), start, t1, exact=partial(ellipse, e=e), about=about)


def bessel(t: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    return v, -(v / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * y)


def half_order(t: Tensor) -> Tensor:
    """Bessel's function of order 1/2 at t + 1, and its derivative."""
    x = t + 1
    y = (2 / (pi * x)).sqrt() * x.sin()
    return torch.stack([y, (2 / (pi * x)).sqrt() * x.cos() - y / (2 * x)], dim=-1)


def fall(t: Tensor) -> Tensor:
    rate = sqrt(0.4 * 0.032)
    return torch.stack([30 + (rate * t).cosh().log() / 0.4, sqrt(0.08) * (rate * t).tanh()], dim=-1)


def pursuit(t: Tensor) -> Tensor:
    left = 1 - t / 25
    return torch.stack([12.5 * ((left**2 - 1) / 2 - left.log()), (-left.log()).sinh()], dim=-1)


def van_der_pol(mu: float) -> Field:
    """``y'' = mu (1 - y^2) y' - y``."""
    return columns(lambda t, y, v: (v, mu * (1 - y**2) * v - y))


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


def planets(t: Tensor, y: Tensor) -> Tensor:
    """Coordinates and speeds relative to the Sun."""
    mass = torch.tensor(PLANET_MASSES, dtype=y.dtype)
    x, v = y.unflatten(-1, (2, 5, 3)).unbind(-3)
    cubed = x.norm(dim=-1, keepdim=True) ** 3
    apart = x.unsqueeze(-3) - x.unsqueeze(-2)  # [j, k]: from planet j to planet k
    others = 1 - torch.eye(5, dtype=y.dtype).unsqueeze(-1)
    distance = ((apart**2).sum(-1, keepdim=True) + 1 - others) ** 1.5
    pull = apart / distance - (x / cubed).unsqueeze(-3) * others
    a = 2.95912208286 * ((mass.unsqueeze(-1) * pull).sum(-2) - (1.00000597682 + mass.unsqueeze(-1)) * x / cubed)
    return torch.cat([v.flatten(-2), a.flatten(-2)], dim=-1)


DETEST = (
    problem("A1", lambda t, y: -y, (1.0,), exact=single(lambda t: (-t).exp()), about="decay"),
    problem(
        "A2", lambda t, y: -(y**3) / 2, (1.0,), exact=single(lambda t: 1 / (t + 1).sqrt()), about="a Riccati equation"
    ),
    problem("A3", lambda t, y: y * t.cos(), (1.0,), exact=single(lambda t: t.sin().exp()), about="an oscillation"),
    problem(
        "A4",
        lambda t, y: y / 4 * (1 - y / 20),
        (1.0,),
        exact=single(lambda t: 20 / (1 + 19 * (-t / 4).exp())),
        about="logistic growth",
    ),
    problem("A5", lambda t, y: (y - t) / (y + t), (4.0,), exact=single(spiral), about="a spiral"),
    problem("B1", columns(lambda t, a, b: (2 * (a - a * b), -(b - a * b))), (1.0, 3.0), about="two populations"),
    linear_problem(
        "B2",
        torch.tensor([[-1.0, 1.0, 0.0], [1.0, -2.0, 1.0], [0.0, 1.0, -1.0]], dtype=torch.float64),
        (2.0, 0.0, 1.0),
        "a linear chemical reaction",
    ),
    problem("B3", columns(reaction), (1.0, 0.0, 0.0), about="a nonlinear chemical reaction"),
    problem("B4", columns(torus), (3.0, 0.0, 0.0), about="a curve on a torus"),
    problem("B5", columns(rigid_body), (0.0, 1.0, 1.0), exact=jacobi, about="a rigid body without forces"),
    linear_problem("C1", chain(torch.ones(9)), first(10), "radioactive decay, equal rates"),
    linear_problem("C2", chain(torch.arange(1.0, 10.0)), first(10), "radioactive decay, rates 1 to 9"),
    linear_problem("C3", heat(10), first(10), "a parabolic equation by lines, 10"),
    linear_problem("C4", heat(51), first(51), "a parabolic equation by lines, 51"),
    problem("C5", planets, flat(*PLANETS, *PLANET_SPEEDS), about="the Sun and five outer planets"),
    *(orbit(f"D{i}", e) for i, e in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), start=1)),
    problem(
        "E1", columns(bessel), (0.6713967071418030, 0.09540051444747446), exact=half_order, about="Bessel's equation"
    ),
    problem("E2", van_der_pol(1.0), (2.0, 0.0), about="van der Pol's equation, mu = 1"),
    problem(
        "E3",
        columns(lambda t, y, v: (v, y**3 / 6 - y + 2 * (2.78535 * t).sin())),
        (0.0, 0.0),
        about="Duffing's equation",
    ),
    problem("E4", columns(lambda t, y, v: (v, 0.032 - 0.4 * v**2)), (30.0, 0.0), exact=fall, about="a fall with drag"),
    problem(
        "E5", columns(lambda t, y, v: (v, (1 + v**2).sqrt() / (25 - t))), (0.0, 0.0), exact=pursuit, about="a pursuit"
    ),
)
