"""Adams' methods of one order, for steps of a fixed size."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from isocline.checks import check_whole
from isocline.numbers import Number, column, spread, where
from isocline.polynomials import Newton
from isocline.solvers.base import Attempt, Carry, Field, Solver
from isocline.solvers.extrapolation import extrapolated
from isocline.solvers.history import no_past, past_nodes, push
from isocline.solvers.slopes import HIGHEST, integrate, over_step, slopes
from isocline.state import Step


@dataclass(frozen=True)
class AdamsFixed(Solver):
    r"""Adams-Bashforth, or with a corrector Adams-Bashforth-Moulton (PECE), of one order, for steps of a fixed size.

    ``p = y0 + integral of the polynomial through the last k values of f``; the corrector replaces the oldest of them by
    f(t1, p). The points are where the steps really ended, so a shortened step costs no accuracy. The first k - 1 steps
    are extrapolated midpoint steps; inside the first ones the state is interpolated at order 4, later at order k + 1.

    Args:
        order: k, from 1 to 12.
        corrector: whether to correct: two evaluations a step instead of one, smaller errors, and more stability.

    References:
        Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations I, III.1, III.5, II.9 (extrapolation).

    Example:
        >>> import isocline as iso, torch
        >>> y0 = torch.ones(1, dtype=torch.float64)
        >>> ab5 = iso.AdamsFixed(order=5, corrector=False)
        >>> sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method=ab5, controller=iso.FixedStep(0.01))
        >>> round(sol.ys[-1].item(), 8)
        0.36787944
    """

    order: int = 4
    corrector: bool = True
    whole: bool = False
    """Whether every step is to be interpolated; ``solve`` says."""

    name: ClassVar[str] = "adams_fixed"
    kind: ClassVar[str] = "Adams"
    citation: ClassVar[str] = "Hairer, Norsett & Wanner 1993, III.1 and III.5"
    error_order: ClassVar[None] = None  # it has no error estimate
    weights: ClassVar[None] = None  # past steps matter
    dense_stages: ClassVar[int] = HIGHEST + 1  # slopes at fixed points of the step
    compilable: ClassVar[bool] = False  # the first steps are others

    def __post_init__(self) -> None:
        """Check the order."""
        check_whole("the order of AdamsFixed", self.order, 1)
        if self.order > HIGHEST:
            raise ValueError(f"the order of AdamsFixed must be at most {HIGHEST}, got {self.order}")

    @property
    def evaluations(self) -> int:
        """At the new state, and at the predicted one; the first steps cost more."""
        return 1 + self.corrector

    @property
    def completes(self) -> bool:
        """Unless all steps are whole."""
        return not self.whole

    def completing(self) -> Solver:
        """Make every step whole."""
        return replace(self, whole=True)

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry past times, values of f, and how many there are."""
        times = no_past(t0, y0, max(self.order - 1, 1))
        return times, pad(f0().unsqueeze(1), (0, 0, 0, times.shape[1])), times.new_ones(len(y0), 1)

    def slope(self, carry: Carry) -> Tensor:
        """The latest value of f."""
        return carry[1][:, 0]

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Go on from the past where it is long enough, else without (one host synchronisation)."""
        times, past, count = carry[0], carry[1], carry[2].detach()
        nodes = past_nodes(t0, t1, times, count.squeeze(1))
        first = count.squeeze(1) < self.order
        n_first = int(first.sum()) if self.order > 1 else 0
        y1 = y0
        if n_first < len(y0):
            y1 = self._multistep(f, t0, t1, y0, nodes, past)
        if n_first:
            start = extrapolated(f, t0, t1, y0, past[:, 0], (self.order + 1) // 2)
            y1 = where(first, start, y1)
        f1 = f(t1, y1)
        stages = slopes(nodes, count.squeeze(1), past, f1) if self.whole else (f1,)
        count = (count + 1).clamp(max=self.order)
        return Attempt(y1, None, stages, (push(spread(t0, times), times), push(f1, past), count))

    def _multistep(self, f: Field, t0: Number, t1: Number, y0: Tensor, nodes: Newton, past: Tensor) -> Tensor:
        k = self.order
        whole, reach = over_step(nodes)
        rows = torch.stack([pad(part[:, :k], (0, past.shape[1] - k)) for part in (whole, reach)], dim=1)
        average, extrapolation = (nodes.weights(rows).to(y0.dtype) @ past).unbind(1)
        h = column(t1 - t0, y0)
        guess: Tensor = y0 + h * average
        if not self.corrector:
            return guess
        share = (whole[:, k - 1 : k] / reach[:, k - 1 : k]).to(y0.dtype)
        return torch.addcmul(guess, h * share, f(t1, guess) - extrapolation)

    def complete(self, f: Field, step: Step) -> Step:
        """Return the step with the slopes of the polynomial through f(t1, y1) and the values before."""
        times, past, count = step.carry[0], step.carry[1], step.carry[2].detach().squeeze(1)
        nodes = past_nodes(step.t0, step.t1, times, count)
        return step._replace(stages=slopes(nodes, count, past, step.stages[0]))

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Integrate the slopes; it costs no evaluation of f."""
        return integrate(step, t)
