"""The schedule that visits steps backwards with few stored states."""

from functools import cache

import pytest
import torch

import isocline as iso
from isocline.gradients.treeverse import reverse

CASES = [(n, k) for n in [0, 1, 2, 3, 4, 5, 7, 8, 11, 20, 37, 64, 101] for k in [1, 2, 3, 4, 5, 8, 13, None]]


@cache
def fewest(length: int, free: int) -> int:
    """Fewest steps taken without looking, to reverse ``length`` steps from a stored state with ``free`` more places."""
    if length <= 1:
        return 0
    if free == 0:
        return length * (length - 1) // 2
    return min(k + fewest(length - k, free - 1) + fewest(k, free) for k in range(1, length))


class Simulation:
    """States are the numbers of the steps they stand before; every live state is counted."""

    def __init__(self, kept: list[int], length: int, budget: int | None) -> None:
        self.taken = 0
        self.visited: list[int] = []
        reverse([(i, i) for i in kept], length, budget, self.advance, self.visit)

    def advance(self, state: int, first: int, last: int) -> int:
        assert state == first < last
        self.taken += last - first
        return last

    def visit(self, index: int, state: int) -> None:
        assert state == index
        self.visited.append(index)


@pytest.mark.parametrize(("length", "budget"), CASES)
def test_visits_each_step_once_from_the_last(length: int, budget: int | None) -> None:
    assert Simulation([0], length, budget).visited == list(range(length))[::-1]


@pytest.mark.parametrize(("length", "budget"), CASES)
def test_takes_the_fewest_steps_there_can_be(length: int, budget: int | None) -> None:
    free = length if budget is None else budget - 1
    assert Simulation([0], length, budget).taken == fewest(length, free)


@pytest.mark.parametrize("kept", [[0], [0, 4, 8], [0, 1, 2, 3], [0, 10, 20, 30]])
def test_starts_from_any_stored_states(kept: list[int]) -> None:
    run = Simulation(kept, 33, 6)
    assert run.visited == list(range(33))[::-1]
    assert run.taken <= fewest(33, 5) * 1.6


class Token:
    """A state that knows how many of its kind are alive."""

    alive = 0
    most = 0

    def __init__(self, index: int) -> None:
        self.index = index
        Token.alive += 1
        Token.most = max(Token.most, Token.alive)

    def __del__(self) -> None:
        Token.alive -= 1


@pytest.mark.parametrize(("length", "budget"), [case for case in CASES if case[1] is not None])
def test_holds_no_more_states_than_the_budget(length: int, budget: int) -> None:
    Token.alive = Token.most = 0
    reverse([(0, Token(0))], length, budget, lambda state, first, last: Token(last), lambda index, state: None)
    # One more lives for the moment of a step that cannot be stored: the state at hand.
    assert Token.most <= budget + 1
    assert Token.alive == 0


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("length", [3, 4, 6, 9, 17, 33, 64, 100])
def test_a_solve_costs_little_more_than_if_its_length_had_been_known(length: int, budget: int) -> None:
    y0 = torch.ones(1, dtype=torch.float64, requires_grad=True)
    gradient = iso.RecursiveCheckpointAdjoint(budget)
    controller = iso.FixedStep(1 / length)
    sol = iso.solve(lambda t, y: -y, y0, (0.0, 1.0), method="euler", controller=controller, gradient=gradient)
    sol.ys[-1].sum().backward()
    assert sol.stats.backward is not None
    # The best schedule stores its states on the way forward: its first sweep, but for the last step, is the solve.
    best = length + fewest(length, budget - 1) + 1
    assert sol.stats.accepted == length
    assert best <= length + sol.stats.backward.steps <= 1.4 * best
