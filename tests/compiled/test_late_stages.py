"""Compiled solves by methods whose interpolants read stages of their own."""

from fractions import Fraction as F
from typing import Any

import pytest
import torch
from torch import Tensor

import isocline as iso
from isocline.tableaus.tableau import hermite

from .problems import Net, draw, gradients, solve_both

FIRST, SECOND, END = hermite((F(1, 2), F(1, 2), F(0)))
# Heun's method with the cubic Hermite interpolant, and another late stage: few stages, so that tracing is quick.
HEUN = iso.RungeKutta(
    iso.Tableau(
        name="late_heun",
        order=2,
        a=((), (1.0,)),
        b=(0.5, 0.5),
        c=(0.0, 1.0),
        embedded=(1.0, 0.0),
        embedded_order=1,
        late_a=((0.5, 0.5), (0.375, 0.0, 0.125)),
        late_c=(1.0, 0.5),
        dense=(FIRST, SECOND, END, (0.0, 0.0, 0.0)),
        dense_order=2,
        citation="Heun 1900",
    )
)

TS = torch.tensor([0.1, 0.437, 0.5, 0.871, 1.231], dtype=torch.float64)
SETTINGS: dict[str, Any] = {"method": HEUN, "rtol": 1e-5, "atol": 1e-5}


def swing(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[..., 1], -torch.sin(y[..., 0])], dim=-1)


@pytest.mark.usefixtures("graphs_only")
class TestGraphs:
    @pytest.mark.parametrize(
        ("gradient", "batch_dims"),
        [(iso.DirectAdjoint(), 0), (iso.RecursiveCheckpointAdjoint(), 1), (iso.BacksolveAdjoint(), 0)],
        ids=["direct", "checkpoint, lanes", "backsolve"],
    )
    def test_saved_states_and_gradients(self, gradient: iso.Gradient, batch_dims: int) -> None:
        net, y0, ts = Net(), draw(3, 2).requires_grad_(), TS.clone().requires_grad_()
        first, second = solve_both(net, y0, ts, batch_dims=batch_dims, gradient=gradient, **SETTINGS)
        torch.testing.assert_close(first.ys, second.ys, rtol=1e-9, atol=1e-9)
        assert torch.equal(first.stats.steps, second.stats.steps)
        wanted = [y0, ts, *net.parameters()]
        for a, b in zip(gradients(first.ys, wanted), gradients(second.ys, wanted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)

    def test_late_stages_are_evaluated_only_if_there_is_something_to_interpolate(self) -> None:
        with torch.no_grad():
            between = iso.solve(swing, draw(3, 2), TS, compile=True, **SETTINGS)
            ends = iso.solve(swing, draw(3, 2), TS[[0, -1]], compile=True, **SETTINGS)
        # One to choose the first step. Of the four in an attempt one is the next step's first.
        assert between.stats.evaluations == 3 * int(between.stats.steps) + 1 + 1
        assert ends.stats.evaluations == 2 * int(ends.stats.steps) + 1 + 1

    def test_dense_output(self) -> None:
        with torch.no_grad():
            first, second = solve_both(swing, draw(3, 2), TS, dense=True, **SETTINGS)
        times = torch.linspace(0.1, 1.231, 13, dtype=torch.float64)
        torch.testing.assert_close(first(times), second(times), rtol=1e-9, atol=1e-9)
        assert first.stats.evaluations == second.stats.evaluations
