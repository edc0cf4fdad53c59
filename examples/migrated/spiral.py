"""Fit a network to a spiral, from short pieces of one observed trajectory."""

import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint

TRUE = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=torch.float64)


class Field(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 2)).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y**3)


def run() -> dict[str, Tensor]:
    torch.manual_seed(0)
    t = torch.linspace(0.0, 10.0, 200, dtype=torch.float64)
    with torch.no_grad():
        truth = odeint(lambda t, y: y**3 @ TRUE, torch.tensor([[2.0, 0.0]], dtype=torch.float64), t, method="dopri5")
    field, losses = Field(), []
    optimizer = torch.optim.RMSprop(field.parameters(), lr=1e-3)
    for _ in range(10):
        starts = torch.randint(0, 190, (20,))
        pieces = torch.stack([truth[starts + i] for i in range(10)])
        predicted = odeint(field, truth[starts], t[:10])
        loss = (predicted - pieces).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return {"truth": truth, "losses": torch.stack(losses)}


if __name__ == "__main__":
    print(run()["losses"])
