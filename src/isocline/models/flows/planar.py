"""Planar dynamics: many hidden units, each with its own gate, all of them functions of time."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from isocline.checks import check_whole
from isocline.models.flows.conditions import condition


class Units(NamedTuple):
    """M hidden units at one time: shared, (1, M, d) and (1, M), or of each sample, (B, M, d) and (B, M)."""

    u: Tensor
    """Where each pushes, gated."""
    w: Tensor
    b: Tensor


class PlanarField(nn.Module):
    r"""The dynamics of the planar CNF with M hidden units.

    .. math:: f(t, z) = \sum_{m=1}^M \sigma_m(t)\, u_m(t) \tanh(w_m(t)^T z + b_m(t))

    u, w, b and the gates are the output of a small net of t (and context, if there is one). The trace of the Jacobian,
    :math:`\sum_m \sigma_m (1 - \tanh^2) u_m^T w_m`, comes with f, so one evaluation costs O(B M d), density included.
    At first w and b are normal, as wide as makes the units differ on standard normal z.

    Args:
        dim: numbers of an event, d.
        units: hidden units, M.
        context: numbers of the context of a sample; see ``CNF.given``.
        hidden: width of the net of t, of two layers.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, section 4.

    Example:
        >>> import torch
        >>> from isocline.models.flows import PlanarField
        >>> field = PlanarField(2, units=16)
        >>> dz, trace = field.with_divergence(torch.tensor(0.5), torch.randn(8, 2))
        >>> dz.shape, trace.shape
        (torch.Size([8, 2]), torch.Size([8]))
    """

    def __init__(self, dim: int, units: int, *, context: int = 0, hidden: int = 32) -> None:
        """Make the net."""
        super().__init__()
        for name, value in {"dim": dim, "units": units, "hidden": hidden}.items():
            check_whole(name, value, 1)
        check_whole("context", context, 0)
        self.dim = dim
        self.units = units
        self.context = context
        last = nn.Linear(hidden, units * (2 * dim + 2))
        # From a layer's usual start all units are nearly linear in z, and so nearly alike, for most of a training.
        with torch.no_grad():
            _, w, b, _ = self._parts(last.bias)
            w.normal_(std=dim**-0.5)
            b.normal_()
        self.net = nn.Sequential(nn.Linear(1 + context, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), last)

    def units_at(self, t: Tensor, z: Tensor, *context: Tensor) -> Units:
        """Return the hidden units at time t, for states z (B, d)."""
        u, w, b, gate = self._parts(self.net(condition(t, z, context, self.context)))
        return Units(u * gate.sigmoid(), w, b.squeeze(-1))

    def _parts(self, numbers: Tensor) -> tuple[Tensor, ...]:
        """Return views of the net's output (..., M (2 d + 2)): u, w (..., M, d), b and the gate (..., M, 1)."""
        parts: tuple[Tensor, ...] = numbers.unflatten(-1, (self.units, -1)).split([self.dim, self.dim, 1, 1], dim=-1)
        return parts

    def forward(self, t: Tensor, z: Tensor, *context: Tensor) -> Tensor:
        """Return dz/dt, (B, d)."""
        units = self.units_at(t, z, *context)
        return torch.bmm(_heights(units, z), units.u).reshape(z.shape)

    def with_divergence(self, t: Tensor, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """Return dz/dt (B, d) and the trace of its Jacobian (B,)."""
        units = self.units_at(t, z, *context)
        h = _heights(units, z)
        products = (units.u * units.w).sum(2, keepdim=True)
        return torch.bmm(h, units.u).reshape(z.shape), torch.bmm(1 - h * h, products).reshape(len(z))


def _heights(units: Units, z: Tensor) -> Tensor:
    """Return tanh(w^T z + b) of every unit, (1, B, M) or (B, 1, M): samples that share units lie in one matrix."""
    rows = z.reshape(len(units.w), -1, z.shape[1])
    return torch.tanh(torch.baddbmm(units.b.unsqueeze(1), rows, units.w.mT))
