"""A latent ODE: a recurrent encoder reads noisy spirals backwards, an ODE goes on from where they began."""

import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint


class LatentField(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.nfe = 0
        self.net = nn.Sequential(nn.Linear(4, 20), nn.ELU(), nn.Linear(20, 20), nn.ELU(), nn.Linear(20, 4))

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        self.nfe += 1
        return self.net(z)


def spirals(count: int, times: Tensor) -> Tensor:
    sign = torch.where(torch.arange(count) % 2 == 0, 1.0, -1.0).unsqueeze(1)
    phase = torch.rand(count, 1) * 6.28
    angle = phase + sign * times
    radius = 0.5 + 0.2 * times
    paths = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=2)
    return paths + 0.05 * torch.randn_like(paths)


def run() -> dict[str, Tensor]:
    torch.manual_seed(0)
    times = torch.linspace(0.0, 3.0, 20)
    field, cell, read = LatentField(), nn.RNNCell(2, 25), nn.Linear(25, 8)
    decode = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 2))
    optimizer = torch.optim.Adam(nn.ModuleList([field, cell, read, decode]).parameters(), lr=1e-2)
    data, losses = spirals(32, times), []
    for _ in range(6):
        hidden = torch.zeros(32, 25)
        for i in reversed(range(len(times))):
            hidden = cell(data[:, i], hidden)
        mean, logvar = read(hidden).chunk(2, dim=1)
        z0 = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        predicted = decode(odeint(field, z0, times, rtol=1e-5, atol=1e-6).permute(1, 0, 2))
        divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=1)
        loss = ((predicted - data) ** 2).sum(dim=(1, 2)).div(2 * 0.3**2).mean() + divergence.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return {"losses": torch.stack(losses), "nfe": torch.tensor(float(field.nfe))}


if __name__ == "__main__":
    print(run())
