"""Fields that draw random numbers: where a backward pass evaluates f again, it would draw others."""

import ctypes
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from isocline.problem import Problem


def generator_states(device: torch.device) -> list[bytes]:
    """Return the states of the generators that f may draw from without naming one."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return [ctypes.string_at(state.data_ptr(), state.numel()) for state in states]


def refuse_random(problem: Problem, name: str) -> None:
    """Raise if f draws random numbers at the start; by one evaluation, because another thread may have drawn them."""
    f = problem.field.like(problem.field.function, problem.field.args)
    with torch.no_grad(), _Draws() as draws:
        f(problem.times[0], problem.y0)
    if draws.found:
        raise RuntimeError(
            f"f draws random numbers ({draws.found[0]}), and {name} evaluates f again in its backward pass, where they "
            "would be others; use gradient=DirectAdjoint(), call .eval() on modules with dropout, or draw the numbers "
            "once, before the solve, and let f use those"
        )


class _Draws(TorchDispatchMode):
    """Notes the operations that draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))
