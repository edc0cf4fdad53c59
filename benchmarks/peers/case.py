"""A case: one initial value problem that every contender is given, with the same numbers."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.fields import Field

State = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """An initial value problem, what is asked of it, and how large an error may be."""

    name: str
    what: str
    """The problem in one line."""
    field: Field
    y0: State
    """float32; the first axis is the batch."""
    ts: Tensor
    """Save times, float32. The first is the start; with two, only the end is of interest."""
    args: tuple[Tensor, ...] = ()
    """Further arguments of the field: one number a sample each."""
    rtol: float = 1e-5
    atol: float = 1e-6
    per_sample: bool = False
    """Each sample has its own step size, in the libraries that can do it."""
    gradient: bool = False
    """Also differentiate the sum of squares of the end state by y0 and all parameters."""
    overhead: bool = False
    """The time of a solve is compared with that of its evaluations alone."""
    bound: float = 1e-3
    """Largest relative error of the states of a right answer."""
    gradient_bound: float = 1e-2
    """The same for the gradient."""

    @property
    def batch(self) -> int:
        return len(leaves(self.y0)[0])

    def double(self) -> "Case":
        """Return the same case in float64, with the same values."""
        return replace(
            self,
            field=copy.deepcopy(self.field).double(),
            y0=map_state(Tensor.double, self.y0),
            ts=self.ts.double(),
            args=tuple(arg.double() for arg in self.args),
        )

    @property
    def saved(self) -> int:
        """How many states an answer has: all save times but the start."""
        return len(self.ts) - 1


def leaves(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def map_state(change: Callable[[Any], Any], state: Any) -> Any:
    return tuple(change(leaf) for leaf in state) if isinstance(state, tuple) else change(state)


def pack(xp: Any, state: Any) -> Any:
    """Return the state as one array (batch, numbers), for libraries that know no other."""
    rows = [leaf.reshape(len(leaf), -1) for leaf in leaves(state)]
    return rows[0] if len(rows) == 1 else xp.concatenate(rows, axis=1)


def unpack(case: Case, y: Any) -> Any:
    """Return an array (batch, numbers) in the structure of the case's state."""
    parts, start = [], 0
    for leaf in leaves(case.y0):
        size = leaf[0].numel()
        parts.append(y[:, start : start + size].reshape(len(y), *leaf.shape[1:]))
        start += size
    return tuple(parts) if isinstance(case.y0, tuple) else parts[0]


def to_numpy(x: Any) -> np.ndarray:
    """Return a tensor or array as float64 on the host."""
    return np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x, dtype=np.float64)


def canonical(case: Case, saved: Any) -> np.ndarray:
    """Return saved states, time axis first, as (saved times after the start, batch, numbers)."""
    parts = [to_numpy(leaf)[-case.saved :].reshape(case.saved, case.batch, -1) for leaf in leaves(saved)]
    return np.concatenate(parts, axis=2)
