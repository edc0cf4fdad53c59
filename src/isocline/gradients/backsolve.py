"""The continuous adjoint: the paper's Algorithm 1, with the gradients for all times of its Appendix C."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isocline.checks import check_whole
from isocline.compiled import backwards
from isocline.controllers import PID, Controller, Tolerance
from isocline.gradients.base import Gradient, run
from isocline.gradients.black_box import Restarts
from isocline.gradients.captured import Captured
from isocline.gradients.node import Cotangents, Gradients, Rule, attach
from isocline.gradients.sweep import Sweep
from isocline.numbers import spread
from isocline.observers import Observer
from isocline.problem import Outputs, Problem
from isocline.solution import Stats
from isocline.solvers import METHODS, Solver
from isocline.solvers.base import BlackBox
from isocline.state import Status
from isocline.times import make_marks


@dataclass(frozen=True)
class BacksolveAdjoint(Gradient):
    r"""Solve the adjoint ODE backwards in time, rebuilding the state as it goes: memory O(1) in the number of steps.

    With ``a = dL/dy``: ``da/dt = -a^T df/dy``, ``dL/dtheta = integral of a^T df/dtheta dt`` from start to end, and
    ``dL/dt_i = dL/dy_i . f(t_i, y_i)`` at each save time. It is one continuous solve: a step that would pass save times
    ends at the farthest of them, where a jumps by dL/dy_i and the state is set to the saved one, and the step size goes
    on; those passed inside the step are treated as outputs of a short forward step from its end. Save times whose
    gradient is zero cost nothing. The integral for the parameters is a quadrature over the stages of accepted steps, so
    that parameters neither slow the error control down nor are differentiated in rejected steps.

    The gradient is that of the exact solution, up to the tolerances; it is *not* the gradient of the discrete solution,
    and where solving backwards is unstable (strongly contracting or chaotic f) it is wrong: prefer
    ``RecursiveCheckpointAdjoint`` there. First derivatives only.

    Args:
        method: name or solver for the backward solve; None is the forward's.
        rtol: its relative tolerance; None is the forward's.
        atol: its absolute tolerance; None is the forward's.
        controller: its controller instead of tolerances.
        max_steps: most attempted backward steps, not counting one for each save time; None is the forward's.
        step_ts: times at which backward steps are to end, besides the save times that the loss depends on; None is the
            forward's.
        observers: what watches the backward steps, of (y, a) side by side, (L, 2 n); they cannot end the solve.

    Raises:
        SolveError: in backward, when the adjoint cannot be solved.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, Algorithm 1 and Appendix C.

    Example:
        >>> import isocline as iso, torch
        >>> k = torch.tensor(0.5, requires_grad=True)
        >>> sol = iso.solve(lambda t, y: -k * y, torch.ones(1), (0.0, 1.0), gradient=iso.BacksolveAdjoint(rtol=1e-6))
        >>> sol.ys[-1].sum().backward()
        >>> round(k.grad.item(), 4)  # -exp(-1/2)
        -0.6065
    """

    method: str | Solver | None = None
    rtol: Tolerance | None = None
    atol: Tolerance | None = None
    controller: Controller | None = None
    max_steps: int | None = None
    step_ts: tuple[float, ...] | None = None
    observers: tuple[Observer, ...] = ()

    def __post_init__(self) -> None:
        """Check the settings as far as they can be without a problem."""
        if self.controller is not None and (self.rtol is not None or self.atol is not None):
            raise ValueError("give BacksolveAdjoint either a controller or rtol and atol, not both")
        if self.controller is not None and not isinstance(self.controller, Controller):
            raise TypeError(f"controller must be FixedStep(dt) or PID(...), got {self.controller!r:.60}")
        if not (self.method is None or isinstance(self.method, Solver) or self.method in METHODS):
            raise ValueError(f"unknown method {self.method!r}; known are {', '.join(METHODS)}")
        if self.max_steps is not None:
            check_whole("max_steps", self.max_steps, 1)
        PID(1.0 if self.rtol is None else self.rtol, 1.0 if self.atol is None else self.atol)  # checks them

    def suits(self, solver: Solver) -> bool:
        """Whether it can solve backwards by this method, if it has none of its own; it needs the saved states only."""
        return self.method is not None or solver.integrates

    def solve(self, problem: Problem) -> Outputs:
        """Solve without autograd, remembering only the saved states."""
        if not torch.is_grad_enabled():
            return run(problem)
        solver, controller = self._backward_method(problem)
        marks = problem.marks
        if self.step_ts is not None:
            marks = make_marks("step_ts", self.step_ts, problem.field.layout) if self.step_ts else None
        max_steps = self.max_steps or problem.max_steps
        return attach(problem, _BacksolveAdjoint(solver, controller, max_steps, marks, self.observers))

    def _backward_method(self, problem: Problem) -> tuple[Solver, Controller]:
        solver = problem.solver
        if self.method is not None:
            solver = METHODS[self.method] if isinstance(self.method, str) else self.method
        if not solver.integrates:
            raise ValueError(
                f"BacksolveAdjoint cannot solve backwards by method {solver.name!r}; use DirectAdjoint() or "
                "RecursiveCheckpointAdjoint(), or name another method: BacksolveAdjoint(method='tsit5')"
            )
        controller = self.controller or problem.controller
        if self.rtol is not None or self.atol is not None:
            base = getattr(controller, "given", controller) if isinstance(controller, PID) else PID()
            rtol = base.rtol if self.rtol is None else self.rtol
            controller = replace(base, rtol=rtol, atol=base.atol if self.atol is None else self.atol)
        layout = problem.field.layout
        controller = controller.fitted(layout)
        times = problem.times.detach()
        controller.check(solver, times[-1], times[0], self.max_steps or problem.max_steps, layout.precision)
        return solver, controller


class _BacksolveAdjoint(Rule):
    name = "BacksolveAdjoint"

    def __init__(
        self,
        solver: Solver,
        controller: Controller,
        max_steps: int,
        marks: Tensor | None,
        observers: tuple[Observer, ...],
    ) -> None:
        self.solver = solver
        self.controller = controller
        self.max_steps = max_steps
        self.marks = marks
        self.observers = observers
        self.arrived: Tensor

    def forward(self, problem: Problem, captured: Captured) -> Outputs:
        """Solve."""
        if problem.dense:
            raise ValueError(
                "dense output has no gradient through BacksolveAdjoint: put the times you need into ts, use "
                "RecursiveCheckpointAdjoint, or solve under torch.no_grad()"
            )
        outputs = run(problem, captured.f0)
        self.arrived = spread(outputs.state.status, problem.times) == int(Status.SUCCESS)
        return outputs

    def backward(
        self, problem: Problem, captured: Captured, ys: Tensor, gradients: Cotangents, times: bool
    ) -> Gradients:
        """Solve (y, a) back to the start."""
        ends, ys = _reached(problem.times.detach(), ys, self.arrived)
        stops = _stops(gradients.ys, ends, self.marks)
        sweep = self._sweep(problem, captured, ends[stops], ys[stops], gradients.ys[stops])
        a = sweep.run(self.max_steps + len(stops))
        times_bar = None
        if times:
            times_bar = torch.zeros_like(ends)
            with torch.no_grad():
                for stop in stops[:-1]:
                    times_bar[stop] = _dot(gradients.ys[stop], captured.field(ends[stop], ys[stop]))
                times_bar[0] -= _dot(a, captured.field(ends[0], ys[0]))
        problem.stats.backward = Stats(
            captured.field.evaluations, sweep.steps, sweep.accepted, sweep.steps - sweep.accepted
        )
        captured.field.evaluations = 0
        return Gradients(times_bar, a + gradients.ys[0], tuple(sweep.inner_bar))

    def _sweep(
        self, problem: Problem, captured: Captured, stops: Tensor, ys: Tensor, bars: Tensor
    ) -> "Sweep | Restarts":
        if isinstance(self.solver, BlackBox):
            return Restarts(captured, self.solver, self.controller, stops, ys, bars)
        leap = None
        eager = self.observers or self.marks is not None
        if problem.traced is not None and len(problem.y0) == 1 and self.solver.weights is not None and not eager:
            leap = backwards(problem, problem.traced, self.solver, self.controller)
        return Sweep(captured, self.solver, self.controller, stops, ys, bars, leap, self.marks, self.observers)


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
