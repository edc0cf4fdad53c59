"""The user's save times as (T, L) float64, checked."""

from collections.abc import Sequence
from math import isfinite
from operator import ge, le
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.checks import check_numbers
from isocline.layout import Layout
from isocline.numbers import Number, everywhere, time_dtype
from isocline.transforms import as_lanes, batched, followed, plain, transforming
from isocline.tree import describe, leaves


class Times(NamedTuple):
    """Save times, checked: the first is where a lane starts, the last where it ends."""

    values: Tensor
    """(T, L)"""
    shared: bool
    """Whether all lanes were given the same."""
    host: list[float] | None
    """The same as Python floats, if there is one lane."""

    @property
    def differentiable(self) -> bool:
        """Whether gradients are asked for."""
        return followed(self.values)

    def number(self, index: int) -> Number:
        """Return one of the times as numbers for stepping: a float for one lane, if nothing differentiates it."""
        return self.values[index] if self.host is None or self.differentiable else self.host[index]

    @property
    def sign(self) -> Number:
        """Direction of time in each lane: 1 or -1."""
        if self.host is not None and not self.differentiable:
            return -1.0 if self.host[-1] < self.host[0] else 1.0
        return torch.where(self.values[-1] < self.values[0], -1.0, 1.0).to(self.values.dtype)


def make_times(ts: "Tensor | Sequence[float | Tensor]", layout: Layout) -> Times:
    """Check the save times of each lane.

    Raises:
        TypeError: not numbers.
        ValueError: fewer than two, shapes that do not fit, not finite, or turning back.
    """
    times = _as_tensor(ts, layout)
    _check_real(times)
    if times.ndim == 0 or len(times) < 2:
        raise ValueError(f"ts needs at least a start and an end, got {describe(times)}; write (t0, t1) or a 1-d tensor")
    batch = tuple(layout.batch_shape)
    if times.ndim > 1 and tuple(times.shape[1:]) != batch:
        hint = "; the time axis comes first: write ts.T" if tuple(times.shape[:-1]) == batch else ""
        expected = f"(T,) or {('T', *batch)}" if batch else "(T,)"
        raise ValueError(f"ts has shape {tuple(times.shape)}, expected {expected}{hint}".replace("'T'", "T"))
    shared = times.ndim == 1
    rows = times.to(dtype=time_dtype(layout.device)).reshape(len(times), -1)
    if batched(rows):
        _check_order(as_lanes(rows), False)
        return Times(rows.to(layout.device).expand(-1, layout.lanes), shared, None)
    host = rows.detach()[:, 0].tolist() if rows.shape[1] == 1 else None
    _check_order(rows.detach() if host is None else host, shared)
    values = rows.to(layout.device).expand(-1, layout.lanes)
    if transforming() and not any(followed(t) for t in leaves(ts) if isinstance(t, Tensor)):
        values = plain(values)  # only what was done here has wrapped them
    return Times(values, shared, host if layout.lanes == 1 else None)


def make_marks(name: str, marks: "Tensor | Sequence[float | Tensor] | None", layout: Layout) -> Tensor:
    """Check times at which something is known to be; return them as (J, L), none as (0, L).

    Raises:
        TypeError: not numbers.
        ValueError: shapes that do not fit, or not finite.
    """
    if marks is None or (not isinstance(marks, Tensor) and hasattr(marks, "__len__") and not len(marks)):
        return torch.zeros(0, layout.lanes, dtype=time_dtype(layout.device), device=layout.device)
    times = _as_tensor(marks, layout)
    _check_real(times)
    batch = tuple(layout.batch_shape)
    if times.ndim == 0 or tuple(times.shape[1:]) not in ((), batch):
        expected = f"(J,) or {('J', *batch)}" if batch else "(J,)"
        raise ValueError(f"{name} has shape {tuple(times.shape)}, expected {expected}".replace("'J'", "J"))
    if not everywhere(times.detach().isfinite()):
        raise ValueError(f"{name} must be finite, got {_excerpt(times.detach())}")
    rows = times.to(device=layout.device, dtype=time_dtype(layout.device)).reshape(len(times), -1)
    return rows.expand(-1, layout.lanes)


def _as_tensor(ts: "Tensor | Sequence[float | Tensor]", layout: Layout) -> Tensor:
    if isinstance(ts, Tensor):
        return ts
    if isinstance(ts, (str, bytes)) or not hasattr(ts, "__len__"):
        raise TypeError(f"ts must be a tensor or a sequence of times, got {describe(ts)}; write (t0, t1)")
    if any(isinstance(t, Tensor) for t in ts):
        parts = [_one_time(t, layout) for t in ts]
        try:
            return torch.stack(torch.broadcast_tensors(*parts))
        except RuntimeError:
            shapes = [tuple(part.shape) for part in parts]
            raise ValueError(f"the times in ts have shapes {shapes} that do not fit together") from None
    try:
        return torch.as_tensor(ts, dtype=time_dtype(layout.device))
    except (TypeError, ValueError) as error:
        raise TypeError(f"ts must be numbers, got {ts!r:.80} ({error})") from None


def _one_time(t: "Tensor | float", layout: Layout) -> Tensor:
    if not isinstance(t, Tensor):
        check_numbers("ts must be numbers", t)
        return torch.tensor(t, dtype=time_dtype(layout.device), device=layout.device)
    _check_real(t)
    return t.to(device=layout.device, dtype=time_dtype(layout.device))


def _check_real(times: Tensor) -> None:
    if times.is_complex() or times.dtype == torch.bool:
        raise TypeError(f"ts must be real numbers, got {times.dtype}")


def _check_order(times: "Tensor | list[float]", shared: bool) -> None:
    """Refuse times that are not finite or turn back: (T, L), or a list for one lane or shared times.

    One host synchronisation when all is well.
    """
    if isinstance(times, list):
        ordered = all(map(le, times, times[1:])) or all(map(ge, times, times[1:]))
        if ordered and isfinite(times[0]) and isfinite(times[-1]) and not (shared and times[0] == times[-1]):
            return
        times = torch.tensor(times, dtype=torch.float64).unsqueeze(1)
    steps = times.diff(dim=0)
    turns = ~((steps >= 0).all(dim=0) | (steps <= 0).all(dim=0))
    if not bool(times.isfinite().all() & ~turns.any()):
        _refuse(times, turns, shared)
    if shared:
        raise ValueError(f"ts starts and ends at {times[0, 0].item():.6g}: there is nothing to solve")


def _refuse(times: Tensor, turns: Tensor, shared: bool) -> None:
    if not bool(times.isfinite().all()):
        raise ValueError(f"ts must be finite, got {_excerpt(times)}")
    lane = int(turns.nonzero()[0])
    where = "" if shared else f" (lane {lane})"
    raise ValueError(
        f"ts must increase or decrease throughout, got {_excerpt(times[:, lane])}{where}; sort it, for example with "
        "ts.unique()"
    )


def _excerpt(times: Tensor, most: int = 8) -> str:
    values = times.flatten().tolist()
    return "[" + ", ".join(f"{t:.6g}" for t in values[:most]) + (", ...]" if len(values) > most else "]")
