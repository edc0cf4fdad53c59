"""A sample whose start is its end is at all its times already."""

import pytest
import torch

import isocline as iso

from .problems import ALL_GRADIENTS, draw

TS = torch.tensor([[0.0, 0.5, 0.3], [0.4, 0.5, 0.2], [1.0, 0.5, -0.6]], dtype=torch.float64)
WEIGHTS = draw(3, 3, 2, seed=1)


@pytest.mark.parametrize("gradient", ALL_GRADIENTS.values(), ids=ALL_GRADIENTS)
@pytest.mark.parametrize("method", ["euler", "rk4", "tsit5"])
def test_gradients_of_a_lane_at_rest_and_of_its_neighbours(method: str, gradient: iso.Gradient) -> None:
    settings = {"method": method, "controller": iso.FixedStep(0.05), "batch_dims": 1, "gradient": gradient}

    def by(lanes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        p = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        y0 = draw(3, 2, seed=2)[lanes].requires_grad_()
        sol = iso.solve(lambda t, y: torch.sin(p * y + t), y0, TS[:, lanes], **settings)
        return torch.autograd.grad((WEIGHTS[:, lanes] * sol.ys).sum(), (p, y0))

    by_p, by_y0 = by([0, 1, 2])
    expected_p, expected_y0 = by([0, 2])
    torch.testing.assert_close(by_y0[1], WEIGHTS[:, 1].sum(dim=0))
    torch.testing.assert_close(by_y0[[0, 2]], expected_y0)
    torch.testing.assert_close(by_p, expected_p)
