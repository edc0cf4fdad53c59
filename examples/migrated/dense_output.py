"""A pendulum's path as a function of time."""

import torch
from torch import Tensor

from isocline.compat.torchdiffeq import odeint, odeint_dense


def pendulum(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[1], -y[0].sin() - 0.1 * y[1]])


def run() -> dict[str, Tensor]:
    y0 = torch.tensor([1.5, 0.0], dtype=torch.float64)
    t0, t1 = torch.tensor(0.0, dtype=torch.float64), torch.tensor(10.0, dtype=torch.float64)
    path = odeint_dense(pendulum, y0, t0, t1, rtol=1e-8, atol=1e-9)
    times = torch.linspace(0.0, 9.9, 34, dtype=torch.float64)
    return {
        "dense": torch.stack([path(t) for t in times]),
        "saved": odeint(pendulum, y0, times, rtol=1e-8, atol=1e-9),
    }


if __name__ == "__main__":
    print(run()["dense"])
