"""Non-stiff problems beyond DETEST."""

from math import pi

import torch
from torch import Tensor

from benchmarks.problems.detest import orbit, van_der_pol
from benchmarks.problems.problem import Problem, columns, flat


def three_body(t: Tensor, x: Tensor, y: Tensor, vx: Tensor, vy: Tensor) -> tuple[Tensor, ...]:
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


ARENSTORF = Problem(
    "Arenstorf",
    columns(three_body),
    (0.994, 0.0, 0.0, -2.00158510637908252240537862224),
    t1=17.0652165601579625588917206249,
    about="a closed orbit of the restricted three-body problem",
    source="Hairer, Norsett & Wanner 1993, II.0",
)


def seven_stars(t: Tensor, z: Tensor) -> Tensor:
    x, y, vx, vy = z.unflatten(-1, (4, 7)).unbind(-2)
    mass = torch.arange(1.0, 8.0, dtype=z.dtype)
    dx = x.unsqueeze(-2) - x.unsqueeze(-1)
    dy = y.unsqueeze(-2) - y.unsqueeze(-1)
    cubed = (dx**2 + dy**2 + torch.eye(7, dtype=z.dtype)) ** 1.5
    return torch.cat([vx, vy, (mass * dx / cubed).sum(-1), (mass * dy / cubed).sum(-1)], dim=-1)


PLEIADES = Problem(
    "Pleiades",
    seven_stars,
    flat(
        (3.0, 3.0, -1.0, -3.0, 2.0, -2.0, 2.0),
        (3.0, -3.0, 2.0, 0.0, 0.0, -4.0, 4.0),
        (0.0, 0.0, 0.0, 0.0, 0.0, 1.75, -1.5),
        (0.0, 0.0, 0.0, -1.25, 1.0, 0.0, 0.0),
    ),
    t1=3.0,
    about="seven stars in a plane",
    source="Hairer, Norsett & Wanner 1993, II.10",
)

KEPLER = orbit("Kepler", 0.6, 20 * pi)

LORENZ = Problem(
    "Lorenz",
    columns(lambda t, x, y, z: (10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z)),
    (1.0, 1.0, 1.0),
    t1=5.0,
    about="Lorenz's equations, before chaos takes over",
    source="Lorenz 1963, J. Atmos. Sci. 20, doi:10.1175/1520-0469(1963)020<0130:DNF>2.0.CO;2",
)


def driven_body(t: Tensor, y1: Tensor, y2: Tensor, y3: Tensor) -> tuple[Tensor, ...]:
    """Principal moments of inertia 1/2, 2, 3; a torque about the third axis between 3 pi and 4 pi."""
    drive = torch.where((t >= 3 * pi) & (t <= 4 * pi), 0.25 * t.sin() ** 2, torch.zeros_like(t))
    return (2 - 3) * y2 * y3 / 0.5, (3 - 0.5) * y3 * y1 / 2, ((0.5 - 2) * y1 * y2 + drive) / 3


RIGID_BODY = Problem(
    "rigid body",
    columns(driven_body),
    (1.0, 0.0, 0.9),
    about="Euler's equations of a rigid body, driven for a while",
    source="Hairer, Norsett & Wanner 1993, II.10",
)

VAN_DER_POL_10 = Problem(
    "van der Pol, mu=10",
    van_der_pol(10.0),
    (2.0, 0.0),
    about="y'' = mu (1 - y^2) y' - y, hardly stiff",
    source="van der Pol 1926, Phil. Mag. 2, doi:10.1080/14786442608564127",
)

NONSTIFF = (ARENSTORF, PLEIADES, KEPLER, LORENZ, RIGID_BODY, VAN_DER_POL_10)
