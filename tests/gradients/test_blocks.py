"""Adjoints along the interpolant, block by block, of lanes that end at times of their own or fail on the way."""

from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso

from .problems import draw, worst

F64 = torch.float64
SHARES = torch.tensor([0.0, 0.15, 0.3, 0.3, 1.0], dtype=F64)
ENDS = torch.tensor([0.3, 0.3, 0.5, 0.7, 0.9, 1.0, 1.2, -0.4, -0.8, 0.6], dtype=F64)
RATES = torch.linspace(0.4, 1.0, 10, dtype=F64)
FAILING = [3, 5, 8]
"""Two that go forwards, and one that goes backwards; they blow up at 0.6 of their time."""
BROKEN = 4
"""Has no finite state to begin with."""

Inputs = dict[str, Tensor]


def exact(p: Inputs) -> Tensor:
    """Of y' = scale rate cos(t) (1 + y^2)."""
    t = p["ts"].unsqueeze(2)
    turned = p["scale"] * p["rate"].unsqueeze(1) * (t.sin() - t[0].sin())
    return torch.tan(turned + p["y0"].atan())


def inputs(failing: bool) -> Inputs:
    p = {
        "y0": 0.4 * draw(10, 2, seed=1).tanh(),
        "rate": RATES.clone(),
        "scale": torch.tensor(0.9, dtype=F64),
        "ts": 0.1 + SHARES.unsqueeze(1) * ENDS,
    }
    if failing:
        pole = (0.1 + 0.6 * ENDS).sin() - torch.tensor(0.1, dtype=F64).sin()
        late = torch.tan(ENDS.sign() * torch.pi / 2 - p["scale"] * RATES * pole)
        p["y0"][FAILING, 1] = late[FAILING]
        p["y0"][BROKEN] = float("nan")
    return {name: x.requires_grad_() for name, x in p.items()}


def solved(p: Inputs, **settings: Any) -> iso.Solution:
    def f(t: Tensor, y: Tensor, rate: Tensor) -> Tensor:
        return p["scale"] * rate.unsqueeze(-1) * t.cos() * (1 + y**2)

    args = (iso.PerLane(p["rate"]),)
    return iso.solve(f, p["y0"], p["ts"], args=args, batch_dims=1, throw=False, **{"max_steps": 70, **settings})


TIGHT = iso.PID(rtol=1e-8, atol=1e-8)
FIXED = iso.FixedStep(0.02)
CASES: dict[str, tuple[iso.Gradient, str, iso.Controller]] = {
    "interpolating, tsit5": (iso.InterpolatingAdjoint(), "tsit5", TIGHT),
    "interpolating-1, vern7": (iso.InterpolatingAdjoint(checkpoints=1), "vern7", TIGHT),
    "interpolating-3, rodas5p": (iso.InterpolatingAdjoint(checkpoints=3), "rodas5p", TIGHT),
    "interpolating-8, adams": (iso.InterpolatingAdjoint(checkpoints=8, max_steps=2000), "adams", TIGHT),
    "interpolating-2, rk4": (iso.InterpolatingAdjoint(checkpoints=2), "rk4", FIXED),
    "gauss, vern7": (iso.GaussAdjoint(), "vern7", TIGHT),
    "gauss-1, tsit5": (iso.GaussAdjoint(checkpoints=1), "tsit5", TIGHT),
    "gauss-3, tsit5": (iso.GaussAdjoint(checkpoints=3), "tsit5", TIGHT),
    "gauss-8, rk4": (iso.GaussAdjoint(checkpoints=8), "rk4", FIXED),
    "direct, tsit5": (iso.DirectAdjoint(), "tsit5", TIGHT),
}


@pytest.mark.parametrize("failing", [False, True], ids=["all arrive", "some fail"])
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_what_was_reached(case: str, failing: bool) -> None:
    """By initial states, arguments of each lane, a common parameter, and times."""
    gradient, method, controller = CASES[case]
    p = inputs(failing)
    sol = solved(p, gradient=gradient, method=method, controller=controller)
    assert sol.success.tolist() == [not failing or i not in (*FAILING, BROKEN) for i in range(10)]
    reached = sol.ys.isfinite()
    assert reached[:4, [i for i in range(10) if i != BROKEN or not failing]].all()
    weights = draw(*sol.ys.shape, seed=2)
    found = torch.autograd.grad((weights * torch.where(reached, sol.ys, 0.0)).sum(), list(p.values()))
    q = inputs(failing)
    safe = {**q, "y0": torch.where(q["y0"].isnan(), 0.0, q["y0"])}
    loss = (weights * torch.where(reached, exact(safe), 0.0)).sum()
    expected = torch.autograd.grad(loss, list(q.values()))
    error, where = worst(dict(zip(p, found, strict=True)), dict(zip(q, expected, strict=True)))
    assert error < (5e-5 if controller is FIXED else 3e-6), where


@pytest.mark.parametrize("gradient", [iso.InterpolatingAdjoint(checkpoints=2), iso.GaussAdjoint(checkpoints=4096)])
def test_what_was_not_reached_costs_nothing(gradient: iso.Gradient) -> None:
    """Lanes that fail take many steps behind their last save time."""
    costs = []
    for most in (70, 140):
        sol = solved(inputs(True), gradient=gradient, controller=TIGHT, max_steps=most)
        assert sol.stats.steps.max() == most
        torch.where(sol.ys.isfinite(), sol.ys, 0.0).sum().backward()
        assert sol.stats.backward is not None
        costs.append(sol.stats.backward.steps)
    assert costs[0] == costs[1]
