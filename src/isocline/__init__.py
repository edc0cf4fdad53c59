"""isocline: differentiable ODE solving and neural differential equations for PyTorch."""

from importlib.metadata import PackageNotFoundError, version

from isocline.controllers import PID, Controller, FixedStep
from isocline.events import Event, SteadyState
from isocline.gradients import (
    BacksolveAdjoint,
    DirectAdjoint,
    ForwardMode,
    GaussAdjoint,
    Gradient,
    InterpolatingAdjoint,
    RecursiveCheckpointAdjoint,
    ReversibleAdjoint,
)
from isocline.interpolation import CubicHermite, LinearInterpolation
from isocline.models import (
    CNF,
    AugmentedNeuralODE,
    ExactTrace,
    Hutchinson,
    HutchPlusPlus,
    LatentODE,
    NeuralODE,
    Regularised,
    Series,
    StepSchedule,
    ToleranceSchedule,
    flow_matching_loss,
)
from isocline.observers import Observer
from isocline.per_lane import PerLane
from isocline.quadrature import Quadrature
from isocline.restart import SolverState
from isocline.solution import Solution, SolveError, Stats
from isocline.solve import solve
from isocline.solvers import (
    BDF,
    ESDIRK,
    METHODS,
    Adams,
    AdamsFixed,
    Auto,
    Collocation,
    Radau,
    Reversible,
    Rosenbrock,
    RungeKutta,
    SciPy,
    Solver,
)
from isocline.split import Split
from isocline.state import Status
from isocline.tableaus import ImplicitTableau, RosenbrockTableau, Tableau
from isocline.tracking import Work, track

try:
    __version__ = version("isocline")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0"

__all__ = [
    "BDF",
    "CNF",
    "ESDIRK",
    "METHODS",
    "PID",
    "Adams",
    "AdamsFixed",
    "AugmentedNeuralODE",
    "Auto",
    "BacksolveAdjoint",
    "Collocation",
    "Controller",
    "CubicHermite",
    "DirectAdjoint",
    "Event",
    "ExactTrace",
    "FixedStep",
    "ForwardMode",
    "GaussAdjoint",
    "Gradient",
    "HutchPlusPlus",
    "Hutchinson",
    "ImplicitTableau",
    "InterpolatingAdjoint",
    "LatentODE",
    "LinearInterpolation",
    "NeuralODE",
    "Observer",
    "PerLane",
    "Quadrature",
    "Radau",
    "RecursiveCheckpointAdjoint",
    "Regularised",
    "Reversible",
    "ReversibleAdjoint",
    "Rosenbrock",
    "RosenbrockTableau",
    "RungeKutta",
    "SciPy",
    "Series",
    "Solution",
    "SolveError",
    "Solver",
    "SolverState",
    "Split",
    "Stats",
    "Status",
    "SteadyState",
    "StepSchedule",
    "Tableau",
    "ToleranceSchedule",
    "Work",
    "flow_matching_loss",
    "solve",
    "track",
]
