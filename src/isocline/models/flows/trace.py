"""Ways to compute the trace of a Jacobian: sets of vectors in which it is summed up."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from torch import Generator, Tensor

from isocline.checks import check_whole

Noise = Literal["rademacher", "gaussian"]
Pullback = Callable[[Tensor], tuple[Tensor, ...]]


class Trace(ABC):
    r"""How the trace of a Jacobian J is computed: as :math:`\sum_k v_k^T J v_k`.

    The vectors have :math:`E \sum_k v_k v_k^T = I`, so the sum is the trace, or has it as its mean. They are made once
    for a solve: with fixed vectors the sum is a smooth function of time and state, and its gradient is exact.
    """

    @abstractmethod
    def vectors(self, f: Callable[[Tensor], Tensor], z: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the vectors of each sample, (B, K, *event), in the dtype of z.

        Args:
            f: the field at the start of the solve, (B, *event) -> (B, *event), each row by itself.
            z: the state there, (B, *event).
            generator: source of randomness; torch's own if None.
        """


@dataclass(frozen=True)
class ExactTrace(Trace):
    """The trace itself: n products with the Jacobian for events of n numbers, or the field's closed form if it has one.

    Example:
        >>> import isocline as iso, torch
        >>> from isocline.models.flows import ExactTrace, trace_of
        >>> z = torch.randn(5, 2)
        >>> trace_of(lambda z: z**2, z, ExactTrace()).allclose(2 * z.sum(1))
        True
    """

    def vectors(self, f: Callable[[Tensor], Tensor], z: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the unit vectors."""
        n = z[0].numel()
        return torch.eye(n, dtype=z.dtype, device=z.device).reshape(n, *z.shape[1:]).expand(len(z), n, *z.shape[1:])


EXACT = ExactTrace()


@dataclass(frozen=True)
class Hutchinson(Trace):
    """An unbiased estimate from random vectors, one product with the Jacobian each.

    Its variance is 2 / probes times the sum of the squares of entries of the Jacobian's symmetric part: for signs those
    off the diagonal, for gaussian noise all.

    Args:
        noise: "rademacher", signs, of all independent numbers the ones whose estimate varies least; or "gaussian".
        probes: vectors for each sample.

    References:
        Hutchinson 1990, doi:10.1080/03610919008812866; Grathwohl et al. 2019, FFJORD, arXiv:1810.01367, section 3.1.

    Example:
        >>> import torch
        >>> from isocline.models.flows import Hutchinson, trace_of
        >>> a = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
        >>> trace_of(lambda z: z @ a, torch.randn(2000, 2), Hutchinson()).mean().sub(4).abs() < 0.3
        tensor(True)
    """

    noise: Noise = "rademacher"
    probes: int = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        check_whole("probes", self.probes, 1)
        if self.noise not in ("rademacher", "gaussian"):
            raise ValueError(f"noise must be 'rademacher' or 'gaussian', got {self.noise!r}")

    def vectors(self, f: Callable[[Tensor], Tensor], z: Tensor, generator: Generator | None = None) -> Tensor:
        """Draw them."""
        return _draw(self.noise, z, self.probes, generator) / sqrt(self.probes)


@dataclass(frozen=True)
class HutchPlusPlus(Trace):
    """Hutch++: exact in a subspace where the Jacobian is large, Hutchinson's estimate in the rest. Unbiased.

    The subspace is the range of a random sketch of the transposed Jacobian at the start of the solve, at the price of
    ``sketch`` products there; it is kept, so that each evaluation has ``sketch + probes`` products, and the gradient is
    exact. It pays where few directions make up most of the Jacobian, all along the path.

    Args:
        sketch: dimensions of the subspace, at most those of an event; with as many the trace is exact.
        probes: random vectors in the rest.

    References:
        Meyer, Musco, Musco & Woodruff 2021, Hutch++: Optimal stochastic trace estimation, arXiv:2010.09649.

    Example:
        >>> import torch
        >>> from isocline.models.flows import HutchPlusPlus, trace_of
        >>> u, w = torch.randn(2, 10)
        >>> f = lambda z: torch.tanh(z @ w).unsqueeze(1) * u  # its Jacobian has rank 1
        >>> z = torch.randn(4, 10)
        >>> exact = (1 - torch.tanh(z @ w) ** 2) * (u @ w)
        >>> trace_of(f, z, HutchPlusPlus(sketch=1, probes=1)).allclose(exact, atol=1e-4)
        True
    """

    sketch: int = 1
    probes: int = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        check_whole("sketch", self.sketch, 1)
        check_whole("probes", self.probes, 1)

    def vectors(self, f: Callable[[Tensor], Tensor], z: Tensor, generator: Generator | None = None) -> Tensor:
        """Sketch the Jacobian, and draw in what is left."""
        if self.sketch > z[0].numel():
            raise ValueError(
                f"sketch={self.sketch} is more than the {z[0].numel()} numbers of an event; use ExactTrace()"
            )
        with torch.no_grad():
            pull: Pullback = torch.func.vjp(f, z.detach())[1]
            seen = pull_each(pull, _draw("gaussian", z, self.sketch, generator)).flatten(2)
            basis = torch.linalg.qr(seen.mT)[0].mT
            rest = _draw("rademacher", z, self.probes, generator).flatten(2)
            rest = (rest - rest @ basis.mT @ basis) / sqrt(self.probes)
            return torch.cat([basis, rest], dim=1).reshape(len(z), -1, *z.shape[1:])


def trace_of(
    f: Callable[[Tensor], Tensor], z: Tensor, trace: Trace = EXACT, generator: Generator | None = None
) -> Tensor:
    """Return tr(df/dz) of each row of z (B, *event), as (B,); row i of f may depend on row i of z only.

    Example:
        >>> import torch
        >>> from isocline.models.flows import trace_of
        >>> trace_of(torch.sin, torch.zeros(3, 2))
        tensor([2., 2., 2.])
    """
    vectors = trace.vectors(f, z, generator)
    pull: Pullback = torch.func.vjp(f, z)[1]
    return sum_along(pull, vectors)


def sum_along(pull: Pullback, vectors: Tensor) -> Tensor:
    """Return the sum over k of v_k^T J v_k, (B,), given the pullback a -> J^T a and vectors (B, K, *event)."""
    return (vectors * pull_each(pull, vectors)).flatten(1).sum(1)


def pull_each(pull: Pullback, vectors: Tensor) -> Tensor:
    """Return J^T v_k for vectors (B, K, *event)."""
    if vectors.shape[1] == 1:  # without vmap, which has not all operations
        return pull(vectors.squeeze(1))[0].unsqueeze(1)
    pulled: Tensor = torch.vmap(lambda v: pull(v)[0], in_dims=1, out_dims=1)(vectors)
    return pulled


def _draw(noise: Noise, z: Tensor, count: int, generator: Generator | None) -> Tensor:
    shape = len(z), count, *z.shape[1:]
    if noise == "gaussian":
        return torch.randn(shape, generator=generator, dtype=z.dtype, device=z.device)
    return torch.randint(0, 2, shape, generator=generator, device=z.device).to(z.dtype) * 2 - 1
