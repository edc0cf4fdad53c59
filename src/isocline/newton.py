"""Newton iterations for the equations ``k = f(t, psi + d k)`` of implicit methods, in every lane by itself."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from isocline.history import own_leaf
from isocline.jacobian import UserJacobian, count, jacobian_at, rows
from isocline.linear_systems import MatrixFree, Product, System, dense
from isocline.numbers import Number, both, clip, column, isfinite, negate, read, spread, total, where
from isocline.solvers.base import Accuracy, Carry, Field

LARGEST_DENSE = 512
"""States of more numbers a lane are solved matrix-free, unless asked otherwise."""

MOST = 20
"""Iterations after which an attempt has failed; it is given up earlier if that many would not do at its rate."""

GROWN, OLD = 1.5, 20
"""A Jacobian serves until the step is so much longer than its first, and for so many steps: the iterations do not see
all that is wrong with it, where it damps too much."""

UNKNOWN = 1e30
"""Stands for an unknown rate: nothing but no change at all is converged then."""

SLOW = 0.1
"""With a contraction rate above this the next step begins with a new Jacobian."""

INEXACT = 1e-2
"""Relative residual to which GMRES solves in an iteration: its rate is then about this."""


class Iteration(NamedTuple):
    """How a method iterates."""

    accuracy: Accuracy
    jacobian: UserJacobian | None = None
    """The user's df/dy as ``jacobian(t, y, *args)``; None differentiates f."""
    linear_solver: str = "auto"
    """"lu", "gmres", or "auto": by the size of the state."""

    def matrix_free(self, n: int) -> bool:
        """Whether states of n numbers a lane are solved for by GMRES."""
        if self.linear_solver == "auto":
            return n > LARGEST_DENSE and self.jacobian is None
        return self.linear_solver == "gmres"

    def tolerance(self, dtype: torch.dtype) -> float:
        """Return how far to iterate, beside what the error control tolerates (Hairer & Wanner 1996, IV.8)."""
        # Tight tolerances go further still, so that results are smooth enough to take differences of.
        return min(1.0, max(10 * self.rounding(dtype), min(0.03, 3e4 * self._rtol)))

    def rounding(self, dtype: torch.dtype) -> float:
        """Return what rounding the state changes, beside what the error control tolerates."""
        return float(torch.finfo(dtype).eps) / self._rtol

    @property
    def _rtol(self) -> float:
        return float(self.accuracy.rtol) or 1e-4

    def begin(self, y0: Tensor) -> Carry:
        """Return the memory before the first step: a Jacobian is wanted (1), and none is there."""
        lanes, n = y0.shape
        size = 1 if self.matrix_free(n) else n
        return y0.new_tensor([1.0, 0.0, 0.0]).repeat(lanes, 1), y0.new_zeros(lanes, size, size)


