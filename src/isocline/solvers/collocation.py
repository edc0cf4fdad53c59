"""Collocation methods: implicit Runge-Kutta methods that are given by their nodes alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from isocline.jacobian import jacobian_at
from isocline.linear_systems import without_inf
from isocline.numbers import Number, column, spread, time_dtype
from isocline.polynomials import Floats, constant
from isocline.solvers.base import Accuracy, Attempt, Carry, Field, Solver
from isocline.solvers.polynomial import Rows, polynomials
from isocline.solvers.stages import attached, times_of
from isocline.state import Step

MOST = 50
"""Newton iterations after which a step has failed."""


@dataclass(frozen=True)
class Collocation(Solver):
    r"""The implicit method whose polynomial of degree s satisfies the ODE at s nodes of the step; for fixed steps.

    ``z_i = h sum_j a_ij f(t + c_j h, y + z_j)`` with ``a_ij`` the integral of the j-th Lagrange polynomial up to
    ``c_i``, solved for all stages together by Newton iterations with the Jacobian at the start of the step. The nodes
    decide the order: ``1/2`` is the implicit midpoint rule, Gauss's nodes are of order 2 s (and symplectic), Radau's of
    order 2 s - 1 (and damp stiff components). The interpolant is the polynomial itself.

    Gradients are those of the solved equations, by the implicit function theorem; first derivatives only.

    Args:
        nodes: distinct numbers in (0, 1].
        accuracy: how far to iterate, which ``solve`` fills in.

    References:
        Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.5 and IV.8.

    Example:
        >>> import isocline as iso, torch
        >>> gauss4 = iso.Collocation((0.5 - 3**0.5 / 6, 0.5 + 3**0.5 / 6))
        >>> gauss4.order
        4
        >>> y0 = torch.ones(1, dtype=torch.float64)
        >>> sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method=gauss4, controller=iso.FixedStep(0.1))
        >>> round(sol.ys[-1].item(), 6)
        0.367879
    """

    nodes: Floats
    accuracy: Accuracy | None = field(default=None, repr=False, compare=False)

    kind: ClassVar[str] = "implicit Runge-Kutta (collocation)"
    citation: ClassVar[str] = "Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.5"
    error_order: ClassVar[None] = None  # it has no error estimate
    compilable: ClassVar[bool] = False  # it iterates
    integrates: ClassVar[bool] = False  # the stages are increments of the state, not evaluations of f

    def __post_init__(self) -> None:
        """Check the nodes."""
        if len(set(self.nodes)) != len(self.nodes) or not self.nodes or not all(0 < c <= 1 for c in self.nodes):
            raise ValueError(f"Collocation needs distinct nodes in (0, 1], got {self.nodes!r:.60}")

    @property
    def name(self) -> str:
        """The nodes, rounded."""
        return f"collocation({', '.join(f'{c:.3g}' for c in self.nodes)})"

    @property
    def order(self) -> int:
        """As many as the conditions that the nodes fulfil."""
        return _table(self.nodes).order

    @property
    def weights(self) -> Floats:
        """Integrals of the Lagrange polynomials over the step."""
        return _table(self.nodes).b

    @property
    def evaluations(self) -> int:
        """Two iterations: a linear problem needs no more."""
        return 2 * len(self.nodes)

    @property
    def dense_order(self) -> int:
        """The degree of the polynomial."""
        return len(self.nodes)

    def tuned(self, accuracy: Accuracy) -> "Collocation":
        """Iterate as far as these tolerances ask."""
        return replace(self, accuracy=accuracy)

    def init(self, f: Field, t0: Number, y0: Tensor, f0: Callable[[], Tensor]) -> Carry:
        """Carry nothing."""
        return ()

    def step(self, f: Field, t0: Number, t1: Number, y0: Tensor, carry: Carry) -> Attempt:
        """Solve for all stages together."""
        like = torch.zeros((), dtype=time_dtype(y0.device), device=y0.device)
        t0, t1 = spread(t0, like), spread(t1, like)
        table = _table(self.nodes)
        with torch.no_grad():
            z, failed = self._stages(f, t0, t1, y0)
        z = attached(f, table.a, self.nodes, t0, t1, y0, z, torch.is_grad_enabled())
        way = (constant((table.end,), y0.dtype, y0.device) @ z).squeeze(1)
        y1 = torch.where(failed.unsqueeze(1), float("inf"), y0 + way)
        return Attempt(y1, None, tuple(z.unbind(1)), ())

    def interpolate(self, step: Step, t: Tensor) -> Tensor:
        """Evaluate the collocation polynomial."""
        weights = polynomials(_table(self.nodes).dense, step, t)
        y = step.y0
        for weight, z in zip(weights.unsqueeze(2).unbind(1), step.stages, strict=True):
            y = torch.addcmul(y, weight, z)
        return y

    def _stages(self, f: Field, t0: Tensor, t1: Tensor, y0: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stages' increments z (L, s, n), and in which lanes they were not found, (L,)."""
        assert self.accuracy is not None  # tuned() saw to it
        (lanes, n), s = y0.shape, len(self.nodes)
        a = constant(_table(self.nodes).a, y0.dtype, y0.device)
        h = column(t1 - t0, y0).unsqueeze(2)
        change = torch.einsum("ij,lpq->lipjq", a, h * without_inf(jacobian_at(f, t0, y0))).reshape(lanes, s * n, s * n)
        matrix = torch.eye(s * n, dtype=y0.dtype, device=y0.device) - change
        factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
        z = y0.new_zeros(lanes, s, n)
        active = t1 != t0
        for _ in range(MOST):
            values = [f(t, y0 + x) for t, x in zip(times_of(self.nodes, t0, t1), z.unbind(1), strict=True)]
            residual = h * (a @ torch.stack(values, dim=1)) - z
            step = torch.linalg.lu_solve(factors, pivots, residual.reshape(lanes, s * n, 1)).reshape(z.shape)
            size = torch.stack([self.accuracy.scaled(y0, x) for x in step.unbind(1)]).amax(dim=0)
            z = torch.where(active[:, None, None], z + step, z)
            active = active & ~(size <= 1)
            if not bool(active.any()):
                break
        return torch.where(active[:, None, None], 0.0, z), active


