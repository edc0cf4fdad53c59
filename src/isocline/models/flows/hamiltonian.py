"""Dynamics that keep volume."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class HamiltonianField(nn.Module):
    r"""Two halves of the state that move each other: the continuous analogue of NICE's coupling layers.

    .. math:: \frac{d}{dt} (z_1, z_2) = (f(t, z_2), g(t, z_1))

    The trace of the Jacobian is zero, exactly, so densities are only carried along. With f and g the gradients of
    energies it is Hamilton's equations.

    Args:
        first: f: ``first(t, z2, *context) -> dz1``; a field on half of the state, such as ``FFJORDField(d // 2)``.
        second: g, likewise.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, appendix A.1; Dinh, Krueger & Bengio 2014, NICE,
        arXiv:1410.8516.

    Example:
        >>> import torch
        >>> from isocline.models.flows import FFJORDField, HamiltonianField
        >>> field = HamiltonianField(FFJORDField(1), FFJORDField(1))
        >>> field.with_divergence(torch.tensor(0.0), torch.randn(3, 2))[1]
        tensor([0., 0., 0.])
    """

    def __init__(self, first: Callable[..., Tensor], second: Callable[..., Tensor]) -> None:
        """Keep them."""
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, t: Tensor, z: Tensor, *context: Tensor) -> Tensor:
        """Return dz/dt for z (B, d, ...), d even."""
        if z.shape[1] % 2:
            raise ValueError(f"two halves need an even number of components in dimension 1, got shape {tuple(z.shape)}")
        z1, z2 = z.chunk(2, dim=1)
        return torch.cat([self.first(t, z2, *context), self.second(t, z1, *context)], dim=1)

    def with_divergence(self, t: Tensor, z: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """Return dz/dt and zeros (B,)."""
        return self(t, z, *context), z.new_zeros(len(z))
