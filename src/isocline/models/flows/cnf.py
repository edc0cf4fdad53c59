"""Continuous normalizing flows."""

from collections.abc import Callable, Sequence
from math import isinf
from typing import Any, Self

import torch
from torch import Tensor, nn

from isocline.controllers import PID
from isocline.models.flows.flow import Base, Flow, Moved
from isocline.models.flows.log_density import LogDensity
from isocline.models.flows.trace import EXACT, Trace
from isocline.models.regularised import Regularised
from isocline.models.solving import Solving
from isocline.per_lane import PerLane
from isocline.quadrature import Quadrature
from isocline.tree import Tree, describe, map_leaves

Field = Callable[..., Tree]


class CNF(Flow, Solving):
    r"""The distribution of the end of ``dz/dt = field(t, z)`` from a random start.

    .. math:: \log p(z(t_1)) = \log p_0(z(t_0)) - \int_{t_0}^{t_1} \mathrm{tr} \frac{\partial f}{\partial z} dt

    It is a module, and a ``torch.distributions.Distribution``: ``log_prob``, ``sample``, ``rsample``, ``entropy`` (an
    estimate), ``expand``. Both directions cost one solve. Every setting is an attribute that may be changed at any
    time: train with ``Hutchinson()`` and loose tolerances, evaluate with ``ExactTrace()`` and tight ones.

    Args:
        field: ``field(t, z, *context) -> dz`` for z of shape (B, *event), row i of dz depending on row i of z only;
            usually a module, one that is ``Regularised``, or a sequence of fields: blocks, solved one behind the other
            from noise to data. t broadcasts against z: 0-d, or (B, 1, ..., 1).
        base: distribution of the noise z(t0), or the shape of an event for standard normal noise.
        ts: (t0, t1), in every block; noise is at t0.
        trace: ``ExactTrace()``, ``Hutchinson()``, ``HutchPlusPlus()``. The random ones are drawn anew for each solve.
        log_prob_tol: tolerance of the log-density in each step, in nats. None judges it like z, by rtol and atol; inf
            leaves it out of the error control, so that the steps are those of z alone.
        settings: as in ``NeuralODE``. ``batch_dims`` is 0, one step size for all samples, or 1, each its own. With 0
            tolerances hold for the mean square over samples, unless ``controller=PID(..., norm="max")``.

    Attributes:
        context: what the distribution is given, see ``given``.
        stats: counts of the last solve; see ``track`` for more.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, section 4; Grathwohl, Chen, Bettencourt,
        Sutskever & Duvenaud 2019, FFJORD, arXiv:1810.01367.

    Example:
        >>> import isocline as iso, torch
        >>> from isocline.models.flows import PlanarField
        >>> flow = iso.CNF(PlanarField(2, units=8), 2, rtol=1e-3, atol=1e-3)
        >>> loss = -flow.log_prob(torch.randn(64, 2)).mean()
        >>> loss.backward()
        >>> flow.sample((5,)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        field: Field | Sequence[Field],
        base: Base,
        *,
        ts: tuple[float, float] = (0.0, 1.0),
        trace: Trace = EXACT,
        log_prob_tol: float | None = None,
        **settings: Any,
    ) -> None:
        """Store the settings."""
        super().__init__(base, **settings)
        fields: tuple[Any, ...] = tuple(field) if isinstance(field, (Sequence, nn.ModuleList)) else (field,)
        if not fields or not all(map(callable, fields)):
            raise TypeError(f"field must be callable as f(t, z), or a sequence of such, got {field!r:.60}")
        self.fields = nn.ModuleList(f if isinstance(f, nn.Module) else _Function(f) for f in fields)
        self.ts = ts
        self.trace = trace
        self.log_prob_tol = log_prob_tol
        self.context: Tensor | None = None
        self._densities: dict[nn.Module, LogDensity] = {}

    def given(self, context: Tensor) -> Self:
        """Return the distributions given contexts (*batch, c), with batch_shape (*batch), parameters shared.

        The fields are called as ``field(t, z, context)``, with a row of context for each row of z.

        Example:
            >>> import isocline as iso, torch
            >>> from isocline.models.flows import FFJORDField
            >>> flow = iso.CNF(FFJORDField(2, context=3), 2)
            >>> flow.given(torch.randn(4, 3)).sample((5,)).shape
            torch.Size([5, 4, 2])
        """
        if not isinstance(context, Tensor) or not context.ndim:
            raise TypeError(f"context must be a tensor of shape (*batch, c), got {describe(context)}")
        return self.changed(context=context, _batch_shape=context.shape[:-1])

    def at(self, t: float) -> Self:
        """Return the distribution at time t on the way from noise to data, parameters shared; of flows of one block."""
        if len(self.fields) > 1:
            raise ValueError(f"this flow has {len(self.fields)} blocks, each with times of its own; make one of each")
        return self.changed(ts=(self.ts[0], t))

    def log_prob_and_penalties(self, value: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the log-density of data, and the integrals of ``Regularised`` fields from t0 to t1, of the same shape.

        Example:
            >>> import isocline as iso, torch
            >>> from isocline.models.flows import FFJORDField
            >>> flow = iso.CNF(iso.Regularised(FFJORDField(2), kinetic=True), 2, trace=iso.Hutchinson())
            >>> log_prob, penalties = flow.log_prob_and_penalties(torch.randn(16, 2))
            >>> (-log_prob + 0.01 * penalties["kinetic"]).mean().backward()
        """
        batch = self._batch(value)
        noise, log_det, penalties = self.move(self._rows(value, batch), batch, to_data=False, density=True)
        log_prob = self.base.log_prob(noise) + log_det
        return log_prob.reshape(batch), {name: x.reshape(batch) for name, x in penalties.items()}

    def move(self, rows: Tensor, batch: torch.Size, *, to_data: bool, density: bool) -> Moved:
        """Solve through the blocks, forwards to data, backwards to noise."""
        args: tuple[Any, ...] = ()
        if self.context is not None:
            width = self.context.shape[-1]
            args = (PerLane(self.context.expand(*batch, width).reshape(-1, width)),)
        if self.batch_dims not in (0, 1):
            raise ValueError(f"batch_dims must be 0, or 1 for each sample its own steps; got {self.batch_dims!r}")
        ts = self.ts if to_data else self.ts[::-1]
        log_det, penalties = rows.new_zeros(len(rows)), dict[str, Tensor]()
        if ts[0] == ts[1] or not len(rows):  # which solve() refuses
            return Moved(rows, log_det, penalties)
        for field in self.fields if to_data else reversed(self.fields):
            if not density:
                rows = _last(self.solve(_plain(field), rows, ts, args).ys)
                continue
            rows, change, more = self._with_density(field, rows, ts, args)
            log_det = log_det - change
            for name, x in more.items():
                # Solved backwards, the integrals are those from t1 to t0.
                penalties[name] = penalties.get(name, 0) + (x if to_data else -x)
        return Moved(rows, log_det, penalties)

    def _with_density(
        self, field: nn.Module, rows: Tensor, ts: tuple[float, ...], args: tuple[Any, ...]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the rows at ts[1], by how much their log-density has changed, and penalties."""
        f = self._density(field)
        (z, change, totals), args = f.start(rows, *args, t0=ts[0])
        rtol = atol = None
        if self.log_prob_tol is not None and isinf(self.log_prob_tol):
            change = Quadrature(change)
        elif self.log_prob_tol is not None:
            if self.controller is not None:
                raise ValueError("log_prob_tol goes with rtol and atol; with a controller let it be None, or inf")
            each = PID.rtol if self.rtol is None else self.rtol, PID.atol if self.atol is None else self.atol
            rtol, atol = (
                (tolerance, own, dict.fromkeys(totals, tolerance))
                for tolerance, own in zip(each, (0.0, self.log_prob_tol), strict=True)
            )
        z, change, totals = _last(self.solve(f, (z, change, totals), ts, args, rtol=rtol, atol=atol).ys)
        return z, change, totals

    def _density(self, field: nn.Module) -> LogDensity:
        """Return the field with its density: the same module for every solve, for compiling goes by it."""
        kept = self._densities.get(field)
        if kept is None or kept.trace is not self.trace:
            self._densities[field] = kept = LogDensity(field, self.trace)
        return kept

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"ts={self.ts}, trace={self.trace}, {super().extra_repr()}"


def _last(ys: Tree) -> Any:
    return map_leaves(lambda y: y[-1], ys)


class _Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Field) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Tree:
        return self.function(*args)


def _plain(field: nn.Module) -> Field:
    """The field without what regularises it."""
    return field.field if isinstance(field, Regularised) else field
