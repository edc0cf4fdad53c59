"""Methods of the user's function that are called at each step."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from isocline import Observer
from isocline.compat.torchdiffeq.methods import ACCEPT, REJECT, STEP, Method

Callback = Callable[[Tensor, Any, Tensor], object]
"""Called with the time, the state, and the size of the step."""


class Callbacks(Observer):
    """Calls them: one before each attempt, one after it.

    Args:
        found: by name.
        show: from rows (1, n) to the state as the user sees it.
    """

    def __init__(self, found: dict[str, Callback], show: Callable[[Tensor], Any]) -> None:
        """Nothing has been attempted."""
        self.found, self.show = found, show
        self.begun: tuple[Tensor, Any, Tensor]

    def begin(self, state: Any, goal: Any) -> None:
        """Say which step is about to be attempted."""
        t, dt = _time(state.t), torch.minimum(_time(state.dt).abs(), (_time(goal) - _time(state.t)).abs())
        self.begun = t, self.show(state.y), dt
        self._call(STEP)

    def ask(self, step: Any) -> Any:
        """Ask whether it was accepted."""
        moved = step.t1 != step.t0
        return moved.sum() if isinstance(moved, Tensor) else int(moved)

    def see(self, step: Any, count: int) -> None:
        """Say so."""
        self._call(ACCEPT if count else REJECT)

    def _call(self, name: str) -> None:
        if name in self.found:
            self.found[name](*self.begun)


def _time(t: Any) -> Tensor:
    return torch.as_tensor(t, dtype=torch.float64).detach().reshape(())


def callbacks(
    func: object, method: Method, name: str, show: Callable[[Tensor], Any], suffix: str = ""
) -> tuple[Callbacks, ...]:
    """Return an observer that calls those of func, if it has any; warn of those that the method does not know."""
    found = {key: getattr(func, key + suffix) for key in (STEP, ACCEPT, REJECT) if hasattr(func, key + suffix)}
    unknown = found.keys() - set(method.callbacks)
    if unknown:
        warnings.warn(f"Solver '{name}' does not support callbacks {set(unknown)}", stacklevel=3)
    known = {key: value for key, value in found.items() if key not in unknown}
    return (Callbacks(known, show),) if known else ()
