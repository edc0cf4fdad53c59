"""What all torch contenders have in common: the state on its device, the loss, its gradient, counting calls."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.case import Case, State, canonical, leaves, map_state, to_numpy
from benchmarks.peers.contender import Answer
from benchmarks.peers.fields import Field


class Solver(Protocol):
    """Solves from y0; returns the saved states in y0's structure or packed, time axis first."""

    def __call__(self, field: Field, y0: State) -> State: ...


class TorchWork:
    """A case on a device, with a field of its own, so that no contender compiles for another."""

    def __init__(self, case: Case, device: str) -> None:
        self.case = case
        self.field = copy.deepcopy(case.field).to(device)
        self.y0: State = map_state(lambda leaf: leaf.to(device), case.y0)
        self.ts = case.ts.to(device)
        self.args = tuple(arg.to(device) for arg in case.args)
        self.solve: Solver

    def call(self) -> tuple[State, list[Tensor]]:
        """Do what is timed; return saved states and gradients."""
        found = self.differentiate(*self.forward()) if self.case.gradient else (self.solve_only(), [])
        if self.ts.is_cuda:
            torch.cuda.synchronize()
        return found

    @torch.no_grad()
    def solve_only(self) -> State:
        return self.solve(self.field, self.y0)

    def forward(self) -> tuple[State, State]:
        """Return a start that wants its gradient, and the saved states."""
        start = map_state(lambda leaf: leaf.detach().requires_grad_(), self.y0)
        return start, self.solve(self.field, start)

    def differentiate(self, start: State, saved: State) -> tuple[State, list[Tensor]]:
        loss = sum(leaf[-1].square().sum() for leaf in leaves(saved))
        assert isinstance(loss, Tensor)
        gradient = torch.autograd.grad(loss, [*leaves(start), *self.field.parameters()], materialize_grads=True)
        return map_state(Tensor.detach, saved), list(gradient)

    def answer(self, found: tuple[State, list[Tensor]]) -> Answer:
        saved, gradient = found
        flat = np.concatenate([to_numpy(part).ravel() for part in gradient]) if gradient else None
        return Answer(canonical(self.case, saved), flat)


@contextmanager
def counting(field: Field) -> Iterator[list[int]]:
    """Yield the list of the batch sizes that the field is called with."""
    rows: list[int] = []
    handle = field.register_forward_pre_hook(lambda module, inputs: rows.append(len(leaves(inputs[1])[0])))
    try:
        yield rows
    finally:
        handle.remove()


def count_calls(work: TorchWork) -> tuple[int, int | None, list[int]]:
    """Return calls of the field forwards, and backwards if there is a gradient, and the batch size of each."""
    with counting(work.field) as rows:
        if not work.case.gradient:
            work.solve_only()
            return len(rows), None, rows
        start, saved = work.forward()
        forward = len(rows)
        work.differentiate(start, saved)
        return forward, len(rows) - forward, rows


def without_none(**counts: Any) -> dict[str, int]:
    return {name: int(count) for name, count in counts.items() if count is not None}
