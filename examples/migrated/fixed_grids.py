"""Fixed steps: on the times themselves, of one size, on a grid; sampling from a flow; a jump in the field."""

import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint, odeint_adjoint


class Velocity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 2)).double()

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.net(torch.cat([x, t.expand(len(x), 1)], dim=1))


def pushed(t: Tensor, y: Tensor) -> Tensor:
    return -y + (1.0 if t < 0.5 else 0.0)


def run() -> dict[str, Tensor]:
    torch.manual_seed(0)
    model, noise = Velocity(), torch.randn(16, 2, dtype=torch.float64)
    t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    ends = t[[0, -1]]
    results = {}
    with torch.no_grad():
        for method in ("euler", "midpoint", "heun2", "heun3", "rk4"):
            results[method] = odeint(model, noise, t, method=method)
            results[f"{method}, step_size"] = odeint(model, noise, ends, method=method, options={"step_size": 0.1})
        squared = {"grid_constructor": lambda f, y0, t: torch.linspace(0, 1, 21, dtype=t.dtype) ** 2}
        results["own grid"] = odeint(model, noise, ends, method="rk4", options=squared)
    jump = {"jump_t": torch.tensor([0.5], dtype=torch.float64)}
    results["jump"] = odeint(pushed, torch.ones(1, dtype=torch.float64), t, options=jump, rtol=1e-9, atol=1e-9)
    x0 = noise.clone().requires_grad_()
    odeint_adjoint(model, x0, t, method="rk4")[-1].square().sum().backward()
    results["adjoint"] = torch.cat([x0.grad.flatten(), *(p.grad.flatten() for p in model.parameters())])
    return results


if __name__ == "__main__":
    print(run()["rk4"][-1])
