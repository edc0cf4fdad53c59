"""Visiting the steps of a solve backwards with few stored states: binomial checkpointing.

References:
    Griewank & Walther 2000, Algorithm 799: revolve, ACM Trans. Math. Softw. 26, doi:10.1145/347837.347846.
"""

from collections.abc import Callable
from math import comb
from typing import TypeVar

S = TypeVar("S")


def reverse(
    stack: list[tuple[int, S]],
    length: int,
    budget: int | None,
    advance: Callable[[S, int, int], S],
    visit: Callable[[int, S], None],
) -> None:
    """Call ``visit(i, state before step i)`` for i = length-1 .. 0.

    Args:
        stack: (index, state) in ascending order, the first with index 0. States are dropped from it when they are no
            longer needed, and others come and go: in the end the first is left, from which all can be done again.
        length: number of steps.
        budget: most states held at once, at least ``len(stack)``; None for no limit.
        advance: ``advance(state, i, j)`` takes the steps i .. j-1 and returns the state before step j.
        visit: sees each step once.
    """
    for end in range(length, 0, -1):
        while stack[-1][0] >= end:
            stack.pop()
        index, state = stack[-1]
        while index < end - 1:
            free = length if budget is None else budget - len(stack)
            target = index + split(end - index, free)
            state = advance(state, index, target)
            index = target
            if free:
                stack.append((index, state))
        visit(end - 1, state)


def split(length: int, free: int) -> int:
    """Return how many steps to advance before storing the next state, for the fewest steps in all.

    ``length`` steps lie ahead of a stored state and ``free`` more states may be stored. With s = free + 1 states and r
    repetitions, beta(s, r) = C(s + r, s) steps can be reversed; the optimal splits form an interval.
    """
    if free == 0:
        return length - 1
    s = free + 1
    r = 1
    while comb(s + r, s) < length:
        r += 1
    return max(comb(s + r - 2, s) if r > 1 else 1, length - comb(s + r - 1, s - 1), 1)
