"""Controls u(t) made from observations, to be called inside f."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from isocline.checks import check_whole
from isocline.numbers import time_dtype
from isocline.tree import describe

Outside = Literal["hold", "extend", "nan"]


class Pieces(NamedTuple):
    """Polynomials between knots: ``u(t) = sum_k coefficients[k][i] (t - knots[i])^k`` from knot i to the next."""

    knots: Tensor
    """(T,), or (L, T) where lanes have their own."""
    coefficients: tuple[Tensor, ...]
    """Each (T-1, *channels), or (T-1, L, *channels) with lanes."""


@dataclass(frozen=True)
class Interpolation(ABC):
    """What the interpolants share; see them for the arguments."""

    ts: "Tensor | Sequence[float]"
    us: Tensor
    batch_dims: int = 0
    outside: Outside = "hold"
    pieces: Pieces = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the observations, fill the gaps, and make the polynomials."""
        if not isinstance(self.us, Tensor) or not self.us.is_floating_point():
            raise TypeError(f"us must be a floating point tensor, got {describe(self.us)}; write torch.tensor(us)")
        check_whole("batch_dims", self.batch_dims, 0)
        if self.outside not in ("hold", "extend", "nan"):
            raise ValueError(f"outside must be 'hold', 'extend' or 'nan', got {self.outside!r}")
        ts = _times(self.ts, self.us, self.batch_dims)
        us = self.us.flatten(1, self.batch_dims) if self.batch_dims > 1 else self.us
        times = ts.reshape(*ts.shape, *[1] * (us.ndim - ts.ndim))
        us = filled(times, us)
        _check_values(ts, us)
        h = times.diff(dim=0).to(us.dtype)
        moves = h > 0
        chords = torch.where(moves, us.diff(dim=0) / torch.where(moves, h, 1.0), 0.0)
        # Between equal times there is nothing but a jump to the later value.
        start = torch.where(moves, us[:-1], us[1:])
        knots = (ts if ts.ndim == 1 else ts.T).contiguous()
        object.__setattr__(self, "pieces", Pieces(knots, self._coefficients(start, chords, torch.where(moves, h, 1.0))))

    @staticmethod
    @abstractmethod
    def _coefficients(start: Tensor, chords: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """Return coefficients of the pieces from values at their starts, slopes of their chords, and lengths."""

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the lanes."""
        return self.us.shape[1 : 1 + self.batch_dims]

    @property
    def lanes(self) -> int:
        """Number of lanes; 1 if there are none."""
        return self.pieces.coefficients[0].shape[1] if self.batch_dims else 1

    def take_lanes(self, lanes: Tensor) -> "Interpolation":
        """Return the controls of some lanes (A,), for one batch dimension."""
        knots, coefficients = self.pieces
        knots = knots if knots.ndim == 1 else knots.index_select(0, lanes)
        taken = copy(self)
        object.__setattr__(taken, "pieces", Pieces(knots, tuple(c.index_select(1, lanes) for c in coefficients)))
        object.__setattr__(taken, "us", self.us.index_select(1, lanes))
        return taken

    def __call__(self, t: "Tensor | float") -> Tensor:
        """Return u(t).

        Args:
            t: a time, or a time a row: (B,) or, as f gets it in a per-sample solve, (B, 1, ..., 1). With ``batch_dims``
                one time for all lanes, or one for each.

        Returns:
            (*channels), with (B,), or with the batch, in front.
        """
        return self._evaluate(t, self.pieces.coefficients, constant=False)

    def derivative(self, t: "Tensor | float") -> Tensor:
        """Return du/dt at t, likewise; at a knot that of the later piece, and at the last that of the last piece."""
        higher = [k * c for k, c in enumerate(self.pieces.coefficients)][1:]
        return self._evaluate(t, tuple(higher), constant=True)

    def _evaluate(self, t: "Tensor | float", coefficients: tuple[Tensor, ...], constant: bool) -> Tensor:
        knots = self.pieces.knots
        t = torch.as_tensor(t, dtype=None if isinstance(t, Tensor) else knots.dtype, device=knots.device)
        shape, t = self._rows(t)
        time = t.to(torch.promote_types(t.dtype, knots.dtype))
        first, last = knots[..., 0].to(time.dtype), knots[..., -1].to(time.dtype)
        below, above = time < first, time > last
        if self.outside == "hold":
            # Not clamp: its gradient at the ends would be shared between t and the ends.
            time = torch.where(below, first, torch.where(above, last, time))
        piece = self._piece(time)
        since = time - _pick(knots, piece)
        picked = [self._of(c, piece) for c in coefficients]
        since = _append(since.to(picked[0].dtype), picked[0].ndim)
        value = picked[-1]
        for c in reversed(picked[:-1]):
            value = c + since * value
        if self.outside == "nan":
            # Rounding the end of the interval to the dtype of the state is not leaving it.
            slack = 4 * torch.finfo(t.dtype).eps * torch.maximum(first.abs(), last.abs())
            left = (time < first - slack) | (time > last + slack)
            value = torch.where(_append(left, value.ndim), float("nan"), value)
        elif self.outside == "hold" and constant:
            value = torch.where(_append(below | above, value.ndim), 0.0, value)
        return value.reshape((*shape, *value.shape[1:]))

    def _rows(self, t: Tensor) -> tuple[tuple[int, ...], Tensor]:
        """Return what comes before the channels in the result, and the times (M,): one a lane, if there are lanes."""
        shape: tuple[int, ...] = t.shape[:1]
        for size in t.shape[1:]:
            shape = shape if size == 1 and len(shape) == 1 else (*shape, size)
        if not self.batch_dims:
            return tuple(shape), t.reshape(-1)
        if t.numel() not in (1, self.lanes):
            raise ValueError(
                f"u has {self.lanes} lanes, but t has shape {tuple(t.shape)}; if they are those of a per-sample solve, "
                "pass u to f as args=(PerLane(u),)"
            )
        return tuple(self.batch_shape), t.reshape(-1).expand(self.lanes)

    def _of(self, coefficient: Tensor, piece: Tensor) -> Tensor:
        """Return a coefficient of the piece of each row: (M, *channels)."""
        if not self.batch_dims:
            return coefficient.index_select(0, piece)
        return coefficient[piece, torch.arange(self.lanes, device=piece.device)]

    def _piece(self, time: Tensor) -> Tensor:
        """Return which piece each time falls into."""
        knots = self.pieces.knots.detach().to(time.dtype)
        if knots.ndim == 1:
            found = torch.searchsorted(knots, time.detach().contiguous(), right=True)
        else:
            found = torch.searchsorted(knots, time.detach().unsqueeze(1).contiguous(), right=True).squeeze(1)
        return (found - 1).clamp(0, knots.shape[-1] - 2)


@dataclass(frozen=True)
class LinearInterpolation(Interpolation):
    r"""A control that is piecewise linear: ``u(t) = u_i + (t - t_i) (u_(i+1) - u_i) / (t_(i+1) - t_i)``.

    Call it inside f. It is made of torch operations, differentiable in t, ts and us, and works in compiled solves. Its
    derivative jumps at the knots, which costs an adaptive solver rejected steps there; ``CubicHermite``'s does not.

    Args:
        ts: times of the observations, which must not decrease: (T,), or (T, *batch) where lanes have their own. At
            equal times u jumps.
        us: observations (T, *channels), or (T, *batch, *channels). Where one is nan, that channel is taken to be
            linear in time between the observations before and after it, and constant before its first and after its
            last one.
        batch_dims: how many dimensions of us after the first are lanes, as in ``solve``. 0: one control for all.
        outside: what u is before the first and after the last time. "hold": its value there, with derivative 0.
            "extend": the first and last piece go on. "nan": nan, so that a solve that gets there fails. A solver never
            evaluates f outside the interval of the solve.

    Raises:
        TypeError, ValueError: not numbers, shapes that do not fit, decreasing times, or a channel that was never
            observed.

    Example:
        >>> import isocline as iso, torch
        >>> u = iso.LinearInterpolation([0.0, 1.0, 3.0], torch.tensor([0.0, 2.0, 0.0]))
        >>> u(0.5).item(), u.derivative(2.0).item(), u(9.0).item()
        (1.0, -1.0, 0.0)
        >>> sol = iso.solve(lambda t, y: u(t) - y, torch.zeros(2), (0.0, 3.0))
        >>> us = torch.randn(5, 8, 1)  # a control for each of 8 samples: marked, as it has a row for each
        >>> v = iso.LinearInterpolation(torch.linspace(0, 1, 5), us, batch_dims=1)
        >>> f = lambda t, y, v: v(t) - y
        >>> iso.solve(f, torch.zeros(8, 2), (0.0, 1.0), args=(iso.PerLane(v),), batch_dims=1).ys.shape
        torch.Size([2, 8, 2])
    """

    @staticmethod
    def _coefficients(start: Tensor, chords: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        return start, chords


@dataclass(frozen=True)
class CubicHermite(Interpolation):
    r"""A control that is piecewise cubic, with backward differences as its slopes at the knots.

    ``u'(t_i) = (u_i - u_(i-1)) / (t_i - t_(i-1))``; the first piece is linear. So u is continuously differentiable, and
    does not depend on later observations than the next one, unlike a cubic spline.

    Args:
        ts: as for ``LinearInterpolation``.
        us: likewise; nan is filled as there.
        batch_dims: likewise.
        outside: likewise.

    Raises:
        TypeError, ValueError: as for ``LinearInterpolation``.

    References:
        Morrill, Kidger, Yang & Lyons 2021, Neural controlled differential equations for online prediction tasks,
        arXiv:2106.11028.

    Example:
        >>> import isocline as iso, torch
        >>> u = iso.CubicHermite([0.0, 1.0, 2.0], torch.tensor([0.0, 1.0, 0.0]))
        >>> u(1.0).item(), u.derivative(1.0).item(), u.derivative(2.0).item()
        (1.0, 1.0, -1.0)
        >>> sol = iso.solve(lambda t, y: y * u.derivative(t), torch.ones(1), (0.0, 2.0))
        >>> round(sol.ys[-1].item(), 3)
        1.0
    """

    @staticmethod
    def _coefficients(start: Tensor, chords: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        slopes = torch.cat([chords[:1], chords[:-1]])
        bend = (chords - slopes) / h
        return start, slopes, 2 * bend, -bend / h


def filled(times: Tensor, us: Tensor) -> Tensor:
    """Return us (T, ...) with nan replaced, along straight lines and constant before the first and after the last.

    Nothing branches on values. A channel that is nan throughout stays so.
    """
    observed, count = ~us.isnan(), len(us)
    place = torch.arange(count, device=us.device).reshape(-1, *[1] * (us.ndim - 1)).expand_as(us)
    before = torch.where(observed, place, -1).cummax(0).values
    after = torch.where(observed, place, count).flip(0).cummin(0).values.flip(0)
    left, right = torch.where(before < 0, after, before), torch.where(after == count, before, after)
    left, right = left.clamp(0, count - 1), right.clamp(0, count - 1)
    known, times = torch.where(observed, us, 0.0), times.expand_as(us)
    start, stop = times.gather(0, left), times.gather(0, right)
    share = torch.where(stop > start, times - start, 0.0) / torch.where(stop > start, stop - start, 1.0)
    u = known.gather(0, left)
    u = u + share.to(us.dtype) * (known.gather(0, right) - u)
    return torch.where(observed, us, torch.where(observed.any(0), u, float("nan")))


def _times(ts: "Tensor | Sequence[float]", us: Tensor, batch_dims: int) -> Tensor:
    """Return times (T,), or (T, L)."""
    try:
        times = ts if isinstance(ts, Tensor) else torch.as_tensor(ts, dtype=time_dtype(us.device), device=us.device)
    except (TypeError, ValueError) as error:
        raise TypeError(f"ts must be a tensor or a sequence of times, got {ts!r:.60} ({error})") from None
    if times.is_complex() or times.dtype == torch.bool:
        raise TypeError(f"ts must be real numbers, got {times.dtype}")
    if not times.is_floating_point():
        times = times.to(time_dtype(times.device))
    batch = us.shape[1 : 1 + batch_dims]
    if us.ndim < 1 + batch_dims:
        raise ValueError(f"batch_dims={batch_dims}, but us has shape {tuple(us.shape)}; the time axis comes first")
    if times.shape not in ((len(us),), (len(us), *batch)) or len(times) < 2:
        expected = f"({len(us)},)" + (f" or {(len(us), *batch)}" if batch else "")
        raise ValueError(
            f"ts has shape {tuple(times.shape)} for us of shape {tuple(us.shape)}; expected {expected}, at least two "
            "times: the time axis comes first in both"
        )
    return times if times.ndim == 1 else times.flatten(1)


def _check_values(ts: Tensor, us: Tensor) -> None:
    """Refuse times that decrease, and channels without any observation."""
    try:
        turns = bool((ts.detach().diff(dim=0) < 0).any() | ~ts.detach().isfinite().all())
        missing = bool(us.detach().isnan().any())
    except RuntimeError:  # within torch.func.vmap values cannot be read
        return
    if turns:
        raise ValueError("ts must be finite and must not decrease; sort it, and us along with it")
    if missing:
        raise ValueError("a channel of us is nan throughout; there is nothing to interpolate, so leave it out")


def _pick(knots: Tensor, piece: Tensor) -> Tensor:
    return knots.index_select(0, piece) if knots.ndim == 1 else knots.gather(1, piece.unsqueeze(1)).squeeze(1)


def _append(x: Tensor, ndim: int) -> Tensor:
    """Return x with further dimensions of one number, up to ndim."""
    return x.reshape((*x.shape, *[1] * (ndim - x.ndim)))
