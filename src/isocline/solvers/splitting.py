"""Splitting methods for (q, p): symplectic where the problem is Hamiltonian."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from isocline.layout import Layout
from isocline.numbers import Number, column
from isocline.solvers.base import Attempt, Carry, Field, Invertible, Tabled
from isocline.solvers.hermite import hermite
from isocline.state import Step
from isocline.tableaus.composition import Composition


@dataclass(frozen=True)
class Splitting(Tabled, Invertible):
    r"""Kicks and drifts in turn, for ``q' = v(p, t)``, ``p' = a(q, t)``: leapfrog and what is composed of it.

    ``kick: p += k h a(q, t_q)``, ``drift: q += d h v(p, t_p)``, where each has its own time: t_q is what the drifts add
    up to so far, t_p what the kicks do. So q and p, each with its time, are the two halves of an autonomous problem,
    and the order is the same for fields that depend on time.

    y0 is a pair (q, p) of tensors of one shape, as a tuple, list or dict, and f returns ``(v, a)`` alike. It is for the
    user to see that v does not depend on q, nor a on p: otherwise the method solves it to first order only. Both halves
    of f are evaluated together, twice a leapfrog step; the last kick of a step is the first of the next.

    Steps have a fixed size: with changing ones the energy would drift as with other methods. Compositions of order
    above 2 step back in between, so f is evaluated up to two steps outside of [t0, t1]. Between the steps the state is
    a cubic Hermite interpolant, fourth order, at two evaluations for each step with save times in it.

    Args:
        composition: the coefficients.
        completed: whether every step makes what interpolation needs.

    References:
        Hairer, Lubich & Wanner 2006, Geometric Numerical Integration, chapters I.1 and V.3,
        doi:10.1007/3-540-30666-8.

    Example:
        >>> import isocline as iso, torch
        >>> pendulum = lambda t, state: (state[1], -state[0].sin())
        >>> y0 = torch.ones(1), torch.zeros(1)
        >>> sol = iso.solve(pendulum, y0, (0.0, 100.0), method="leapfrog", controller=iso.FixedStep(0.1))
        >>> q, p = (x[-1] for x in sol.ys)
        >>> energy_gained = p**2 / 2 - q.cos() + torch.ones(1).cos()
        >>> abs(energy_gained.item()) < 0.005
        True
    """

    composition: Composition
    completed: bool = False

    kind: ClassVar[str] = "symplectic"
    error_order: ClassVar[None] = None  # steps of changing size would not conserve anything
    weights: ClassVar[tuple[float, ...]] = ()  # the two halves of the state have weights of their own
    dense_stages: ClassVar[int] = 3  # the way made, and f at both ends
    integrates: ClassVar[bool] = False  # the state of the adjoint is no pair

    def __post_init__(self) -> None:
        """Check the type."""
        if not isinstance(self.composition, Composition):
            raise TypeError(f"Splitting needs a Composition, got {self.composition!r:.60}")

    @property
    def table(self) -> Composition:
        """The composition."""
        return self.composition

    @property
    def evaluations(self) -> int:
        """One a kick and one a drift, the first kick carried over."""
        return 2 * len(self.composition.lengths) + self.completed

    @property
    def late_stages(self) -> int:
        """f at both ends."""
        return 0 if self.completed else 2

    def check(self, layout: Layout) -> None:
        """Refuse a state that is not a pair (q, p)."""
        like = layout.like
        parts = list(like.values()) if isinstance(like, dict) else like
        pair = isinstance(parts, (tuple, list)) and len(parts) == 2 and all(part is None for part in parts)
        if not pair or (layout.shapes[0], layout.dtypes[0]) != (layout.shapes[1], layout.dtypes[1]):
            shapes = ", ".join(str(tuple(shape)) for shape in layout.shapes)
            raise ValueError(
                f"{self.name!r} solves for a pair (q, p): y0 must be a tuple, list or dict of two tensors of one "
                f"shape and dtype; got {'one tensor' if layout.single else 'a ' + type(like).__name__} with shapes "
                f"{shapes}. "
                "Write y0=(q, p), and let f(t, (q, p)) return (dq, dp), where dq depends on p only and dp on q only"
            )

    def completing(self) -> "Splitting":
        """Return the method that evaluates f at the end of each step."""
        return replace(self, completed=True)

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry an evaluation of f with this q at this time: its second half is the first kick."""
        return (f0(),)

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Kick, then drift and kick in turn."""
        way, h = self.composition, t1 - t0
        q, p = _halves(y0)
        k = carry[0]
        turns = zip(way.kicks, way.drift_nodes, way.lengths, way.kick_nodes[1:], strict=False)
        for kick, drift_node, drift, kick_node in turns:
            p = p + column(kick * h, p) * _halves(k)[1]
            k = f(t0 + drift_node * h, torch.cat([q, p], dim=1))
            q = q + column(drift * h, q) * _halves(k)[0]
            k = f(t1 if kick_node == 1.0 else t0 + kick_node * h, torch.cat([q, p], dim=1))
        p = p + column(way.kicks[-1] * h, p) * _halves(k)[1]
        y1 = torch.cat([q, p], dim=1)
        if not self.completed:
            return Attempt(y1, None, (), (k,))
        f1 = f(t1, y1)
        return Attempt(y1, None, (y1 - y0, carry[0], f1), (f1,))

    def reverse(self, f: Field, t0: Number, t1: Number, y1: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """The same step in the other direction of time: the lengths are the same from both ends."""
        attempt = self.step(f, t1, t0, y1, carry)
        return attempt.y1, attempt.carry

    def complete(self, f: Field, step: Step) -> Step:
        """Return the step with f at both ends."""
        return step._replace(stages=(step.y1 - step.y0, f(step.t0, step.y0), f(step.t1, step.y1)))

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the cubic Hermite interpolant."""
        return hermite(step, t, *step.stages)


def _halves(y: Tensor) -> tuple[Tensor, Tensor]:
    """Return q and p, or what f says of each: (L, n / 2)."""
    q, p = y.tensor_split(2, dim=1)
    return q, p
