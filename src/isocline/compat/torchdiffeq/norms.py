"""Norms of errors, with the structure that the user sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from isocline.compat.torchdiffeq.structure import Structure

Norm = Callable[[Any], Any]
"""Of a tensor, or of a tuple of them."""

Rows = Callable[[Tensor], Tensor]
"""The form that a controller wants: (L, n) -> (L,), with one lane."""


def rms(x: Tensor) -> Tensor:
    """Return the root mean square."""
    mean: Tensor = torch.linalg.vector_norm(x) / x.numel() ** 0.5
    return mean


def mixed(parts: Sequence[Tensor]) -> Any:
    """Return the largest root mean square of several tensors; 0.0 for none."""
    return torch.stack([rms(part) for part in parts]).amax() if parts else 0.0


def of_state(options: Mapping[str, Any], structure: Structure) -> Norm:
    """Return the norm of a packed state: the user's, or rms for a tensor and the mixed one for a tuple."""
    given = options.get("norm")
    if structure.shapes is None:
        return given or rms
    norm = given or mixed
    return lambda y: norm(structure.unpack(y))


def of_row(rows: Tensor, like: Tensor) -> Tensor:
    """Return a row of numbers as a packed state like this one; a complex number is a pair of them in a row."""
    if like.is_complex():
        return torch.view_as_complex(rows.reshape(*like.shape, 2))
    return rows.reshape(like.shape)


def as_rows(norm: Norm, like: Tensor) -> Rows:
    """Return a norm of a packed state as a controller wants it."""
    return lambda rows: _row(norm(of_row(rows, like)), rows)


def _row(size: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(size, dtype=like.dtype, device=like.device).abs().reshape(1)


@dataclass(frozen=True)
class AdjointNorm:
    """The default norm of the adjoint's state ``(t, y, adj_y, *params)``, or without the parameters."""

    state: Norm
    seminorm: bool

    def __call__(self, parts: Sequence[Tensor]) -> Any:
        """Return the largest of the norms of all parts."""
        t, y, adj_y, *params = parts
        size = max(t.abs(), self.of_state(y, adj_y))
        return size if self.seminorm else max(size, mixed(params))

    def of_state(self, y: Tensor, adj_y: Tensor) -> Any:
        """Return what is left of it where time and parameters are not integrated with the state."""
        return max(self.state(y), self.state(adj_y))


def of_adjoint(options: Mapping[str, Any], state: Norm, structure: Structure) -> Norm:
    """Return the norm of the adjoint's state, in which y and adj_y are packed."""
    given = options.get("norm")
    if given is None or isinstance(given, str):
        assert given in (None, "seminorm"), f"the adjoint norm must be 'seminorm' or callable, got {given!r}"
        return AdjointNorm(state, seminorm=given is not None)
    if structure.shapes is None:
        return given  # type: ignore[no-any-return]

    def unpacked(parts: Sequence[Tensor]) -> Any:
        t, y, adj_y, *params = parts
        return given((t, *structure.unpack(y), *structure.unpack(adj_y), *params))

    return unpacked


def as_adjoint_rows(options: Mapping[str, Any], like: Tensor, params: Sequence[Tensor]) -> Rows:
    """Return ``options["norm"]``, looked up anew each time, for rows of (y, adj_y).

    isocline integrates the parameters along with accepted steps, outside the error control: for the norm they, and
    time, are zero.
    """
    rest: list[Tensor] = []

    def norm(rows: Tensor) -> Tensor:
        y, adj_y = (of_row(part, like) for part in rows.tensor_split(2, dim=1))
        own = options["norm"]
        if isinstance(own, AdjointNorm):
            return _row(own.of_state(y, adj_y), rows)
        if not rest:
            rest.extend([rows.new_zeros(()), *(torch.zeros_like(x, requires_grad=False) for x in params)])
        t, *zeros = rest
        return _row(own((t, y, adj_y, *zeros)), rows)

    return norm