class Table(NamedTuple):
    """What the nodes imply."""

    a: Rows
    b: Floats
    dense: Rows
    """The Lagrange polynomials of 0 and the nodes, without that of 0: coefficients of theta, theta^2, ..."""
    end: Floats
    """Their values at 1."""
    order: int


@lru_cache
def _table(nodes: Floats) -> Table:
    def lagrange(points: Floats, j: int) -> list[float]:
        roots = _product(points[:j] + points[j + 1 :])
        return [c / _at(points[j], roots) for c in roots]

    integrals = [_integral(lagrange(nodes, j)) for j in range(len(nodes))]
    dense = [lagrange((0.0, *nodes), j + 1)[1:] for j in range(len(nodes))]
    moments = (_at(1.0, _integral([0.0] * k + _product(nodes))) for k in range(len(nodes) + 1))
    return Table(
        a=tuple(tuple(_at(c, q) for q in integrals) for c in nodes),
        b=tuple(_at(1.0, q) for q in integrals),
        dense=tuple(map(tuple, dense)),
        end=tuple(map(sum, dense)),
        # The quadrature of the nodes is exact as far as their polynomial is orthogonal to powers.
        order=len(nodes) + next(k for k, moment in enumerate(moments) if abs(moment) > 1e-12),
    )


def _product(roots: Floats) -> list[float]:
    """Return the polynomial with these roots, its constant first."""
    result = [1.0]
    for root in roots:
        result = [up - root * same for up, same in zip([0.0, *result], [*result, 0.0], strict=True)]
    return result


def _integral(polynomial: Sequence[float]) -> list[float]:
    return [0.0, *(c / k for k, c in enumerate(polynomial, start=1))]


def _at(x: float, polynomial: Sequence[float]) -> float:
    return sum(c * x**k for k, c in enumerate(polynomial))