class Newton:
    r"""Simplified Newton iterations for all stages of one attempted step.

    ``(I - d J) dk = f(t, psi + d k) - k``, ``k <- k + dk``, with J = df/dy at the start of this step or of one before:
    a Jacobian serves until its iterations converge slowly, steps grow, or it is old. It is then evaluated for all lanes
    at once, and taken over by those that want it, so that no lane depends on another. Where the iterations fail with an
    old Jacobian they are begun again with a new one.

    Gradients do not go through the iterations: where autograd watches, ``solve`` returns k with the derivative that the
    implicit function theorem gives, ``(I - d J) dk = df``, with the exact J at the solution. First derivatives only.

    Args:
        f: the field.
        t0: start of the step.
        y0: state there, (L, n).
        d: the number of the equations, (L,): the step size times the method's diagonal element.
        memory: what ``Iteration.begin`` returned, or ``memory`` after the step before.
        how: settings.

    References:
        Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.8.
    """

    def __init__(self, f: Field, t0: Number, y0: Tensor, d: Number, memory: Carry, how: Iteration) -> None:
        """Factor, with a new Jacobian where one is wanted."""
        self.f, self.t0, self.y0, self.d, self.how = f, t0, y0.detach(), d, how
        self._d = d.detach() if isinstance(d, Tensor) else d
        nowhere = self._d != self._d
        self.failed: Number = nowhere
        """Lanes in which an equation was not solved."""
        notes, self._jacobian = (part.detach() for part in memory)
        wanted, self._made_for, self._age = read(t0, notes.unbind(1))
        wanted = (wanted > 0) | (abs(self._d) > GROWN * self._made_for) | (self._age >= OLD)
        # Of the rate nothing is known at first: that of another step size with an old Jacobian can be very different.
        self._eta: Number = 0.0 * self._age + UNKNOWN
        self._tolerance, self._rounding = how.tolerance(y0.dtype), how.rounding(y0.dtype)
        self._new = self._slow = nowhere
        self._matrix_free = how.matrix_free(y0.shape[1])
        self._system: System
        if self._matrix_free:
            self._renew(negate(nowhere))
        elif total(wanted):
            self._renew(wanted)
        else:
            self._system = dense(self._jacobian, self._d)

    @property
    def memory(self) -> Carry:
        """For the next step."""
        notes = where(self._slow, 1.0, 0.0 * self._age), self._made_for, self._age + 1.0
        columns = [spread(note, self._jacobian).to(self.y0.dtype) for note in notes]
        return torch.stack(columns, dim=1), self._jacobian

    def solve(self, t: Number, psi: Tensor, guess: Tensor) -> Tensor:
        """Return k (L, n) at time t (L,), from a first guess; lanes that fail are noted in ``failed``."""
        watching = torch.is_grad_enabled()
        with torch.no_grad():
            todo = negate(self.failed)
            found, failed, graph = self._iterate(t, psi, guess, todo, watching)
            again = both(failed, negate(self._new))
            if total(again):
                self._renew(again)
                other, still, more = self._iterate(t, psi, guess, again, watching)
                found, failed, graph = where(again, other, found), where(again, still, failed), graph or more
            self.failed = self.failed | failed
            k: Tensor = where(self.failed, torch.zeros_like(found), found)
        inputs = (t, self.d, psi)
        if not watching or not (graph or any(isinstance(x, Tensor) and x.requires_grad for x in inputs)):
            return k
        z = psi + column(self.d, k) * k
        z = z if z.requires_grad else own_leaf(z)
        value = self.f(t, z)
        if value.requires_grad:
            k = _Implicit.apply(value, k, z, self._d, self._matrix_free)
        return k

    def damped(self, x: Tensor) -> Tensor:
        """Return ``(I - d J)^-1 x``, constant for autograd."""
        with torch.no_grad():
            return self._system.solve(x)

    def _renew(self, lanes: Number) -> None:
        """Take a new Jacobian in some lanes, and factor."""
        self._new = self._new | lanes
        self._made_for, self._age = where(lanes, abs(self._d), self._made_for), where(lanes, 0.0, self._age)
        if self._matrix_free:
            count(self.f)
            self._system = MatrixFree(_products(self.f, self.t0, self.y0, self._d), INEXACT)
            return
        new = jacobian_at(self.f, self.t0, self.y0, self.how.jacobian)
        self._jacobian = where(lanes, new, self._jacobian)
        self._system = dense(self._jacobian, self._d)

    def _iterate(
        self, t: Number, psi: Tensor, guess: Tensor, active: Number, watching: bool
    ) -> tuple[Tensor, Number, bool]:
        """Iterate in the active lanes; return k, which of them failed, and whether f depends on what has a gradient."""
        d, psi, k = column(self._d, psi), psi.detach(), guess.detach()
        todo, failed, graph = active, both(active, negate(active)), False
        # The first change has no rate of its own: it is judged by that of the stage before, with growing doubt.
        eta = where(self._eta < UNKNOWN, where(self._eta > 1e-16, self._eta, 1e-16) ** 0.8, self._eta)
        before: Number = None
        for left in reversed(range(MOST)):
            with torch.set_grad_enabled(watching):
                value = self.f(t, psi + d * k)
            graph = graph or value.requires_grad
            change = self._system.solve(value.detach() - k)
            (size,) = read(self.t0, [self.how.accuracy.scaled(self.y0, d * change)])
            k = where(active, k + change, k)
            hopeless = negate(isfinite(size))
            if before is not None:
                theta = size / before
                growing = negate(theta < 1)
                self._slow = self._slow | both(active, theta > SLOW)
                eta = where(active, theta / where(growing, 1e-3, 1 - theta), eta)
                hopeless = growing | (clip(theta, 0.0, 1.0) ** left * eta * size > self._tolerance)
            # Where only rounding errors are left they neither fall nor rise.
            exact = both(self._new, size <= self._rounding)
            active = both(active, negate((eta * size <= self._tolerance) | exact))
            failed = failed | both(active, hopeless)
            active = both(active, negate(hopeless))
            if not total(active):
                break
            before = size
        self._eta = where(both(todo, negate(failed)), eta, self._eta)
        return k, failed, graph


