"""A bouncing ball: how high must it start so that its fifth bounce comes after exactly four seconds?"""

import torch

import isocline as iso

GRAVITY, RESTITUTION = 9.81, 0.8


def fall(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    height, speed = y
    return torch.stack([speed, -GRAVITY + 0 * height])


def bounce(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    height, speed = y
    return torch.stack([0 * height, -RESTITUTION * speed])


floor = iso.Event(lambda t, y: y[0], direction=-1, jump=bounce, terminal=5)
start = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)

for _ in range(6):  # Newton's method on the time of the event
    sol = iso.solve(fall, torch.stack([start, torch.zeros_like(start)]), (0.0, 100.0), event=floor, rtol=1e-10)
    (slope,) = torch.autograd.grad(sol.event_t, start)
    print(f"from {start.item():.6f} m the fifth bounce is at {sol.event_t.item():.6f} s")
    start = (start - (sol.event_t.detach() - 4.0) / slope).detach().requires_grad_()
assert abs(sol.event_t.item() - 4.0) < 1e-8
