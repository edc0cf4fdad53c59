"""Methods whose steps can be undone algebraically: the start of a step from its end, without solving anything."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from isocline.checks import check_numbers
from isocline.numbers import Number, column
from isocline.solvers.base import Attempt, Carry, Field, Invertible, Solver
from isocline.solvers.hermite import fraction
from isocline.solvers.runge_kutta import RungeKutta
from isocline.state import Step
from isocline.tableaus import TABLEAUS


@dataclass(frozen=True)
class ReversibleHeun(Invertible):
    r"""The reversible Heun method: Heun's, with the slopes taken on a second trajectory beside the first.

    ``x1 = 2 y0 - x0 + h f(t0, x0)``, ``y1 = y0 + h/2 (f(t0, x0) + f(t1, x1))``: second order at one evaluation a step,
    because x and f(t, x) are carried along; the difference to Euler's method estimates the error. x and y may drift
    apart: stability is that of the leapfrog rule, |h lambda| <= 1 on the imaginary axis and nothing beside it, so it is
    not for problems that are damped strongly.

    References:
        Kidger, Foster, Li & Lyons 2021, Efficient and Accurate Gradients for Neural SDEs, arXiv:2105.13493,
        algorithm 1.

    Example:
        >>> import isocline as iso, torch
        >>> sol = iso.solve(lambda t, y: y.cos(), torch.zeros(1), (0.0, 1.0), method="reversible_heun", rtol=1e-3)
        >>> round(sol.ys[-1].item(), 2)  # 2 atan(tanh(1/2))
        0.87
    """

    name: ClassVar[str] = "reversible_heun"
    kind: ClassVar[str] = "reversible"
    citation: ClassVar[str] = "Kidger, Foster, Li & Lyons 2021, arXiv:2105.13493"
    order: ClassVar[int] = 2
    error_order: ClassVar[int] = 1  # Euler's
    weights: ClassVar[tuple[float, ...]] = (0.5, 0.5)
    evaluations: ClassVar[int] = 1  # the other slope is carried over

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry f(t, x), and x itself, which begins at y0."""
        return f0(), y0

    def start_of(self, y: Tensor, carry: Carry) -> Tensor | None:
        """The state of the second trajectory."""
        return carry[1]

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Step along both trajectories."""
        k0, x0 = carry
        h = column(t1 - t0, y0)
        x1 = 2 * y0 - x0 + h * k0
        k1 = f(t1, x1)
        return Attempt(y0 + h * (0.5 * (k0 + k1)), h * (0.5 * (k1 - k0)), (k0, k1), (k1, x1))

    def reverse(self, f: Field, t0: Number, t1: Number, y1: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """The same step in the other direction of time: it is symmetric."""
        attempt = self.step(f, t1, t0, y1, carry)
        return attempt.y1, attempt.carry

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Integrate the slope that changes linearly between the ends."""
        k0, k1 = step.stages
        theta = fraction(step, t)
        first, last = (column((t - step.t0) * part, k0) for part in (1 - theta / 2, theta / 2))
        y: Tensor = step.y0 + first * k0 + last * k1
        return y


