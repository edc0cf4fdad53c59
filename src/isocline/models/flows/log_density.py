"""The instantaneous change of variables: a field together with the log-density along its solutions."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from isocline.models.flows.trace import EXACT, ExactTrace, Trace, sum_along
from isocline.models.regularised import Regularised
from isocline.per_lane import PerLane, unmark
from isocline.tree import Tree

Totals = dict[str, Tensor]


@runtime_checkable
class WithDivergence(Protocol):
    """A field that knows the trace of its Jacobian in closed form."""

    def with_divergence(self, t: Tensor, z: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        """Return f(t, z, *args) and the trace of its Jacobian, (B,)."""


class LogDensity(nn.Module):
    r"""A field together with the log-density of what it moves.

    .. math:: \frac{d}{dt} (z, \log p) = \left(f, -\mathrm{tr} \frac{\partial f}{\partial z}\right)

    for any f that is Lipschitz continuous in z; it need not be invertible. The state is ``(z, log_p, penalties)``: z
    (B, *event), log_p (B,), and the integrals of a ``Regularised`` field, an empty dict for others.

    Args:
        field: ``field(t, z, *args) -> dz``, row i of dz depending on row i of z only; or a ``Regularised`` one. If it
            has a method ``with_divergence(t, z, *args) -> (dz, trace)``, ``ExactTrace`` uses that.
        trace: how the trace is computed: ``ExactTrace()``, ``Hutchinson()``, ``HutchPlusPlus()``.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, theorem 1.

    Example:
        >>> import isocline as iso, torch
        >>> from isocline.models.flows import LogDensity
        >>> f = LogDensity(lambda t, z: -z)
        >>> state, args = f.start(torch.randn(4, 2))
        >>> z, log_p, _ = iso.solve(f, state, (0.0, 1.0), args=args).ys
        >>> log_p[-1].sub(2).abs().max() < 1e-4  # volumes shrink by exp(-2)
        tensor(True)
    """

    def __init__(self, field: Callable[..., Tree], trace: Trace = EXACT) -> None:
        """Keep them."""
        super().__init__()
        self.field: Any = field
        self.trace = trace
        self.closed_form = isinstance(trace, ExactTrace) and isinstance(field, WithDivergence)

    def start(
        self, z: Tensor, *args: Any, t0: float | Tensor = 0.0, generator: Generator | None = None
    ) -> tuple[Tree, tuple[Any, ...]]:
        """Return the initial state, log_p = 0, and the arguments for one solve: ``solve(f, state, ts, args=args)``.

        Args:
            z: where it starts, (B, *event).
            args: further arguments of the field.
            t0: time of the start.
            generator: source of the trace's vectors; torch's own if None.
        """
        totals: Tree = {}
        if isinstance(self.field, Regularised):
            (_, totals), args = self.field.start(z, *args, generator=generator)
        state = z, z.new_zeros(len(z)), totals
        if self.closed_form:
            return state, (None, *args)
        plain, _ = unmark(args, z.shape[:1])
        time = torch.as_tensor(t0, dtype=z.dtype, device=z.device)
        zeros = {name: torch.zeros_like(total.values) for name, total in totals.items()}
        vectors = self.trace.vectors(lambda z: self._velocity(time, z, zeros, plain)[0], z, generator)
        return state, (PerLane(vectors), *args)

    def forward(
        self, t: Tensor, state: tuple[Tensor, Tensor, Totals], vectors: Tensor | None, *args: Any
    ) -> tuple[Tensor, Tensor, Totals]:
        """Return the derivatives of z, log_p and penalties."""
        z, _, totals = state
        if vectors is None:
            dz, trace = self.field.with_divergence(t, z, *args)
            return dz, -trace, {}
        # Functional transforms leave no leaves of their own in the graph, and may be transformed themselves.
        dz, pull, more = torch.func.vjp(  # type: ignore[misc]
            lambda z: self._velocity(t, z, totals, args), z, has_aux=True
        )
        return dz, -sum_along(pull, vectors), more

    def _velocity(self, t: Tensor, z: Tensor, totals: Totals, args: tuple[Any, ...]) -> tuple[Tensor, Totals]:
        """Return dz, and what a regularised field adds to its integrals."""
        if not isinstance(self.field, Regularised):
            return self.field(t, z, *args), {}
        dz, more = self.field(t, (z, totals), *args)
        return dz, more
