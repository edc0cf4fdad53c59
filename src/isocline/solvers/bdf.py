"""Backward differentiation formulas of variable step and order, for stiff problems."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import factorial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from isocline.jacobian import UserJacobian
from isocline.newton import Iteration, Newton, check_iteration, iteration
from isocline.numbers import Number, column, read, spread, where
from isocline.polynomials import Newton as Polynomial
from isocline.polynomials import chebyshev, constant, evaluate, through_chebyshev
from isocline.solvers.base import Accuracy, Attempt, Carry, Field, Plan, Solver
from isocline.solvers.history import no_past, past_nodes, push, with_end
from isocline.state import Step

HIGHEST = 5
"""Highest order: that of order 6 is hardly stable, those above are not."""

SAFETY = 0.7
"""The next step is so much smaller than what the errors would allow."""

_KAPPA = (0.0, -0.1850, -1 / 9, -0.0823, -0.0415, 0.0)
_HARMONIC = tuple(sum(1 / j for j in range(1, k + 1)) for k in range(HIGHEST + 1))
_LEADING = tuple((1 - kappa) * gamma for kappa, gamma in zip(_KAPPA, _HARMONIC, strict=True))
# Order q is judged by nabla^(q+1) y / (q + 1), and nabla^(q+1) y is (q + 1)! times the divided difference.
_ERRORS = tuple(float(factorial(q)) for q in range(HIGHEST + 1))
_WITHIN = chebyshev(HIGHEST + 1)[:-1]
_VALUES = through_chebyshev(HIGHEST + 1, integrated=False)


@dataclass(frozen=True)
class BDF(Solver):
    r"""Backward differentiation formulas of variable step and order 1 to 5, for stiff problems.

    With P the polynomial through the last k + 1 states, at the times where the steps really ended:
    ``h P'(t1) + alpha_k (y - P(t1)) = h f(t1, y)``. The leading coefficient is that of even steps,
    ``alpha_k = (1 - kappa_k) (1 + 1/2 + ... + 1/k)``; kappa makes the errors of orders 1 to 4 smaller than those of
    the plain formulas ("NDF"). The equation is solved by simplified Newton iterations with one Jacobian for many steps.
    One such equation a step is little beside Runge-Kutta methods for stiff problems, so it suits large systems and an
    expensive f; after a discontinuity it begins again at order 1. Gradients come from the implicit function theorem;
    first derivatives only.

    A step keeps its size for k + 1 steps. Then it takes the order that allows the largest.

    Args:
        jacobian: df/dy, called as f is: ``jacobian(t, y, *args)`` with the result (n, n), or (*batch, n, n) with
            ``batch_dims``, over all numbers of y one after another. None differentiates f. It only guides the
            iterations: an approximation will do, if they converge.
        linear_solver: "lu" factors dense matrices, one a lane; "gmres" needs only products with df/dy;
            "auto" takes GMRES for more than 512 numbers a lane, if no ``jacobian`` is given.

    References:
        Brenan, Campbell & Petzold 1996, doi:10.1137/1.9781611971224, chapter 5 (fixed leading coefficient); Shampine &
        Reichelt 1997, SIAM J. Sci. Comput. 18, doi:10.1137/S1064827594276424 (kappa); Shampine 2002, Appl. Numer.
        Math. 42, doi:10.1016/S0168-9274(01)00154-3.

    Example:
        >>> import isocline as iso, torch
        >>> fall = lambda t, y: -1e6 * (y - torch.cos(t))
        >>> sol = iso.solve(fall, torch.zeros(1, dtype=torch.float64), (0.0, 1.0), method="bdf")
        >>> round(sol.ys[-1].item(), 4)
        0.5403
    """

    jacobian: UserJacobian | None = None
    linear_solver: str = "auto"
    accuracy: Accuracy | None = field(default=None, repr=False)
    """Set by ``tuned``."""
    whole: bool = field(default=False, repr=False)
    """Whether every step is to be interpolated; set by ``completing``."""

    name: ClassVar[str] = "bdf"
    kind: ClassVar[str] = "BDF (stiff)"
    citation: ClassVar[str] = (
        "Brenan, Campbell & Petzold 1996, doi:10.1137/1.9781611971224; Shampine & Reichelt 1997, "
        "doi:10.1137/S1064827594276424"
    )
    order: ClassVar[int] = HIGHEST
    error_order: ClassVar[int] = 1  # of the first step; plans say that of the others
    weights: ClassVar[None] = None  # past steps matter
    evaluations: ClassVar[int] = 1  # at least: how many depends on the iterations
    dense_stages: ClassVar[int] = HIGHEST  # states at fixed points of the step
    compilable: ClassVar[bool] = False  # how often it iterates depends on values
    integrates: ClassVar[bool] = False  # its equation would have to be solved for the adjoint, too

    def __post_init__(self) -> None:
        """Check the settings."""
        check_iteration(self.jacobian, self.linear_solver)

    @property
    def completes(self) -> bool:
        """Unless all steps are whole."""
        return not self.whole

    def tuned(self, accuracy: Accuracy) -> "BDF":
        """Iterate, and choose orders, by these tolerances."""
        return replace(self, accuracy=accuracy)

    def completing(self) -> "BDF":
        """Make every step whole."""
        return replace(self, whole=True)

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry the slope, past times and states, the memory of the iterations, and (L, 3): ``_choose`` knows what."""
        times = no_past(t0, y0, HIGHEST)
        past = torch.zeros_like(y0).unsqueeze(1).repeat(1, HIGHEST, 1)
        return f0(), times, past, times.new_ones(len(y0), 3), *self._how.begin(y0)

    def slope(self, carry: Carry) -> Tensor:
        """The derivative at the end of the last step, as far as the iterations went."""
        return carry[0]

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Extrapolate, solve for the slope at t1, and estimate the errors of the orders nearby."""
        accuracy = self._how.accuracy
        f0, times, past, notes, *memory = carry
        order, count, _ = notes.detach().unbind(1)
        nodes = past_nodes(t0, t1, times, count)
        states = torch.cat([y0.unsqueeze(1), past], dim=1)
        h = column(t1 - t0, y0)
        begins = (count == 1).unsqueeze(1)
        ahead = _extrapolate(nodes, order, states)
        guess = torch.where(begins, y0 + h * f0, ahead.states[1])
        drift = torch.where(begins, h * f0, ahead.drift)

        (lead,) = read(t0, [constant(_LEADING, y0.dtype, y0.device)[order.long()]])
        newton = Newton(f, t0, y0, (t1 - t0) / lead, tuple(memory), self._how)
        psi = guess - drift / column(lead, y0)
        slope = newton.solve(t1, psi, drift / column(where(t1 == t0, 1.0, t1 - t0), y0))
        y1 = psi + h / column(lead, y0) * slope
        with torch.no_grad():
            size = torch.maximum(y0.abs(), y1.abs())
            missed = [y1 - guess if i == 1 else y1 - x for i, x in enumerate(ahead.states)]
            errors = torch.stack([accuracy.scaled(size, x) for x in missed], dim=1) * ahead.sizes
            plan, notes = _choose(errors, notes, nodes)
            error = torch.where(begins, 0.5, _local(nodes, order, lead)).to(y0.dtype) * missed[1]
        y1 = where(newton.failed, torch.full_like(y1, float("inf")), y1)
        stages = _within(nodes, order, states, y1) if self.whole else ()
        times, past = push(spread(t0, times), times), push(y0, past)
        return Attempt(y1, error, stages, (slope, times, past, notes, *newton.memory), plan)

    def complete(self, f: Field, step: Step) -> Step:
        """Return the step with states on the polynomial through y1 and the last k states."""
        _, times, past, notes, *_ = step.carry
        order, count, _ = notes.detach().unbind(1)
        states = torch.cat([step.y0.unsqueeze(1), past], dim=1)
        nodes = past_nodes(step.t0, step.t1, times, count)
        return step._replace(stages=_within(nodes, order, states, step.y1))

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Interpolate; it costs no evaluation of f."""
        h = step.t1 - step.t0
        weights = evaluate(_VALUES, (t - step.t0) / where(h == 0, 1.0, h)).to(step.y0.dtype)
        y = step.y0
        for weight, off in zip(weights.unsqueeze(2).unbind(1), step.stages, strict=True):
            y = torch.addcmul(y, weight, off)
        return y

    @property
    def _how(self) -> Iteration:
        return iteration(self.accuracy, self.jacobian, self.linear_solver)