@dataclass(frozen=True)
class Reversible(Invertible):
    r"""The algebraically reversible form of an explicit Runge-Kutta method.

    With ``Psi_h(t, y)`` the base method's increment, a second trajectory z goes beside y:
    ``y1 = l y0 + (1 - l) z0 + Psi_h(t0, z0)``, ``z1 = z0 - Psi_-h(t1, y1)``, which can be solved for z0 and y0. It has
    the base's order, and its error estimate and interpolant on the way from z0, at twice the evaluations. (Where the
    base carries its last stage over to the next step, f(t1, y1) on the way back takes its place.)

    Args:
        base: name of an explicit Runge-Kutta method, or a ``RungeKutta``.
        coupling: l in (0, 1), which keeps the trajectories together. Every step undone multiplies rounding errors by
            about 1 / l, every step done leaves so much of their distance. Not for fields that contract strongly: where
            |h lambda| is well above 1 - l the trajectories part, which the error estimate does not see; a smaller
            coupling, such as 0.5, holds them together longer.

    References:
        McCallum & Foster 2024, Efficient, Accurate and Stable Gradients for Neural ODEs, arXiv:2410.11648.

    Example:
        >>> import isocline as iso, torch
        >>> method = iso.Reversible("tsit5")
        >>> sol = iso.solve(lambda t, y: -y, torch.ones(1), (0.0, 1.0), method=method)
        >>> round(sol.ys[-1].item(), 4)
        0.3679
    """

    base: RungeKutta
    coupling: float = 0.999
    completed: RungeKutta | None = field(default=None, init=False)
    """The base with its late stages among the others, if every step is to make them."""

    kind: ClassVar[str] = "reversible"

    def __init__(self, base: str | Solver, coupling: float = 0.999) -> None:
        """Look the base up by its name, and check both."""
        if isinstance(base, str) and base in TABLEAUS:
            base = RungeKutta(TABLEAUS[base])
        if not isinstance(base, RungeKutta):
            raise ValueError(
                f"Reversible needs an explicit Runge-Kutta method: one of {', '.join(TABLEAUS)}, or "
                f"RungeKutta(tableau); got {base!r:.60}"
            )
        check_numbers("coupling must be a number in (0, 1)", coupling)
        if not 0 < coupling < 1:
            raise ValueError(f"coupling must be between 0 and 1, such as 0.999; got {coupling}")
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "coupling", float(coupling))

    @property
    def name(self) -> str:
        """What users write."""
        return f"Reversible({self.base.name!r})"

    @property
    def order(self) -> int:
        """The base's order."""
        return self.base.order

    @property
    def error_order(self) -> int | None:
        """The base's."""
        return self.base.error_order

    @property
    def citation(self) -> str:
        """Where the form comes from, and the base."""
        return f"McCallum & Foster 2024, arXiv:2410.11648; base: {self.base.citation}"

    @property
    def dense_order(self) -> int:
        """The base's."""
        return self.base.tableau.dense_order

    @property
    def weights(self) -> tuple[float, ...]:
        """The base's."""
        return self.base.weights

    @property
    def evaluations(self) -> int:
        """The base's stages, there and back."""
        return 2 * self.base.evaluations + (self.base.late_stages if self.completed else 0)

    @property
    def late_stages(self) -> int:
        """The base's."""
        return 0 if self.completed else self.base.late_stages

    @property
    def dense_stages(self) -> int:
        """The base's stages, and how far y is moved towards z."""
        return self.base.dense_stages + 1

    def completing(self) -> "Reversible":
        """Return the method with the base's late stages in each step."""
        if not self.base.late_stages:
            return self
        whole = Reversible(self.base, self.coupling)
        object.__setattr__(whole, "completed", self.base.completing())
        return whole

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry z, which begins at y0."""
        return (y0,)

    def start_of(self, y: Tensor, carry: Carry) -> Tensor | None:
        """None: every stage is evaluated in the step."""
        return None

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Step from z0, then back from y1."""
        (z0,) = carry
        stages, way = self.base.increment(f, t0, t1, z0)
        moved = (1 - self.coupling) * (z0 - y0)
        y1 = y0 + (moved + way)
        back, way_back = self.base.increment(f, t1, t0, y1)
        if self.base.tableau.end_stage is not None:
            stages.append(back[0])
        step = Step(t0, t1, y0, y1, (*stages, moved), carry)
        if self.completed:
            step = self.complete(f, step)
        return Attempt(y1, self.base.error(t1 - t0, stages), step.stages, (z0 - way_back,))

    def complete(self, f: Field, step: Step) -> Step:
        """Evaluate the base's late stages, on its way from z0."""
        *stages, moved = step.stages
        base = self.completed or self.base.completing()
        done = base.evaluate_rest(f, step._replace(y0=step.carry[0], stages=tuple(stages)))
        return step._replace(stages=(*done.stages, moved))

    def reverse(self, f: Field, t0: Number, t1: Number, y1: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Solve both equations for their start."""
        (z1,) = carry
        z0 = z1 + self.base.increment(f, t1, t0, y1)[1]
        way = self.base.increment(f, t0, t1, z0)[1]
        # y1 - way is what y0 and z0 were mixed to.
        y0 = z0 + (y1 - way - z0) / self.coupling
        return y0, (z0,)

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the base's interpolant, and move towards z along the way."""
        *stages, moved = step.stages
        y: Tensor = column(fraction(step, t), moved) * moved
        return self.base.interpolate(step._replace(stages=tuple(stages)), t) + y
