"""The field alone, called as often as isocline calls it in a solve: what is left is the solver's overhead."""

from functools import partial

import torch

import isocline as iso
from benchmarks.peers.case import Case
from benchmarks.peers.contender import Contender, Counts, Job
from benchmarks.peers.torch_work import TorchWork


def build(compiled: bool, case: Case, device: str) -> Job:
    work = TorchWork(case, device)
    t = work.ts[0]
    with torch.no_grad():
        sol = iso.solve(work.field, work.y0, work.ts, method="dopri5", rtol=case.rtol, atol=case.atol)
    evaluations = sol.stats.evaluations
    field = torch.compile(work.field) if compiled else work.field

    @torch.no_grad()
    def call() -> None:
        for _ in range(evaluations):
            field(t, work.y0)
        if t.is_cuda:
            torch.cuda.synchronize()

    def count() -> Counts:
        return {"evaluations": evaluations}

    return Job(call, lambda nothing: None, count)


CONTENDERS = [
    Contender(
        name=f"bare:{mode}",
        package="isocline",
        build=partial(build, mode == "compiled"),
        cuda=True,
        suits=lambda case: case.overhead,
    )
    for mode in ("eager", "compiled")
]
