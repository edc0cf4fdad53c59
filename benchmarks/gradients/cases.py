"""The problems: a field with parameters, an interval, and the methods that suit it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import isocline as iso
from benchmarks.problems.problem import Field, columns
from benchmarks.problems.stiff import robertson

EXPLICIT = ("tsit5", "dopri5", "dop853", "adams")
STIFF = ("kvaerno5", "rodas5p", "bdf")
REVERSIBLE: dict[str, iso.Solver] = {"Reversible('tsit5')": iso.Reversible("tsit5")}


@dataclass(frozen=True)
class Case:
    """A loss over saved states of ``y' = f(t, y, *theta)``, to be differentiated by y0 and theta; all in float64."""

    name: str
    about: str
    f: Field
    y0: Tensor
    theta: tuple[Tensor, ...]
    ts: Tensor
    solvers: tuple[str, ...]
    batch_dims: int = 0
    atol: float = 1.0
    """The absolute tolerance that suits it, over the relative one."""
    exact: Callable[..., Tensor] | None = None
    """Closed form: (ts (T,), y0, *theta) to the states."""
    judges: tuple[tuple[str, float], tuple[str, float]] = (("vern9", 1e-13), ("dop853", 1e-13))
    """Methods and tolerances of the reference gradient, and of the one that it is compared with."""

    def loss(self, ys: Tensor) -> Tensor:
        """Sum of all saved states behind the first, each with a weight of its own."""
        weights = torch.cos(torch.arange(ys[1:].numel(), dtype=ys.dtype)).reshape(ys[1:].shape)
        return (weights * ys[1:]).sum()

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the loss is differentiated by, as leaves."""
        return tuple(x.detach().clone().requires_grad_() for x in (self.y0, *self.theta))


def solver_called(name: str) -> iso.Solver:
    return REVERSIBLE[name] if name in REVERSIBLE else iso.METHODS[name]


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def times(end: float, count: int) -> Tensor:
    """Return the start and so many save times at even distances."""
    return torch.linspace(0.0, end, count + 1, dtype=torch.float64)


def mlp(t: Tensor, y: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    return torch.tanh(y @ w1 + b1) @ w2 + b2


def network(width: int = 4, hidden: int = 64) -> tuple[Tensor, ...]:
    shapes = (width, hidden), (hidden,), (hidden, width), (width,)
    generator = torch.Generator().manual_seed(0)
    return tuple(2 * torch.randn(*s, dtype=torch.float64, generator=generator) / s[0] ** 0.5 for s in shapes)


def samples(count: int, width: int = 4) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def relaxing(t: Tensor, y: Tensor, rate: Tensor, frequency: Tensor) -> Tensor:
    return -rate * (y - torch.cos(frequency * t))


def relaxed(ts: Tensor, y0: Tensor, rate: Tensor, frequency: Tensor) -> Tensor:
    """Closed form of ``y' = -k (y - cos w t)``."""
    t = ts.unsqueeze(1)

    def forced(t: Tensor) -> Tensor:
        way = rate * (rate * torch.cos(frequency * t) + frequency * torch.sin(frequency * t))
        return way / (rate**2 + frequency**2)

    return forced(t) + (y0 - forced(torch.zeros_like(t))) * torch.exp(-rate * t)


def lorenz(t: Tensor, x: Tensor, y: Tensor, z: Tensor, s: Tensor, r: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return s * (y - x), x * (r - z) - y, x * y - b * z


def predators(t: Tensor, x: Tensor, y: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, ...]:
    return a * x - b * x * y, c * x * y - d * y


def pendulum(t: Tensor, q: Tensor, p: Tensor, strength: Tensor) -> tuple[Tensor, ...]:
    return p, -strength * q.sin()


def reaction(t: Tensor, y: Tensor, logarithms: Tensor) -> Tensor:
    return robertson(t, y, *logarithms.exp())


STIFF_JUDGES = ("radau", 1e-12), ("rodas5p", 1e-9)
ALL_REVERSIBLE = tuple(REVERSIBLE)

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            name="MLP",
            about="tanh network 4-64-4 on 32 samples, one step size for all; the end saved",
            f=mlp,
            y0=samples(32),
            theta=network(),
            ts=times(1.0, 1),
            solvers=(*EXPLICIT, *ALL_REVERSIBLE),
        ),
        Case(
            name="MLP, per sample",
            about="the same, each sample with its own steps",
            f=mlp,
            y0=samples(32),
            theta=network(),
            ts=times(1.0, 1),
            solvers=("tsit5", "adams", *ALL_REVERSIBLE),
            batch_dims=1,
        ),
        Case(
            name="Lotka-Volterra",
            about="four rates, ten save times up to 10",
            f=columns(predators),
            y0=tensor(1.0, 1.0),
            theta=tuple(tensor(1.3, 0.9, 0.8, 1.8)),
            ts=times(10.0, 10),
            solvers=(*EXPLICIT, *ALL_REVERSIBLE),
        ),
        Case(
            name="van der Pol, mu=1",
            about="ten save times up to 20",
            f=columns(lambda t, y, v, mu: (v, mu * (1 - y**2) * v - y)),
            y0=tensor(2.0, 0.0),
            theta=(torch.tensor(1.0, dtype=torch.float64),),
            ts=times(20.0, 10),
            solvers=(*EXPLICIT, *ALL_REVERSIBLE),
        ),
        Case(
            name="long oscillation",
            about="a pendulum up to t = 100, some fifteen swings; the end saved",
            f=columns(pendulum),
            y0=tensor(1.0, 0.0),
            theta=(torch.tensor(1.0, dtype=torch.float64),),
            ts=times(100.0, 1),
            solvers=(*EXPLICIT, *ALL_REVERSIBLE),
        ),
        Case(
            name="Lorenz",
            about="chaos: the end at t = 10 saved, where a small change has grown by thousands",
            f=columns(lorenz),
            y0=tensor(1.0, 1.0, 1.0),
            theta=tuple(tensor(10.0, 28.0, 8 / 3)),
            ts=times(10.0, 1),
            solvers=(*EXPLICIT, *ALL_REVERSIBLE),
        ),
        Case(
            name="decay at rate 100",
            about="y' = -k (y - cos wt) with k = 100, up to t = 1; the end saved",
            f=relaxing,
            y0=tensor(0.5),
            theta=tuple(tensor(100.0, 2.0)),
            ts=times(1.0, 1),
            solvers=("tsit5", "dop853", "adams", "auto", *STIFF, *ALL_REVERSIBLE),
            exact=relaxed,
        ),
        Case(
            name="van der Pol, mu=100",
            about="relaxation: ten save times up to t = 100, behind one jump",
            f=columns(lambda t, y, v, mu: (v, mu * (1 - y**2) * v - y)),
            y0=tensor(2.0, 0.0),
            theta=(torch.tensor(100.0, dtype=torch.float64),),
            ts=times(100.0, 10),
            solvers=("auto", *STIFF),
            judges=STIFF_JUDGES,
        ),
        Case(
            name="Robertson",
            about="three reactants up to t = 1e4, ten save times; by the logarithms of the rate constants",
            f=reaction,
            y0=tensor(1.0, 0.0, 0.0),
            theta=(tensor(0.04, 3e7, 1e4).log(),),
            ts=times(1e4, 10),
            solvers=STIFF,
            atol=1e-6,
            judges=STIFF_JUDGES,
        ),
    )
}
