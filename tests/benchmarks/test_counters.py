"""What the peer benchmarks' own cases cost in evaluations of the field: no times, and exact numbers.

In float64, where no machine's rounding changes a step.
"""

import importlib.util
from dataclasses import replace

import pytest
import torch
from benchmarks.peers.case import Case
from benchmarks.peers.cases import make_case
from benchmarks.peers.contender import Counts
from benchmarks.peers.contenders import contender_called

EVALUATIONS = {
    "mlp-1x2x50": 50,
    "mlp-16x2x64": 80,
    "mlp-16x64x128": 68,
    "cnf-2x64": 26,
    "conv-4x5x5": 14,
    "lorenz-1": 260,
    "lorenz-20": 340,
    "vdp-32": 1456,
    "saves-10": 68,
}
TRIALS = {"lorenz-20": 2, "vdp-32": 2}
"""Evaluations that find out whether f can do without samples that have ended."""
JOINT = [name for name in EVALUATIONS if name not in TRIALS]
"""Where torchdiffeq, too, has the right number of step sizes."""
BACKWARD = {"direct": 0, "checkpoint": 73, "backsolve": 98}


def counts(case: Case | str, contender: str) -> Counts:
    if isinstance(case, str):
        case = make_case(case).double()
    return contender_called(contender).build(case, "cpu").count()


@pytest.mark.parametrize(("name", "expected"), EVALUATIONS.items())
def test_evaluations_of_a_solve(name: str, expected: int) -> None:
    found = counts(name, "isocline:eager")
    assert found["evaluations"] == expected
    assert found["evaluations"] == 2 + 6 * found["steps"] + TRIALS.get(name, 0)


@pytest.mark.skipif(importlib.util.find_spec("torchdiffeq") is None, reason="torchdiffeq is not installed")
@pytest.mark.parametrize("name", JOINT)
def test_evaluations_are_at_most_15_percent_more_than_torchdiffeqs(name: str) -> None:
    ours, theirs = (counts(name, contender)["evaluations"] for contender in ("isocline:eager", "torchdiffeq"))
    assert ours <= 1.15 * theirs


@pytest.mark.parametrize(("kind", "expected"), BACKWARD.items())
def test_evaluations_of_a_gradient(kind: str, expected: int) -> None:
    found = counts("mlp-16x2x64-grad", f"isocline:{kind}:eager")
    assert found["evaluations"] == EVALUATIONS["mlp-16x2x64"]
    assert found["backward"] == expected


def test_save_times_cost_no_evaluations() -> None:
    few, many = (counts(name, "isocline:eager") for name in ("saves-2", "saves-1000"))
    assert few == many


def test_rows_alone_are_those_of_samples_solved_alone() -> None:
    case = make_case("vdp-5").double()
    alone = [counts(sample(case, index), "isocline:eager") for index in range(case.batch)]
    together = counts(case, "isocline:eager")
    assert together["rows_alone"] == sum(found["evaluations"] for found in alone)
    assert together["rows_alone"] <= together["rows"] <= case.batch * together["evaluations"]


def sample(case: Case, index: int) -> Case:
    """Return the case of one sample alone."""
    assert isinstance(case.y0, torch.Tensor)
    chosen = slice(index, index + 1)
    return replace(case, y0=case.y0[chosen], args=tuple(arg[chosen] for arg in case.args))
