"""Cases by name. A name holds its sizes, so any size can be asked for: `mlp-4x2x8-grad` is a case, too."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.peers.case import Case
from benchmarks.peers.fields import Conv, CostlyVanDerPol, Flow, Lorenz, Mlp, VanDerPol

MLPS = ("mlp-1x2x50", "mlp-128x2x64", "mlp-128x64x128", "mlp-1024x64x256")
DIFFERENTIATED = (*MLPS, "conv-64x7x7", "cnf-2x64")
NAMES = (
    *(f"{name}{suffix}" for name in DIFFERENTIATED for suffix in ("", "-grad")),
    *("vdp-256", "vdp-256-net"),
    *("lorenz-1", "lorenz-1000", "lorenz-10000", "lorenz-100000"),
    *("saves-10", "saves-100", "saves-1000", "overhead"),
)
"""The cases of a full run, in its order."""


def make_case(name: str) -> Case:
    """Return a case, the same at every call.

    Raises:
        ValueError: a name that says nothing.
    """
    kind, *rest = name.split("-")
    words = [word for word in rest if word.isalpha()]
    sizes = [int(size) for word in rest if word not in words for size in word.split("x")]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            case = KINDS[kind](*sizes, *(word for word in words if word != "grad"))
        except (KeyError, TypeError):
            known = ", ".join(NAMES)
            raise ValueError(f"unknown case {name!r}; known are {known}, and the same in other sizes") from None
    return replace(case, name=name, gradient="grad" in words)


def end_only(end: float) -> torch.Tensor:
    return torch.tensor([0.0, end])


def mlp(batch: int, d: int, hidden: int) -> Case:
    what = f"MLP {d}-{hidden}-{hidden}-{d} with tanh, batch {batch}, one step size for the batch"
    return Case("", what, Mlp(d, hidden), torch.randn(batch, d), end_only(5.0))


def saves(count: int, batch: int = 128, d: int = 64, hidden: int = 128) -> Case:
    case = mlp(batch, d, hidden)
    return replace(case, what=f"{case.what}, {count} save times", ts=torch.linspace(0.0, 5.0, count))


def overhead(batch: int = 1024, d: int = 64, hidden: int = 256) -> Case:
    return replace(mlp(batch, d, hidden), overhead=True)


def conv(channels: int, height: int, width: int, batch: int = 128) -> Case:
    what = f"two 3 by 3 convolutions with tanh, {channels} channels of {height} by {width}, batch {batch}"
    y0 = torch.randn(batch, channels, height, width)
    loose = {"rtol": 1e-3, "atol": 1e-3, "bound": 1e-2, "gradient_bound": 3e-2}
    return Case("", what, Conv(channels), y0, end_only(1.0), **loose)


def cnf(d: int, hidden: int, batch: int = 512) -> Case:
    what = f"continuous normalising flow in {d} dimensions, hidden width {hidden}, exact trace, batch {batch}"
    return Case("", what, Flow(d, hidden), (torch.randn(batch, d), torch.zeros(batch)), end_only(1.0))


def vdp(batch: int, variant: str = "") -> Case:
    mu = torch.logspace(-1, math.log10(30), batch)
    what = f"van der Pol, mu from 0.1 to 30 over {batch} samples, each with its own step size"
    y0 = torch.tensor([[2.0, 0.0]]).repeat(batch, 1)
    case = Case("", what, VanDerPol(), y0, end_only(10.0), (mu,), per_sample=True, bound=1e-2)
    if variant:
        case = replace(case, what=f"{what}, and a costly field: MLP 2-256-256-2", field=CostlyVanDerPol(256))
    return case


def lorenz(batch: int) -> Case:
    what = f"Lorenz 63, {batch} sample{'s' * (batch > 1)}, each with its own step size"
    # Around an unstable focus: steps differ by a factor of four, and rounding does not yet grow to count.
    y0 = torch.tensor([8.0, 8.0, 27.0]) + 2 * torch.randn(batch, 3)
    return Case("", what, Lorenz(), y0, end_only(2.0), per_sample=True)


KINDS: dict[str, Callable[..., Case]] = {
    "mlp": mlp,
    "conv": conv,
    "cnf": cnf,
    "vdp": vdp,
    "lorenz": lorenz,
    "saves": saves,
    "overhead": overhead,
}
