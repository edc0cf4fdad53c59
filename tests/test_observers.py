"""What users' observers are told, forwards and backwards; and steps that the backward solve has to end."""

from itertools import pairwise
from typing import Any

import pytest
import torch

import isocline as iso
from isocline.gradients import GRADIENTS

F64 = torch.float64


class Log(iso.Observer):
    """Notes all it is told."""

    def __init__(self) -> None:
        self.begun: list[tuple[float, float]] = []
        self.ended: list[tuple[float, float]] = []
        self.answers: list[int] = []

    def begin(self, state: Any, goal: Any) -> None:
        self.begun.append((float(state.t), float(goal)))

    def ask(self, step: Any) -> Any:
        return int((step.t1 != step.t0).sum()) if isinstance(step.t1, torch.Tensor) else int(step.t1 != step.t0)

    def see(self, step: Any, count: int) -> None:
        self.ended.append((float(step.t0), float(step.t1)))
        self.answers.append(count)


def f(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (9 * t).cos() * y


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_attempts_forwards(gradient: str) -> None:
    method = "reversible_heun" if gradient == "reversible" else "tsit5"
    log, y0 = Log(), torch.ones(2, dtype=F64, requires_grad=True)
    t, how = torch.linspace(0, 2, 5), GRADIENTS[gradient]
    sol = iso.solve(f, y0, t, method=method, observers=[log], gradient=how, step_ts=[1.3])
    assert len(log.begun) == len(log.ended) == sol.stats.steps
    assert sum(log.answers) == sol.stats.accepted
    assert [a for a, _ in log.begun] == [a for a, _ in log.ended]
    assert {goal for _, goal in log.begun} == {1.3, 2.0}
    assert log.ended[-1][1] == 2.0


def test_attempts_backwards() -> None:
    log, y0 = Log(), torch.ones(2, dtype=F64, requires_grad=True)
    gradient = iso.BacksolveAdjoint(observers=(log,), step_ts=(0.7, 1.1))
    sol = iso.solve(f, y0, torch.linspace(0, 2, 5), gradient=gradient)
    assert not log.begun
    sol.ys[-1].sum().backward()
    assert sol.stats.backward is not None
    assert len(log.begun) == sol.stats.backward.steps and sum(log.answers) == sol.stats.backward.accepted
    ends = [b for (_, b), moved in zip(log.ended, log.answers, strict=True) if moved]
    assert {0.7, 1.1, 0.0} <= set(ends)
    assert 0.5 not in ends  # the loss does not depend on the other save times


def test_backward_steps_end_where_forward_steps_had_to() -> None:
    """And there the saved state is taken, also where the loss does not depend on it."""
    ends = []
    for step_ts in (None, torch.linspace(0, 2, 5)[1:-1]):
        log, y0 = Log(), torch.ones(2, dtype=F64, requires_grad=True)
        gradient = iso.BacksolveAdjoint(observers=(log,))
        sol = iso.solve(f, y0, torch.linspace(0, 2, 5), gradient=gradient, step_ts=step_ts)
        sol.ys[-1].sum().backward()
        ends.append({b for _, b in log.ended})
    assert not {0.5, 1.0, 1.5} & ends[0] and {0.5, 1.0, 1.5} <= ends[1]


def test_an_observer_can_end_the_solve() -> None:
    class Enough(Log):
        def see(self, step: Any, count: int) -> Any:  # type: ignore[override]
            return step.t1 > 0.5

    sol = iso.solve(f, torch.ones(1), (0.0, 2.0), observers=[Enough()], throw=False)
    assert sol.status == iso.Status.EVENT


def test_accepted_steps_that_are_not_shortened() -> None:
    """The next size is never below that of an accepted step, except at the end."""
    for factor in (0.0, 1.0):
        log = Log()
        controller = iso.PID(rtol=1e-6, atol=1e-6, pcoeff=0.0, icoeff=1.0, factor_accepted=factor)
        iso.solve(f, torch.ones(2, dtype=F64), (0.0, 3.0), observers=[log], controller=controller)
        sizes = [b - a for a, b in log.ended]
        shorter = [after < before * (1 - 1e-9) for before, after in pairwise(sizes[:-1]) if after and before]
        assert any(shorter) == (factor == 0.0)
    with pytest.raises(ValueError, match="factor_accepted must be between 0 and 1"):
        iso.PID(factor_accepted=1.5)
