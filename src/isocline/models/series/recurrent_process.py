"""Events whose rate depends on those before them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from isocline.models.series.batch import Series
from isocline.models.series.process import PoissonProcess, on_its_clock, with_end


class RecurrentProcess(nn.Module):
    r"""A point process whose rate follows an ODE that starts anew at every event, from what a network has read.

    .. math:: \lambda(t \mid t_1, ..., t_i) = \lambda(z(t - t_i)), \quad dz/ds = f(s, z), \quad z(0) = h_i

    for t between the events i and i + 1. A GRU makes h_i from the first i events: their kinds, the gaps before them,
    and when they were. So the gaps do not wait for each other: those of all series are one solve, each with its own
    steps.

    Args:
        field: ``field(s, z) -> dz``, s being the time since the last event.
        intensity: ``intensity(z) -> rates``, (..., d) -> (..., C), positive: one for each kind of event.
        kinds: C.
        width: d, numbers of z and of the GRU's state.
        t0: when observation begins.
        span: about how long it lasts: the GRU sees times in units of this.
        settings: everything else goes to ``solve``.

    References:
        Du et al. 2016, Recurrent marked temporal point processes, doi:10.1145/2939672.2939875; Jia & Benson 2019,
        Neural jump stochastic differential equations, arXiv:1905.10403.

    Example:
        >>> import isocline as iso, torch
        >>> from torch import nn
        >>> field = iso.models.Autonomous(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)))
        >>> rate = nn.Sequential(nn.Linear(8, 1), nn.Softplus())
        >>> process = iso.models.RecurrentProcess(field, rate, kinds=1, width=8, span=3.0)
        >>> events = iso.Series.of_events([[0.5, 1.5, 2.0], []])
        >>> (-process.log_likelihood(events, until=3.0).mean()).backward()
        >>> process.rates(events, torch.linspace(0, 3, 7), until=3.0).shape
        torch.Size([7, 2, 1])
    """

    def __init__(
        self,
        field: Callable[..., Tensor],
        intensity: Callable[[Tensor], Tensor],
        *,
        kinds: int,
        width: int,
        t0: float = 0.0,
        span: float = 1.0,
        **settings: Any,
    ) -> None:
        """Make the network that reads."""
        super().__init__()
        if not span > 0:
            raise ValueError(f"span must be positive, got {span}")
        self.t0 = t0
        self.span = span
        self.start = nn.Parameter(torch.zeros(width))
        self.reader = nn.GRU(kinds + 2, width)
        self.between = PoissonProcess(field, intensity, batch_dims=1, **settings)

    def states(self, events: Series) -> Tensor:
        """Return what has been read behind 0, 1, ..., T events of each series, (T + 1, B, d)."""
        if bool((events.ts[0] < self.t0).any()):
            raise ValueError(
                f"observation begins at t0={self.t0:.6g}, but there is an event at {events.ts.min().item():.6g}"
            )
        gaps = torch.cat([torch.full_like(events.ts[:1], self.t0), events.ts]).diff(dim=0)
        seen = torch.stack([gaps.log1p(), (events.ts - self.t0) / self.span], dim=2).to(self.start.dtype)
        h, _ = self.reader(torch.cat([events.observed.to(seen.dtype), seen], dim=2))
        return torch.cat([self.start.expand(1, *h.shape[1:]), h])

    def log_likelihood(self, events: Series, until: "Tensor | float") -> Tensor:
        """Return the log-likelihood of the events of each series, (B,).

        Args:
            events: a time in ``events.ts`` is an event of each kind (channel) that is observed there.
            until: when observation ended, one time or (B,).

        Raises:
            ValueError: an event before t0 or after the end.
        """
        gaps = self._gaps(events, until)
        z, integral = self.between(gaps.state, gaps.length.unsqueeze(0))
        rates = self.between.intensity(z[0, : gaps.events])
        # A rate of 1 where there is no event: log 0 would make the gradient nan.
        happened = torch.where(events.observed[events.rows], rates, 1.0).log().sum(1)
        parts = torch.cat([happened, happened.new_zeros(len(events))]) - integral[0].sum(1)
        total: Tensor = parts.new_zeros(len(events)).index_add(0, gaps.series, parts)
        return total

    @torch.no_grad()
    def residuals(self, events: Series, until: "Tensor | float") -> Tensor:
        """Return gaps on the clock of the rate, (N,), as ``PoissonProcess.residuals`` does."""
        gaps = self._gaps(events, until)
        _, integral = self.between(gaps.state, gaps.length.unsqueeze(0))
        inner, last = integral[0].split([gaps.events, len(events)])
        steps = inner.new_zeros(*events.values.shape)
        steps[events.rows] = inner
        clock = steps.cumsum(0)
        return on_its_clock(clock, clock[-1] + last, events.observed)

    @torch.no_grad()
    def rates(self, events: Series, ts: Tensor, until: "Tensor | float") -> Tensor:
        """Return the rates at ts, (S,) or (S, B), given the events before each: (S, B, C).

        Raises:
            ValueError: a time before t0 or after the end, or an event there.
        """
        ends = with_end(events, until)[-1]
        ts = ts.to(events.ts)
        ts = ts if ts.ndim == 2 else ts.unsqueeze(1).expand(-1, len(events))
        if bool(((ts < self.t0) | (ts > ends)).any()):
            raise ValueError(f"rates are known from t0={self.t0:.6g} to the end, got {ts.min():.6g} to {ts.max():.6g}")
        states = self.states(events)
        begins = torch.cat([torch.full_like(events.ts[:1], self.t0), events.ts])
        before = (events.rows.unsqueeze(0) & (events.ts.unsqueeze(0) < ts.unsqueeze(1))).sum(1)
        series = torch.arange(len(events), device=ts.device)
        state, since = states[before, series], ts - begins[before, series]
        z, _ = self.between(state.flatten(0, 1), since.flatten().unsqueeze(0))
        rates: Tensor = self.between.intensity(z[0]).unflatten(0, ts.shape)
        return rates

    def _gaps(self, events: Series, until: "Tensor | float") -> "Gaps":
        states = self.states(events)
        times = with_end(events, until)
        begins = torch.cat([torch.full_like(times[:1], self.t0), events.ts])
        rows, series = events.rows, torch.arange(len(events), device=times.device)
        last = events.lengths, series
        return Gaps(
            torch.cat([states[:-1][rows], states[last]]),
            torch.cat([(times - begins)[:-1][rows], times[-1] - begins[last]]),
            torch.cat([series.expand_as(rows)[rows], series]),
            int(rows.sum()),
        )


class Gaps(NamedTuple):
    """Gaps, one after the other: first those that end with an event, then the last of each series, which does not."""

    state: Tensor
    """Where z starts, (N, d)."""
    length: Tensor
    """How long, (N,)."""
    series: Tensor
    """Which, (N,)."""
    events: int
    """How many end with an event."""
