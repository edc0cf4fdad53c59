"""What normalizing flows have in common: a base distribution, and a map that is followed both ways."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints

from isocline.checks import check_whole
from isocline.tree import describe

Shape = torch.Size | Sequence[int]
NO_SHAPE = torch.Size()

Base = Distribution | int | Sequence[int]
"""A distribution of noise, or the shape of an event whose numbers are standard normal."""


class Moved(NamedTuple):
    """Rows that were taken from noise to data, or back."""

    rows: Tensor
    """(B, *event)."""
    log_det: Tensor
    """Logarithm of the Jacobian's determinant, absolute, (B,)."""
    penalties: dict[str, Tensor]
    """Integrals along the way, (B,) each."""


class Flow(nn.Module, Distribution, ABC):
    r"""A distribution of :math:`x = T(z)` for noise z and an invertible T; abstract.

    .. math:: \log p(x) = \log p_0(T^{-1}(x)) + \log \left|\det \frac{\partial T^{-1}}{\partial x}\right|

    It is a module, whose parameters are T's, and a ``torch.distributions.Distribution``. Shapes are as there: samples
    are (*sample_shape, *batch_shape, *event_shape), log-densities (*sample_shape, *batch_shape), in nats.

    Args:
        base: the noise: a distribution without batch dimensions (see ``torch.distributions.Independent``), or the shape
            of an event, an int or a sequence, for standard normal numbers of the module's device and dtype.
    """

    has_rsample = True
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    origin: Tensor

    def __init__(self, base: Base, **settings: Any) -> None:
        """Check the base."""
        super().__init__(**settings)
        if isinstance(base, Distribution) and base.batch_shape:
            raise ValueError(
                f"base has batch_shape {tuple(base.batch_shape)}, so it is many distributions; make it one of whole "
                f"events: torch.distributions.Independent(base, {len(base.batch_shape)})"
            )
        shape = base.event_shape if isinstance(base, Distribution) else _event_shape(base)
        # Values are not checked: torch's check of them fails under vmap, and a solve says where they are not finite.
        Distribution.__init__(self, torch.Size(), shape, validate_args=False)
        self._base = base if isinstance(base, Distribution) else None
        self.register_buffer("origin", torch.zeros(shape), persistent=False)

    @property
    def base(self) -> Distribution:
        """The distribution of the noise."""
        if self._base is not None:
            return self._base
        normal = Normal(self.origin, torch.ones_like(self.origin), validate_args=False)
        return Independent(normal, len(self.event_shape))

    @property
    def support(self) -> constraints.Constraint:
        """All of the space."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @abstractmethod
    def move(self, rows: Tensor, batch: torch.Size, *, to_data: bool, density: bool) -> Moved:
        """Take rows (B, *event) from noise to data, or back; B is the number of events of shape ``batch``.

        Args:
            rows: noise or data.
            batch: shape of what the rows are of, which has the flow's batch_shape at its end.
            to_data: the direction.
            density: whether ``log_det`` and penalties are wanted; if not they may be anything.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Return the log-density, so that wrappers of modules, such as data-parallel ones, can be called for it."""
        return self.log_prob(x)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of data, in nats."""
        batch = self._batch(value)
        noise, log_det, _ = self.move(self._rows(value, batch), batch, to_data=False, density=True)
        return (self._of_base(noise) + log_det).reshape(batch)

    def to_data(self, noise: Tensor) -> Tensor:
        """Return T(z), of the shape of z (with batch_shape added)."""
        return self._moved(noise, to_data=True)

    def to_noise(self, data: Tensor) -> Tensor:
        """Return the inverse of T, of the shape of x (with batch_shape added)."""
        return self._moved(data, to_data=False)

    def rsample(self, sample_shape: Shape = NO_SHAPE) -> Tensor:
        """Return samples that are differentiable in the flow's parameters."""
        return self.to_data(self._noise(sample_shape))

    def sample(self, sample_shape: Shape = NO_SHAPE) -> Tensor:
        """Return samples."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample_with_log_prob(self, sample_shape: Shape = NO_SHAPE) -> tuple[Tensor, Tensor]:
        """Return samples and their log-densities, by going one way only; both are differentiable."""
        noise = self._noise(sample_shape)
        batch = self._batch(noise)
        rows = self._rows(noise, batch)
        data, log_det, _ = self.move(rows, batch, to_data=True, density=True)
        return data.reshape(noise.shape), (self._of_base(rows) - log_det).reshape(batch)

    def entropy(self, samples: int = 1024) -> Tensor:
        """Return an estimate of the entropy in nats, of shape batch_shape: the mean of -log p over so many samples."""
        check_whole("samples", samples, 1)
        return -self.rsample_with_log_prob((samples,))[1].mean(0)

    def expand(self, batch_shape: Shape, _instance: None = None) -> Self:
        """Return the same flow, parameters shared, with this batch_shape."""
        shape = torch.Size(batch_shape)
        if _broadcast(shape, self.batch_shape) != shape:
            raise ValueError(f"batch_shape {tuple(self.batch_shape)} cannot be expanded to {tuple(shape)}")
        return self.changed(_batch_shape=shape)

    def changed(self, **attributes: Any) -> Self:
        """Return a copy with other attributes, that shares all parameters."""
        other = copy.copy(self)
        vars(other).update(attributes)
        return other

    def _moved(self, x: Tensor, *, to_data: bool) -> Tensor:
        batch = self._batch(x)
        rows = self.move(self._rows(x, batch), batch, to_data=to_data, density=False).rows
        return rows.reshape(*batch, *self.event_shape)

    def _noise(self, sample_shape: Shape) -> Tensor:
        noise: Tensor = self.base.rsample(torch.Size((*sample_shape, *self.batch_shape)))
        return noise

    def _of_base(self, rows: Tensor) -> Tensor:
        """Return the base's log-density; torch's own distributions cannot be asked about no rows."""
        density: Tensor = self.base.log_prob(rows) if len(rows) else rows.new_zeros(0)
        return density

    def _batch(self, x: Tensor) -> torch.Size:
        """Return the shape that x has besides its events', batch_shape at its end; raise if it does not fit."""
        events = len(self.event_shape)
        if not isinstance(x, Tensor) or x.shape[x.ndim - events :] != self.event_shape:
            raise ValueError(f"expected events of shape {tuple(self.event_shape)} at the end, got {describe(x)}")
        batch = _broadcast(x.shape[: x.ndim - events], self.batch_shape)
        if batch is None:
            raise ValueError(
                f"a tensor of shape {tuple(x.shape)} does not fit batch_shape {tuple(self.batch_shape)} and "
                f"event_shape {tuple(self.event_shape)}"
            )
        return batch

    def _rows(self, x: Tensor, batch: torch.Size) -> Tensor:
        return x.expand(*batch, *self.event_shape).reshape(batch.numel(), *self.event_shape)


def _broadcast(*shapes: torch.Size) -> torch.Size | None:
    """Return what the shapes broadcast to, or None."""
    try:
        return torch.Size(torch.broadcast_shapes(*shapes))
    except RuntimeError:
        return None


def _event_shape(shape: object) -> torch.Size:
    sizes = (shape,) if isinstance(shape, int) else shape
    if not isinstance(sizes, Sequence) or not sizes:
        raise TypeError(
            f"base must be a distribution or the shape of an event, 2 or (1, 28, 28) say; got {shape!r:.60}"
        )
    for size in sizes:
        check_whole("base, the shape of an event,", size, 1)
    return torch.Size(sizes)
