"""Under autocast the field runs in bfloat16 forwards, and must do so when it is evaluated again backwards."""

import pytest
import torch
from torch import Tensor, nn

import isocline as iso


def gradient_of_y0(gradient: iso.Gradient) -> Tensor:
    torch.manual_seed(0)
    linear = nn.Linear(4, 4)
    y0 = torch.randn(8, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sol = iso.solve(
            lambda t, y: torch.tanh(linear(y)).float(),
            y0,
            (0.0, 1.0),
            method="rk4",
            controller=iso.FixedStep(0.1),
            gradient=gradient,
        )
    return torch.autograd.grad(sol.ys[-1].square().sum(), y0)[0]


@pytest.mark.parametrize("checkpoints", [None, 2])
def test_the_replay_is_in_the_same_precision(checkpoints: int | None) -> None:
    # Not the parameters': torch itself adds those up in bfloat16 over a whole graph, the replay in float32 over steps.
    expected = gradient_of_y0(iso.DirectAdjoint())
    found = gradient_of_y0(iso.RecursiveCheckpointAdjoint(checkpoints))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
