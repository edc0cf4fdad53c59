"""torchdiffeq: backpropagation through `odeint`, and `odeint_adjoint`. It has one step size for the whole batch."""

from functools import partial
from typing import Any

from torch import Tensor, nn

from benchmarks.peers.case import Case, State
from benchmarks.peers.contender import Contender, Counts, Job
from benchmarks.peers.fields import Field
from benchmarks.peers.torch_work import TorchWork, count_calls, without_none


class WithArgs(nn.Module):
    """A field with further arguments, as torchdiffeq wants it."""

    def __init__(self, field: Field, args: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.field = field
        self.args = args

    def forward(self, t: Tensor, y: Any) -> Any:
        return self.field(t, y, *self.args)


class Work(TorchWork):
    def __init__(self, case: Case, device: str, kind: str | None) -> None:
        from torchdiffeq import odeint, odeint_adjoint

        super().__init__(case, device)
        self.odeint = odeint_adjoint if kind == "backsolve" else odeint
        self.steps = 0
        self.solve = self.solve_

    def solve_(self, field: Field, y0: State) -> State:
        f = WithArgs(field, self.args) if self.args else field
        ys: State = self.odeint(f, y0, self.ts, method="dopri5", rtol=self.case.rtol, atol=self.case.atol)
        return ys

    def count(self) -> Counts:
        forward, backward, rows = count_calls(self)
        # Two for the first step size, then the six new stages of every attempt.
        return without_none(
            evaluations=forward,
            backward=backward,
            steps=(forward - 2) // 6,
            rows=sum(rows) if self.case.per_sample else None,
        )


def build(kind: str | None, case: Case, device: str) -> Job:
    work = Work(case, device, kind)
    return Job(work.call, work.answer, work.count)


CONTENDERS = [
    Contender(
        name=":".join(word for word in ("torchdiffeq", kind) if word),
        package="torchdiffeq",
        build=partial(build, kind),
        cuda=True,
        gradient=kind is not None,
    )
    for kind in (None, "direct", "backsolve")
]
