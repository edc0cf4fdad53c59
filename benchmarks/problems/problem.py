"""What a test problem is."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Field = Callable[..., Tensor]
Components = Callable[..., tuple[Tensor, ...]]

REFERENCES = Path(__file__).with_name("references.json")


@dataclass(frozen=True)
class Problem:
    """``y' = f(t, y)``, ``y(t0) = y0``, wanted on [t0, t1]; the state is the last dimension of y, in float64.

    f works joint and per sample: t is 0-d, or has the shape (B, 1).
    """

    name: str
    f: Field
    y0: tuple[float, ...]
    t1: float = 20.0
    t0: float = 0.0
    exact: Callable[[Tensor], Tensor] | None = None
    """Closed form: times (T,) to states (T, n)."""
    stiff: bool = False
    atol: float = 1.0
    """The absolute tolerance that suits it, over the relative one."""
    about: str = ""
    source: str = ""

    @property
    def start(self) -> Tensor:
        """y0 in float64."""
        return torch.tensor(self.y0, dtype=torch.float64)

    def numpy_field(self, t: float, y: Any) -> Any:
        """The field as SciPy calls it."""
        return self.f(torch.tensor(t, dtype=torch.float64), torch.from_numpy(y)).numpy()

    def numpy_jacobian(self, t: float, y: Any) -> Any:
        """The field's Jacobian as SciPy calls it."""
        at = torch.tensor(t, dtype=torch.float64)
        return torch.func.jacrev(lambda y: self.f(at, y))(torch.from_numpy(y)).numpy()

    def end(self) -> Tensor:
        """State at t1: the closed form, or the reference kept in references.json."""
        if self.exact is not None:
            return self.exact(torch.tensor([self.t1], dtype=torch.float64))[0]
        return torch.tensor(references()[self.name]["end"], dtype=torch.float64)

    @property
    def condition(self) -> float:
        """How much an error made on the way can have grown at t1, both in units of what is tolerated there."""
        return float(references()[self.name]["condition"])

    def error(self, y: Tensor) -> float:
        """Error of y at t1, the worst component: relative where its size is beyond ``atol``, absolute below."""
        end = self.end()
        return float(((y - end).abs() / (self.atol + end.abs())).max())

    def __str__(self) -> str:
        """Its name, for tests."""
        return self.name


@cache
def references() -> dict[str, dict[str, Any]]:
    """Return the kept references by the problem's name."""
    known: dict[str, dict[str, Any]] = json.loads(REFERENCES.read_text())["problems"]
    return known


def columns(f: Components) -> Field:
    """A field written with one argument a component: ``f(t, y1, y2, ...) -> (dy1, dy2, ...)``."""

    def field(t: Tensor, y: Tensor, *args: Any) -> Tensor:
        t = t.squeeze(-1) if t.ndim else t
        return torch.stack(torch.broadcast_tensors(*f(t, *y.unbind(-1), *args)), dim=-1)

    return field


def flat(*rows: tuple[float, ...]) -> tuple[float, ...]:
    """Return the numbers of all rows in a row."""
    return tuple(x for row in rows for x in row)


def sparse(n: int, values: dict[int, float]) -> tuple[float, ...]:
    """Return n numbers, zero but for those given by their place, counted from 1."""
    return tuple(values.get(i, 0.0) for i in range(1, n + 1))
