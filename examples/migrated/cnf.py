"""A continuous normalizing flow: the density of samples, transformed by an ODE backwards in time."""

import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint_adjoint as odeint


class Flow(nn.Module):
    """A mixture of planar flows, whose weights depend on time."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.hyper = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 5 * width)).double()

    def forward(self, t: Tensor, states: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        z, _ = states
        with torch.set_grad_enabled(True):
            z.requires_grad_(True)
            weights = self.hyper(t.reshape(1, 1)).reshape(self.width, 5)
            w, u, b = weights[:, :2], weights[:, 2:4], weights[:, 4]
            dz = torch.tanh(z @ w.T + b) @ u / self.width
            trace = sum(torch.autograd.grad(dz[:, i].sum(), z, create_graph=True)[0][:, i] for i in range(2))
        return dz, -trace.unsqueeze(1)


def run() -> dict[str, Tensor]:
    torch.manual_seed(0)
    flow, losses = Flow(), []
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    angle = torch.rand(64, dtype=torch.float64) * 6.28
    samples = torch.stack([angle.cos(), angle.sin()], dim=1) + 0.1 * torch.randn(64, 2, dtype=torch.float64)
    t = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for _ in range(4):
        zs, logps = odeint(flow, (samples, torch.zeros(64, 1).double()), t, atol=1e-6, rtol=1e-6, method="dopri5")
        base = torch.distributions.Normal(0.0, 1.0).log_prob(zs[-1]).sum(dim=1)
        loss = -(base - logps[-1].squeeze(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    with torch.no_grad():
        back, _ = odeint(flow, (zs[-1].detach(), logps[-1].detach()), t.flip(0), atol=1e-6, rtol=1e-6)
    return {"losses": torch.stack(losses), "back": back[-1]}


if __name__ == "__main__":
    print(run()["losses"])
