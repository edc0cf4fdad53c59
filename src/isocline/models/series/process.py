"""Events whose rate follows a latent ODE."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from isocline.models.series.batch import Series, beside
from isocline.models.series.dynamics import SeriesODE
from isocline.models.series.thinning import thin
from isocline.numbers import time_dtype
from isocline.quadrature import Quadrature
from isocline.solve import solve


class PoissonProcess(nn.Module):
    r"""An inhomogeneous Poisson process with intensity :math:`\lambda(z(t))`, where :math:`dz/dt = f(t, z)`.

    .. math:: \log p = \sum_i \log \lambda(z(t_i)) - \int_{t_0}^{t_1} \lambda(z(t)) dt

    Both terms, and z at the events, come from one solve: the integral is part of the state.

    Args:
        field: ``field(t, z) -> dz``.
        intensity: ``intensity(z) -> rates``, (..., d) -> (..., C), positive: one for each kind of event.
        t0: when observation begins, and the time of z0.
        controlled: whether the integral is under error control, too. If not (``Quadrature``) the steps are those of z
            alone, as if nothing were counted: fewer, but training finds rates whose peaks they miss.
        batch_dims: as in ``SeriesODE``.
        settings: everything else goes to ``solve``.

    References:
        Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, section 5; Palm 1943; Cox & Lewis 1972.

    Example:
        >>> import isocline as iso, torch
        >>> rate = lambda z: z.exp()
        >>> process = iso.models.PoissonProcess(lambda t, z: 0 * z, rate)  # a constant rate of 2
        >>> events = iso.Series.of_events([[0.5, 1.5, 2.0], []])
        >>> z0 = torch.full((2, 1), 2.0).log()
        >>> process.log_likelihood(z0, events, until=3.0)  # 3 log 2 - 6, -6
        tensor([-3.9206, -6.0000])
        >>> draws = process.sample(z0, until=3.0, generator=torch.Generator().manual_seed(0))
        >>> draws.lengths.shape
        torch.Size([2])
    """

    def __init__(
        self,
        field: Callable[..., Tensor],
        intensity: Callable[[Tensor], Tensor],
        *,
        t0: float = 0.0,
        controlled: bool = True,
        batch_dims: int = 1,
        **settings: Any,
    ) -> None:
        """Store both functions; settings are checked when they are used."""
        super().__init__()
        self.t0 = t0
        self.controlled = controlled
        self.dynamics = SeriesODE(Counting(field, intensity), t0=t0, batch_dims=batch_dims, **settings)

    @property
    def counting(self) -> "Counting":
        """Field and intensity."""
        assert isinstance(self.dynamics.field, Counting)
        return self.dynamics.field

    def intensity(self, z: Tensor) -> Tensor:
        """Return the rates (..., C) at z (..., d)."""
        return self.counting.intensity(z)

    def forward(self, z0: Tensor, ts: Tensor) -> tuple[Tensor, Tensor]:
        """Solve once.

        Args:
            z0: (B, ..., d).
            ts: (T, B), none decreasing.

        Returns:
            z at ts, (T, B, ..., d), and the integral of the intensity up to them, (T, B, ..., C).
        """
        with torch.no_grad():
            zero = torch.zeros_like(self.intensity(z0))
        z, integral = self.dynamics((z0, zero if self.controlled else Quadrature(zero)), ts)
        return z, integral

    def log_likelihood(self, z0: Tensor, events: Series, until: "Tensor | float") -> Tensor:
        """Return the log-likelihood of the events of each series, (B, ...).

        Args:
            z0: (B, ..., d).
            events: a time in ``events.ts`` is an event of each kind (channel) that is observed there.
            until: when observation ended, one time or (B,).

        Raises:
            ValueError: an event after the end, or another number of kinds.
        """
        z, integral = self(z0, with_end(events, until))
        return self.of_path(z[:-1], integral[-1], events)

    def of_path(self, z: Tensor, integral: Tensor, events: Series) -> Tensor:
        """Return the log-likelihood (B, ...) from z at the events (T, B, ..., d) and the whole integral (B, ..., C)."""
        rates = self.intensity(z)
        if rates.shape[-1] != events.values.shape[2]:
            raise ValueError(
                f"the intensity has {rates.shape[-1]} rates, but there are {events.values.shape[2]} kinds of events"
            )
        # A rate of 1 where there is no event: log 0 would make the gradient nan.
        happened = torch.where(beside(events.observed, rates), rates, 1.0)
        return happened.log().sum((0, -1)) - integral.sum(-1)

    @torch.no_grad()
    def residuals(self, z0: Tensor, events: Series, until: "Tensor | float") -> Tensor:
        r"""Return what the gaps between events become on the clock :math:`\int \lambda dt`: (N,) exponential numbers.

        If the model is right, events come at a rate of 1 on that clock. Series are put one behind the other, so that
        nothing is lost where observation ends, and kinds likewise. ``ks_test`` judges them.

        Args:
            z0: (B, d).
            events: as above.
            until: as above.

        References:
            Brown, Barbieri, Ventura, Kass & Frank 2002, Neural Computation 14, doi:10.1162/08997660252741149.
        """
        _, integral = self(z0, with_end(events, until))
        return on_its_clock(integral[:-1], integral[-1], events.observed)

    @torch.no_grad()
    def sample(
        self, z0: Tensor, until: "Tensor | float", *, generator: Generator | None = None, points: int = 256
    ) -> Series:
        """Draw events by thinning.

        The intensity is bounded by twice its largest value at so many evenly spread points, for each series and kind;
        if it turns out to be larger anywhere, the bound is doubled and all is drawn again.

        Args:
            z0: (B, d).
            until: end of observation, one time or (B,).
            generator: source of randomness; torch's own if None.
            points: where the intensity is looked at for its bound.

        References:
            Lewis & Shedler 1979, Naval Research Logistics Quarterly 26, doi:10.1002/nav.3800260304.
        """
        precision = time_dtype(z0.device)
        start = torch.full((len(z0),), self.t0, dtype=precision, device=z0.device)
        end = torch.as_tensor(until, dtype=precision, device=z0.device).expand(len(z0))
        path = solve(
            self.counting.field, z0, torch.stack([start, end]), batch_dims=1, dense=True, **self.dynamics.settings
        )
        return thin(lambda ts: self.intensity(path(ts)), start, end, points, generator)


class Counting(nn.Module):
    """z together with the integral of the intensity along it."""

    def __init__(self, field: Callable[..., Tensor], intensity: Callable[[Tensor], Tensor]) -> None:
        """Store both."""
        super().__init__()
        self.field = field
        self.intensity = intensity

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return both derivatives."""
        z, _ = state
        return self.field(t, z), self.intensity(z)


