"""Work of step size rules: evaluations at equal error, over smooth and rough problems.

    python benchmarks/step_size.py         # prints the table and writes benchmarks/results/step_size.json

Work is evaluations times (error / tolerance)^(1/5), the geometric mean over ten problems and two tolerances: what the
solve would have cost had it hit its tolerance exactly, for a method of order five. Errors are against dopri5 at 1e-13.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import isocline as iso

RESULT = Path(__file__).parent / "results" / "step_size.json"
RULES = {
    "I": {"pcoeff": 0.0, "icoeff": 1.0},
    "default": {},
    "PI (0.1, 0.8)": {"pcoeff": 0.1, "icoeff": 0.8},
    "PI (0.2, 0.65), as DOPRI5": {"pcoeff": 0.2, "icoeff": 0.65},
    "PI (0.4, 0.3)": {"pcoeff": 0.4, "icoeff": 0.3},
}
TOLERANCES = (1e-4, 1e-7)
F64 = torch.float64
Problem = tuple[Callable[[Tensor, Tensor], Tensor], Tensor, float]


def mlp(batch: int, d: int, hidden: int) -> Problem:
    torch.manual_seed(0)
    layers = [nn.Linear(d, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, d)]
    net = nn.Sequential(*layers).double()
    for p in net.parameters():
        p.data *= 2
    return lambda t, y: net(y), torch.randn(batch, d, dtype=F64), 5.0


def lotka_volterra(t: Tensor, y: Tensor) -> Tensor:
    x, z = y
    return torch.stack([1.3 * x - 0.9 * x * z, 0.8 * x * z - 1.8 * z])


def van_der_pol(t: Tensor, y: Tensor) -> Tensor:
    x, v = y
    return torch.stack([v, 10 * (1 - x * x) * v - x])


def lorenz(t: Tensor, y: Tensor) -> Tensor:
    a, b, c = y
    return torch.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])


def arenstorf(t: Tensor, s: Tensor) -> Tensor:
    """The restricted three-body orbit of Hairer, Norsett & Wanner 1993, II.0."""
    m = 0.012277471
    x, y, u, v = s
    earth, moon = ((x + m) ** 2 + y * y) ** 1.5, ((x - 1 + m) ** 2 + y * y) ** 1.5
    du = x + 2 * v - (1 - m) * (x + m) / earth - m * (x - 1 + m) / moon
    dv = y - 2 * u - (1 - m) * y / earth - m * y / moon
    return torch.stack([u, v, du, dv])


def problems() -> dict[str, Problem]:
    turn = torch.tensor([[-0.1, -2.0], [2.0, -0.1]], dtype=F64)
    driven, start, _ = mlp(64, 16, 64)
    return {
        "mlp 2-50-50-2": mlp(1, 2, 50),
        "mlp 2-64-64-2": mlp(128, 2, 64),
        "mlp 64-128-128-64": mlp(128, 64, 128),
        "driven mlp": (lambda t, y: driven(t, y) * torch.cos(3 * t), start, 3.0),
        "cubic spiral": (lambda t, y: y**3 @ turn, torch.tensor([2.0, 0.0], dtype=F64), 5.0),
        "linear spiral": (lambda t, y: y @ turn, torch.tensor([2.0, 0.0], dtype=F64), 5.0),
        "Lotka-Volterra": (lotka_volterra, torch.tensor([1.0, 1.0], dtype=F64), 10.0),
        "van der Pol 10": (van_der_pol, torch.tensor([2.0, 0.0], dtype=F64), 20.0),
        "Lorenz": (lorenz, torch.tensor([1.0, 1.0, 1.0], dtype=F64), 5.0),
        "Arenstorf": (
            arenstorf,
            torch.tensor([0.994, 0.0, 0.0, -2.00158510637908252240537862224], dtype=F64),
            17.0652165601579625588917206249,
        ),
    }


@torch.no_grad()
def work(method: str, rule: dict[str, float], references: dict[str, Tensor]) -> tuple[float, float, int]:
    """Return the geometric means of work and evaluations, and all rejected steps."""
    logs, counts, rejected = [], [], 0
    for name, (f, y0, end) in problems().items():
        for tolerance in TOLERANCES:
            controller = iso.PID(rtol=tolerance, atol=tolerance / 10, **rule)
            sol = iso.solve(f, y0, (0.0, end), method=method, controller=controller)
            error = float((sol.ys[-1] - references[name]).norm())
            counts.append(math.log(sol.stats.evaluations))
            logs.append(counts[-1] + math.log(error / tolerance) / 5)
            rejected += int(sol.stats.rejected)
    return math.exp(sum(logs) / len(logs)), math.exp(sum(counts) / len(counts)), rejected


@torch.no_grad()
def main() -> None:
    references = {
        name: iso.solve(f, y0, (0.0, end), method="dopri5", rtol=1e-13, atol=1e-13, max_steps=100_000).ys[-1]
        for name, (f, y0, end) in problems().items()
    }
    rows = []
    for method in ("tsit5", "dopri5"):
        for name, rule in RULES.items():
            normalised, evaluations, rejected = work(method, rule, references)
            print(f"{method:8}{name:28} work {normalised:6.1f}  evaluations {evaluations:6.1f}  rejected {rejected}")
            rows.append(
                {"method": method, "rule": name, "work": normalised, "evaluations": evaluations, "rejected": rejected}
            )
    RESULT.write_text(json.dumps({"command": "python benchmarks/step_size.py", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
