"""A sample whose start is its end is at all its times already."""

import pytest
import torch

import isocline as iso
from problems import fitting

from .problems import ALL_GRADIENTS, draw

TS = torch.tensor([[0.0, 0.5, 0.3], [0.4, 0.5, 0.2], [1.0, 0.5, -0.6]], dtype=torch.float64)
WEIGHTS = draw(3, 3, 2, seed=1)


@pytest.mark.parametrize("gradient", ALL_GRADIENTS.values(), ids=ALL_GRADIENTS)
@pytest.mark.parametrize("method", ["euler", "rk4", "tsit5"])
def test_gradients_of_a_lane_at_rest_and_of_its_neighbours(method: str, gradient: iso.Gradient) -> None:
    solver = fitting(gradient, method)
    settings = {"method": solver, "controller": iso.FixedStep(0.05), "batch_dims": 1, "gradient": gradient}

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


@pytest.mark.parametrize("gradient", ALL_GRADIENTS.values(), ids=ALL_GRADIENTS)
@pytest.mark.parametrize("shape", [(9,), (3, 3)], ids=["lanes", "two batch dimensions"])
def test_a_lane_at_rest_leaves_no_trace_where_its_arguments_forbid_the_times_of_others(
    shape: tuple[int, ...], gradient: iso.Gradient
) -> None:
    """Beyond limit[i] lane i has a slope that is nan; others go there while it rests."""
    limit = torch.linspace(0.3, 1.5, 9, dtype=torch.float64)
    y0 = draw(9, 1, seed=3)

    def gradients(limit: torch.Tensor, y0: torch.Tensor) -> tuple[torch.Tensor, ...]:
        p, limit, y0 = torch.tensor(0.7, dtype=torch.float64), limit.clone(), y0.clone()
        inputs = [x.requires_grad_() for x in (p, limit, y0)]

        def f(t: torch.Tensor, y: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
            return -p * y * (limit.unsqueeze(-1) - t).sqrt()

        args, times = (iso.PerLane(limit),), (0.0, 0.7 * limit.detach())
        settings = {"batch_dims": limit.ndim, "controller": iso.FixedStep(0.05), "method": fitting(gradient)}
        sol = iso.solve(f, y0, times, args=args, gradient=gradient, **settings)
        return torch.autograd.grad(sol.ys[-1].square().sum(), inputs)

    by_p, by_limit, by_y0 = gradients(limit.reshape(shape), y0.reshape(*shape, 1))
    alone = [gradients(limit[i : i + 1], y0[i : i + 1]) for i in range(9)]
    torch.testing.assert_close(by_p, sum(parts[0] for parts in alone))
    torch.testing.assert_close(by_limit.flatten(), torch.cat([parts[1] for parts in alone]))
    torch.testing.assert_close(by_y0.reshape(9, 1), torch.cat([parts[2] for parts in alone]))
