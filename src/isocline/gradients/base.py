"""The interface of gradient methods, and the plain solve that they share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from isocline.compiled import Run
from isocline.gradients.black_box import run_black_box
from isocline.loop import integrate, start
from isocline.numbers import stack, where
from isocline.observers import Observer, Reach, Record, Save
from isocline.problem import Dense, Outputs, Problem
from isocline.solvers.base import BlackBox, Solver
from isocline.state import Status, Step, alike
from isocline.stops import Marks
from isocline.times import Times


class Gradient(ABC):
    """A way to differentiate a solve. Final subclasses are frozen dataclasses."""

    def suits(self, solver: Solver) -> bool:
        """Whether it can differentiate a solve by this method: most need its steps, which a black box does not show."""
        return not isinstance(solver, BlackBox)

    @abstractmethod
    def solve(self, problem: Problem) -> Outputs:
        """Solve the problem so that autograd can differentiate what is returned."""


MakeObserver = Callable[[Save | None], Observer]


def run(problem: Problem, f0: Tensor | None = None, more: Sequence[MakeObserver] = ()) -> Outputs:
    """Integrate and save. ``more`` are functions that make a further observer, given the ``Save`` or None."""
    times = problem.times
    if isinstance(problem.solver, BlackBox):
        return run_black_box(problem, problem.solver, f0)
    if problem.traced is not None:
        compiled = Run(problem, problem.traced)
        return compiled.outputs(compiled.chunks(recorded=False))
    t0, t1 = problem.ts.number(0), problem.ts.number(-1)
    before = None if problem.before is None else alike(problem.before, times, numbers=isinstance(t0, float))
    state = start(problem.field, problem.solver, problem.controller, t0, problem.y0, t1, f0, before)
    marks = None if problem.marks is None else Marks(problem.marks, problem.ts.sign)
    save = Save(problem.field, problem.solver, times[1:-1], _reach(problem.ts)) if len(times) > 2 else None
    record = Record() if problem.dense else None
    first = [observer for observer in (save, record) if observer is not None]
    observers = [*first, *(make(save) for make in more), *problem.observers]
    limit = problem.max_steps
    state = integrate(problem.field, problem.solver, problem.controller, state, t1, limit, observers, marks)
    arrived = where(state.status == int(Status.SUCCESS), state.y, torch.full_like(state.y, float("nan")))
    ys = torch.stack([problem.y0, arrived]) if save is None else save.saved.between(problem.y0, arrived)
    return Outputs(ys, None if record is None else stack_steps(record, problem), state)


def _reach(ts: Times) -> Reach:
    host = ts.host if isinstance(ts.number(0), float) else None
    return Reach(ts.values[1:-1] if host is None else host[1:-1], ts.sign)


def stack_steps(record: Record, problem: Problem) -> Dense:
    """Stack recorded steps; a solve that made none gets one of length zero, so that y0 can be looked up."""
    steps = _of_all_lanes(record.steps)
    if not steps:
        t, y = problem.times[:1], problem.y0.unsqueeze(0)
        return Dense(t, t, y, y, torch.zeros_like(y).unsqueeze(2).repeat(1, 1, problem.solver.dense_stages, 1))
    t0, t1 = stack([step.t0 for step in steps], problem.times), stack([step.t1 for step in steps], problem.times)
    y0, y1 = torch.stack([step.y0 for step in steps]), torch.stack([step.y1 for step in steps])
    return Dense(t0, t1, y0, y1, torch.stack([torch.stack(step.stages, dim=1) for step in steps]))


def _of_all_lanes(steps: Sequence[Step]) -> list[Step]:
    """Return the steps with rows for all lanes; those that had left rest at their ends."""
    whole: list[Step] = []
    for step in steps:
        if step.lanes is None:
            whole.append(step)
            continue
        t, y, nothing = whole[-1].t1, whole[-1].y1, torch.zeros_like(whole[-1].y1)
        t0, t1 = (t.index_copy(0, step.lanes, part) for part in (step.t0, step.t1))
        y0, y1 = (y.index_copy(0, step.lanes, part) for part in (step.y0, step.y1))
        whole.append(Step(t0, t1, y0, y1, tuple(nothing.index_copy(0, step.lanes, k) for k in step.stages), ()))
    return whole
