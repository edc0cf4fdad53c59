"""An ODE asked at the times of each series."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from isocline.checks import check_whole
from isocline.numbers import time_dtype
from isocline.quadrature import unmarked
from isocline.solution import Stats
from isocline.solve import solve
from isocline.tree import Tree, describe, leaves, map_leaves


class SeriesODE(nn.Module):
    """``y0, ts -> y(ts)`` where every series has times of its own.

    Two ways to the same states. With ``batch_dims=1`` each series is solved at its own times with its own steps, and
    ends at its own last time: nothing depends on which other series are in the batch. With ``batch_dims=0`` all are
    solved together at the union of their times, as in the paper: cheaper a step, but all take the same steps, to the
    latest of all times.

    Args:
        field: ``field(t, y, *args) -> dy``.
        t0: the time of y0, for all series the same, and not later than any of ts; None: for each its first time, for
            which ``batch_dims`` must be 1.
        batch_dims: 1 or 0, as above.
        settings: everything else goes to ``solve``: method, tolerances, gradient, compile.

    Attributes:
        stats: counts of the last solve; None if there was nothing to solve.

    Example:
        >>> import isocline as iso, torch
        >>> ode = iso.models.SeriesODE(lambda t, y: -y)
        >>> ts = torch.tensor([[0.0, 1.0], [2.0, 1.0]])  # the second series has one time only
        >>> ode(torch.ones(2, 3), ts)[:, :, 0]
        tensor([[1.0000, 0.3679],
                [0.1353, 0.3679]])
    """

    stats: Stats | None

    def __init__(
        self, field: Callable[..., Tree], *, t0: float | None = 0.0, batch_dims: int = 1, **settings: Any
    ) -> None:
        """Store the settings; those of ``solve`` are checked when it is called."""
        super().__init__()
        check_whole("batch_dims", batch_dims, 0)
        if batch_dims > 1 or (t0 is None and not batch_dims):
            raise ValueError(
                f"SeriesODE solves per series (batch_dims=1), or together from one t0 (batch_dims=0); got "
                f"batch_dims={batch_dims}, t0={t0}"
            )
        self.field = field
        self.t0 = t0
        self.batch_dims = batch_dims
        self.settings = settings
        self.stats = None

    def forward(self, y0: Tree, ts: Tensor, *args: Any) -> Tree:
        """Return the states at ts.

        Args:
            y0: tensors (B, ...), some of which may be marked as ``Quadrature``.
            ts: (T, B), none decreasing.
            args: further arguments of the field.

        Returns:
            In y0's structure, (T, B, ...).

        Raises:
            ValueError: a time before t0, or states of other series than the times.
            SolveError: the solve did not arrive.
        """
        states = list(leaves(unmarked(y0)[0]))
        if ts.ndim != 2 or any(y.shape[:1] != ts.shape[1:] for y in states):
            raise ValueError(
                f"expected times (T, B), and states (B, ...) of the same series; got {describe(ts)}, and "
                f"{', '.join(map(describe, states))}"
            )
        ts = ts.to(time_dtype(ts.device))
        start = ts[:1] if self.t0 is None else torch.full_like(ts[:1], self.t0)
        if bool((ts[0] < start[0]).any()):
            raise ValueError(
                f"y0 is at t0={self.t0:.6g}, but a series is wanted at {ts[0].min().item():.6g}; choose an earlier t0"
            )
        return self._each(y0, torch.cat([start, ts]), args) if self.batch_dims else self._union(y0, start, ts, args)

    def _each(self, y0: Tree, times: Tensor, args: tuple[Any, ...]) -> Tree:
        solution = solve(self.field, y0, times, args=args, batch_dims=1, **self.settings)
        self.stats = solution.stats
        return map_leaves(lambda y: y[1:], solution.ys)

    def _union(self, y0: Tree, start: Tensor, ts: Tensor, args: tuple[Any, ...]) -> Tree:
        grid, place = torch.cat([start, ts]).unique(return_inverse=True)
        self.stats = None
        if len(grid) == 1:
            return map_leaves(lambda y: y.expand(len(ts), *y.shape), unmarked(y0)[0])
        solution = solve(self.field, y0, grid, args=args, **self.settings)
        self.stats = solution.stats
        series = torch.arange(ts.shape[1], device=ts.device)
        return map_leaves(lambda y: y[place[1:], series], solution.ys)


class Autonomous(nn.Module):
    """The field ``f(t, y) = net(y)`` of a network that is not told the time.

    Example:
        >>> import isocline as iso, torch
        >>> field = iso.models.Autonomous(torch.nn.Linear(2, 2))
        >>> iso.solve(field, torch.ones(5, 2), (0.0, 1.0)).ys.shape
        torch.Size([2, 5, 2])
    """

    def __init__(self, net: nn.Module) -> None:
        """Store the network."""
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """Return dy/dt."""
        out: Tensor = self.net(y)
        return out


class Hybrid(nn.Module):
    """A field of a known and a learned part: ``f(t, y) = known(t, y) + learned(t, y)``.

    Args:
        known: what is known of the dynamics, a function or a module (whose parameters are then trained, too).
        learned: what is to be learned; last layers of zeros make a good start.

    References:
        Rackauckas et al. 2020, Universal differential equations for scientific machine learning, arXiv:2001.04385.

    Example:
        >>> import isocline as iso, torch
        >>> net = torch.nn.Linear(2, 2)
        >>> field = iso.models.Hybrid(lambda t, y: -y, iso.models.Autonomous(net))
        >>> ode = iso.models.SeriesODE(field)
        >>> series = iso.Series.of([[0.5, 1.0], [0.3]], [[[0.1, 0.2], [0.2, 0.1]], [[0.3, 0.4]]])
        >>> series.mse(ode(torch.ones(2, 2), series.ts)).backward()
        >>> net.weight.grad is not None
        True
    """

    def __init__(self, known: Callable[[Tensor, Tensor], Tensor], learned: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Store both parts."""
        super().__init__()
        self.known = known
        self.learned = learned

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """Return dy/dt."""
        return self.known(t, y) + self.learned(t, y)


def latent_field(size: int, hidden: int) -> Hybrid:
    """Make a field for latent states: a linear part, 0 at first, and a network of two layers, A z + net(z).

    Where a latent state goes that no series was seen in, a network alone goes on as its first weights happen to say. On
    the paper's spirals, seen at all 100 times, the error beyond those was 0.113 with A and 0.149 without, as means of
    three seeds (``docs/paper.md``).

    Args:
        size: numbers of the latent state.
        hidden: units of each layer, ELU.

    Returns:
        A field ``f(t, z)`` for z of shape (..., size).

    Raises:
        TypeError, ValueError: sizes that are not whole numbers, or below 1.

    Example:
        >>> import isocline as iso, torch
        >>> field = iso.models.latent_field(4, 20)
        >>> iso.solve(field, torch.randn(5, 4), (0.0, 1.0)).ys.shape
        torch.Size([2, 5, 4])
    """
    check_whole("size", size, 1)
    check_whole("hidden", hidden, 1)
    linear = nn.Linear(size, size, bias=False)
    nn.init.zeros_(linear.weight)
    first, second = nn.Linear(size, hidden), nn.Linear(hidden, hidden)
    net = nn.Sequential(first, nn.ELU(), second, nn.ELU(), nn.Linear(hidden, size))
    return Hybrid(Autonomous(linear), Autonomous(net))
