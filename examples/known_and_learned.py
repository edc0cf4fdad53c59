"""A pendulum whose friction is not known: f = physics + network, fitted to series of irregular times."""

import torch
from torch import nn

import isocline as iso
from isocline.models import Autonomous, Hybrid, SeriesODE

torch.manual_seed(0)


def physics(t, y):
    angle, speed = y.unbind(-1)
    return torch.stack([speed, -angle.sin()], -1)


def friction(t, y):
    speed = y[..., 1]
    return torch.stack([0 * speed, -0.3 * speed * speed.abs()], -1)


y0 = torch.randn(20, 2)
ts = 6 * torch.rand(15, 20).sort(0).values  # each series at times of its own
series = iso.Series(ts, SeriesODE(Hybrid(physics, friction))(y0, ts) + 0.02 * torch.randn(15, 20, 2))

net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
model = SeriesODE(Hybrid(physics, Autonomous(net)), batch_dims=0, rtol=1e-3, atol=1e-3)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for _ in range(150):
    optimizer.zero_grad()
    loss = series.mse(model(y0, series.ts))
    loss.backward()
    optimizer.step()

later = torch.full((1, 20), 12.0)
exact, found, without = (SeriesODE(f)(y0, later) for f in (Hybrid(physics, friction), model.field, physics))
errors = [(x - exact).square().mean().sqrt().item() for x in (found, without)]
print(f"error twice as far as was observed: {errors[0]:.3f}; of the physics without friction: {errors[1]:.3f}")
assert errors[0] < 0.2 * errors[1]
