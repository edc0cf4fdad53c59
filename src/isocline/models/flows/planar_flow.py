"""The planar normalizing flow: the discrete model that the planar CNF is compared with."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from isocline.checks import check_whole
from isocline.models.flows.flow import Base, Flow, Moved
from isocline.roots import find_roots


class PlanarFlow(Flow):
    r"""K planar layers, each of one hidden unit.

    .. math:: f(z) = z + \hat u \tanh(w^T z + b), \quad
              \log |\det| = \log |1 + (1 - \tanh^2) \hat u^T w|, \quad
              \hat u = u + (\mathrm{softplus}(w^T u) - 1 - w^T u) \frac{w}{|w|^2}

    :math:`\hat u^T w \ge -1` makes every layer invertible. One direction has this closed form; the other solves one
    scalar equation a layer and sample, and is differentiable once.

    Args:
        base: distribution of the noise, or the number of components of standard normal noise.
        layers: K.
        closed_form: "to_data" for sampling and density matching, "to_noise" for maximum likelihood.

    References:
        Rezende & Mohamed 2015, Variational inference with normalizing flows, arXiv:1505.05770, section 4.1 and
        appendix A.1.

    Example:
        >>> import torch
        >>> from isocline.models.flows import PlanarFlow
        >>> flow = PlanarFlow(2, layers=8)
        >>> x, log_prob = flow.rsample_with_log_prob((16,))
        >>> torch.allclose(flow.log_prob(x), log_prob, atol=1e-4)
        True
    """

    def __init__(self, base: Base, layers: int, *, closed_form: Literal["to_data", "to_noise"] = "to_data") -> None:
        """Draw the parameters."""
        super().__init__(base)
        check_whole("layers", layers, 1)
        if len(self.event_shape) != 1:
            raise ValueError(f"planar layers move vectors, events of shape (d,), not {tuple(self.event_shape)}")
        if closed_form not in ("to_data", "to_noise"):
            raise ValueError(f"closed_form must be 'to_data' or 'to_noise', got {closed_form!r}")
        self.closed_form = closed_form
        (dim,) = self.event_shape
        self.w = nn.Parameter(torch.randn(layers, dim) / dim**0.5)
        self.u = nn.Parameter(0.1 * torch.randn(layers, dim))
        self.b = nn.Parameter(torch.zeros(layers))

    def nearest_to_noise(self, layers: int) -> "PlanarFlow":
        """Return a flow of so many of the layers, those that noise comes to first, with copies of their parameters."""
        check_whole("layers", layers, 1)
        part = PlanarFlow(self._base or self.event_shape, layers, closed_form=self.closed_form).to(self.w)
        chosen = slice(None, layers) if self.closed_form == "to_data" else slice(-layers, None)
        with torch.no_grad():
            for own, all_of_them in zip(part.parameters(), self.parameters(), strict=True):
                own.copy_(all_of_them[chosen])
        return part

    def move(self, rows: Tensor, batch: torch.Size, *, to_data: bool, density: bool) -> Moved:
        """Apply the layers in order, or undo them from the last to the first."""
        product = (self.w * self.u).sum(1, keepdim=True)
        u = self.u + (softplus(product) - 1 - product) * self.w / self.w.square().sum(1, keepdim=True)
        layers = list(zip(u, self.w, self.b, strict=True))
        total = rows.new_zeros(len(rows))
        straight = to_data == (self.closed_form == "to_data")
        for u, w, b in layers if straight else reversed(layers):
            rows, log_det = _planar(rows, u, w, b) if straight else _undone(rows, u, w, b)
            total = total + log_det
        return Moved(rows, total, {})


def _planar(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return a layer's result (B, d) and its log-determinant (B,)."""
    h = torch.tanh(z @ w + b)
    return z + h.unsqueeze(1) * u, torch.log1p((1 - h * h) * (u @ w))


def _undone(y: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a layer made y of, and the log-determinant of going back.

    a = w^T z solves a + u^T w tanh(a + b) = w^T y, whose left side grows with a.
    """
    c, s = u @ w, y @ w

    def excess(a: Tensor) -> Tensor:
        return a + c * torch.tanh(a + b) - s

    with torch.no_grad():
        low, high = s - c.abs(), s + c.abs()
        tolerance = 4 * torch.finfo(s.dtype).eps * (1 + s.abs() + c.abs())
        a = find_roots(excess, low, high, excess(low), excess(high), tolerance)
        slope = 1 + c * (1 - torch.tanh(a + b).square())
    # One step of Newton's: nothing to the value, but by it the root depends on y and the parameters.
    a = a - excess(a) / slope
    h = torch.tanh(a + b)
    return y - h.unsqueeze(1) * u, -torch.log1p((1 - h * h) * c)
