"""Adams' methods: the polynomial through past evaluations of f, integrated over the step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import factorial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from isocline.numbers import Number, column, spread
from isocline.polynomials import constant
from isocline.solvers.base import Accuracy, Attempt, Carry, Field, Plan, Solver
from isocline.solvers.history import no_past, past_nodes, push
from isocline.solvers.slopes import HIGHEST, integrate, over_step, slopes
from isocline.state import Step

DOWN = 2.0
"""The next lower order is taken if its error is at most so many times that of the present one: it is more stable."""

_SMALLEST = 1e-10
"""Scaled errors below this are treated as this."""


@dataclass(frozen=True)
class Adams(Solver):
    r"""Adams-Bashforth-Moulton of variable step and order 1 to 12, in the mode PECE: two evaluations a step.

    The polynomial ``P_k`` through the last k values of f predicts ``p = y0 + integral of P_k``; with ``f(t1, p)`` as a
    further value ``y1 = y0 + integral of P_(k+1)``. The points are where the steps really ended, so that no step size
    is better than another. It starts at order 1 with a small step. Where f is smooth and its evaluation costs more than
    all else it needs the fewest evaluations at tight tolerances.

    The order is the one with the least error on evenly spaced points, and goes up with each of the first steps. A step
    keeps its size unless it can be doubled.

    References:
        Shampine & Gordon 1975, Computer Solution of Ordinary Differential Equations (its choice of order and step);
        Hairer, Norsett & Wanner 1993, III.5 and III.7.

    Example:
        >>> import isocline as iso, torch
        >>> y0 = torch.ones(1, dtype=torch.float64)
        >>> sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method=iso.Adams(), rtol=1e-9, atol=1e-9)
        >>> round(sol.ys[-1].item(), 7)
        0.3678794
    """

    accuracy: Accuracy | None = None
    """What ``solve`` tells of the tolerances."""
    whole: bool = False
    """Whether every step is to be interpolated."""

    name: ClassVar[str] = "adams"
    kind: ClassVar[str] = "Adams, variable order"
    citation: ClassVar[str] = "Shampine & Gordon 1975, Computer Solution of Ordinary Differential Equations"
    order: ClassVar[int] = HIGHEST
    error_order: ClassVar[int] = 1  # of the first step; plans say that of the others
    weights: ClassVar[None] = None  # past steps matter
    evaluations: ClassVar[int] = 2  # at the predicted state, and at the corrected one
    dense_stages: ClassVar[int] = HIGHEST + 1  # slopes at fixed points of the step
    compilable: ClassVar[bool] = False  # compiled loops record carries of the state's shape only

    @property
    def completes(self) -> bool:
        """Unless all steps are whole."""
        return not self.whole

    def tuned(self, accuracy: Accuracy) -> Solver:
        """Choose orders by these tolerances."""
        return replace(self, accuracy=accuracy)

    def completing(self) -> Solver:
        """Make every step whole."""
        return replace(self, whole=True)

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry past times, values of f, and (L, 3): the order, the number of values, whether this is the start."""
        past = pad(f0().unsqueeze(1), (0, 0, 0, HIGHEST - 1))
        times = no_past(t0, y0, HIGHEST - 1)
        return times, past, times.new_ones(len(y0), 3)

    def slope(self, carry: Carry) -> Tensor:
        """The latest value of f."""
        return carry[1][:, 0]

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Predict, evaluate, correct, evaluate; and estimate the errors of the orders nearby."""
        times, past, (order, count, starting) = carry[0], carry[1], carry[2].detach().unbind(1)
        nodes = past_nodes(t0, t1, times, count)
        whole, reach = over_step(nodes)
        k = order.long().unsqueeze(1)
        orders = k + torch.arange(-2, 2, device=k.device)
        below = torch.arange(HIGHEST, device=k.device) < orders.unsqueeze(2)
        rows = torch.cat([(whole[:, :-1] * below[:, 2]).unsqueeze(1), reach[:, None, :-1] * below], dim=1)
        average, *extrapolated = (nodes.weights(rows).to(y0.dtype) @ past).unbind(1)
        h = column(t1 - t0, y0)
        guess = y0 + h * average
        news = f(t1, guess) - extrapolated[2]
        share, less = ((whole.gather(1, q) / reach.gather(1, q)).to(y0.dtype) for q in (k, k - 1))
        y1 = torch.addcmul(guess, h * share, news)
        f1 = f(t1, y1)
        with torch.no_grad():
            sizes = constant(_ERRORS, reach.dtype, reach.device) / reach
            size = torch.maximum(y0.abs(), y1.abs())
            scaled = [self._scaled(size, h * (f1 - x)) for x in extrapolated]
            # Below order 1 there is nothing: what stands there is not used.
            errors = torch.stack(scaled, dim=1) * sizes.gather(1, orders.clamp(0, HIGHEST))
            plan, notes = _choose(errors, order, count, starting > 0)
        stages = slopes(nodes, order, past, f1) if self.whole else (f1,)
        carry = push(spread(t0, times), times), push(f1, past), notes
        return Attempt(y1, h * (share - less) * news, stages, carry, plan)

    def complete(self, f: Field, step: Step) -> Step:
        """Return the step with the slopes of the polynomial through f(t1, y1) and the k values before."""
        times, past, (order, count, _) = step.carry[0], step.carry[1], step.carry[2].detach().unbind(1)
        nodes = past_nodes(step.t0, step.t1, times, count)
        return step._replace(stages=slopes(nodes, order, past, step.stages[0]))

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Integrate the slopes; it costs no evaluation of f."""
        return integrate(step, t)

    def _scaled(self, y: Tensor, x: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x, dim=1)
        return norm if self.accuracy is None else self.accuracy.scaled(y, x)


