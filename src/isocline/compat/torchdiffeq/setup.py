"""What a caller gave, checked in torchdiffeq's order and with its exceptions, and packed."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from operator import gt, lt
from typing import Any

import torch
from torch import Tensor

from isocline.compat.torchdiffeq.methods import DEFAULT, SOLVERS, Method
from isocline.compat.torchdiffeq.norms import Norm, Rows, as_rows, of_state
from isocline.compat.torchdiffeq.stepping import Stepping, stepping
from isocline.compat.torchdiffeq.structure import Structure, structure_of


@dataclass(frozen=True)
class Setup:
    """One call."""

    func: Callable[..., Any]
    structure: Structure
    y0: Tensor
    """Packed."""
    t: Tensor
    rtol: Any
    atol: Any
    method: Method
    options: dict[str, Any]
    """Those that the method knows."""
    how: Stepping
    """How to step forwards."""

    @property
    def norm(self) -> Norm:
        """Of a packed state."""
        return of_state(self.options, self.structure)

    @property
    def descending(self) -> bool:
        """Whether time runs backwards."""
        return len(self.t) > 1 and bool(self.t[0] > self.t[1])


def with_grid(options: dict[str, Any], func: Callable[..., Any], y0: Any) -> dict[str, Any]:
    """Return the options with a grid constructor, if there is one, that needs the times only."""
    make = options.get("grid_constructor")
    return options if make is None else {**options, "grid_constructor": lambda t: make(func, y0, t)}


def make_setup(
    func: Callable[..., Any], y0: Any, t: Any, rtol: Any, atol: Any, method: str | None, options: Any, events: bool
) -> Setup:
    """Check.

    Raises:
        ValueError: an unknown method, options that do not fit, or times that do not fit an event.
        TypeError: times that are not floating point.
        AssertionError: everything else that is wrong with state, times and tolerances.
    """
    if events and len(t) != 2:
        raise ValueError(f"We require len(t) == 2 when in event handling mode, but got len(t)={len(t)}.")
    structure = structure_of(y0)
    rtol, atol = structure.tolerance("rtol", rtol), structure.tolerance("atol", atol)
    packed = structure.pack(y0)
    found = find_method(method)
    known = found.known(method or DEFAULT, options or {})
    _check_times(t)
    if t.device != packed.device:
        warnings.warn("t is not on the same device as y0. Coercing to y0.device.", stacklevel=4)
        t = t.to(packed.device)
    plain = structure.shapes is None and "norm" not in known
    norm: Rows | str = "rms" if plain else as_rows(of_state(known, structure), packed.detach())
    how = stepping(found, with_grid(known, func, y0), rtol, atol, norm, packed, t)
    return Setup(func, structure, packed, t, rtol, atol, found, known, how)


def find_method(name: str | None) -> Method:
    """Return the method of a name; None is the default."""
    name = name or DEFAULT
    if name not in SOLVERS:
        names = '", "'.join(SOLVERS)
        raise ValueError(f'Invalid method "{name}". Must be one of {{"{names}"}}.')
    return SOLVERS[name]


def _check_times(t: Any) -> None:
    assert isinstance(t, Tensor), f"t must be a torch.Tensor; got {type(t).__name__}"
    if not torch.is_floating_point(t):
        raise TypeError(f"`t` must be a floating point Tensor but is a {t.type()}")
    assert t.ndim == 1, f"t must be one dimensional; got {t.ndim} dimensions"
    times = t.detach().tolist()
    ordered = all(map(lt, times, times[1:])) or all(map(gt, times, times[1:]))
    assert ordered, "t must be strictly increasing or decreasing"
