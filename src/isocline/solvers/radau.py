"""The implicit Runge-Kutta method Radau IIA of order 5."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from isocline.jacobian import UserJacobian, jacobian_at, linearize
from isocline.linear_systems import without_inf
from isocline.numbers import Number, column, somewhere, spread, time_dtype
from isocline.polynomials import constant
from isocline.solvers.base import Accuracy, Attempt, Carry, Field, Plan, Solver
from isocline.solvers.polynomial import polynomials
from isocline.solvers.stages import attached
from isocline.state import Step
from isocline.tableaus.radau import BACK, COMPLEX, DENSE, ERROR, INTO, REAL, SLOPE, A, C

MOST = 7
"""Newton iterations after which an attempt has failed."""

SLOW = 1e-3
"""With a contraction rate above this, and more than two iterations, the next step begins with a new Jacobian."""

SAFETY = 0.9
"""Part of the predicted growth of a step that is made use of, when one iteration was enough."""


@dataclass(frozen=True)
class Radau(Solver):
    r"""Radau IIA of order 5 with three stages: for stiff problems and high accuracy.

    The stage increments ``z_i = h sum_j a_ij f(t + c_j h, y + z_j)`` are found by simplified Newton iterations, which a
    change of variables splits into a real and a complex linear system of n unknowns, each factorised once an attempt.
    The Jacobian is kept from step to step, in each lane, while iterations converge fast. How far they go follows the
    tolerances; the collocation polynomial (order 3) gives first guesses for the next step, and the states between.

    Gradients are those of the solved equations, by the implicit function theorem with exact Jacobians at the three
    stages, not of the iterations. First derivatives only.

    Args:
        jacobian: a function that returns df/dy, called as f is: ``jacobian(t, y, *args)`` with the result (n, n), or
            (*batch, n, n) with ``batch_dims``. None differentiates f. It need not be exact.
        accuracy: the tolerances, which ``solve`` fills in.

    References:
        Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.8; Gustafsson 1994, ACM Trans. Math.
        Softw. 20, doi:10.1145/198429.198437 (step size).

    Example:
        >>> import isocline as iso, torch
        >>> van_der_pol = lambda t, y: torch.stack([y[1], 1e3 * (1 - y[0] ** 2) * y[1] - y[0]])
        >>> y0 = torch.tensor([2.0, 0.0], dtype=torch.float64)
        >>> sol = iso.solve(van_der_pol, y0, (0.0, 500.0), method="radau")
        >>> round(sol.ys[-1, 0].item(), 3), sol.stats.steps.item() < 50
        (1.597, True)
    """

    jacobian: UserJacobian | None = None
    accuracy: Accuracy | None = field(default=None, repr=False)

    name: ClassVar[str] = "radau"
    kind: ClassVar[str] = "implicit Runge-Kutta (stiff)"
    citation: ClassVar[str] = "Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.8 (RADAU5)"
    order: ClassVar[int] = 5
    error_order: ClassVar[int] = 3
    dense_order: ClassVar[int] = 3  # of the collocation polynomial
    weights: ClassVar[tuple[float, ...]] = A[-1]
    evaluations: ClassVar[int] = 9  # three an iteration; two or three iterations are usual
    compilable: ClassVar[bool] = False  # it iterates
    integrates: ClassVar[bool] = False  # the stages are increments of the state, not evaluations of f

    def __post_init__(self) -> None:
        """Check the type."""
        if not (self.jacobian is None or callable(self.jacobian)):
            raise TypeError(f"jacobian must be a function jacobian(t, y, *args) or None, got {self.jacobian!r:.60}")

    def tuned(self, accuracy: Accuracy) -> "Radau":
        """Iterate as far as the tolerances ask for."""
        return replace(self, accuracy=accuracy)

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry f, and no Jacobian or step before."""
        lanes, n = y0.shape
        return f0().detach(), y0.new_zeros(lanes, 3, n), y0.new_zeros(lanes, n, n), Notes.fresh(y0).pack()

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Solve the collocation equations, and estimate the error."""
        assert self.accuracy is not None  # tuned() saw to it
        like = torch.zeros((), dtype=time_dtype(y0.device), device=y0.device)
        t0, t1 = spread(t0, like), spread(t1, like)
        newton = _Newton(f, t0, t1, y0, carry, self.accuracy, self.jacobian)
        with torch.no_grad():
            newton.solve()
            error, after, plan = newton.judge()
        z = newton.z
        watched = newton.graph or any(torch.is_grad_enabled() and x.requires_grad for x in (t0, t1, y0))
        z = attached(f, A, C, t0, t1, y0, z, watched)
        y1 = torch.where(newton.failed.unsqueeze(1), float("inf"), y0 + z[:, 2])
        return Attempt(y1, error, tuple(z.unbind(1)), after, plan)

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the collocation polynomial."""
        weights = polynomials(DENSE, step, t)
        y = step.y0
        for weight, z in zip(weights.unsqueeze(2).unbind(1), step.stages, strict=True):
            y = torch.addcmul(y, weight, z)
        return y


