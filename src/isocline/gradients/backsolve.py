"""The continuous adjoint: the paper's Algorithm 1, with the gradients for all times of its Appendix C."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isocline.controllers import PID, Controller
from isocline.gradients.base import Gradient, Outputs, Problem, run
from isocline.gradients.captured import Captured
from isocline.gradients.node import Cotangents, Gradients, Rule, add, attach
from isocline.loop import integrate, start
from isocline.observers import Observer
from isocline.solution import SolveError, Stats, failure_message
from isocline.solvers import METHODS, Solver
from isocline.state import State, Status, Step


@dataclass(frozen=True)
class BacksolveAdjoint(Gradient):
    r"""Solve the adjoint ODE backwards in time, rebuilding the state as it goes: memory O(1) in the number of steps.

    With ``a = dL/dy``: ``da/dt = -a^T df/dy``, ``dL/dtheta = integral of a^T df/dtheta dt`` from start to end, and
    ``dL/dt_i = dL/dy_i . f(t_i, y_i)`` at each save time. At a save time a jumps by dL/dy_i and the state is set to the
    saved one; the step size goes on through the jumps. Save times whose gradient is zero cost nothing. The integral for
    the parameters is a Gauss quadrature over each accepted step, on the interpolant, so that parameters neither slow
    the error control down nor are evaluated in rejected steps.

    The gradient is that of the exact solution, up to the tolerances; it is *not* the gradient of the discrete solution,
    and where solving backwards is unstable (strongly contracting or chaotic f) it is wrong: prefer
    ``RecursiveCheckpointAdjoint`` there. First derivatives only.

    Args:
        method: name or solver for the backward solve; None is the forward's.
        rtol: its relative tolerance; None is the forward's.
        atol: its absolute tolerance; None is the forward's.
        controller: its controller instead of tolerances.
        max_steps: most backward steps between two save times; None is the forward's.

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
    rtol: float | None = None
    atol: float | None = None
    controller: Controller | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        """Check the settings as far as they can be without a problem."""
        if self.controller is not None and (self.rtol is not None or self.atol is not None):
            raise ValueError("give BacksolveAdjoint either a controller or rtol and atol, not both")
        if isinstance(self.method, str) and self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; known are {', '.join(METHODS)}")

    def solve(self, problem: Problem) -> Outputs:
        """Solve without autograd, remembering only the saved states."""
        if problem.dense and torch.is_grad_enabled():
            raise ValueError(
                "dense output has no gradient through BacksolveAdjoint: put the times you need into ts, use "
                "RecursiveCheckpointAdjoint, or solve under torch.no_grad()"
            )
        solver, controller = self._backward_method(problem)
        return attach(problem, _BacksolveAdjoint(solver, controller, self.max_steps or problem.max_steps))

    def _backward_method(self, problem: Problem) -> tuple[Solver, Controller]:
        solver = problem.solver
        if self.method is not None:
            solver = METHODS[self.method] if isinstance(self.method, str) else self.method
        controller = self.controller or problem.controller
        if self.rtol is not None or self.atol is not None:
            base = controller if isinstance(controller, PID) else PID()
            rtol = base.rtol if self.rtol is None else self.rtol
            controller = replace(base, rtol=rtol, atol=base.atol if self.atol is None else self.atol)
        times = problem.times.detach()
        controller.check(solver, times[-1], times[0], self.max_steps or problem.max_steps, problem.y0.dtype)
        return solver, controller


