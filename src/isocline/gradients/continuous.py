"""What the gradient methods have in common that solve the adjoint ODE, ``da/dt = -a^T df/dy``, backwards in time."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.checks import check_whole
from isocline.controllers import PID, Controller, Tolerance
from isocline.gradients.base import Gradient
from isocline.gradients.captured import Captured
from isocline.gradients.node import Cotangents, Gradients, Rule
from isocline.numbers import spread
from isocline.problem import Outputs, Problem
from isocline.solution import SolveError, Stats, failure_message
from isocline.solvers import METHODS, Solver
from isocline.state import State, Status


@dataclass(frozen=True)
class Continuous(Gradient):
    """A gradient by the adjoint ODE, with the settings of its solve."""

    method: str | Solver | None = None
    rtol: Tolerance | None = None
    atol: Tolerance | None = None
    controller: Controller | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        """Check the settings as far as they can be without a problem."""
        if self.controller is not None and (self.rtol is not None or self.atol is not None):
            raise ValueError(f"give {type(self).__name__} either a controller or rtol and atol, not both")
        if self.controller is not None and not isinstance(self.controller, Controller):
            raise TypeError(f"controller must be FixedStep(dt) or PID(...), got {self.controller!r:.60}")
        if not (self.method is None or isinstance(self.method, Solver) or self.method in METHODS):
            raise ValueError(f"unknown method {self.method!r}; known are {', '.join(METHODS)}")
        if self.max_steps is not None:
            check_whole("max_steps", self.max_steps, 1)
        PID(1.0 if self.rtol is None else self.rtol, 1.0 if self.atol is None else self.atol)  # checks them

    def _backward_solver(self, problem: Problem) -> Solver:
        """Return the method of the way back."""
        if self.method is None:
            return problem.solver
        return METHODS[self.method] if isinstance(self.method, str) else self.method

    def _backward_controller(self, problem: Problem) -> Controller:
        """Return its controller, before it is fitted to the state: the forward's, if nothing else is said."""
        controller = self.controller or problem.controller
        given: Controller = getattr(controller, "given", controller)
        if self.rtol is None and self.atol is None:
            return given
        base = given if isinstance(given, PID) else PID()
        rtol = base.rtol if self.rtol is None else self.rtol
        return replace(base, rtol=rtol, atol=base.atol if self.atol is None else self.atol)

    def _fitted(self, problem: Problem, solver: Solver, controller: Controller) -> Controller:
        """Return the controller for the problem, checked."""
        layout, times = problem.field.layout, problem.times.detach()
        controller = controller.fitted(layout)
        controller.check(solver, times[-1], times[0], self.max_steps or problem.max_steps, layout.precision)
        return controller


class Way(NamedTuple):
    """What came of the way back."""

    a: Tensor
    """dL/dy at the start, (L, n), without the gradient of the state saved there."""
    inner: tuple[Tensor | None, ...]
    """The parameters' gradients."""
    steps: int
    accepted: int


class ContinuousRule(Rule):
    """A forward pass without autograd, and the adjoint ODE backwards."""

    arrived: Tensor
    """Which lanes did, (L,)."""
    marks: Tensor | None = None
    """Times at which steps of the way back are to end, (J, L)."""

    def forward(self, problem: Problem, captured: Captured) -> Outputs:
        """Solve."""
        if problem.dense:
            raise ValueError(
                f"dense output has no gradient through {self.name}: put the times you need into ts, use "
                "RecursiveCheckpointAdjoint, or solve under torch.no_grad()"
            )
        outputs = self._solve(problem, captured)
        self.arrived = spread(outputs.state.status, problem.times) == int(Status.SUCCESS)
        return outputs

    def backward(
        self, problem: Problem, captured: Captured, ys: Tensor, gradients: Cotangents, times: bool
    ) -> Gradients:
        """Solve for a back to the start."""
        ends, ys = _reached(problem.times.detach(), ys, self.arrived)
        stops = _stops(gradients.ys, ends, self.marks)
        way = self._back(problem, captured, ends[stops], ys[stops], gradients.ys[stops])
        times_bar = None
        if times:
            times_bar = torch.zeros_like(ends)
            with torch.no_grad():
                for stop in stops[:-1]:
                    times_bar[stop] = _dot(gradients.ys[stop], captured.field(ends[stop], ys[stop]))
                times_bar[0] -= _dot(way.a, captured.field(ends[0], ys[0]))
        steps = captured.field.evaluations, way.steps, way.accepted, way.steps - way.accepted
        problem.stats.backward = Stats(*steps)
        captured.field.evaluations = 0
        return Gradients(times_bar, way.a + gradients.ys[0], way.inner)

    @abstractmethod
    def _solve(self, problem: Problem, captured: Captured) -> Outputs:
        """Solve forwards, and remember what the way back needs."""

    @abstractmethod
    def _back(self, problem: Problem, captured: Captured, stops: Tensor, ys: Tensor, bars: Tensor) -> Way:
        """Solve backwards.

        Args:
            problem: the forward problem.
            captured: the field and what it depends on.
            stops: times (S, L): the last save time first, the start of the forward solve last.
            ys: states saved there, (S, L, n).
            bars: gradients of the loss with respect to them, (S, L, n).

        Raises:
            SolveError: it failed.
        """


def check_arrived(name: str, state: State, t_end: Tensor, lanes: Tensor | None = None, advice: str = "") -> None:
    """Raise SolveError if a lane did not arrive; ``lanes`` says which the rows are."""
    if (message := failure_message(state, t_end, lanes)) is not None:
        raise SolveError(f"backward pass of {name}: {message}{advice}")


def _reached(times: Tensor, ys: Tensor, arrived: Tensor) -> tuple[Tensor, Tensor]:
    """Let lanes that failed start back from the last save time they reached, where they repeat time and state."""
    # Between the ends of a lane that goes nowhere nothing was saved.
    ys = torch.where((times[0] == times[-1]).unsqueeze(1), ys[0], ys)
    reached = ys.isfinite().all(dim=2)
    last = (reached.sum(dim=0) - 1).clamp(min=0)
    rows = torch.minimum(torch.arange(len(times), device=times.device).unsqueeze(1), last)
    lanes = torch.arange(times.shape[1], device=times.device)
    # A lane that failed at once takes another's place, because f need not be finite in its own, and goes nowhere there.
    lanes = torch.where(arrived | (last > 0), lanes, last.argmax())
    return times.gather(0, rows), ys[rows, lanes]


def _stops(gradients: Tensor, times: Tensor, marks: Tensor | None) -> list[int]:
    """Indices of the save times that the loss depends on, the last first; both ends always (one host sync).

    Where a step ends anyway the saved state is better than the one solved back to.
    """
    needed = gradients.flatten(1).ne(0).any(dim=1)
    if marks is not None:
        needed = needed | torch.isin(times, marks).all(dim=1)
    chosen = needed.tolist()
    end = len(chosen) - 1
    return [end, *(i for i in range(end - 1, 0, -1) if chosen[i]), 0]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1)