class Notes(NamedTuple):
    """What a lane remembers besides tensors of its state, each (L,)."""

    wanted: Tensor
    """Whether the next step should begin with a new Jacobian: 1 or 0."""
    doubt: Tensor
    """``theta / (1 - theta)`` of the last contraction rate theta, by which the first change is judged."""
    h: Tensor
    """Size of the last step; 0 before the first."""
    error: Tensor
    """Its scaled error."""

    @classmethod
    def fresh(cls, y0: Tensor) -> "Notes":
        """Return the notes before the first step."""
        one = torch.ones(len(y0), dtype=time_dtype(y0.device), device=y0.device)
        return cls(one, one, 0 * one, one)

    def pack(self) -> Tensor:
        """Return them side by side."""
        return torch.stack(self, dim=1)


class _Newton:
    """Simplified Newton iterations for one attempt, in every lane by itself: what is done in one changes no other."""

    def __init__(
        self,
        f: Field,
        t0: Tensor,
        t1: Tensor,
        y0: Tensor,
        carry: Carry,
        accuracy: Accuracy,
        jacobian: UserJacobian | None,
    ) -> None:
        self.f, self.accuracy, self.given = f, accuracy, jacobian
        self.t0, self.t1, self.y0 = t0.detach(), t1.detach(), y0.detach()
        self.h = self.t1 - self.t0
        self.scale = column(self.h, y0)
        self.slope, self.before, self.jacobian, notes = (part.detach() for part in carry)
        self.notes = Notes(*notes.unbind(1))
        self.watching, self.graph = torch.is_grad_enabled(), False
        resting = self.h == 0
        self.failed, self.new, self.slow = resting & False, resting & False, resting & False
        self.iterations = torch.zeros_like(self.h)
        self.doubt = self.notes.doubt
        self.into, self.back, self.dense = (_matrix(x, y0) for x in (INTO, BACK, DENSE))
        self.z = torch.zeros_like(self.before)
        self.moving = ~resting

    def solve(self) -> None:
        """Find the stage increments z (L, 3, n); with a new Jacobian where it is wanted, or the old one fails."""
        wanted = self.moving & (self.notes.wanted > 0)
        if somewhere(wanted):
            self._renew(wanted)
        guess = self._guess()
        self._iterate(guess, self.moving)
        again = self.failed & ~self.new
        if somewhere(again):
            self._renew(again)
            self._iterate(guess, again)
        self.z = torch.where((self.failed | ~self.moving)[:, None, None], 0.0, self.z)

    def judge(self) -> tuple[Tensor, Carry, Plan]:
        """Return the error estimate, the carry for the next step, and the size wanted for it."""
        y1 = self.y0 + self.z[:, 2]
        size = torch.maximum(self.y0.abs(), y1.abs())
        known = (_matrix((ERROR,), self.y0) @ self.z).squeeze(1)
        error = self._real(known + self.scale * self.slope)
        scaled = self.accuracy.scaled(size, error).to(self.h.dtype)
        h, before = self.h, self.notes
        safety = SAFETY * (2 * MOST + 1) / (2 * MOST + self.iterations)
        e = scaled.clamp(min=1e-10)
        first = before.h == 0
        ratio = h / torch.where(first, h, before.h) * (before.error / e) ** 0.25
        growth = safety * e**-0.25 * torch.where(first, 1.0, ratio.clamp(max=1.0))
        slope = (_matrix((SLOPE,), self.y0) @ self.z).squeeze(1) / torch.where(self.scale == 0, 1.0, self.scale)
        notes = Notes(self.slow.to(h.dtype), self.doubt, h, e.clamp(min=1e-2))
        carry = slope, self.z, self.jacobian, notes.pack()
        return error, carry, Plan(torch.full_like(h, 3.0), growth)

    def _renew(self, lanes: Tensor) -> None:
        """Take a new Jacobian in some lanes: evaluated for all at once."""
        at = self.t0, self.y0
        if self.given is None:
            slope, new, _ = linearize(self.f, *at)
        else:
            slope, new = self.f(*at), jacobian_at(self.f, *at, self.given)
        # The slope of the polynomial has been good enough for an error estimate; where f is at hand, it is better.
        self.slope = torch.where(lanes.unsqueeze(1), slope, self.slope)
        self.jacobian = torch.where(lanes[:, None, None], new, self.jacobian)
        self.new = self.new | lanes

    def _factorise(self) -> None:
        n = self.y0.shape[1]
        change = self.scale.unsqueeze(2) * without_inf(self.jacobian)
        unit = torch.eye(n, dtype=change.dtype, device=change.device)
        self.real = torch.linalg.lu_factor_ex(REAL * unit - change)[:2]
        self.complex = torch.linalg.lu_factor_ex(COMPLEX * unit - change)[:2]

    def _real(self, x: Tensor) -> Tensor:
        solved: Tensor = torch.linalg.lu_solve(*self.real, x.unsqueeze(2)).squeeze(2)
        return solved

    def _guess(self) -> Tensor:
        """Extrapolate the polynomial of the step before."""
        h = self.notes.h
        ratio = self.h / torch.where(h == 0, 1.0, h)
        theta = (1 + ratio.unsqueeze(1) * _matrix((C,), self.h)).to(self.y0.dtype)
        powers = torch.stack([theta, theta**2, theta**3], dim=2)
        return powers @ self.dense.T @ self.before - self.before[:, 2:]

    def _iterate(self, guess: Tensor, active: Tensor) -> None:
        """Factorise, and iterate in the active lanes."""
        self._factorise()
        lanes = active[:, None, None]
        self.failed = self.failed & ~active
        z = torch.where(lanes, guess, self.z)
        w = self.into @ z
        tolerance = self._tolerance()
        doubt = self.notes.doubt.clamp(min=1e-16) ** 0.8
        before: Tensor | None = None
        self.slow = self.slow & ~active
        for left in reversed(range(MOST)):
            change = self._change(z, w)
            size = self._size(change)
            hopeless = ~size.isfinite()
            if before is not None:
                theta = size / before
                growing = ~(theta < 1)
                doubt = torch.where(active & ~growing, theta / (1 - theta), doubt)
                hopeless = hopeless | growing | (theta**left * doubt * size > tolerance)
                self.slow = torch.where(active, (theta > SLOW) & (left < MOST - 2), self.slow)
            # What has come down to rounding errors gets no smaller.
            done = (doubt * size <= tolerance) | (size <= self.rounding)
            hopeless = hopeless & ~done
            w = torch.where(active[:, None, None] & ~hopeless[:, None, None], w + change, w)
            self.iterations = torch.where(active, float(MOST - left), self.iterations)
            self.failed = self.failed | (active & hopeless)
            active = active & ~done & ~hopeless
            z = self.back @ w
            if not somewhere(active):
                break
            before = size
        self.failed = self.failed | active
        self.z = torch.where(lanes, z, self.z)
        self.doubt = torch.where(lanes[:, 0, 0] & ~self.failed, doubt, self.doubt)

    def _change(self, z: Tensor, w: Tensor) -> Tensor:
        """Return the change of w (L, 3, n) by one iteration."""
        times = (self.t0 + C[0] * self.h, self.t0 + C[1] * self.h, self.t1)
        with torch.set_grad_enabled(self.watching):
            values = [self.f(t, self.y0 + x) for t, x in zip(times, z.unbind(1), strict=True)]
        self.graph = self.graph or any(value.requires_grad for value in values)
        f = self.scale.unsqueeze(2) * (self.into @ torch.stack([value.detach() for value in values], dim=1))
        one = self._real(f[:, 0] - REAL * w[:, 0])
        both = torch.complex(f[:, 1], f[:, 2]) - COMPLEX * torch.complex(w[:, 1], w[:, 2])
        two = torch.linalg.lu_solve(*self.complex, both.unsqueeze(2)).squeeze(2)
        return torch.stack([one, two.real, two.imag], dim=1)

    def _size(self, x: Tensor) -> Tensor:
        """Return the root mean square over stages of the scaled sizes of x (L, 3, n)."""
        sizes = torch.stack([self.accuracy.scaled(self.y0, part) for part in x.unbind(1)])
        return (sizes.square().mean(dim=0) ** 0.5).to(self.h.dtype)

    def _tolerance(self) -> float:
        """Return how far to iterate beside what the error control tolerates (Hairer & Wanner 1996, IV.8)."""
        eps = torch.finfo(self.y0.dtype).eps
        self.rounding = self.accuracy.scaled(self.y0, 10 * eps * self.y0.abs()).to(self.h.dtype)
        rtol = float(self.accuracy.rtol) or 1e-4
        return min(0.03, sqrt(rtol))


def _matrix(table: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    return constant(table, like.dtype, like.device)
