"""What can be explored: a trained field, and states to start it from."""

from dataclasses import dataclass

from torch import Tensor, nn

SHOWN = 32
"""How many states are enough for a figure."""


@dataclass(frozen=True)
class Subject:
    """One trained ODE.

    Attributes:
        title: What the page calls it.
        field: dy/dt = field(t, y), on the CPU.
        y0: States to start from, (N, ...).
        ts: Where it starts and ends.
        groups: What each of the N is, for colours; empty if they are all alike.
    """

    title: str
    field: nn.Module
    y0: Tensor
    ts: tuple[float, float]
    groups: tuple[str, ...] = ()
