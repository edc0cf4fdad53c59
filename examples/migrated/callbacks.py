"""What a solver does, told by the function's callbacks, forwards and backwards."""

import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint, odeint_adjoint


class Watched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.tensor(5.0, dtype=torch.float64))
        self.steps, self.accepted, self.rejected, self.sizes, self.backwards = 0, 0, 0, [], 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], self.mu * (1 - y[0] ** 2) * y[1] - y[0]])

    def callback_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.steps += 1

    def callback_accept_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.accepted += 1
        self.sizes.append(dt.item())

    def callback_reject_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
        self.rejected += 1

    def callback_step_adjoint(self, t0: Tensor, y0: tuple[Tensor, ...], dt: Tensor) -> None:
        self.backwards += 1


def run() -> dict[str, Tensor]:
    watched, y0 = Watched(), torch.tensor([2.0, 0.0], dtype=torch.float64)
    odeint(watched, y0, torch.tensor([0.0, 10.0]), rtol=1e-6, atol=1e-6)
    assert watched.steps == watched.accepted + watched.rejected
    adjoint = Watched()
    odeint_adjoint(adjoint, y0, torch.tensor([0.0, 0.5]), rtol=1e-6, atol=1e-6)[-1].sum().backward()
    counts = watched.steps, watched.accepted, adjoint.steps
    return {
        "counts": torch.tensor([float(count) for count in counts]),
        "seen backwards": torch.tensor(adjoint.backwards > 0),
        "gradient": adjoint.mu.grad,
    }


if __name__ == "__main__":
    print(run()["counts"])
