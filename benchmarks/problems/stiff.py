"""Stiff problems."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.problems.problem import Field, Problem, columns, sparse

TEST_SET = "Mazzia & Magherini 2008, Test Set for Initial Value Problem Solvers, release 2.4"
HAIRER_WANNER = "Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.10"

problem = partial(Problem, stiff=True)


def kinetics(t: Tensor, a: Tensor, b: Tensor, c: Tensor, k1: Any = 0.04, k2: Any = 3e7, k3: Any = 1e4) -> Any:
    slow, fast = k1 * a - k3 * b * c, k2 * b**2
    return -slow, slow - fast, fast


robertson = columns(kinetics)
"""``f(t, y)``, or ``f(t, y, k1, k2, k3)`` with rate constants of the shape of the batch."""

ROBERTSON = problem(
    "Robertson",
    robertson,
    (1.0, 0.0, 0.0),
    t1=1e11,
    atol=1e-6,
    about="an autocatalytic reaction, rates over nine orders of magnitude",
    source=f"Robertson 1966; {TEST_SET}",
)


def relaxing(mu: "float | Tensor") -> Field:
    """Van der Pol's ``y'' = mu (1 - y^2) y' - y`` in the time t/mu: ``y'' = mu^2 ((1 - y^2) y' - y)``."""
    return columns(lambda t, y, z: (z, mu**2 * ((1 - y**2) * z - y)))


VAN_DER_POL_1E3 = problem(
    "van der Pol, mu=1e3",
    relaxing(1e3),
    (2.0, 0.0),
    t1=2.0,
    about="y'' = mu^2 ((1 - y^2) y' - y), the usual form in the time t/mu, up to 2",
    source=f"{TEST_SET} (VDPOL)",
)

VAN_DER_POL_1E6 = problem(
    "van der Pol, mu=1e6",
    relaxing(1e6),
    (2.0, 0.0),
    t1=2.0,
    about="the same with mu = 1e6",
    source=f"{HAIRER_WANNER}, with a larger mu",
)


def plant(t: Tensor, y1: Any, y2: Any, y3: Any, y4: Any, y5: Any, y6: Any, y7: Any, y8: Any) -> tuple[Tensor, ...]:
    bound = 280 * y6 * y8 - 1.81 * y7
    return (
        -1.71 * y1 + 0.43 * y2 + 8.32 * y3 + 0.0007,
        1.71 * y1 - 8.75 * y2,
        -10.03 * y3 + 0.43 * y4 + 0.035 * y5,
        8.32 * y2 + 1.71 * y3 - 1.12 * y4,
        -1.745 * y5 + 0.43 * (y6 + y7),
        -280 * y6 * y8 + 0.69 * y4 + 1.71 * y5 - 0.43 * y6 + 0.69 * y7,
        bound,
        -bound,
    )


HIRES = problem(
    "HIRES",
    columns(plant),
    (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057),
    t1=321.8122,
    atol=1e-4,
    about="how light shapes a plant: eight reactants",
    source=f"Schafer 1975; {TEST_SET}",
)


def oregonator(t: Tensor, y1: Tensor, y2: Tensor, y3: Tensor) -> tuple[Tensor, ...]:
    return 77.27 * (y2 + y1 * (1 - 8.375e-6 * y1 - y2)), (y3 - (1 + y1) * y2) / 77.27, 0.161 * (y1 - y3)


OREGONATOR = problem(
    "Oregonator",
    columns(oregonator),
    (1.0, 2.0, 3.0),
    t1=360.0,
    atol=1e-6,
    about="the Belousov-Zhabotinskii reaction, a limit cycle with jumps",
    source=f"Field & Noyes 1974; {TEST_SET}",
)

# Reactions: rate constant, reactants, and what each species gains (numbered from 1).
POLLUTION: tuple[tuple[float, tuple[int, ...], dict[int, int]], ...] = (
    (0.35, (1,), {1: -1, 2: 1, 3: 1}),
    (26.6, (2, 4), {1: 1, 2: -1, 4: -1}),
    (1.23e4, (5, 2), {1: 1, 2: -1, 5: -1, 6: 1}),
    (8.6e-4, (7,), {5: 2, 7: -1, 8: 1}),
    (8.2e-4, (7,), {7: -1, 8: 1}),
    (1.5e4, (7, 6), {5: 1, 6: -1, 7: -1, 8: 1}),
    (1.3e-4, (9,), {5: 1, 8: 1, 9: -1, 10: 1}),
    (2.4e4, (9, 6), {6: -1, 9: -1, 11: 1}),
    (1.65e4, (11, 2), {1: 1, 2: -1, 10: 1, 11: -1, 12: 1}),
    (9e3, (11, 1), {1: -1, 11: -1, 13: 1}),
    (0.022, (13,), {1: 1, 11: 1, 13: -1}),
    (1.2e4, (10, 2), {1: 1, 2: -1, 10: -1, 14: 1}),
    (1.88, (14,), {5: 1, 7: 1, 14: -1}),
    (1.63e4, (1, 6), {1: -1, 6: -1, 15: 1}),
    (4.8e6, (3,), {3: -1, 4: 1}),
    (3.5e-4, (4,), {4: -1, 16: 1}),
    (0.0175, (4,), {3: 1, 4: -1}),
    (1e8, (16,), {6: 2, 16: -1}),
    (4.44e11, (16,), {3: 1, 16: -1}),
    (1.24e3, (17, 6), {5: 1, 6: -1, 17: -1, 18: 1}),
    (2.1, (19,), {2: 1, 19: -1}),
    (5.78, (19,), {1: 1, 3: 1, 19: -1}),
    (0.0474, (1, 4), {1: -1, 4: -1, 19: 1}),
    (1.78e3, (19, 1), {1: -1, 19: -1, 20: 1}),
    (3.12, (20,), {1: 1, 19: 1, 20: -1}),
)
_RATES = torch.tensor([rate for rate, _, _ in POLLUTION], dtype=torch.float64)
# A missing second reactant is a one put behind the species.
_FIRST = torch.tensor([reactants[0] - 1 for _, reactants, _ in POLLUTION])
_SECOND = torch.tensor([(*reactants, 21)[1] - 1 for _, reactants, _ in POLLUTION])
_GAINS = torch.tensor([[gains.get(i, 0) for i in range(1, 21)] for _, _, gains in POLLUTION], dtype=torch.float64)


def pollution(t: Tensor, y: Tensor) -> Tensor:
    padded = torch.cat([y, torch.ones_like(y[..., :1])], dim=-1)
    return (_RATES * y[..., _FIRST] * padded[..., _SECOND]) @ _GAINS


POLLU = problem(
    "POLLU",
    pollution,
    sparse(20, {2: 0.2, 4: 0.04, 7: 0.1, 8: 0.3, 9: 0.01, 17: 0.007}),
    t1=60.0,
    atol=1e-6,
    about="air pollution: 25 reactions of 20 species",
    source=f"Verwer 1994; {TEST_SET}",
)

POINTS = 64


def reaction_diffusion(t: Tensor, y: Tensor) -> Tensor:
    """Central differences on inner points of [0, 1]; u = 1 and v = 3 at both ends."""
    u, v = y.unflatten(-1, (2, -1)).unbind(-2)
    strength = 0.02 * (u.shape[-1] + 1) ** 2
    return torch.cat(
        [
            1 + u**2 * v - 4 * u + strength * _second_difference(u, 1.0),
            3 * u - u**2 * v + strength * _second_difference(v, 3.0),
        ],
        dim=-1,
    )


def _second_difference(u: Tensor, boundary: float) -> Tensor:
    end = torch.full_like(u[..., :1], boundary)
    whole = torch.cat([end, u, end], dim=-1)
    return whole[..., :-2] - 2 * u + whole[..., 2:]


_X = torch.arange(1, POINTS + 1, dtype=torch.float64) / (POINTS + 1)

BRUSSELATOR = problem(
    "Brusselator",
    reaction_diffusion,
    (*(1 + (2 * torch.pi * _X).sin()).tolist(), *[3.0] * POINTS),
    t1=10.0,
    about=f"reaction and diffusion on a line by the method of lines, {POINTS} points, {2 * POINTS} unknowns",
    source=f"{HAIRER_WANNER} (BRUSS)",
)

STIFF = (ROBERTSON, VAN_DER_POL_1E3, VAN_DER_POL_1E6, HIRES, OREGONATOR, POLLU, BRUSSELATOR)
