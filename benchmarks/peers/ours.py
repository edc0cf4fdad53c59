"""isocline, eager and compiled, with each of its gradient methods."""

from functools import partial
from typing import Any

import isocline as iso
from benchmarks.peers.case import Case, State
from benchmarks.peers.contender import Contender, Counts, Job
from benchmarks.peers.fields import Field
from benchmarks.peers.torch_work import TorchWork, counting, without_none

GRADIENTS: dict[str, type[iso.Gradient]] = {
    "direct": iso.DirectAdjoint,
    "checkpoint": iso.RecursiveCheckpointAdjoint,
    "backsolve": iso.BacksolveAdjoint,
}
FIRST, STAGES = 2, 6
"""dopri5: evaluations before the first step, and in every step."""


class Work(TorchWork):
    """Keeps the statistics of the last solve; they hold no graph."""

    def __init__(self, case: Case, device: str, kind: str | None, compiled: bool) -> None:
        super().__init__(case, device)
        self.compiled = compiled
        self.stats: iso.Stats
        self.settings: dict[str, Any] = {"method": "dopri5", "rtol": case.rtol, "atol": case.atol}
        self.settings["batch_dims"] = int(case.per_sample)
        if kind is not None:
            self.settings["gradient"] = GRADIENTS[kind]()
        if compiled:
            self.settings["compile"] = True
        # Samples that have ended leave the batch, and their arguments with them.
        self.marked = tuple(iso.PerLane(x) for x in self.args) if case.per_sample else self.args
        self.solve = self.solve_

    def solve_(self, field: Field, y0: State) -> State:
        sol = iso.solve(field, y0, self.ts, args=self.marked, **self.settings)
        self.stats = sol.stats
        ys: State = sol.ys
        return ys

    def count(self) -> Counts:
        rows = self.count_rows()
        stats, per_sample = self.stats, self.case.per_sample
        steps, backward = stats.steps, stats.backward
        return without_none(
            evaluations=stats.evaluations,
            backward=backward.evaluations if backward is not None else 0 if self.case.gradient else None,
            steps=steps.max(),
            rows=rows if per_sample else None,
            rows_alone=FIRST * self.case.batch + STAGES * steps.sum() if per_sample else None,
        )

    def count_rows(self) -> int | None:
        """Run once. A hook on the field would be compiled, too: there only isocline itself can count rows."""
        if self.compiled:
            self.call()
            seen = None
        else:
            with counting(self.field) as rows:
                self.call()
            seen = sum(rows)
        reported = getattr(self.stats, "rows", None)
        return seen if reported is None else int(reported)


def build(kind: str | None, compiled: bool, case: Case, device: str) -> Job:
    work = Work(case, device, kind, compiled)
    return Job(work.call, work.answer, work.count)


CONTENDERS = [
    Contender(
        name=":".join(word for word in ("isocline", kind, mode) if word),
        package="isocline",
        build=partial(build, kind, mode == "compiled"),
        cuda=True,
        gradient=kind is not None,
        suits=lambda case: True,
    )
    for kind in (None, *GRADIENTS)
    for mode in ("eager", "compiled")
]
