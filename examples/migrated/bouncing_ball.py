"""A ball that bounces: when, and how that depends on gravity, on its start and on its radius."""

import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint, odeint_adjoint, odeint_event


class Ball(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        number = torch.float64
        self.gravity = nn.Parameter(torch.tensor([9.8], dtype=number))
        self.log_radius = nn.Parameter(torch.tensor([0.2], dtype=number).log())
        self.t0 = nn.Parameter(torch.tensor([0.0], dtype=number))
        self.height = nn.Parameter(torch.tensor([10.0], dtype=number))
        self.speed = nn.Parameter(torch.tensor([0.0], dtype=number))
        self.absorption = nn.Parameter(torch.tensor([0.2], dtype=number))

    def forward(self, t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        _, speed, log_radius = state
        return speed, -self.gravity, torch.zeros_like(log_radius)

    def above_ground(self, t: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        height, _, log_radius = state
        return height - log_radius.exp()

    def bounces(self, interface, count: int) -> list[Tensor]:  # type: ignore[no-untyped-def]
        t, state, times = self.t0, (self.height, self.speed, self.log_radius), []
        for _ in range(count):
            t, path = odeint_event(
                self, state, t, event_fn=self.above_ground, odeint_interface=interface, rtol=1e-8, atol=1e-8
            )
            times.append(t)
            height, speed, log_radius = (part[-1] for part in path)
            state = height + 1e-7, -speed * (1 - self.absorption), log_radius
        return times


def run() -> dict[str, Tensor]:
    results = {}
    for name, interface in (("odeint", odeint), ("adjoint", odeint_adjoint)):
        ball = Ball()
        times = ball.bounces(interface, 3)
        times[-1].backward()
        results[f"{name}: times"] = torch.stack(times).detach()
        results[f"{name}: gradients"] = torch.cat(
            [p.grad for p in (ball.gravity, ball.t0, ball.height, ball.speed, ball.absorption)]
        )
    return results


if __name__ == "__main__":
    print(run())
