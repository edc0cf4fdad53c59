"""The README's first program runs as it stands, and its other lines do with what they leave out."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)

LEFT_OUT = """
import torch
from torch import nn
import isocline as iso
from isocline import models

def f(t, y, *args):
    return {"q": y["p"], "p": -y["q"]} if isinstance(y, dict) else -y

def kinetics(t, y, rates):
    return -rates * y

def fall(t, y):
    return torch.stack([y[1], 0 * y[0] - 9.81])

y0, ts, ends, k = torch.rand(4, 2), torch.linspace(0, 1, 5), torch.linspace(1, 2, 4), torch.ones(4, 1)
q0 = p0 = torch.ones(2)
rates, ball, x = torch.ones(4, 1), torch.tensor([1.0, 0.0]), torch.randn(16, 2)
hamiltonian, psi0 = torch.eye(2, dtype=torch.complex64), torch.ones(2, dtype=torch.complex64)
field = models.Autonomous(nn.PReLU())  # of any width
hours, kinds = [0.0, 5.0, 9.0, 1.0, 2.0, 8.0], ["pulse", "rate", "gas"] * 2
table = {"patient": [0] * 3 + [1] * 3, "hour": hours, "kind": kinds, "reading": [70.0, 1.0, 3.0, 80.0, 2.0, 2.5]}
decoder, rate, z0 = nn.Linear(4, 3), nn.Linear(2, 1), torch.randn(2, 2)
"""


def test_the_first_program(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(PROGRAMS[0], names)
    assert capsys.readouterr().out.startswith("torch.Size([100, 128, 2]) ")
    assert all(p.grad is not None for p in names["net"].parameters())  # type: ignore[attr-defined]


@pytest.mark.usefixtures("graphs_only")
def test_the_other_lines() -> None:
    names: dict[str, object] = {}
    exec(LEFT_OUT, names)
    for number, program in enumerate(PROGRAMS[1:], 2):
        exec(compile(program.replace('"cuda"', '"cpu"'), f"README.md, program {number}", "exec"), names)
