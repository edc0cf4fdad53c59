"""Any smooth field, structure of the state, times, layout and gradient method: the same exact gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import isocline as iso
from problems import fitting

from .problems import ALL_GRADIENTS, Inputs, worst

F64 = torch.float64
STRUCTURES: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "tensor": (lambda y: y, lambda y: y),
    "tuple": (lambda y: (y[..., :1], y[..., 1:]), lambda y: torch.cat(y, dim=-1)),
    "dict": (
        lambda y: {"b": [y[..., 1:]], "a": {"one": y[..., :1]}},
        lambda y: torch.cat([y["a"]["one"], *y["b"]], dim=-1),
    ),
}
"""The state as f gets it, and back: numbers of a sample in the last dimension."""


@dataclass(frozen=True)
class Case:
    """A problem: a field made of four kinds of terms, with random weights."""

    batch: tuple[int, ...]
    n: int
    batch_dims: int
    ts: list[float]
    factors: list[float] | None
    """By which the times of each lane are multiplied; None: all have the same."""
    terms: frozenset[str]
    structure: str
    seed: int

    def inputs(self) -> Inputs:
        generator = torch.Generator().manual_seed(self.seed)

        def random(*shape: int) -> Tensor:
            return 0.7 * torch.randn(*shape, dtype=F64, generator=generator)

        n, ts = self.n, torch.tensor(self.ts, dtype=F64)
        if self.factors is not None:
            lanes = self.batch[: self.batch_dims]
            factors = torch.tensor(self.factors, dtype=F64)[: prod(lanes)].reshape(lanes)
            ts = ts.reshape(-1, *[1] * len(lanes)) * factors
        weights = {"matrix": random(n, n), "first": random(3, n), "second": random(n, 3), "pairs": random(n, n)}
        found = {"y0": random(*self.batch, n), "ts": ts, **weights, "wave": random(n)}
        return {name: x.requires_grad_() for name, x in found.items()}

    def field(self, t: Tensor, y: Tensor, p: Inputs) -> Tensor:
        terms = {
            "linear": lambda: y @ p["matrix"].mT,
            "network": lambda: torch.tanh(y @ p["first"].mT + t) @ p["second"].mT,
            "products": lambda: torch.sin(y) * (y @ p["pairs"].mT),
            "wave": lambda: p["wave"] * torch.cos(3 * t) + 0 * y,
        }
        return sum((terms[name]() for name in sorted(self.terms)), torch.zeros_like(y))

    def loss(self, ys: Tensor) -> Tensor:
        weights = torch.randn(ys.shape, dtype=F64, generator=torch.Generator().manual_seed(self.seed + 1))
        return (weights * ys).sum() + ys[-1].square().sum()

    def solved(self, p: Inputs, gradient: iso.Gradient, method: str) -> Tensor:
        wrap, unwrap = STRUCTURES[self.structure]
        options: Any = {"batch_dims": self.batch_dims, "rtol": 1e-8, "atol": 1e-8, "gradient": gradient}
        ys = iso.solve(
            lambda t, y: wrap(self.field(t, unwrap(y), p)),
            wrap(p["y0"]),
            p["ts"],
            method=fitting(gradient, method),
            **options,
        ).ys
        return unwrap(ys)

    def reference(self, p: Inputs, substeps: int = 40) -> Tensor:
        """By classic Runge-Kutta steps from save time to save time, and autograd."""
        ts = p["ts"].reshape(*p["ts"].shape, *[1] * (1 + len(self.batch) + 1 - p["ts"].ndim))
        y, saved = p["y0"], [p["y0"]]
        for start, end in pairwise(ts):
            h = (end - start) / substeps
            for i in range(substeps):
                t = start + i * h
                k1 = self.field(t, y, p)
                k2 = self.field(t + h / 2, y + h / 2 * k1, p)
                k3 = self.field(t + h / 2, y + h / 2 * k2, p)
                k4 = self.field(t + h, y + h * k3, p)
                y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            saved.append(y)
        return torch.stack(saved)


EVERY: dict[str, iso.Gradient] = {
    **ALL_GRADIENTS,
    "interpolating-2": iso.InterpolatingAdjoint(checkpoints=2),
    "gauss-3": iso.GaussAdjoint(checkpoints=3),
    "forward": iso.ForwardMode(),
}
some_gradients = st.lists(st.sampled_from(sorted(EVERY)), min_size=3, max_size=3, unique=True)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    batch = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    batch_dims = draw(st.integers(0, len(batch)))
    steps = draw(st.lists(st.sampled_from([0.0, 0.05, 0.3, 0.5]), min_size=1, max_size=4))
    if not any(steps):
        steps[-1] = 0.4
    ts = [draw(st.sampled_from([0.0, -0.6, 1.0]))]
    for step in steps:
        ts.append(ts[-1] + step)
    factors = st.lists(st.sampled_from([1.0, 0.5, -1.0, -0.3, 2.0]), min_size=9, max_size=9)
    terms = st.frozensets(st.sampled_from(["linear", "network", "products", "wave"]), min_size=1)
    return Case(
        batch,
        draw(st.integers(2, 3)),
        batch_dims,
        ts[::-1] if draw(st.booleans()) else ts,
        draw(st.none() | factors) if batch_dims else None,
        draw(terms),
        draw(st.sampled_from(sorted(STRUCTURES))),
        draw(st.integers(0, 2**16)),
    )


@settings(max_examples=20, deadline=None, derandomize=True, phases=[Phase.generate])
@given(cases(), some_gradients, st.sampled_from(["tsit5", "dopri5", "vern7"]))
def test_gradients(case: Case, names: list[str], method: str) -> None:
    ways = [partial(case.solved, gradient=EVERY[name], method=method) for name in names]
    grads = []
    for how in (case.reference, *ways):
        p = case.inputs()
        found = torch.autograd.grad(case.loss(how(p)), list(p.values()), allow_unused=True, materialize_grads=True)
        grads.append(dict(zip(p, found, strict=True)))
    expected, *others = grads
    for name, actual in zip(names, others, strict=True):
        for key, right in expected.items():
            if not right.any():
                assert actual.pop(key).abs().max() < 1e-9, (name, key)
        error, where = worst(actual, {key: right for key, right in expected.items() if right.any()})
        assert error < 2e-5, (name, where)
