"""The programs in examples/migrated, with isocline and, by changing the import only, with torchdiffeq."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("torchdiffeq")

PROGRAMS = sorted((Path(__file__).parent.parent.parent / "examples" / "migrated").glob("*.py"))

CLOSE = {"odenet_digits": 2e-2, "latent_ode": 1e-3, "fixed_grids": 1e-8}
"""How close the results are, relatively; float32, loose tolerances and training make for the large ones."""


def results(program: Path, package: str) -> dict[str, Tensor]:
    source = program.read_text()
    assert source.count("isocline") == 1
    names: dict[str, Any] = {"__name__": "program"}
    exec(compile(source.replace("isocline.compat.torchdiffeq", package), program.name, "exec"), names)
    found: dict[str, Tensor] = names["run"]()
    return found


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 8


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_both_give_the_same(program: Path) -> None:
    if program.stem == "odenet_digits":
        pytest.importorskip("sklearn")
    ours, theirs = (results(program, package) for package in ("isocline.compat.torchdiffeq", "torchdiffeq"))
    assert ours.keys() == theirs.keys()
    close = CLOSE.get(program.stem, 1e-4)
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape and ours[name].dtype == expected.dtype
        scale = 1 + expected.double().abs().max()
        assert (ours[name].double() - expected.double()).abs().max() < close * scale, name
        assert torch.isfinite(ours[name]).all()
