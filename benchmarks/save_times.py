"""Cost of gradients against the number of save times, beside torchdiffeq's odeint_adjoint.

    python benchmarks/save_times.py        # prints the table and writes benchmarks/results/save_times.json

The loss weighs every saved state. Errors are relative, over y0 and all parameters, against ``DirectAdjoint`` at
tolerance 1e-12. All in float64, dopri5, rtol 1e-6, atol 1e-8 forwards and, if not said otherwise, backwards. Counts
are calls of the field.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint

import isocline as iso

RESULT = Path(__file__).parent / "results" / "save_times.json"
SAVE_TIMES = (2, 11, 101, 1001)
TOLERANCES = {"rtol": 1e-6, "atol": 1e-8}


class Counted(nn.Module):
    """A field that counts its evaluations."""

    def __init__(self, net: nn.Module, inputs: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net.double()
        self.inputs = inputs
        self.calls = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.net(self.inputs(t, y))
        return out


class LotkaVolterra(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.tensor([1.3, 0.9, 0.8, 1.8]))

    def forward(self, y: Tensor) -> Tensor:
        a, b, c, d = self.rates
        x, z = y[..., :1], y[..., 1:]
        return torch.cat([a * x - b * x * z, c * x * z - d * z], dim=-1)


def problems() -> dict[str, tuple[Counted, Tensor, float]]:
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))
    spiral = nn.Linear(2, 2, bias=False)
    spiral.weight.data = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]]).T.contiguous()
    return {
        "mlp 2-50-2": (Counted(mlp, lambda t, y: y), torch.randn(16, 2).double(), 5.0),
        "cubic spiral": (Counted(spiral, lambda t, y: y**3), torch.tensor([[2.0, 0.0]]).double(), 5.0),
        "Lotka-Volterra": (Counted(LotkaVolterra(), lambda t, y: y), torch.tensor([[1.0, 1.0]]).double(), 5.0),
    }


def gradient(field: Counted, y0: Tensor, ts: Tensor, run: Callable[[Tensor], Tensor]) -> tuple[Tensor, int, int]:
    """Return the flat gradient and the calls forwards and backwards."""
    y0 = y0.clone().requires_grad_()
    weights = torch.cos(torch.arange(len(ts), dtype=torch.float64) + 1).reshape(-1, 1, 1)
    field.calls = 0
    loss = (run(y0) * weights).sum()
    forward, field.calls = field.calls, 0
    grads = torch.autograd.grad(loss, [y0, *field.parameters()])
    return torch.cat([g.flatten() for g in grads]), forward, field.calls


def compare(field: Counted, y0: Tensor, end: float, count: int) -> dict[str, dict[str, float]]:
    ts = torch.linspace(0.0, end, count, dtype=torch.float64)

    def ours(y0: Tensor, method: iso.Gradient, **tolerances: float) -> Tensor:
        ys: Tensor = iso.solve(field, y0, ts, method="dopri5", gradient=method, **tolerances).ys
        return ys

    def theirs(y0: Tensor) -> Tensor:
        ys: Tensor = odeint_adjoint(field, y0, ts, method="dopri5", **TOLERANCES)
        return ys

    truth, _, _ = gradient(field, y0, ts, lambda y0: ours(y0, iso.DirectAdjoint(), rtol=1e-12, atol=1e-12))
    runs: dict[str, Callable[[Tensor], Tensor]] = {
        "isocline BacksolveAdjoint": lambda y0: ours(y0, iso.BacksolveAdjoint(), **TOLERANCES),
        "isocline BacksolveAdjoint(rtol=2e-6)": lambda y0: ours(y0, iso.BacksolveAdjoint(rtol=2e-6), **TOLERANCES),
        "isocline RecursiveCheckpointAdjoint": lambda y0: ours(y0, iso.RecursiveCheckpointAdjoint(), **TOLERANCES),
        "torchdiffeq odeint_adjoint": theirs,
    }
    rows = {}
    for name, run in runs.items():
        found, forward, backward = gradient(field, y0, ts, run)
        rows[name] = {"forward": forward, "backward": backward, "error": float((found - truth).norm() / truth.norm())}
    return rows


def main() -> None:
    results = {}
    for name, (field, y0, end) in problems().items():
        for count in SAVE_TIMES:
            rows = compare(field, y0, end, count)
            results[f"{name}, {count} save times"] = rows
            for method, row in rows.items():
                print(f"{name:16}{count:6}  {method:36}", f"{row['forward']:6} {row['backward']:6} {row['error']:.1e}")
    RESULT.write_text(
        json.dumps({"command": "python benchmarks/save_times.py", "settings": TOLERANCES, "rows": results}, indent=1)
        + "\n"
    )


if __name__ == "__main__":
    main()
