"""The adjoint with the seminorm, with a norm of one's own, and with its own tolerances and method."""

import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint_adjoint


class Field(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(torch.cat([y, t.expand(len(y), 1)], dim=1))


def largest(parts: tuple[Tensor, ...]) -> Tensor:
    t, y, adj_y, *params = parts
    return torch.stack([part.abs().max() for part in (t, y, adj_y, *params)]).max()


def run() -> dict[str, Tensor]:
    torch.manual_seed(0)
    field, y0 = Field(), torch.randn(5, 2, dtype=torch.float64)
    t = torch.linspace(0.0, 2.0, 5, dtype=torch.float64)
    settings = {
        "default": {},
        "seminorm": {"adjoint_options": {"norm": "seminorm"}},
        "own norm": {"adjoint_options": {"norm": largest}},
        "looser": {"adjoint_rtol": 1e-7, "adjoint_atol": 1e-8, "adjoint_options": {"norm": "seminorm"}},
        "other method": {"adjoint_method": "dopri8", "adjoint_options": {}},
    }
    results = {}
    for name, setting in settings.items():
        start, times = y0.clone().requires_grad_(), t.clone().requires_grad_()
        ys = odeint_adjoint(field, start, times, rtol=1e-8, atol=1e-9, method="dopri5", **setting)
        found = torch.autograd.grad((ys**2).sum(), [start, times, *field.parameters()])
        results[name] = torch.cat([g.flatten() for g in found])
    return results


if __name__ == "__main__":
    print(run()["seminorm"])
