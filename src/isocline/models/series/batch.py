"""A batch of irregularly sampled series."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from isocline.models.series.long import Duplicates, Long, pad
from isocline.numbers import time_dtype
from isocline.tree import describe


@dataclass(frozen=True, eq=False)
class Series:
    """Irregular series: each has times of its own, at which some of its channels were observed.

    Made by ``of`` from arrays, by ``of_table`` from a long table, by ``of_events`` from times alone. A series that is
    shorter than the longest is padded at its end with its own last time, and nothing observed: a solve ends there, and
    nothing that is computed depends on the padding.

    Args:
        ts: times (T, B), which must not decrease; kept in float64, where the device has it. Those at which nothing was
            observed are left out.
        values: observations (T, B, C); nan, and whatever ``mask`` leaves out, counts as not observed, and becomes 0.
        mask: which were observed, bool (T, B, C); None: all that are not nan.
        names: what the series are called, B of them, or empty.
        channels: what the channels are called, C of them, or empty.

    Raises:
        TypeError, ValueError: shapes or dtypes that do not fit, nothing at all, times that decrease, or inf.

    Example:
        >>> import isocline as iso
        >>> series = iso.Series.of([[0.0, 2.0, 1.0], [0.5]], [[1.0, 3.0, 2.0], [4.0]])
        >>> series.ts.T.tolist()
        [[0.0, 1.0, 2.0], [0.5, 0.5, 0.5]]
        >>> series.values[:, 0, 0].tolist(), series.lengths.tolist()
        ([1.0, 2.0, 3.0], [3, 1])
        >>> table = {"series": "aab", "time": [0, 1, 0], "channel": ["x", "y", "x"], "value": [0.1, 0.2, 0.3]}
        >>> iso.Series.of_table(table)
        Series(2 series, 2 channels, up to 2 times from 0 to 1, 3 observations)
    """

    ts: Tensor
    values: Tensor
    mask: Tensor | None = None
    names: tuple[Hashable, ...] = ()
    channels: tuple[Hashable, ...] = ()

    def __post_init__(self) -> None:
        """Check, and clear what was not observed."""
        ts, values = self.ts, self.values
        for name, x in (("ts", ts), ("values", values)):
            if not isinstance(x, Tensor) or not x.is_floating_point():
                raise TypeError(f"{name} must be a floating point tensor, got {describe(x)}; lists go to Series.of")
        if values.ndim != 3 or ts.shape != values.shape[:2] or not values.numel():
            raise ValueError(
                f"Series needs ts (T, B) and values (T, B, C), none of them 0; got {tuple(ts.shape)} and "
                f"{tuple(values.shape)}"
            )
        known = ~values.isnan()
        if self.mask is not None and (self.mask.shape != values.shape or self.mask.dtype != torch.bool):
            raise ValueError(
                f"mask must be bool, of the shape of values, {tuple(values.shape)}; got {describe(self.mask)}"
            )
        mask = known if self.mask is None else self.mask & known
        for name, labels, size in (("names", self.names, len(ts[0])), ("channels", self.channels, values.shape[2])):
            if labels and len(labels) != size:
                raise ValueError(f"there are {len(labels)} {name}, expected {size}")
        values = torch.where(mask, values, 0.0)
        if not bool(values.isfinite().all() & ts.isfinite().all()):
            raise ValueError("values that were observed, and all times, must be finite; write nan for what was not")
        if bool((ts.diff(dim=0) < 0).any()):
            raise ValueError("ts must not decrease; Series.of and Series.of_table sort")
        ts = ts.to(time_dtype(ts.device))
        rows, place = mask.any(2), torch.arange(len(ts), device=ts.device).unsqueeze(1)
        lengths = rows.sum(0)
        last = ts.gather(0, (lengths - 1).clamp(min=0).unsqueeze(0))
        if not bool((rows == (place < lengths)).all() & (rows | (ts == last)).all()):
            ts, values, mask = pad(_readings(ts, values, mask), *self._labels(), "error", ts[0])
        object.__setattr__(self, "ts", ts)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "mask", mask)

    @staticmethod
    def of(
        ts: Sequence[Any],
        values: Sequence[Any],
        *,
        names: Sequence[Hashable] = (),
        channels: Sequence[Hashable] = (),
        duplicates: Duplicates = "error",
        empty: float | None = None,
        dtype: torch.dtype | None = None,
    ) -> "Series":
        """Put series of different lengths together.

        Args:
            ts: for each series its times (N,), in any order.
            values: for each its observations (N, C), or (N,) if there is one channel; nan where there is none.
            names: as above.
            channels: as above.
            duplicates: what to do if a channel has different values at one time: "error", or take their "mean".
            empty: the time given to series without any observation; None refuses them.
            dtype: of the values, torch's default if None.
        """
        if len(ts) != len(values) or not len(ts):
            raise ValueError(f"expected times and values for each series, got {len(ts)} and {len(values)} of them")
        dtype = dtype or torch.get_default_dtype()
        parts = []
        for index, (t, x) in enumerate(zip(ts, values, strict=True)):
            time, value = torch.as_tensor(t, dtype=torch.float64), torch.as_tensor(x, dtype=dtype)
            value = value.unsqueeze(1) if value.ndim == 1 else value
            if time.ndim != 1 or value.ndim != 2 or len(time) != len(value):
                raise ValueError(
                    f"series {index} has times of shape {tuple(time.shape)} and values of shape {tuple(value.shape)}; "
                    "expected (N,) and (N, C)"
                )
            row, channel = (~value.isnan()).nonzero().unbind(1)
            parts.append((Long(torch.full_like(row, index), time[row], channel, value[row, channel]), value.shape[1]))
        widths = {width for _, width in parts}
        if len(widths) > 1 or 0 in widths:
            raise ValueError(f"all series need the same number of channels, at least one; got {sorted(widths)}")
        long = Long(*(torch.cat(part) for part in zip(*(long for long, _ in parts), strict=True)))
        _check_times(long.time)
        padded = pad(long, _named(names, len(ts)), _named(channels, widths.pop()), duplicates, empty)
        return Series(*padded, tuple(names), tuple(channels))

    @staticmethod
    def of_table(
        table: Any,
        *,
        series: str = "series",
        time: str = "time",
        channel: str = "channel",
        value: str = "value",
        channels: Sequence[Hashable] | None = None,
        duplicates: Duplicates = "error",
        dtype: torch.dtype | None = None,
    ) -> "Series":
        """Read a long table, one reading a row, in any order.

        Args:
            table: anything with columns by name: a DataFrame, or a dict of lists or arrays.
            series: the column that says which series; any labels. They come in the order in which they appear first.
            time: the column of times, numbers.
            channel: the column that says which channel; any labels.
            value: the column of values, numbers; rows with nan or None are left out.
            channels: the channels, in order; None: those of the table, in the order in which they appear first.
            duplicates: as in ``of``.
            dtype: of the values, torch's default if None.
        """
        labels, kinds = _label_column(table, series), _label_column(table, channel)
        times, numbers = _number_column(table, time), _number_column(table, value)
        if not (len(labels) == len(kinds) == len(times) == len(numbers)):
            raise ValueError(
                f"columns must have one length, got {len(labels)}, {len(times)}, {len(kinds)}, {len(numbers)}"
            )
        kept = ~numbers.isnan()
        if not bool(kept.any()):
            raise ValueError("the table holds no observation")
        if bool((lost := kept & ~times.isfinite()).any()):
            row = int(lost.nonzero()[0])
            raise ValueError(f"column {time!r} must be finite, but has {times[row].item()} in row {row}; leave it out")
        names = {label: index for index, label in enumerate(dict.fromkeys(labels))}
        places = {label: i for i, label in enumerate(dict.fromkeys(kinds) if channels is None else channels)}
        unknown = [label for label in dict.fromkeys(kinds) if label not in places]
        if unknown:
            raise ValueError(f"the table has a channel {unknown[0]!r}; expected one of {list(places)}")
        long = Long(
            torch.tensor([names[label] for label in labels])[kept],
            times[kept],
            torch.tensor([places[kind] for kind in kinds])[kept],
            numbers[kept].to(dtype or torch.get_default_dtype()),
        )
        padded = pad(long, tuple(names), tuple(places), duplicates, None)
        return Series(*padded, tuple(names), tuple(places))

    @staticmethod
    def of_events(ts: Sequence[Any], *, start: float = 0.0, dtype: torch.dtype | None = None) -> "Series":
        """Make events, of one kind, of times (N,) for each series; N may be 0, then the series is at ``start``.

        Its values are 1; ``PoissonProcess`` looks at times and mask only.
        """
        values = [torch.ones(len(t)) for t in ts]
        return Series.of(ts, values, duplicates="mean", empty=start, dtype=dtype)

    def __len__(self) -> int:
        """Return the number of series, B."""
        return self.ts.shape[1]

    def __repr__(self) -> str:
        """Say what it holds without the numbers themselves."""
        length, count, channels = self.values.shape
        first, last = self.ts.min().item(), self.ts.max().item()
        return (
            f"Series({count} series, {channels} channels, up to {length} times from {first:.6g} to {last:.6g}, "
            f"{int(self.observed.sum())} observations)"
        )

    def _labels(self) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """What series and channels are called; their numbers, if they have no names."""
        return _named(self.names, self.ts.shape[1]), _named(self.channels, self.values.shape[2])

    @property
    def observed(self) -> Tensor:
        """Which values were observed, bool (T, B, C)."""
        assert self.mask is not None
        return self.mask

    @property
    def rows(self) -> Tensor:
        """At which times anything was observed, bool (T, B)."""
        return self.observed.any(2)

    @property
    def lengths(self) -> Tensor:
        """Number of times at which anything was observed, (B,)."""
        return self.rows.sum(0)

    def to(self, *where: Any) -> "Series":
        """Return it on another device, or with values of another dtype, as ``Tensor.to`` does."""
        values = self.values.to(*where)
        ts = self.ts.to(values.device, time_dtype(values.device))
        return replace(self, ts=ts, values=values, mask=self.observed.to(values.device))

    def select(self, index: "Tensor | Sequence[int]") -> "Series":
        """Return some of the series, by their places (N,) or bool (B,), no longer than they need."""
        index = torch.as_tensor(index, device=self.ts.device)
        index = index.nonzero().flatten() if index.dtype == torch.bool else index.to(torch.int64)
        longest = max(int(self.rows[:, index].any(1).cumsum(0).argmax()) + 1, 1)
        names = tuple(self.names[i] for i in index.tolist()) if self.names else ()
        ts, values, mask = (x[:longest, index] for x in (self.ts, self.values, self.observed))
        return replace(self, ts=ts, values=values, mask=mask, names=names)

    def where(self, keep: Tensor, *, empty: float | None = None) -> "Series":
        """Return only some of the observations: ``keep`` broadcasts against (T, B, C). The times of others are gone.

        ``empty`` is as in ``of``.
        """
        long = _readings(self.ts, self.values, self.observed & keep)
        padded = pad(long, *self._labels(), "error", empty)
        return Series(*padded, self.names, self.channels)

    def until(self, t: "Tensor | float", *, empty: float | None = None) -> "Series":
        """Return the observations at times up to t, which is one time, or (B,)."""
        return self.where((self.ts <= t).unsqueeze(2), empty=empty)

    def after(self, t: "Tensor | float", *, empty: float | None = None) -> "Series":
        """Return the observations at times after t, which is one time, or (B,)."""
        return self.where((self.ts > t).unsqueeze(2), empty=empty)

    def batches(self, size: int, generator: Generator | None = None) -> Iterator["Series"]:
        """Yield all series once, in random order, so many at a time."""
        for index in torch.randperm(len(self), generator=generator).split(size):
            yield self.select(index)

    def mse(self, predicted: Tensor) -> Tensor:
        """Return the mean square error of predictions (T, B, ..., C) for the values that were observed."""
        error = torch.where(beside(self.observed, predicted), predicted - beside(self.values, predicted), 0.0)
        return error.square().sum() / (self.observed.sum() * (predicted.numel() // self.values.numel()))


def beside(x: Tensor, like: Tensor) -> Tensor:
    """Return x (T, B, C) with dimensions of one number in the middle, to broadcast against (T, B, ..., C)."""
    return x.reshape(*x.shape[:2], *[1] * (like.ndim - 3), x.shape[2])


def _named(labels: Sequence[Hashable], count: int) -> Sequence[Hashable]:
    return labels if len(labels) == count else range(count)


def _readings(ts: Tensor, values: Tensor, mask: Tensor) -> Long:
    row, series, channel = mask.nonzero().unbind(1)
    return Long(series, ts[row, series], channel, values[row, series, channel])


def _column(table: Any, name: str) -> list[Any]:
    try:
        column = table[name]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"the table has no column {name!r}; say which it is, such as time='hours'") from None
    return list(column.tolist() if hasattr(column, "tolist") else column)


def _missing(x: Any) -> bool:
    """None, nan, and what pandas writes instead of them."""
    return x is None or type(x).__name__ in ("NAType", "NaTType") or (isinstance(x, float) and x != x)


def _label_column(table: Any, name: str) -> list[Any]:
    labels = _column(table, name)
    for row, label in enumerate(labels):
        if _missing(label):
            raise ValueError(f"column {name!r} has {label} for a label in row {row}; give it one, or leave the row out")
    return labels


def _number_column(table: Any, name: str) -> Tensor:
    column = [float("nan") if _missing(x) else x for x in _column(table, name)]
    try:
        return torch.tensor(column, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"column {name!r} must be numbers ({error}); dates as hours since some start, say") from None


def _check_times(times: Tensor) -> None:
    if not bool(times.isfinite().all()):
        raise ValueError("times must be finite")
