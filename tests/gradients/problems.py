"""One nonlinear, non-autonomous problem with every kind of input, in several layouts, and its exact gradients."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import isocline as iso
from isocline.gradients import GRADIENTS

Inputs = dict[str, Tensor]

BUDGETS = (1, 2, 3, 5)
ALL_GRADIENTS: dict[str, iso.Gradient] = {
    **GRADIENTS,
    **{f"checkpoint-{k}": iso.RecursiveCheckpointAdjoint(k) for k in BUDGETS},
    **{f"reversible-{k}": iso.ReversibleAdjoint(k) for k in (1, 3)},
}
CONTINUOUS = ("backsolve", "interpolating", "gauss")
DISCRETE = [name for name in ALL_GRADIENTS if name not in CONTINUOUS]
"""Methods that give the gradient of the discrete solution."""
ONE_BLOCK: dict[str, iso.Gradient] = {
    **GRADIENTS,
    "interpolating": iso.InterpolatingAdjoint(checkpoints=4096),
    "gauss": iso.GaussAdjoint(checkpoints=4096),
}
"""Where blocks end depends on all lanes, and so do the adjoint's steps; with one block a lane is as it is alone."""


def covering(pairs: Iterable[tuple[str, str]], thirds: Iterable[str]) -> list[tuple[str, str, str]]:
    """Give each pair one of a third kind, in turn: what there is of either kind in a pair meets all of the third."""
    pairs, thirds, met = list(pairs), list(thirds), Counter[str]()
    first = {x: i for i, x in enumerate(dict.fromkeys(x for x, _ in pairs))}
    found = []
    for x, y in pairs:
        found.append((x, y, thirds[(first[x] + met[x]) % len(thirds)]))
        met[x] += 1
    return found


