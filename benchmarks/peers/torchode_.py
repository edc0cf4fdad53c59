"""torchode: every sample has its own step size, always. Eager, and compiled as its README does it.

Its gradients: backpropagation through the loop, and its joint backsolve, which like the others' has one step size for
the batch. (Its other backsolve keeps a gradient of all parameters for every sample.)
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.case import Case, State, leaves, map_state, pack, unpack
from benchmarks.peers.contender import Contender, Counts, Job
from benchmarks.peers.fields import Field
from benchmarks.peers.torch_work import TorchWork, without_none


class TensorType:
    """Stands for whatever a torchtyping annotation says."""

    def __class_getitem__(cls, item: Any) -> type:
        return cls


@contextmanager
def plain_annotations() -> Iterator[None]:
    """Stand in for torchtyping, which cannot be imported with current torch; torchode only annotates with it."""
    stand_in = ModuleType("torchtyping")
    stand_in.TensorType, stand_in.is_float = TensorType, None  # type: ignore[attr-defined]
    before = sys.modules.get("torchtyping")
    sys.modules["torchtyping"] = stand_in
    try:
        yield
    finally:
        del sys.modules["torchtyping"]
        if before is not None:
            sys.modules["torchtyping"] = before


class Packed(nn.Module):
    """A field over (batch, numbers), the only shape of torchode's states."""

    def __init__(self, field: Field, case: Case, args: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.field = field
        self.case = case
        self.args = args
        self.plain = isinstance(case.y0, Tensor) and case.y0.ndim == 2
        self.time_shape = (-1, *([1] * (leaves(case.y0)[0].ndim - 1)))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        t = t.reshape(self.time_shape)
        if self.plain:
            dy: Tensor = self.field(t, y, *self.args)
            return dy
        packed: Tensor = pack(torch, self.field(t, unpack(self.case, y), *self.args))
        return packed


class Work(TorchWork):
    def __init__(self, case: Case, device: str, kind: str | None, compiled: bool) -> None:
        with plain_annotations():
            import torchode

        super().__init__(case, device)
        term = torchode.ODETerm(Packed(self.field, case, self.args))
        controller = torchode.IntegralController(atol=case.atol, rtol=case.rtol, term=term)
        method = torchode.Dopri5(term=term)
        if kind == "backsolve":
            solver = torchode.JointBacksolveAdjoint(term, torchode.Dopri5(), controller)
        else:
            solver = torchode.AutoDiffAdjoint(method, controller)
        solver.to(device)
        self.run = torch.compile(solver.solve) if compiled else solver.solve
        self.problem = torchode.InitialValueProblem
        self.stats: dict[str, Any]
        self.solve = self.solve_

    def solve_(self, field: Field, y0: State) -> State:
        times = self.ts.expand(self.case.batch, -1)
        # Without save times it has a quicker way to the end state.
        saved = times if self.case.saved > 1 else None
        found = self.run(self.problem(pack(torch, y0), times[:, 0], times[:, -1], saved))
        self.stats = found.stats
        return self.unpack(found.ys)

    def unpack(self, ys: Tensor) -> State:
        """Return (batch, times, numbers) in the structure of y0, time axis first."""
        if isinstance(self.case.y0, Tensor):
            return ys.transpose(0, 1)
        flat = unpack(self.case, ys.reshape(-1, ys.shape[-1]))
        return map_state(lambda leaf: leaf.reshape(*ys.shape[:2], *leaf.shape[1:]).transpose(0, 1), flat)

    def count(self) -> Counts:
        self.call()
        evaluations = self.stats["n_f_evals"].max()
        back = sum(int(stats["n_f_evals"].max()) for stats in self.stats.get("backsolve", []))
        return without_none(
            evaluations=evaluations,
            backward=back if self.case.gradient else None,
            steps=self.stats["n_steps"].max(),
            rows=evaluations * self.case.batch if self.case.per_sample else None,
        )


def build(kind: str | None, compiled: bool, case: Case, device: str) -> Job:
    work = Work(case, device, kind, compiled)
    return Job(work.call, work.answer, work.count)


CONTENDERS = [
    Contender(
        name=":".join(word for word in ("torchode", kind, mode) if word),
        package="torchode",
        build=partial(build, kind, mode == "compiled"),
        cuda=True,
        gradient=kind is not None,
    )
    for kind, mode in (
        (None, "eager"),
        (None, "compiled"),
        ("direct", "eager"),
        ("direct", "compiled"),
        ("backsolve", "eager"),
    )
]