def _constants() -> tuple[float, ...]:
    """Sizes of the errors of the orders 0 to 12 on evenly spaced points, for divided differences of order q.

    The method of order q errs by ``gamma_q h nabla^q f``, and ``nabla^q f`` is q! times the divided difference.
    """
    gamma: list[float] = []
    for q in range(HIGHEST + 1):
        gamma.append(float(q == 0) - sum(g / (q + 1 - i) for i, g in enumerate(gamma)))
    return tuple(abs(g) * factorial(q) for q, g in enumerate(gamma))


_ERRORS = _constants()


def _choose(errors: Tensor, order: Tensor, count: Tensor, starting: Tensor) -> tuple[Plan, Tensor]:
    """Choose order and step size for the next step.

    Args:
        errors: scaled errors of the orders k - 2, k - 1, k, k + 1 on evenly spaced points, (L, 4).
        order: k, (L,).
        count: how many values of f there were, (L,).
        starting: whether the order still goes up with each step, (L,).
    """
    lowest, lower, here, higher = errors.unbind(1)
    known = (count > order) & (order < HIGHEST)
    falls = torch.where(order > 2, torch.maximum(lower, lowest) <= DOWN * here, (order == 2) & (2 * lower <= here))
    falls = falls | (known & ~starting & (order > 1) & (lower <= DOWN * torch.minimum(here, higher)))
    starting = starting & ~falls & (order < HIGHEST)
    rises = known & ~falls & torch.where(order > 1, higher < here, 2 * higher < here)
    error = torch.where(falls, lower, torch.where(rises, higher, here)).clamp(min=_SMALLEST)
    chosen = torch.where(falls, order - 1, torch.where(rises | starting, order + 1, order))
    ratio = (0.5 / error) ** (1 / (chosen + 1))
    growth = torch.where(starting | (ratio >= 2), 2.0, torch.where(ratio >= 1, 1.0, ratio.clamp(0.5, 0.9)))
    notes = torch.stack([chosen, (count + 1).clamp(max=HIGHEST), (starting & (ratio >= 1)).to(order.dtype)], dim=1)
    return Plan(order, growth), notes
