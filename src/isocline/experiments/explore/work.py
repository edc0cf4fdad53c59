"""What a trained ODE costs at a tolerance, how far off that leaves it, and where its paths go."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

import isocline as iso
from isocline.experiments.explore.subject import Subject

METHODS = ("tsit5", "dopri5", "bosh3", "dop853", "adams")
TOLERANCES = tuple(10.0**-k for k in range(1, 7))
EXACT = 1e-8
"""Tolerance of the solve, in float64, by which errors are measured; with kinks in the field less would take minutes."""
ON_THE_WAY = 41
"""Times at which paths are drawn."""


@dataclass(frozen=True)
class Cost:
    """What one solve took, and what came of it.

    Attributes:
        tolerance: rtol = atol.
        evaluations: Of the field.
        accepted: Steps.
        rejected: Steps that were tried in vain.
        error: Distance of the end from an exact one, over the norm of that.
    """

    tolerance: float
    evaluations: int
    accepted: int
    rejected: int
    error: float


@torch.no_grad()
def exact_end(subject: Subject) -> Tensor:
    """Where the states end, in float64."""
    field = deepcopy(subject.field).double()
    sol = iso.solve(field, subject.y0.double(), subject.ts, method="dopri5", rtol=EXACT, atol=EXACT)
    ends: Tensor = sol.ys[-1]
    return ends


@torch.no_grad()
def cost(subject: Subject, method: str, tolerance: float, exact: Tensor) -> Cost:
    """Solves once, all states with the same steps, as in training."""
    sol = iso.solve(subject.field, subject.y0, subject.ts, method=method, rtol=tolerance, atol=tolerance)
    error = ((sol.ys[-1] - exact).norm() / exact.norm()).item()
    stats = sol.stats
    return Cost(tolerance, stats.evaluations, int(stats.accepted), int(stats.rejected), error)


@torch.no_grad()
def paths(subject: Subject, method: str, tolerance: float) -> Tensor:
    """Where the states are at times from start to end, as flat vectors (T, N, n)."""
    ts = torch.linspace(*subject.ts, ON_THE_WAY)
    sol = iso.solve(subject.field, subject.y0, ts, method=method, rtol=tolerance, atol=tolerance)
    ways: Tensor = sol.ys.flatten(2)
    return ways


@dataclass(frozen=True)
class Plane:
    """A plane in the space of states, on which they are drawn.

    Attributes:
        origin: A point of it, (n,).
        axes: Its two directions, orthonormal, (2, n).
        share: How much of the paths' variance is in it, 0 to 1.
    """

    origin: Tensor
    axes: Tensor
    share: float

    @classmethod
    def of(cls, ways: Tensor) -> "Plane":
        """The one in which paths (T, N, n) vary most; that of the state itself if it has two numbers."""
        n = ways.shape[-1]
        flat = ways.reshape(-1, n)
        if n == 2:
            return cls(torch.zeros_like(flat[0]), torch.eye(2, dtype=flat.dtype), 1.0)
        origin = flat.mean(0)
        away = flat - origin
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the method is randomised
            _, sizes, directions = torch.pca_lowrank(away, q=min(6, *away.shape), center=False, niter=4)
        share = float(sizes[:2].square().sum() / away.square().sum())
        return cls(origin, directions[:, :2].T, share)

    def on(self, states: Tensor) -> Tensor:
        """States (..., n) in the plane's coordinates, (..., 2)."""
        return (states - self.origin) @ self.axes.T

    def off(self, points: Tensor) -> Tensor:
        """The states (..., n) at points (..., 2) of the plane."""
        return self.origin + points @ self.axes


@torch.no_grad()
def slopes(subject: Subject, plane: Plane, t: float, points: Tensor) -> Tensor:
    """The field at time t at points (P, 2) of the plane, as far as it lies in it, (P, 2)."""
    states = plane.off(points)
    dy: Tensor = subject.field(torch.tensor(t, dtype=states.dtype), states.reshape(-1, *subject.y0.shape[1:]))
    return dy.flatten(1) @ plane.axes.T
