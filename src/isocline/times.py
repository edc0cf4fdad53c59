"""The user's save times as (T, L) float64, checked."""

from collections.abc import Sequence

import torch
from torch import Tensor

from isocline.checks import check_numbers
from isocline.layout import Layout
from isocline.tree import describe


def make_times(ts: "Tensor | Sequence[float | Tensor]", layout: Layout) -> tuple[Tensor, bool]:
    """Return the save times of each lane, (T, L), and whether all lanes were given the same.

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
    times = times.to(device=layout.device, dtype=time_dtype(layout.device))
    shared = times.ndim == 1
    times = times.reshape(len(times), -1)
    _check_order(times.detach(), shared)
    return times.expand(-1, layout.lanes), shared


def time_dtype(device: torch.device) -> torch.dtype:
    """float64, whatever the state's dtype is, except on devices that have none."""
    return torch.float32 if device.type == "mps" else torch.float64


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


def _check_order(times: Tensor, shared: bool) -> None:
    """Refuse times that are not finite or turn back, with one host synchronisation when all is well."""
    steps = times.diff(dim=0)
    good = times.isfinite().all() & ((steps >= 0).all(dim=0) | (steps <= 0).all(dim=0)).all()
    if shared:
        good = good & (times[-1] != times[0]).all()
    if bool(good):
        return
    if not bool(times.isfinite().all()):
        raise ValueError(f"ts must be finite, got {_excerpt(times)}")
    if shared and bool(times[-1] == times[0]):
        raise ValueError(f"ts starts and ends at {times[0, 0].item():.6g}: there is nothing to solve")
    lane = int((~((steps >= 0).all(dim=0) | (steps <= 0).all(dim=0))).nonzero()[0])
    where = "" if shared else f" (lane {lane})"
    raise ValueError(
        f"ts must increase or decrease throughout, got {_excerpt(times[:, lane])}{where}; sort it, for example with "
        "ts.unique()"
    )


def _excerpt(times: Tensor, most: int = 8) -> str:
    values = times.flatten().tolist()
    return "[" + ", ".join(f"{t:.6g}" for t in values[:most]) + (", ...]" if len(values) > most else "]")