class _BacksolveAdjoint(Rule):
    def __init__(self, solver: Solver, controller: Controller, max_steps: int) -> None:
        self.solver = solver
        self.controller = controller
        self.max_steps = max_steps
        self.arrived: Tensor

    def forward(self, problem: Problem, captured: Captured) -> Outputs:
        outputs = run(problem, captured.f0)
        self.arrived = outputs.state.status == Status.SUCCESS
        return outputs

    def backward(
        self, problem: Problem, captured: Captured, ys: Tensor, gradients: Cotangents, times: bool
    ) -> Gradients:
        """Integrate (y, a) from save time to save time, the last first."""
        f = _AdjointField(captured)
        # A lane that failed has no solution to go back along: it stays where it began.
        ends = torch.where(self.arrived, problem.times.detach(), problem.times[0].detach())
        ys = torch.where(self.arrived.unsqueeze(1), ys, problem.y0.detach())
        quadrature = _ParameterQuadrature(self.solver, f)
        stops = _stops(gradients.ys)
        times_bar = torch.zeros_like(ends) if times else None
        a = torch.zeros_like(ys[0])
        state: State | None = None
        counts = torch.zeros(2, dtype=torch.int64, device=ys.device)
        for here, there in zip(stops, [*stops[1:], 0], strict=True):
            a = a + gradients.ys[here]
            state = self._restart(f, ends[here], ends[there], torch.cat([ys[here], a], dim=1), state)
            if times_bar is not None:
                times_bar[here] += _dot(gradients.ys[here], f.dy(ends[here], ys[here]))
            state = integrate(f, self.solver, self.controller, state, ends[there], self.max_steps, [quadrature])
            if (message := failure_message(state, ends[there])) is not None:
                raise SolveError(f"backward pass of BacksolveAdjoint: {message}")
            counts += torch.stack([state.steps.sum(), state.accepted.sum()])
            a = state.y[:, ys.shape[2] :]
        if times_bar is not None:
            times_bar[0] -= _dot(a, f.dy(ends[0], ys[0]))
        steps, accepted = counts.tolist()
        problem.stats.backward = Stats(captured.field.evaluations, steps, accepted, steps - accepted)
        captured.field.evaluations = 0
        return Gradients(times_bar, a + gradients.ys[0], tuple(quadrature.total))

    def _restart(self, f: "_AdjointField", t: Tensor, t_end: Tensor, y: Tensor, before: State | None) -> State:
        """Begin at t, going on with the step size and the controller's memory from before the jump."""
        if before is None:
            return start(f, self.solver, self.controller, t, y, t_end)
        carry = self.solver.init(f, t, y, lambda: f(t, y))
        fresh = torch.zeros_like(before.status)
        return before._replace(t=t, y=y, carry=carry, status=fresh + int(Status.RUNNING), steps=fresh, accepted=fresh)


def _stops(gradients: Tensor) -> list[int]:
    """Indices > 0 of the save times that the loss depends on, the last first; the end always (one host sync)."""
    needed = gradients.flatten(1).ne(0).any(dim=1).tolist()
    end = len(needed) - 1
    return [end, *(i for i in range(end - 1, 0, -1) if needed[i])]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1).to(torch.float64)


class _AdjointField:
    """The field of (y, a), each (L, n), side by side: ``(f, -a^T df/dy)``."""

    def __init__(self, captured: Captured) -> None:
        self.captured = captured

    def __call__(self, t: Tensor, ya: Tensor) -> Tensor:
        y, a = ya.tensor_split(2, dim=1)
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            dy = self.captured.field(t, y)
        if not dy.requires_grad:
            return torch.cat([dy, torch.zeros_like(a)], dim=1)
        (da,) = torch.autograd.grad(dy, y, -a, allow_unused=True)
        return torch.cat([dy.detach(), torch.zeros_like(a) if da is None else da], dim=1)

    def dy(self, t: Tensor, y: Tensor) -> Tensor:
        """Return f alone."""
        with torch.no_grad():
            return self.captured.field(t, y)

    def pull(self, t: Tensor, ya: Tensor, weight: Tensor) -> Sequence[Tensor | None]:
        """Return ``sum over lanes of weight (L,) a^T df/dtheta`` for each captured tensor."""
        y, a = ya.tensor_split(2, dim=1)
        with torch.enable_grad():
            dy = self.captured.field(t, y)
        if not dy.requires_grad:
            return [None] * len(self.captured.inner)
        self.captured.check([dy], known=())
        bar = weight.to(a.dtype).unsqueeze(1) * a
        return torch.autograd.grad(dy, self.captured.inner, bar, allow_unused=True)


GAUSS = {
    1: ((0.5, 1.0),),
    2: ((0.5 - 3**-0.5 / 2, 0.5), (0.5 + 3**-0.5 / 2, 0.5)),
    3: ((0.5 - 0.15**0.5, 5 / 18), (0.5, 8 / 18), (0.5 + 0.15**0.5, 5 / 18)),
}
"""Gauss-Legendre nodes and weights on [0, 1] by number of points m; exact to degree 2m - 1."""


class _ParameterQuadrature(Observer):
    """Integrates ``a^T df/dtheta`` over each accepted step, with the Gauss points that the method's order calls for."""

    def __init__(self, solver: Solver, f: _AdjointField) -> None:
        self.solver = solver
        self.f = f
        self.rule = GAUSS[min(3, (solver.order + 1) // 2)]
        self.total: list[Tensor | None] = [None] * len(f.captured.inner)

    def ask(self, step: Step) -> Tensor:
        return (step.t1 != step.t0).sum()

    def see(self, step: Step, count: int) -> None:
        if not count or not self.total:
            return
        h = step.t1 - step.t0
        for node, weight in self.rule:
            t = torch.lerp(step.t0, step.t1, node)
            # Time runs backwards, the integral forwards: hence the sign.
            bars = self.f.pull(t, self.solver.interpolate(step, t), -h * weight)
            self.total = add(self.total, bars)
