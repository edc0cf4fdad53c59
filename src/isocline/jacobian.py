"""Derivatives of a field with respect to state and time, for methods that linearise it."""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from isocline.history import abreast, is_own, own_leaf, walk
from isocline.layout import as_reals
from isocline.numbers import Number, spread, time_dtype
from isocline.solvers.base import Field
from isocline.transforms import transforming
from isocline.tree import describe

UserJacobian = Callable[..., Tensor]
"""df/dy by the user, called as f is: ``jacobian(t, y, *args)``; see ``linearize``."""


class Linear(NamedTuple):
    """A field near a point (t, y): ``f + J dy + f_t dt``."""

    f: Tensor
    """(L, n)"""
    by_state: Tensor
    """J (L, n, n): row i, column j is df_i/dy_j."""
    by_time: Tensor
    """f_t (L, n)."""


def linearize(
    f: Field, t: Number, y: Tensor, create_graph: bool = False, jacobian: UserJacobian | None = None
) -> Linear:
    """Return f and its derivatives at (t (L,), y (L, n)), by one evaluation and n backward passes through it, batched.

    Lanes do not depend on each other, so row i of all their Jacobians comes from one product.

    Args:
        f: the field.
        t: time of each lane.
        y: states.
        create_graph: whether all three are to be differentiated themselves; else they are constants.
        jacobian: gives J instead: a tensor (n, n), or (*batch, n, n) per sample, n being the numbers of a lane. Of a
            complex state it may be complex, with half as many rows and columns, if f is holomorphic. Then there are two
            backward passes, for f_t.

    Raises:
        ValueError: ``jacobian`` returned something that does not fit.
    """
    count(f)
    like = torch.zeros((), dtype=time_dtype(y.device), device=y.device)
    if transforming():
        near = _transformed(f, spread(t, like), y, jacobian)
        return near if create_graph else Linear(*(part.detach() for part in near))
    with torch.inference_mode(mode=False), torch.enable_grad():
        t, y = (x if create_graph and x.requires_grad else own_leaf(x) for x in (spread(t, like), y))
        behind = not (is_own(t) and is_own(y))
        if behind:
            t, y = abreast(t, y)
        dy = f(t, y)
        create_graph = create_graph and (behind or _differentiable(dy))
        if jacobian is not None:
            parts = dy, given(jacobian, f, t, y), _slope(dy, t, create_graph)
        elif dy.requires_grad:
            by_state, by_time = rows(dy, (y, t), create_graph)
            parts = dy, by_state, by_time.squeeze(2)
        else:
            parts = dy, dy.unsqueeze(2) * y.new_zeros(y.shape[1]), torch.zeros_like(dy)
    by_f, by_state, by_time = parts if create_graph else (part.detach() for part in parts)
    return Linear(by_f, by_state, by_time.to(dy.dtype))


def jacobian_at(f: Field, t: Number, y: Tensor, jacobian: UserJacobian | None = None) -> Tensor:
    """Return J (L, n, n) alone, as a constant: the user's, which costs no evaluation, or that of ``linearize``."""
    if jacobian is None:
        return linearize(f, t, y).by_state
    count(f)
    with torch.no_grad():
        return given(jacobian, f, t, y).detach()


def _transformed(f: Field, t: Tensor, y: Tensor, jacobian: UserJacobian | None) -> Linear:
    """Do the same inside transforms, where tensors cannot be made to require grad: by one more transform."""
    dy, pull = torch.func.vjp(f, t, y)[:2]
    by_time, by_state = torch.vmap(pull)(_units(dy))
    by_state = by_state.transpose(0, 1) if jacobian is None else given(jacobian, f, t, y)
    return Linear(dy, by_state, by_time.T.to(dy.dtype))


def _units(dy: Tensor) -> Tensor:
    """Return the unit vectors (n, L, n): one at a time, the same in all lanes."""
    lanes, n = dy.shape
    return torch.eye(n, dtype=dy.dtype, device=dy.device).unsqueeze(1).expand(n, lanes, n)


def count(f: Field) -> None:
    """Count a Jacobian."""
    if hasattr(f, "count_jacobian"):
        f.count_jacobian()


def _differentiable(dy: Tensor) -> bool:
    """Whether dy depends on anything that requires grad besides what was made here."""
    return not all(map(is_own, walk([dy])[0]))


def given(jacobian: UserJacobian, f: Field, t: Number, y: Tensor) -> Tensor:
    """Return the user's Jacobian as (L, n, n).

    Raises:
        ValueError: it does not fit.
    """
    lanes, n = y.shape
    found = f.apply(jacobian, t, y)  # type: ignore[attr-defined]
    if isinstance(found, Tensor) and found.is_complex() and found.ndim > 1:
        found = _of_parts(found)
    if not isinstance(found, Tensor) or found.numel() != lanes * n * n:
        raise ValueError(
            f"jacobian returned {describe(found)}, but df/dy has {n} x {n} numbers for each of {lanes} lanes: return "
            f"a tensor of shape ({n}, {n}), or (*batch, {n}, {n}) with batch_dims, row i column j being df_i/dy_j; for "
            "a complex state half as many complex numbers, if f is holomorphic, or leave jacobian out"
        )
    return found.reshape(lanes, n, n).to(y.dtype)


def _of_parts(jacobian: Tensor) -> Tensor:
    """Return a complex derivative (..., m, m) as that of real and imaginary parts, side by side: (..., 2m, 2m)."""
    parts = torch.stack([as_reals(jacobian), as_reals(1j * jacobian)], dim=-1)
    return parts.transpose(-3, -2).flatten(-2).flatten(-3, -2)


def _slope(dy: Tensor, t: Tensor, create_graph: bool) -> Tensor:
    """Return the derivative of dy (L, n) with respect to t (L,): two passes, as ``v -> v^T f_t`` is linear in v."""
    v, _ = abreast(torch.zeros_like(dy, requires_grad=True), dy)
    product = None
    if dy.requires_grad:
        (product,) = torch.autograd.grad(dy, t, v, create_graph=True, allow_unused=True)
    if product is None or not product.requires_grad:
        return torch.zeros_like(dy)
    (slope,) = torch.autograd.grad(product.sum(), v, create_graph=create_graph, retain_graph=True)
    return slope


def rows(dy: Tensor, inputs: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    """Return the derivatives of dy (L, n) with respect to each input (L, ...) as (L, n, numbers of a lane)."""
    lanes, n = dy.shape
    each = _units(dy)

    def pull(bar: Tensor, batched: bool) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            dy, inputs, bar, create_graph=create_graph, retain_graph=True, allow_unused=True, is_grads_batched=batched
        )

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*performance drop")
            found = pull(each, batched=True)
    except RuntimeError:  # an operation, or an autograd.Function of the user, that torch cannot batch
        rows = [pull(bar, batched=False) for bar in each]
        found = tuple(None if parts[0] is None else torch.stack(parts) for parts in zip(*rows, strict=True))
    missing = ((n, *x.shape) for x in inputs)
    filled = (dy.new_zeros(shape) if part is None else part for part, shape in zip(found, missing, strict=True))
    return [part.reshape(n, lanes, -1).transpose(0, 1) for part in filled]
