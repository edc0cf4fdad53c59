"""Collocation methods: implicit Runge-Kutta methods that are given by their nodes alone."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isocline.history import own_leaf
from isocline.jacobian import jacobian_at, rows
from isocline.linear_systems import without_inf
from isocline.numbers import Number, column, spread, time_dtype
from isocline.polynomials import Floats, constant
from isocline.solvers.base import Accuracy, Attempt, Carry, Field, Solver
from isocline.solvers.polynomial import Rows, polynomials
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
        if torch.is_grad_enabled():
            z = attached(f, table.a, self.nodes, t0, t1, y0, z)
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
            values = [f(t, y0 + x) for t, x in zip(_times(self.nodes, t0, t1), z.unbind(1), strict=True)]
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
    p = np.polynomial.polynomial

    def lagrange(points: Floats, j: int) -> Any:
        roots = p.polyfromroots(points[:j] + points[j + 1 :])
        return roots / p.polyval(points[j], roots)

    integrals = [p.polyint(lagrange(nodes, j)) for j in range(len(nodes))]
    dense = [lagrange((0.0, *nodes), j + 1)[1:] for j in range(len(nodes))]
    moments = (p.polyval(1.0, p.polyint(np.append(np.zeros(k), p.polyfromroots(nodes)))) for k in range(len(nodes) + 1))
    return Table(
        a=tuple(tuple(float(p.polyval(c, q)) for q in integrals) for c in nodes),
        b=tuple(float(p.polyval(1.0, q)) for q in integrals),
        dense=tuple(tuple(map(float, q)) for q in dense),
        end=tuple(float(q.sum()) for q in dense),
        # The quadrature of the nodes is exact as far as their polynomial is orthogonal to powers.
        order=len(nodes) + next(k for k, moment in enumerate(moments) if abs(moment) > 1e-12),
    )


def attached(f: Field, a: Rows, nodes: Floats, t0: Tensor, t1: Tensor, y0: Tensor, z: Tensor) -> Tensor:
    """Return the stages' increments z (L, s, n), which solve the equations, as functions of everything else."""
    h = t1 - t0
    points, values = [], []
    for t, x in zip(_times(nodes, t0, t1), z.unbind(1), strict=True):
        point = y0 + x
        point = point if point.requires_grad else own_leaf(point)
        points.append(point)
        values.append(f(t, point))
    made = column(h, y0).unsqueeze(2) * (constant(a, y0.dtype, y0.device) @ torch.stack(values, dim=1))
    if not made.requires_grad:
        return z
    solved: Tensor = _Implicit.apply(made, z, column(h, y0).detach(), a, *points, *values)
    return solved


def _times(nodes: Floats, t0: Tensor, t1: Tensor) -> list[Tensor]:
    return [t1 if c == 1.0 else t0 + c * (t1 - t0) for c in nodes]


class _Implicit(torch.autograd.Function):
    """z, with the derivative of the solution of ``z = h A f(y + z)``; ``made`` is the right side for z held fixed."""

    @staticmethod
    def forward(ctx: Any, made: Tensor, z: Tensor, h: Tensor, a: Rows, *at: Tensor) -> Tensor:
        ctx.save_for_backward(h, *at)
        ctx.a = a
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *bars: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "implicit methods give first derivatives only, but create_graph=True asks for more; use a Rosenbrock "
                "method such as 'rodas5p', or an explicit one such as 'tsit5', for higher derivatives"
            )
        h, *at = ctx.saved_tensors
        (bar,) = bars
        lanes, s, n = bar.shape
        blocks = torch.stack([_jacobian(value, point) for point, value in zip(at[:s], at[s:], strict=True)], dim=1)
        # Row (i, p), column (j, q): h a_ij df_p/dy_q at stage j.
        change = torch.einsum("ij,ljpq->lipjq", constant(ctx.a, bar.dtype, bar.device), blocks)
        matrix = torch.eye(s * n, dtype=bar.dtype, device=bar.device)
        matrix = matrix - h.unsqueeze(2) * change.reshape(lanes, s * n, s * n)
        factors, pivots, _ = torch.linalg.lu_factor_ex(matrix.mT)
        pulled = torch.linalg.lu_solve(factors, pivots, bar.reshape(lanes, s * n, 1)).reshape(bar.shape)
        return pulled, *[None] * (3 + 2 * s)


def _jacobian(value: Tensor, point: Tensor) -> Tensor:
    if not value.requires_grad:
        return value.unsqueeze(2) * value.new_zeros(value.shape[1])
    return rows(value, (point,), create_graph=False)[0]