def on_its_clock(integral: Tensor, whole: Tensor, observed: Tensor) -> Tensor:
    """Return the gaps (N,) between events on the clock of their rate, kind by kind, series by series.

    Args:
        integral: of the rates up to each time, (T, B, C).
        whole: up to the end, (B, C).
        observed: which are events, (T, B, C).
    """
    flat = whole.T.flatten()
    before = (flat.cumsum(0) - flat).reshape(whole.shape[1], -1).T
    clock = (integral + before).permute(2, 1, 0)[observed.permute(2, 1, 0)]
    return clock.diff(prepend=clock.new_zeros(1))


def with_end(events: Series, until: "Tensor | float") -> Tensor:
    """Return the times of events and behind them the end of observation: (T + 1, B)."""
    end = torch.as_tensor(until, dtype=events.ts.dtype, device=events.ts.device).expand(len(events))
    if bool((end < events.ts[-1]).any()):
        late = int((end < events.ts[-1]).nonzero()[0])
        raise ValueError(
            f"observation of series {late} ends at {end[late].item():.6g}, but it has an event at "
            f"{events.ts[-1, late].item():.6g}"
        )
    return torch.cat([events.ts, end.unsqueeze(0)])


def ks_test(residuals: Tensor) -> tuple[float, float]:
    """Test whether residuals are exponential with mean 1, by Kolmogorov and Smirnov. Needs SciPy.

    Args:
        residuals: (N,), of ``PoissonProcess.residuals``.

    Returns:
        The statistic, and the p-value: the chance of one as large if the model is right.

    Example:
        >>> import isocline as iso, torch
        >>> u = (torch.arange(100) + 0.5) / 100
        >>> statistic, p = iso.models.ks_test(-(1 - u).log())
        >>> round(statistic, 3), p > 0.99
        (0.005, True)
    """
    try:
        from scipy.stats import kstest
    except ImportError:
        raise ImportError("ks_test needs SciPy; install isocline[scipy]") from None
    result = kstest(residuals.cpu().double().numpy(), "expon")
    return float(result.statistic), float(result.pvalue)
