"""Recurrent cells for irregular times."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from isocline.models.series.recurrence import Recurrence


class GapRNN(Recurrence):
    """A recurrent cell that is told the time to the next observation, beside the values and which there are.

    Nothing happens between observations. This is the recognition network of the paper's latent ODE, and its baseline
    (RNN with time differences), for which ``cell=nn.RNNCell``.

    Args:
        channels: C.
        width: numbers of the hidden state.
        cell: ``nn.GRUCell`` or ``nn.RNNCell``.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, section 5.1.

    Example:
        >>> import isocline as iso
        >>> series = iso.Series.of([[0.0, 1.0]], [[0.1, 0.2]])
        >>> iso.models.encode(iso.models.GapRNN(1, 8), series, t0=0.0).shape
        torch.Size([1, 8])
    """

    def __init__(self, channels: int, width: int, cell: "type[nn.GRUCell | nn.RNNCell]" = nn.GRUCell) -> None:
        """Make the cell."""
        super().__init__()
        self.size = width
        self.cell = cell(2 * channels + 1, width)

    def start(self, like: Tensor) -> Tensor:
        """Return zeros."""
        return like.new_zeros(len(like), self.size)

    def observe(self, h: Tensor, x: Tensor, mask: Tensor, gap: Tensor) -> Tensor:
        """Apply the cell."""
        out: Tensor = self.cell(torch.cat([x, mask, gap], dim=1), h)
        return out

    def evolve(self, h: Tensor, gap: Tensor) -> Tensor:
        """Return h."""
        return h


class DecayRNN(Recurrence):
    r"""A recurrent cell whose state decays between observations: :math:`h e^{-\tau \Delta t}`, with learned rates.

    Args:
        channels: C.
        width: numbers of the hidden state.
        cell: ``nn.GRUCell`` or ``nn.RNNCell``.

    References:
        Rubanova, Chen & Duvenaud 2019, arXiv:1907.03907 (RNN-Decay); Mozer, Kazakov & Lindsey 2017, arXiv:1710.04110.

    Example:
        >>> import isocline as iso
        >>> series = iso.Series.of([[0.0, 1.0]], [[0.1, 0.2]])
        >>> iso.models.encode(iso.models.DecayRNN(1, 8), series, t0=0.0).shape
        torch.Size([1, 8])
    """

    def __init__(self, channels: int, width: int, cell: "type[nn.GRUCell | nn.RNNCell]" = nn.GRUCell) -> None:
        """Make the cell, and rates of softplus(0) = 0.69."""
        super().__init__()
        self.size = width
        self.cell = cell(2 * channels, width)
        self.rate = nn.Parameter(torch.zeros(width))

    def start(self, like: Tensor) -> Tensor:
        """Return zeros."""
        return like.new_zeros(len(like), self.size)

    def observe(self, h: Tensor, x: Tensor, mask: Tensor, gap: Tensor) -> Tensor:
        """Apply the cell."""
        out: Tensor = self.cell(torch.cat([x, mask], dim=1), h)
        return out

    def evolve(self, h: Tensor, gap: Tensor) -> Tensor:
        """Decay."""
        return h * (-softplus(self.rate) * gap).exp()


class GRUD(Recurrence):
    r"""GRU-D: state and last values decay with the time since each channel was observed last.

    With :math:`\delta` that time and :math:`\gamma = e^{-\max(0, W \delta + b)}`, a missing value is replaced by
    :math:`\gamma_x x_{last} + (1 - \gamma_x) \bar x`, and the state by :math:`\gamma_h h` before each update. The last
    values and :math:`\delta` are part of the state here.

    Args:
        channels: C.
        width: numbers of the hidden state of the GRU.
        mean: what missing values decay to, (C,); None: 0, right for standardised data.

    References:
        Che, Purushotham, Cho, Sontag & Liu 2018, Scientific Reports 8, doi:10.1038/s41598-018-24271-9.

    Example:
        >>> import isocline as iso
        >>> series = iso.Series.of([[0.0, 1.0]], [[0.1, 0.2]])
        >>> iso.models.encode(iso.models.GRUD(1, 8), series, t0=0.0).shape  # and a last value and its age
        torch.Size([1, 10])
    """

    mean: Tensor

    def __init__(self, channels: int, width: int, mean: Tensor | None = None) -> None:
        """Make the cell; nothing decays until that is learned, or time has passed."""
        super().__init__()
        self.size = width + 2 * channels
        self.parts = width, channels, channels
        self.cell = nn.GRUCell(2 * channels, width)
        self.fading = nn.Linear(channels, width)
        self.weight = nn.Parameter(torch.full((channels,), 0.1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels) if mean is None else mean)

    def start(self, like: Tensor) -> Tensor:
        """Return zeros, with the mean as last values."""
        zeros = like.new_zeros(len(like), self.size)
        h, _, age = zeros.split(self.parts, dim=1)
        return torch.cat([h, self.mean.expand(len(like), -1), age], dim=1)

    def observe(self, h: Tensor, x: Tensor, mask: Tensor, gap: Tensor) -> Tensor:
        """Fade, fill in, and apply the cell."""
        h, last, age = h.split(self.parts, dim=1)
        h = h * (-self.fading(age).relu()).exp()
        kept = (-(self.weight * age + self.bias).relu()).exp()
        filled = torch.where(mask > 0, x, kept * last + (1 - kept) * self.mean)
        h = self.cell(torch.cat([filled, mask], dim=1), h)
        return torch.cat([h, torch.where(mask > 0, x, last), torch.where(mask > 0, 0.0, age)], dim=1)

    def evolve(self, h: Tensor, gap: Tensor) -> Tensor:
        """Let last values age."""
        h, last, age = h.split(self.parts, dim=1)
        return torch.cat([h, last, age + gap], dim=1)
