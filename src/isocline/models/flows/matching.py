"""Flow matching: training the field of a CNF without solving it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Any

import torch
from torch import Generator, Tensor

from isocline.tree import describe

Pairing = Callable[[Tensor, Tensor], Tensor]
"""Takes noise and data, (B, *event) each, and returns the noise in another order: row i is for row i of the data."""


class Path(ABC):
    """A way from noise to data in unit time."""

    @abstractmethod
    def at(self, t: Tensor, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the way from x0 to x1 is at t, and its velocity there; t broadcasts against both."""


@dataclass(frozen=True)
class LinearPath(Path):
    r"""Straight lines: :math:`x_t = (1 - (1 - \sigma) t) x_0 + t x_1`, optimal transport between two Gaussians.

    Args:
        sigma: how wide a Gaussian is left around each data point at t = 1.

    References:
        Lipman, Chen, Ben-Hamu, Nickel & Le 2023, Flow matching for generative modeling, arXiv:2210.02747, section 4.1.

    Example:
        >>> import torch
        >>> from isocline.models.flows import LinearPath
        >>> LinearPath().at(torch.tensor(0.25), torch.zeros(2), torch.ones(2))
        (tensor([0.2500, 0.2500]), tensor([1., 1.]))
    """

    sigma: float = 0.0

    def __post_init__(self) -> None:
        """Check the setting."""
        if not 0 <= self.sigma < 1:
            raise ValueError(f"sigma must be at least 0 and below 1, got {self.sigma!r}")

    def at(self, t: Tensor, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """Return point and velocity."""
        velocity = x1 - (1 - self.sigma) * x0
        return x0 + t * velocity, velocity


@dataclass(frozen=True)
class TrigonometricPath(Path):
    r"""Quarter circles: :math:`x_t = \cos(\pi t / 2) x_0 + \sin(\pi t / 2) x_1`; independent ends keep their variance.

    References:
        Albergo & Vanden-Eijnden 2023, Building normalizing flows with stochastic interpolants, arXiv:2209.15571.

    Example:
        >>> import torch
        >>> from isocline.models.flows import TrigonometricPath
        >>> TrigonometricPath().at(torch.tensor(0.0), torch.zeros(1), torch.ones(1))
        (tensor([0.]), tensor([1.5708]))
    """

    def at(self, t: Tensor, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """Return point and velocity."""
        cos, sin = torch.cos(t * pi / 2), torch.sin(t * pi / 2)
        return cos * x0 + sin * x1, pi / 2 * (cos * x1 - sin * x0)


def flow_matching_loss(
    field: Callable[..., Tensor],
    x1: Tensor,
    *args: Any,
    x0: Tensor | None = None,
    path: Path = LinearPath(),
    pairing: Pairing | None = None,
    generator: Generator | None = None,
) -> Tensor:
    r"""Return how far a field is from the velocities of paths from noise to data.

    .. math:: E_{t, x_0, x_1} \left|f(t, x_t) - \dot x_t\right|^2

    Its minimum is the field that moves the noise to the data between t = 0 and t = 1: train by this, then sample and
    compute densities with ``CNF(field, ...)``, by any method. Nothing is solved.

    Args:
        field: ``field(t, x, *args) -> dx``; t is (B, 1, ..., 1), as in a per-sample solve.
        x1: data, (B, *event).
        args: further arguments of the field, such as a context (B, c).
        x0: noise, (B, *event); standard normal if None.
        path: ``LinearPath()`` or ``TrigonometricPath()``.
        pairing: which noise goes with which data point: None for any, or ``minibatch_optimal_transport``.
        generator: source of noise and times; torch's own if None.

    Returns:
        A number: the mean over samples of the squared norm.

    References:
        Lipman, Chen, Ben-Hamu, Nickel & Le 2023, arXiv:2210.02747; Tong et al. 2023, arXiv:2302.00482 (pairing).

    Example:
        >>> import isocline as iso, torch
        >>> from isocline.models.flows import FFJORDField
        >>> field = FFJORDField(2, (32,))
        >>> iso.flow_matching_loss(field, torch.randn(64, 2)).backward()
        >>> iso.CNF(field, 2).log_prob(torch.randn(3, 2)).shape
        torch.Size([3])
    """
    if not isinstance(x1, Tensor) or x1.ndim < 2:
        raise ValueError(f"x1 must be data of shape (B, *event), got {describe(x1)}")
    if x0 is None:
        x0 = torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=x1.device)
    if x0.shape != x1.shape:
        raise ValueError(f"noise and data must have one shape, got {tuple(x0.shape)} and {tuple(x1.shape)}")
    if pairing is not None:
        x0 = pairing(x0, x1)
    shape = len(x1), *[1] * (x1.ndim - 1)
    t = torch.rand(shape, generator=generator, dtype=x1.dtype, device=x1.device)
    x, velocity = path.at(t, x0, x1)
    return (field(t, x, *args) - velocity).square().flatten(1).sum(1).mean()
