"""Recurrent cells whose state follows an ODE between observations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from isocline.checks import check_whole
from isocline.models.series.recurrence import Recurrence
from isocline.solve import solve


class ODERNN(Recurrence):
    """A recurrent cell whose state follows ``dh/ds = field(s, h)`` for the time s between two observations.

    With ``GRUField`` as the field it is GRU-ODE. Time runs forwards in the field also when a series is read backwards:
    s is the time that has passed since the last observation read.

    Args:
        field: ``field(s, h) -> dh``.
        channels: C.
        width: numbers of the hidden state.
        cell: ``nn.GRUCell`` or ``nn.RNNCell``.
        batch_dims: 1 gives each series its own steps over its own gap: nothing depends on which series are in a batch.
            0 solves all gaps of a row as one, each on its own scale of time: fewer operations, one error control.
        settings: everything else goes to ``solve``: method, tolerances, gradient. Rubanova et al. took one step of
            Euler's method a gap: ``method="euler", controller=FixedStep(1e9)``, with ``batch_dims=1``.

    References:
        Rubanova, Chen & Duvenaud 2019, Latent ODEs for irregularly-sampled time series, arXiv:1907.03907.

    Example:
        >>> import isocline as iso
        >>> series = iso.Series.of([[0.0, 1.0]], [[0.1, 0.2]])
        >>> cell = iso.models.ODERNN(iso.models.GRUField(8), 1, 8, rtol=1e-3, atol=1e-3)
        >>> iso.models.encode(cell, series, t0=0.0).shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        field: Callable[..., Tensor],
        channels: int,
        width: int,
        cell: "type[nn.GRUCell | nn.RNNCell]" = nn.GRUCell,
        *,
        batch_dims: int = 1,
        **settings: Any,
    ) -> None:
        """Make the cell; settings are checked when they are used."""
        super().__init__()
        check_whole("batch_dims", batch_dims, 0)
        self.size = width
        self.field = field
        self.cell = cell(2 * channels, width)
        self.batch_dims = batch_dims
        self.settings = settings

    def start(self, like: Tensor) -> Tensor:
        """Return zeros."""
        return like.new_zeros(len(like), self.size)

    def observe(self, h: Tensor, x: Tensor, mask: Tensor, gap: Tensor) -> Tensor:
        """Apply the cell."""
        out: Tensor = self.cell(torch.cat([x, mask], dim=1), h)
        return out

    def evolve(self, h: Tensor, gap: Tensor) -> Tensor:
        """Solve over the gap."""
        if self.batch_dims:
            ends = gap.squeeze(1)
            solution = solve(self.field, h, torch.stack([0 * ends, ends]), batch_dims=1, **self.settings)
        else:
            solution = solve(lambda s, h: gap * self.field(s * gap, h), h, (0.0, 1.0), **self.settings)
        out: Tensor = solution.ys[-1]
        return out


class GRUField(nn.Module):
    r"""The field of which a GRU without input is a step of Euler's method: :math:`dh/dt = (1 - z) (g - h)`.

    With gates :math:`r, z = \sigma(W h + b)` and :math:`g = \tanh(U (r h) + c)`; all of h that starts in [-1, 1] stays
    there.

    Args:
        width: numbers of h.

    References:
        De Brouwer, Simm, Arany & Moreau 2019, GRU-ODE-Bayes, arXiv:1905.12374.

    Example:
        >>> import isocline as iso, torch
        >>> iso.solve(iso.models.GRUField(3), torch.ones(3), (0.0, 50.0)).ys.abs().max() <= 1
        tensor(True)
    """

    def __init__(self, width: int) -> None:
        """Make the gates."""
        super().__init__()
        self.gates = nn.Linear(width, 2 * width)
        self.candidate = nn.Linear(width, width)

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        """Return dh/dt."""
        r, z = self.gates(h).sigmoid().chunk(2, dim=-1)
        out: Tensor = (1 - z) * (self.candidate(r * h).tanh() - h)
        return out
