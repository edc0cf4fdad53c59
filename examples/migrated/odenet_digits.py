"""An ODE-Net on small images: one ODE block with the adjoint, in the place of residual blocks."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint_adjoint as odeint


class WithTime(nn.Module):
    """A convolution that sees the time as a further channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels + 1, channels, 3, padding=1)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.layer(torch.cat([torch.ones_like(x[:, :1]) * t, x], dim=1))


class Field(nn.Module):
    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, channels), nn.GroupNorm(4, channels)
        self.conv1, self.conv2 = WithTime(channels), WithTime(channels)
        self.nfe = 0

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        self.nfe += 1
        x = self.conv1(t, self.norm1(x).relu())
        return self.conv2(t, self.norm2(x).relu())


class Block(nn.Module):
    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field
        self.t = torch.tensor([0, 1]).float()

    def forward(self, x: Tensor) -> Tensor:
        return odeint(self.field, x, self.t.type_as(x), rtol=1e-3, atol=1e-3)[1]


def run() -> dict[str, Tensor]:
    torch.manual_seed(0)
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    targets = torch.tensor(labels)
    field = Field()
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), Block(field), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses, forward = [], 0
    for step in range(5):
        batch = slice(64 * step, 64 * step + 64)
        field.nfe = 0
        loss = nn.functional.cross_entropy(net(images[batch]), targets[batch])
        forward += field.nfe
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return {"losses": torch.stack(losses), "nfe": torch.tensor(float(forward))}


if __name__ == "__main__":
    print(run())
