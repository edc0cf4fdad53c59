"""Error control by the I, PI and PID rules."""

from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, Literal

import torch
from torch import Tensor

from isocline.checks import check_numbers
from isocline.controllers.base import Controller, Memory, Verdict, rms
from isocline.controllers.tolerances import Tolerance, frozen, least, own_tolerance
from isocline.layout import Layout
from isocline.numbers import Number, both, clip, column, isfinite, negate, read, sign, where
from isocline.solvers.base import Attempt, Field, Solver

Norm = Literal["rms", "max"] | Callable[[Tensor], Tensor]
"""How the scaled error (L, n) of a lane becomes one number: (L,)."""

SMALLEST_ERROR = 1e-10
"""Scaled errors below this are treated as this: a perfect step has no logarithm."""

SMALLEST_MEMORY = 1e-4
"""Smallest error remembered, as in DOPRI5: a cautious first step must not hold back those after it."""


@dataclass(frozen=True, eq=False)
class PID(Controller):
    r"""Error control: the next step is h times a factor made from the last three scaled errors.

    With ``e = |error / (atol + rtol max(|y0|, |y1|))|`` in the chosen norm and k the order of the error estimate plus
    one, a step is accepted when e <= 1, and the next is
    ``h clip(safety e_n^(-(I+P+D)/k) e_(n-1)^((P+2D)/k) e_(n-2)^(-D/k), factor_min, factor_max)``.
    The defaults are a mild PI rule: it rejects fewer steps than the plain I rule (``pcoeff=0, icoeff=1``) where
    solutions are rough, and costs as little where they are smooth; ``pcoeff=0.4, icoeff=0.3`` suits mildly stiff
    problems.

    Args:
        rtol: relative tolerance per step. The default suits float32: a hundred times its resolution. A number, or
            for tolerances of each component a tensor that broadcasts against y0 (with ``batch_dims`` against one
            sample), or y0's structure of such.
        atol: absolute tolerance per step, in the units of y; likewise. Components with ``inf`` are not under error
            control: they do not count in the norm.
        pcoeff: proportional coefficient P.
        icoeff: integral coefficient I.
        dcoeff: derivative coefficient D.
        safety: factor below 1 that keeps the next error under the tolerance.
        factor_min: strongest reduction of a step.
        factor_max: strongest growth of a step.
        dt0: size of the first step; None chooses it (Hairer, Norsett & Wanner 1993, II.4), at two evaluations of f.
        dt_max: largest step, in the units of time.
        norm: "rms" over all numbers of a lane (the field's standard), "max", or a function (L, n) -> (L,).
        dt_min: smallest step. Where a smaller one would be needed a lane fails with STEP_TOO_SMALL; the last step, and
            those that end at ``step_ts``, are as short as they have to be.
        force_dt_min: accept steps of ``dt_min`` whatever their error, instead of failing.
        factor_accepted: weakest factor after an accepted step: 1.0 never shortens steps that are good enough.

    References:
        Soderlind 2003, ACM Trans. Math. Softw. 29, doi:10.1145/641876.641877; Hairer, Norsett & Wanner 1993, II.4;
        Kennedy & Carpenter 2003, Appl. Numer. Math. 44, doi:10.1016/S0168-9274(02)00138-1 (the form of the PID rule).

    Example:
        >>> import isocline as iso, torch
        >>> sol = iso.solve(lambda t, y: -y, torch.ones(1), (0.0, 1.0), controller=iso.PID(pcoeff=0.4, icoeff=0.3))
        >>> round(sol.ys[-1].item(), 3)
        0.368
    """

    rtol: Tolerance = 1e-5
    atol: Tolerance = 1e-6
    pcoeff: float = 0.1
    icoeff: float = 0.9
    dcoeff: float = 0.0
    safety: float = 0.9
    factor_min: float = 0.2
    factor_max: float = 10.0
    dt0: float | None = None
    dt_max: float = float("inf")
    norm: Norm = "rms"
    dt_min: float = 0.0
    force_dt_min: bool = False
    factor_accepted: float = 0.0

    # Of each component, in a fitted controller only.
    rtols: ClassVar[Tensor]
    atols: ClassVar[Tensor]
    judged: ClassVar[Tensor]
    """Share of the components whose tolerances are finite: the mean square is over these."""

    @property
    def tunable(self) -> tuple[str, ...]:
        """The tolerances."""
        return ("rtol", "atol", "rtols", "atols", "judged") if "rtols" in vars(self) else ("rtol", "atol")

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        return type(other) is PID and self._key() == other._key()

    def __hash__(self) -> int:
        """Hash by value, tolerances in tensors included."""
        return hash(self._key())

    def _key(self) -> Hashable:
        return tuple((name, frozen(value)) for name, value in vars(self).items() if name != "given")

    def fitted(self, layout: Layout) -> "PID":
        """Return the controller with tolerances of each component (n,), if there are such.

        ``rtol`` and ``atol`` are then the smallest of them, and ``given`` is the controller as it was.
        """
        if isinstance(self.rtol, Real) and isinstance(self.atol, Real) and not layout.quadratures:
            return self
        rtols, atols = (layout.of_components(name, getattr(self, name)) for name in ("rtol", "atol"))
        if layout.quadratures:
            if all(layout.quadratures):
                raise ValueError("all of y0 is marked as Quadrature, so nothing chooses the steps; leave one unmarked")
            atols = torch.where(layout.judged(), atols, float("inf"))
        fitted = {"rtols": rtols, "atols": atols, "judged": atols.isfinite().to(atols.dtype).mean()}
        changed = copy(self)
        for name, value in {**fitted, "rtol": least(self.rtol), "atol": least(self.atol), "given": self}.items():
            object.__setattr__(changed, name, value)
        return changed

    @property
    def evaluations(self) -> int:
        """One to choose the first step."""
        return 0 if self.dt0 else 1

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("rtol", "atol"):
            object.__setattr__(self, name, own_tolerance(name, getattr(self, name)))
        check_numbers("pcoeff, icoeff and dcoeff must be numbers", self.pcoeff, self.icoeff, self.dcoeff)
        factors = self.factor_min, self.factor_max, self.factor_accepted
        check_numbers("safety and factors must be numbers", self.safety, *factors)
        numbers = self.dt_max, self.dt_min, 1.0 if self.dt0 is None else self.dt0
        check_numbers("dt0, dt_max and dt_min must be numbers", *numbers)
        rtol, atol = least(self.rtol), least(self.atol)
        if not (rtol >= 0 and atol >= 0 and 0 < rtol + atol < float("inf")):
            raise ValueError(
                f"rtol and atol must be >= 0, finite, and not both 0; got rtol={self.rtol}, atol={self.atol}"
            )
        if not 0 < self.factor_min < 1 < self.factor_max or not 0 < self.safety < 1:
            raise ValueError("PID needs 0 < factor_min < 1 < factor_max and 0 < safety < 1")
        if not 0 <= self.factor_accepted <= 1:
            raise ValueError(f"factor_accepted must be between 0 and 1, got {self.factor_accepted}")
        if not self.dt_max > 0 or (self.dt0 is not None and not 0 < self.dt0 < float("inf")):
            raise ValueError(
                f"dt0 and dt_max must be positive (ts gives the direction), got dt0={self.dt0}, dt_max={self.dt_max}"
            )
        if not 0 <= self.dt_min < self.dt_max or (self.force_dt_min and not self.dt_min):
            raise ValueError(
                f"dt_min must be >= 0 and below dt_max, and positive to be forced; got dt_min={self.dt_min}, "
                f"dt_max={self.dt_max}, force_dt_min={self.force_dt_min}"
            )
        if not callable(self.norm) and self.norm not in ("rms", "max"):
            raise ValueError(f"norm must be 'rms', 'max' or a function, got {self.norm!r}")

    def check(self, solver: Solver, t0: Tensor, t1: Tensor, max_steps: int, dtype: torch.dtype) -> None:
        """Refuse a method without an error estimate, and tolerances below what the dtype resolves."""
        if solver.error_order is None:
            raise ValueError(
                f"method {solver.name!r} has no error estimate; pass controller=isocline.FixedStep(dt), or use an "
                "adaptive method such as 'tsit5'"
            )
        resolution = torch.finfo(dtype).eps
        if least(self.rtol) < resolution and least(self.atol) < resolution:
            raise ValueError(
                f"rtol={self.rtol} and atol={self.atol} are below what {dtype} resolves (about {resolution:.1e}); "
                "loosen rtol, or solve in float64 with y0.double()"
            )

    def init(
        self, f: Field, solver: Solver, t0: Number, t1: Number, y0: Tensor, f0: Callable[[], Tensor]
    ) -> tuple[Number, Memory]:
        """Choose the first step, never beyond the interval."""
        with torch.no_grad():
            span = t1 - t0
            one = span * 0 + 1.0
            size = one * self.dt0 if self.dt0 else self._first_step(f, solver, t0, span, y0, f0())
            size = clip(size, self.dt_min, self.dt_max)
            size = where(size > abs(span), abs(span), size)
            return size * sign(span), (one, one.clone() if isinstance(one, Tensor) else one) if self.dcoeff else (one,)

    def measure(self, y0: Tensor, attempt: Attempt) -> Tensor:
        """Return the scaled error, which should be at most 1."""
        assert attempt.error is not None  # check() saw to it
        return self.scaled(torch.maximum(y0.abs(), attempt.y1.abs()), attempt.error)

    def scaled(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the norm of x over atol + rtol |y|."""
        return self._norm(x / self._scale(y.abs()))

    def adapt(self, verdict: Verdict, memory: Memory) -> tuple[Number, Number, Memory]:
        """Accept if the scaled error is at most 1; inf and nan shrink the step as far as it goes."""
        h, error, _, error_order, growth = verdict
        assert error_order is not None
        e = clip(where(error == error, error, float("inf")), SMALLEST_ERROR, float("inf"))
        accept = e <= 1
        k = error_order + 1
        last = memory[0]
        p, i, d = self.pcoeff / k, self.icoeff / k, self.dcoeff / k
        factor = self.safety * e ** -(p + i + d)
        if self.pcoeff or self.dcoeff:
            factor = factor * last ** (p + 2 * d)
        if self.dcoeff:
            factor = factor * memory[1] ** -d
        if growth is not None:
            factor = where(accept, growth, factor)
        if self.factor_accepted:
            factor = where(accept, clip(factor, self.factor_accepted, float("inf")), factor)
        factor = clip(where(accept, factor, clip(factor, 0.0, self.safety)), self.factor_min, self.factor_max)
        dt = clip(h * factor, -self.dt_max, self.dt_max)
        if self.dt_min:
            accept, dt = self._not_below(verdict, accept, dt)
        recent = where(accept, clip(e, SMALLEST_MEMORY, float("inf")), last)
        return accept, dt, (recent, where(accept, last, memory[1])) if self.dcoeff else (recent,)

    def _not_below(self, verdict: Verdict, accept: Number, dt: Number) -> tuple[Number, Number]:
        """Keep steps from becoming shorter than dt_min; a size of 0 says that there will be no other."""
        smallest = abs(verdict.h) <= self.dt_min * (1 + 1e-12)
        if self.force_dt_min:
            accept = accept | both(smallest, verdict.finite)
        dt = where(abs(dt) < self.dt_min, sign(verdict.h) * self.dt_min, dt)
        return accept, where(both(smallest, negate(accept)), 0.0, dt)

    def _scale(self, size: Tensor) -> Tensor:
        rtol, atol = self.rtol, self.atol
        if "rtols" in vars(self):
            # An adjoint beside the state is judged like the component that it belongs to.
            rtol, atol = (x.to(size.dtype).repeat(size.shape[1] // len(x)) for x in (self.rtols, self.atols))
        scale: Tensor = atol + rtol * size
        # With atol = 0 a number that is zero and stays so has no error: 0 / tiny, not 0 / 0.
        never_zero = not isinstance(self.atol, Tensor) and self.atol > 0
        return scale if never_zero else scale.clamp(min=torch.finfo(scale.dtype).tiny)

    def _norm(self, scaled: Tensor) -> Tensor:
        if callable(self.norm):
            own: Tensor = self.norm(scaled)
            if own.shape != scaled.shape[:1]:
                raise ValueError(
                    f"norm must return shape {tuple(scaled.shape[:1])}, one a lane; got {tuple(own.shape)}"
                )
            return own
        if self.norm == "max":
            return scaled.abs().amax(dim=1)
        return rms(scaled) / self.judged.to(scaled.dtype).sqrt() if "judged" in vars(self) else rms(scaled)

    def _first_step(self, f: Field, solver: Solver, t0: Number, span: Number, y0: Tensor, f0: Tensor) -> Number:
        """Hairer, Norsett & Wanner 1993, II.4, "starting step size", clipped to the interval throughout."""
        assert solver.error_order is not None
        scale = self._scale(y0.abs())
        d0, d1 = read(t0, (self._norm(y0 / scale), self._norm(f0 / scale)))
        tiny = (d0 < 1e-5) | (d1 < 1e-5)
        h0 = where(tiny, 1e-6, 0.01 * d0 / where(tiny, 1.0, d1))
        h0 = where(isfinite(h0), h0, 1e-6)
        h0 = where(h0 > abs(span), abs(span), h0)
        step = h0 * sign(span)
        f1 = f(t0 + step, y0 + column(step, y0) * f0)
        (d2,) = read(t0, (self._norm((f1 - f0) / scale),))
        d2 = d2 / where(h0 == 0, 1.0, h0)
        steepest = where(d1 > d2, d1, d2)
        flat = steepest <= 1e-15
        h1 = (0.01 / where(flat, 1.0, steepest)) ** (1 / (solver.error_order + 1))
        h1 = where(flat, clip(h0 * 1e-3, 1e-6, float("inf")), h1)
        best = where(100 * h0 < h1, 100 * h0, h1)
        # Where f is not finite nearby, start small: the attempts will tell.
        return where(isfinite(best) & (d1 == d1) & (d2 == d2), best, h0)
