"""isocline: differentiable ODE solving and neural differential equations for PyTorch."""

from importlib.metadata import PackageNotFoundError, version

from isocline.controllers import PID, Controller, FixedStep
from isocline.gradients import BacksolveAdjoint, DirectAdjoint, Gradient, RecursiveCheckpointAdjoint
from isocline.interpolation import CubicHermite, LinearInterpolation
from isocline.models import AugmentedNeuralODE, NeuralODE
from isocline.per_lane import PerLane
from isocline.solution import Solution, SolveError, Stats
from isocline.solve import solve
from isocline.solvers import METHODS, RungeKutta, Solver
from isocline.state import Status
from isocline.tableaus import Tableau

try:
    __version__ = version("isocline")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0"

__all__ = [
    "METHODS",
    "PID",
    "AugmentedNeuralODE",
    "BacksolveAdjoint",
    "Controller",
    "CubicHermite",
    "DirectAdjoint",
    "FixedStep",
    "Gradient",
    "LinearInterpolation",
    "NeuralODE",
    "PerLane",
    "RecursiveCheckpointAdjoint",
    "RungeKutta",
    "Solution",
    "SolveError",
    "Solver",
    "Stats",
    "Status",
    "Tableau",
    "solve",
]
