"""Arguments of f that have a row for each lane."""

from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from isocline.tree import describe, map_leaves


@runtime_checkable
class Rows(Protocol):
    """What has a row for each lane without being a tensor, such as a control made with ``batch_dims``."""

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the lanes."""

    def take_lanes(self, lanes: Tensor) -> "Rows":
        """Return the rows of some lanes (A,)."""


@dataclass(frozen=True)
class PerLane:
    """Marks an argument of f as having one row for each sample: ``solve(..., args=(PerLane(mu), k), batch_dims=1)``.

    f receives the plain values. In a per-sample solve, samples that have reached their end are no longer evaluated: f
    gets the rows of the others in y, in t, and in the arguments marked so. Without ``batch_dims`` it changes nothing.

    Args:
        values: a tensor whose first dimensions are those of the batch, or a control made with these ``batch_dims``.

    Example:
        >>> import isocline as iso, torch
        >>> mu = torch.logspace(-1, 1, 8)
        >>> f = lambda t, y, mu: -mu.unsqueeze(1) * y
        >>> iso.solve(f, torch.ones(8, 2), (0.0, 1.0), args=(iso.PerLane(mu),), batch_dims=1).ys.shape
        torch.Size([2, 8, 2])
    """

    values: "Tensor | Rows"

    def __post_init__(self) -> None:
        """Check the type."""
        if not isinstance(self.values, (Tensor, Rows)):
            raise TypeError(f"PerLane needs a tensor, got {describe(self.values)}; or a control made with batch_dims")

    @property
    def batch_shape(self) -> torch.Size:
        """Shape that may begin with that of the batch."""
        return self.values.shape if isinstance(self.values, Tensor) else self.values.batch_shape


def unmark(args: tuple[Any, ...], batch_shape: torch.Size) -> tuple[tuple[Any, ...], frozenset[int]]:
    """Return the arguments as f gets them, and which of their leaves, counted in order, were marked.

    Raises:
        ValueError: a marked tensor has not the shape of the batch in front.
    """
    index, marked = count(), set()

    def plain(x: Any) -> Any:
        place = next(index)
        if not isinstance(x, PerLane):
            return x
        if x.batch_shape[: len(batch_shape)] != batch_shape:
            raise ValueError(
                f"PerLane needs one row for each sample, first dimensions {tuple(batch_shape)}; got "
                f"{describe(x.values)}"
            )
        marked.add(place)
        return x.values

    return map_leaves(plain, args), frozenset(marked)


def take_lanes(
    args: tuple[Any, ...], marked: frozenset[int], lanes: Tensor, batch_shape: torch.Size
) -> tuple[Any, ...]:
    """Return the arguments with these rows of the marked leaves, in the shape of their batch."""
    if not marked:
        return args
    index = count()
    taken: tuple[Any, ...] = map_leaves(
        lambda x: take_rows(x, lanes, batch_shape) if next(index) in marked else x, args
    )
    return taken


def take_rows(x: Any, lanes: Tensor, batch_shape: torch.Size) -> Any:
    """Return the rows of some lanes of x (*batch, ...)."""
    if not isinstance(x, Tensor):
        return x.take_lanes(lanes)
    batch_dims = len(batch_shape)
    return x.flatten(0, batch_dims - 1).index_select(0, lanes).reshape(*batch_shape, *x.shape[batch_dims:])