class _Ahead(NamedTuple):
    """What the past says of t1."""

    states: tuple[Tensor, ...]
    """The polynomials of the orders k - 1, k, k + 1 there, each (L, n)."""
    drift: Tensor
    """h times the derivative of the one of order k, (L, n)."""
    sizes: Tensor
    """Errors of those orders on even steps, in units of what their polynomials miss y1 by; (L, 3)."""


def _extrapolate(nodes: Polynomial, order: Tensor, states: Tensor) -> _Ahead:
    reach = nodes.basis(constant((1.0,), nodes.nodes.dtype, nodes.nodes.device)).squeeze(1)
    # Of ``N_q = (s - s_0) ... (s - s_(q-1))`` the derivative is N_q times the sum of all 1 / (s - s_i).
    rates = reach[:, 1:-1] * (1 - nodes.nodes).reciprocal().cumsum(dim=1)[:, :-1]
    rates = torch.nn.functional.pad(rates, (1, 0))
    orders = order.long().unsqueeze(1) + torch.arange(-1, 2, device=order.device)
    upto = torch.arange(HIGHEST + 1, device=order.device) <= orders.unsqueeze(2)
    upto = upto & nodes.valid.unsqueeze(1)
    rows = torch.cat([reach[:, None, :-1] * upto, (rates * upto[:, 1]).unsqueeze(1)], dim=1)
    *ahead, drift = (nodes.weights(rows).to(states.dtype) @ states).unbind(1)
    # Orders there are not have no use for what stands in their places.
    orders = orders.clamp(0, HIGHEST)
    sizes = constant(_ERRORS, reach.dtype, reach.device)[orders] / reach.gather(1, orders + 1)
    return _Ahead(tuple(ahead), drift, sizes)


