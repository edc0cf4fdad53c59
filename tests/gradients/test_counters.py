"""What a gradient costs in evaluations of the field, to the last one."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.compiled import evaluates_at_start
from isocline.gradients import GRADIENTS
from problems import ANY_STATE, ITERATING, fitting

every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([0.4, 0.9], dtype=torch.float64))
        self.calls = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return torch.sin(self.a * y + t)


def start() -> Tensor:
    return torch.tensor([0.5, -0.3], dtype=torch.float64, requires_grad=True)


def times(count: int) -> Tensor:
    return torch.linspace(0.0, 3.0, count, dtype=torch.float64)


@every_gradient
@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_counts_are_the_calls_of_f(gradient: iso.Gradient, computed: bool, listed: bool) -> None:
    f = Counted()
    if computed:
        b = f.a.exp()
        f.register_forward_hook(lambda module, args, dy: dy * b)
    params = [f.a, b] if listed and computed else [f.a] if listed else None
    sol = iso.solve(f, start(), times(5), gradient=gradient, method=fitting(gradient), params=params)
    assert sol.stats.evaluations == f.calls
    sol.ys.sum().backward()
    backward = 0 if sol.stats.backward is None else sol.stats.backward.evaluations
    assert sol.stats.evaluations + backward == f.calls


@every_gradient
def test_no_backward_counts_before_backward(gradient: iso.Gradient) -> None:
    sol = iso.solve(Counted(), start(), times(2), gradient=gradient, method=fitting(gradient))
    assert sol.stats.backward is None
    sol.ys.sum().backward()
    assert (sol.stats.backward is None) == isinstance(gradient, iso.DirectAdjoint)


@every_gradient
def test_save_times_cost_no_evaluations(gradient: iso.Gradient) -> None:
    few, many = (
        iso.solve(Counted(), start(), times(n), gradient=gradient, method=fitting(gradient)).stats for n in (2, 101)
    )
    assert few.evaluations == many.evaluations
    assert few.steps == many.steps


@every_gradient
def test_finding_parameters_costs_nothing_when_the_first_evaluation_is_needed_anyway(
    gradient: iso.Gradient,
) -> None:
    with torch.no_grad():
        plain = iso.solve(Counted(), start(), times(2), method=fitting(gradient)).stats.evaluations
    assert (
        iso.solve(Counted(), start(), times(2), gradient=gradient, method=fitting(gradient)).stats.evaluations == plain
    )


@pytest.mark.parametrize("name", ["checkpoint", "backsolve"])
def test_finding_computed_tensors_costs_two_evaluations(name: str) -> None:
    def count(**settings: Any) -> int:
        a = start() * 2
        f = lambda t, y: torch.sin(a * y + t)  # noqa: E731
        return iso.solve(f, start(), times(2), gradient=GRADIENTS[name], **settings).stats.evaluations

    with torch.no_grad():
        plain = count()
    assert count() == plain + 2
    assert count(params=[]) == plain


@pytest.mark.parametrize("method", [name for name in ANY_STATE if name not in ITERATING])
def test_checkpointing_takes_each_step_again_once(method: str) -> None:
    settings = {"method": method, "controller": iso.FixedStep(0.3), "gradient": GRADIENTS["checkpoint"]}
    sol = iso.solve(Counted(), start(), times(7), **settings)
    sol.ys.sum().backward()
    backward, solver = sol.stats.backward, iso.METHODS[method]
    assert backward.steps == backward.accepted == sol.stats.accepted == 10
    assert backward.rejected == 0
    # The last stage of a step serves as the first of the next, if the method has it so; then the first stage of all
    # is evaluated on its own. Each of five steps has a save time inside.
    late = 5 * solver.late_stages
    # Each of the three first steps is extrapolated from four evaluations, not made of one prediction.
    more = 3 * 3 if method == "adams_fixed" else 0
    assert backward.evaluations == 10 * solver.evaluations + evaluates_at_start(solver, start()) + late + more


def test_rejected_attempts_are_not_taken_again() -> None:
    controller = iso.PID(rtol=1e-6, atol=1e-6, dt0=3.0)
    sol = iso.solve(Counted(), start(), times(2), controller=controller, gradient=GRADIENTS["checkpoint"])
    sol.ys.sum().backward()
    assert sol.stats.rejected > 0
    assert sol.stats.backward.steps == sol.stats.accepted


@pytest.mark.parametrize("method", ["euler", "heun", "rk4", "rk4_38"])
def test_backsolve_without_parameters_costs_the_stages(method: str) -> None:
    settings = {"method": method, "controller": iso.FixedStep(0.3), "gradient": iso.BacksolveAdjoint()}
    sol = iso.solve(lambda t, y: torch.sin(y + t), start(), times(2), **settings)
    sol.ys.sum().backward()
    assert sol.stats.backward.steps == 10
    assert sol.stats.backward.evaluations == 10 * iso.METHODS[method].tableau.stages


def test_backsolve_pays_only_for_save_times_in_the_loss() -> None:
    def backward(count: int, chosen: list[int]) -> int:
        sol = iso.solve(Counted(), start(), times(count), gradient=iso.BacksolveAdjoint())
        sol.ys[chosen].sum().backward()
        return sol.stats.backward.evaluations

    last = backward(2, [-1])
    assert backward(101, [-1]) == last
    assert backward(101, [0, -1]) == last
    assert backward(101, [50, -1]) > last


def test_backward_counts_of_a_second_backward_are_its_own() -> None:
    sol = iso.solve(Counted(), start(), times(2), gradient=GRADIENTS["checkpoint"])
    sol.ys.sum().backward(retain_graph=True)
    once = sol.stats.backward.evaluations
    sol.ys.sum().backward()
    assert sol.stats.backward.evaluations == once
