"""The continuous adjoint: the paper's Algorithm 1, with the gradients for all times of its Appendix C."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isocline.compiled import backwards
from isocline.controllers import PID, Controller
from isocline.gradients.adjoint import AdjointField, Rebuilt
from isocline.gradients.base import run
from isocline.gradients.black_box import Restarts
from isocline.gradients.captured import Captured
from isocline.gradients.continuous import Continuous, ContinuousRule, Way, check_arrived
from isocline.gradients.node import attach
from isocline.gradients.sweep import Sweep
from isocline.observers import Observer
from isocline.problem import Outputs, Problem
from isocline.solution import some
from isocline.solvers import Solver
from isocline.solvers.base import BlackBox
from isocline.times import make_marks

LOST = 100.0
"""The rebuilt state may be off by so many tolerances; beyond that, by no more than half of the digits asked for."""

FIXED = PID(rtol=1e-2, atol=1e-2)
"""Judges the rebuilt state where steps are of a fixed size, so that no tolerance is known: all of it may be off."""

ADVICE = (
    "Where f contracts strongly, or is chaotic, solving it backwards is unstable: use RecursiveCheckpointAdjoint() or "
    "InterpolatingAdjoint()"
)


@dataclass(frozen=True)
class BacksolveAdjoint(Continuous):
    r"""Solve the adjoint ODE backwards in time, rebuilding the state as it goes: memory O(1) in the number of steps.

    With ``a = dL/dy``: ``da/dt = -a^T df/dy``, ``dL/dtheta = integral of a^T df/dtheta dt`` from start to end, and
    ``dL/dt_i = dL/dy_i . f(t_i, y_i)`` at each save time. It is one continuous solve: a step that would pass save times
    ends at the farthest of them, where a jumps by dL/dy_i and the state is set to the saved one, and the step size goes
    on; those passed inside the step are treated as outputs of a short forward step from its end. Save times whose
    gradient is zero cost nothing. The integral for the parameters is a quadrature over the stages of accepted steps, so
    that parameters neither slow the error control down nor are differentiated in rejected steps.

    The gradient is that of the exact solution, up to the tolerances; it is *not* the gradient of the discrete solution,
    and where solving backwards is unstable (strongly contracting or chaotic f) it is wrong: prefer
    ``InterpolatingAdjoint`` or ``RecursiveCheckpointAdjoint`` there. Where the state that is solved for backwards turns
    out to be far off a saved one, a RuntimeWarning says by how much and in which lanes. First derivatives only.

    Args:
        method: name or solver for the backward solve; None is the forward's.
        rtol: its relative tolerance; None is the forward's.
        atol: its absolute tolerance; None is the forward's.
        controller: its controller instead of tolerances. A custom norm gets the scaled errors of state and adjoint side
            by side, (L, 2 n): ``state, adjoint = x.chunk(2, dim=1)``, each in the order of y0's tensors. (That of the
            forward solve, where no controller is given, gets one after the other, and the larger counts.) The error
            control sees no parameters.
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

    step_ts: tuple[float, ...] | None = None
    observers: tuple[Observer, ...] = ()

    def suits(self, solver: Solver) -> bool:
        """Whether it can solve backwards by this method, if it has none of its own; it needs the saved states only."""
        return self.method is not None or solver.integrates

    def solve(self, problem: Problem) -> Outputs:
        """Solve without autograd, remembering only the saved states."""
        if not torch.is_grad_enabled():
            return run(problem)
        solver = self._backward_solver(problem)
        if not solver.integrates:
            raise ValueError(
                f"BacksolveAdjoint cannot solve backwards by method {solver.name!r}; use DirectAdjoint() or "
                "RecursiveCheckpointAdjoint(), or name another method: BacksolveAdjoint(method='tsit5')"
            )
        given = self._backward_controller(problem)
        judge = PID(given.rtol, given.atol) if isinstance(given, PID) else FIXED
        if self.controller is None and isinstance(given, PID) and callable(given.norm):
            given = replace(given, norm=_LargerHalf(given.norm))
        controller = self._fitted(problem, solver, given)
        judge = judge.fitted(problem.field.layout)
        marks = problem.marks
        if self.step_ts is not None:
            marks = make_marks("step_ts", self.step_ts, problem.field.layout) if self.step_ts else None
        max_steps = self.max_steps or problem.max_steps
        return attach(problem, _BacksolveAdjoint(solver, controller, max_steps, judge, marks, self.observers))


@dataclass(frozen=True)
class _LargerHalf:
    """The norm of the forward solve for state and adjoint side by side, (L, 2 n): that of the one which is larger."""

    norm: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        y, a = x.tensor_split(2, dim=1)
        return torch.maximum(self.norm(y), self.norm(a))


class _BacksolveAdjoint(ContinuousRule):
    name = "BacksolveAdjoint"

    def __init__(
        self,
        solver: Solver,
        controller: Controller,
        max_steps: int,
        judge: Controller,
        marks: Tensor | None,
        observers: tuple[Observer, ...],
    ) -> None:
        self.solver, self.controller, self.max_steps, self.judge = solver, controller, max_steps, judge
        self.marks, self.observers = marks, observers

    def _solve(self, problem: Problem, captured: Captured) -> Outputs:
        return run(problem, captured.f0)

    def _back(self, problem: Problem, captured: Captured, stops: Tensor, ys: Tensor, bars: Tensor) -> Way:
        most = self.max_steps + len(stops)
        if isinstance(self.solver, BlackBox):
            restarts = Restarts(captured, self.solver, self.controller, stops, ys, bars)
            a = restarts.run(most)
            return Way(a, tuple(restarts.inner_bar), restarts.steps, restarts.accepted)
        rebuilt = Rebuilt(self.solver, ys, self.judge)
        f = AdjointField(captured, captured.field, rebuilt, weighed=self.solver.weights is not None)
        leap = None
        eager = self.observers or self.marks is not None
        if problem.traced is not None and len(ys[0]) == 1 and self.solver.weights is not None and not eager:
            leap = backwards(problem, problem.traced, self.solver, self.controller)
        sweep = Sweep(f, self.solver, self.controller, stops, bars, leap, self.marks, self.observers)
        state = sweep.run(rebuilt.join(ys[0], torch.zeros_like(ys[0])), most)
        check_arrived(self.name, state, stops[-1], advice=f". {ADVICE}")
        _warn(rebuilt)
        return Way(rebuilt.split(state.t, state.y)[1], tuple(sweep.inner_bar), sweep.steps, sweep.accepted)


def _warn(rebuilt: Rebuilt) -> None:
    """Warn if the state was rebuilt so badly that the gradient cannot be what was asked for (one host sync)."""
    limit = rebuilt.digits.sqrt().clamp(min=LOST)
    worse = torch.where(rebuilt.off <= limit, 0.0, rebuilt.off).tolist()
    lanes = [lane for lane, off in enumerate(worse) if off]
    if not lanes:
        return
    where = "" if len(worse) == 1 else f" in {len(lanes)} of {len(worse)} lanes ({some(lanes)})"
    warnings.warn(
        f"BacksolveAdjoint: the state that was solved for backwards is off the saved one by {max(worse):.0e} times the "
        f"tolerance{where}, so this gradient is not to be trusted. {ADVICE}",
        RuntimeWarning,
        stacklevel=2,
    )