def _local(nodes: Polynomial, order: Tensor, lead: Number) -> Tensor:
    """Return the error of the step, or of interpolation in it if that is more, in units of ``y1 - P(t1)``: (L, 1)."""
    k = order.long().unsqueeze(1)
    alphas = (1 - nodes.nodes).reciprocal()
    of_step = alphas.cumsum(dim=1).gather(1, k) - spread(lead, alphas).unsqueeze(1)
    return torch.maximum(alphas.gather(1, k), of_step.abs())


def _within(nodes: Polynomial, order: Tensor, states: Tensor, y1: Tensor) -> tuple[Tensor, ...]:
    """Return how far the polynomial through y1 and the last k states is from y0 at fixed points of the step."""
    nodes = with_end(nodes, order)
    basis = nodes.basis(constant(_WITHIN, nodes.nodes.dtype, y1.device))[:, :, :-1]
    weights = nodes.weights(basis * nodes.valid.unsqueeze(1)).to(y1.dtype)
    away = torch.cat([y1.unsqueeze(1), states], dim=1) - states[:, :1]
    return (weights @ away).unbind(1)


def _choose(errors: Tensor, notes: Tensor, nodes: Polynomial) -> tuple[Plan, Tensor]:
    """Choose order and step size for the next step.

    Args:
        errors: scaled errors of the orders k - 1, k, k + 1 on even steps, (L, 3).
        notes: (L, 3): k, how many states there were, and how many steps of this order and size were taken.
        nodes: the past.
    """
    order, count, steady = notes.detach().unbind(1)
    even = (nodes.nodes[:, 1] + 1).abs() < 1e-4
    steady = torch.where(even & (count > 1), steady + 1, 1.0)
    ready = steady > order
    orders = order.unsqueeze(1) + torch.arange(-1, 2, device=order.device)
    lower, here, higher = (errors.clamp(min=1e-10) ** (-1 / (orders + 1))).unbind(1)
    lower = torch.where(order > 1, lower, 0.0)
    higher = torch.where((order < HIGHEST) & (count > order + 1), higher, 0.0)
    falls = ready & (lower > here) & (lower >= higher)
    rises = ready & (higher > here) & ~falls
    growth = torch.where(ready, SAFETY * torch.where(falls, lower, torch.where(rises, higher, here)), 1.0)
    chosen = order + rises.to(order.dtype) - falls.to(order.dtype)
    known = (count + 1).clamp(max=HIGHEST + 1)
    return Plan(order, growth), torch.stack([chosen, known, torch.where(ready, 0.0, steady)], dim=1)