def in_turn(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pick pairs in which each of either kind is met: one for each of the first kind, the second kind in turn."""
    kinds: dict[str, list[str]] = {}
    for x, y in pairs:
        kinds.setdefault(x, []).append(y)
    found, met = [], Counter[str]()
    for x, choices in kinds.items():
        y = min(choices, key=lambda y: met[y])
        met[y] += 1
        found.append((x, y))
    return found


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def field(t: Tensor, y: Tensor, p: Inputs) -> Tensor:
    hidden = torch.tanh(y @ p["weight"].mT + p["bias"] + p["leaf"] * torch.sin(2 * t))
    return p["theta"].exp() * hidden + p["arg"] * torch.cos(t) * y - 0.1 * y**2


@dataclass(frozen=True)
class LayoutCase:
    """How states and times reach the solver: ``ts`` is (T,), or (T, B) for times of each sample."""

    ts: Tensor
    batch_dims: int
    nested: bool = False

    def inputs(self) -> Inputs:
        return {
            "y0": draw(3, 2, seed=1),
            "ts": self.ts.clone(),
            "arg": 0.5 * draw(2, seed=2),
            "weight": draw(2, 2, seed=3),
            "bias": draw(2, seed=4),
            "leaf": draw(2, seed=5),
            "theta": 0.3 * draw(2, seed=6),
        }

    def weights(self) -> Tensor:
        return draw(len(self.ts), 3, 2, seed=7)


_RISING = torch.tensor([0.1, 0.437, 0.5, 0.871, 1.231], dtype=torch.float64)
_OWN = torch.stack([_RISING, 0.7 * _RISING - 0.35, 0.9 - 1.1 * _RISING], dim=1)  # the last goes backwards
LAYOUTS = {
    "joint": LayoutCase(_RISING, 0),
    "samples": LayoutCase(_RISING, 1),
    "own-times": LayoutCase(_OWN, 1),
    "backward": LayoutCase(_RISING.flip(0), 0),
    "nested": LayoutCase(_OWN, 1, nested=True),
}


def split(y: Tensor) -> dict[str, Any]:
    return {"x": y[..., :1].unsqueeze(-1), "rest": (y[..., 1],)}


def join(state: dict[str, Any]) -> Tensor:
    return torch.cat([state["x"].squeeze(-1), state["rest"][0].unsqueeze(-1)], dim=-1)


def bind(p: Inputs, nested: bool) -> Callable[..., Any]:
    """Return f(t, y, args) with a module, a leaf and a computed tensor in its closure."""
    net = nn.Linear(2, 2, dtype=torch.float64)
    del net.weight, net.bias
    net.weight, net.bias = p["weight"], p["bias"]
    scale = p["theta"].exp()

    def flat(t: Tensor, y: Tensor, args: dict[str, list[Tensor]]) -> Tensor:
        hidden = torch.tanh(net(y) + p["leaf"] * torch.sin(2 * t))
        return scale * hidden + args["k"][0] * torch.cos(t) * y - 0.1 * y**2

    def nested_f(t: Tensor, state: dict[str, Any], args: dict[str, list[Tensor]]) -> dict[str, Any]:
        return split(flat(t.reshape(-1, 1), join(state), args))

    return nested_f if nested else flat


def leaves_of(case: LayoutCase) -> Inputs:
    inputs = case.inputs()
    parameters = {name: nn.Parameter(inputs[name]) for name in ("weight", "bias")}
    return {name: parameters.get(name, x.requires_grad_()) for name, x in inputs.items()}


def states(case: LayoutCase, p: Inputs, **settings: Any) -> Tensor:
    """Solve with isocline: the saved states (T, 3, 2)."""
    y0 = split(p["y0"]) if case.nested else p["y0"]
    f = bind(p, case.nested)
    sol = iso.solve(f, y0, p["ts"], args=({"k": [p["arg"]]},), batch_dims=case.batch_dims, **settings)
    return join(sol.ys) if case.nested else sol.ys


def gradients(case: LayoutCase, **settings: Any) -> Inputs:
    """Gradients of the weighted sum of all saved states."""
    p = leaves_of(case)
    loss = (case.weights() * states(case, p, **settings)).sum()
    return dict(zip(p, torch.autograd.grad(loss, list(p.values())), strict=True))


def _reference(p: Inputs, substeps: int = 24) -> Tensor:
    """The saved states by classic Runge-Kutta steps of its own, from save time to save time."""
    times = p["ts"].reshape(len(p["ts"]), -1, 1).expand(-1, 3, 1)
    y, saved = p["y0"], [p["y0"]]
    for start, end in pairwise(times):
        h = (end - start) / substeps
        for i in range(substeps):
            t = start + i * h
            k1 = field(t, y, p)
            k2 = field(t + h / 2, y + h / 2 * k1, p)
            k3 = field(t + h / 2, y + h / 2 * k2, p)
            k4 = field(t + h, y + h * k3, p)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        saved.append(y)
    return torch.stack(saved)


@cache
def exact(name: str, eps: float = 1e-5) -> Inputs:
    """Gradients by central differences in every single number of every input."""
    case = LAYOUTS[name]
    base = case.inputs()
    result = {}
    for key, value in base.items():
        shifts = eps * torch.eye(value.numel(), dtype=value.dtype).reshape(-1, *value.shape)
        both = torch.cat([value + shifts, value - shifts])
        ys = torch.func.vmap(lambda x, key=key: _reference({**base, key: x}))(both)
        up, down = (case.weights() * ys).flatten(1).sum(dim=1).chunk(2)
        result[key] = ((up - down) / (2 * eps)).reshape(value.shape)
    return result


def worst(actual: Inputs, expected: Inputs) -> tuple[float, str]:
    """The largest error of a gradient in units of that gradient's largest entry, and whose it is."""
    errors = {key: (actual[key] - expected[key]).abs().max() / expected[key].abs().max() for key in expected}
    key = max(errors, key=lambda key: errors[key].nan_to_num(float("inf")))
    return errors[key].item(), key
