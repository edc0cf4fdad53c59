"""Programs that import torchdiffeq, unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isocline.compat.install import install, main

PROGRAM = """
import torch, torchdiffeq
from torchdiffeq import odeint, odeint_adjoint, odeint_event, odeint_dense
from torchdiffeq._impl.odeint import SOLVERS
print(odeint.__module__, torchdiffeq.__version__, "dopri5" in SOLVERS)
print(odeint(lambda t, y: -y, torch.ones(1), torch.tensor([0.0, 1.0])).shape)
"""
EXPECTED = "isocline.compat.torchdiffeq.odeint 0.2.5 True\ntorch.Size([2, 1])\n"


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout


def test_a_folder_on_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # again does nothing
        main([str(tmp_path)])
    assert str(tmp_path) in capsys.readouterr().out
    path = os.pathsep.join([str(tmp_path), *sys.path])
    assert run(PROGRAM, PYTHONPATH=path) == EXPECTED


def test_two_lines() -> None:
    shim = "import sys, isocline.compat.torchdiffeq as torchdiffeq\nsys.modules['torchdiffeq'] = torchdiffeq\n"
    assert run(shim + PROGRAM, PYTHONPATH=os.pathsep.join(sys.path)) == EXPECTED


def test_another_torchdiffeq_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "torchdiffeq").mkdir()
    (tmp_path / "torchdiffeq" / "__init__.py").write_text("mine = True\n")
    with pytest.raises(FileExistsError, match="is there already"):
        install(tmp_path)
    with pytest.raises(SystemExit, match="is there already"):
        main([str(tmp_path)])
    assert (tmp_path / "torchdiffeq" / "__init__.py").read_text() == "mine = True\n"