class _Implicit(torch.autograd.Function):
    """k, with the gradient of the solution of ``k = f(t, psi + d k)``; value is f there, for k held fixed."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, k: Tensor, z: Tensor, d: Number, matrix_free: bool) -> Tensor:
        ctx.save_for_backward(value, z)
        ctx.d, ctx.matrix_free = d, matrix_free
        return k.clone()

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "implicit methods give first derivatives only, but create_graph=True asks for more; use an explicit "
                "method such as 'tsit5', or a Rosenbrock method such as 'rodas5p', for higher derivatives"
            )
        value, z = ctx.saved_tensors
        (bar,) = bars
        if ctx.matrix_free:

            def transposed(v: Tensor) -> Tensor:
                (pulled,) = torch.autograd.grad(value, z, v, retain_graph=True, allow_unused=True)
                return v if pulled is None else v - column(ctx.d, v) * pulled

            system: System = MatrixFree(transposed, torch.finfo(bar.dtype).eps ** 0.75)
        else:
            (jacobian,) = rows(value, (z,), create_graph=False)
            system = dense(jacobian.mT, ctx.d)
        return system.solve(bar), None, None, None, None


def iteration(accuracy: Accuracy | None, jacobian: UserJacobian | None, linear_solver: str) -> Iteration:
    """Return how a method iterates; it must have been told the tolerances."""
    if accuracy is None:
        raise ValueError("an implicit method needs to know the tolerances: use solver.tuned(controller)")
    return Iteration(accuracy, jacobian, linear_solver)


def check_iteration(jacobian: object, linear_solver: object) -> None:
    """Raise if the settings of an implicit method do not fit."""
    if not (jacobian is None or callable(jacobian)):
        raise TypeError(f"jacobian must be a function jacobian(t, y, *args), got {jacobian!r:.60}")
    if linear_solver not in ("auto", "lu", "gmres"):
        raise ValueError(f"linear_solver must be 'auto', 'lu' or 'gmres', got {linear_solver!r:.60}")
    if jacobian is not None and linear_solver == "gmres":
        raise ValueError("linear_solver='gmres' does without a Jacobian; leave jacobian out, or use 'lu'")


def _products(f: Field, t: Number, y: Tensor, d: Number) -> Product:
    """Return ``u -> u - d J u`` with J = df/dy at (t, y); the derivative of a gradient by its vector is J u."""
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        value = f(t, y)
        v = torch.zeros_like(value, requires_grad=True)
        pulled: Tensor | None = None
        if value.requires_grad:
            (pulled,) = torch.autograd.grad(value, y, v, create_graph=True, allow_unused=True)

    def product(u: Tensor) -> Tensor:
        if pulled is None:
            return u
        (pushed,) = torch.autograd.grad(pulled, v, u, retain_graph=True)
        scaled: Tensor = column(d, u) * pushed
        return u - scaled

    return product
