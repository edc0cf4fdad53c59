"""The table of gradients: its problems, what is measured, and the page."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from benchmarks.gradients.__main__ import PAGE, RESULTS, main
from benchmarks.gradients.cases import CASES, Case, relaxed, solver_called, tensor, times
from benchmarks.gradients.measure import METHODS, MIDDLE, add_times, distance, measure, reference
from benchmarks.gradients.page import render

import isocline as iso
from isocline.gradients import GRADIENTS

DECAY = Case(
    name="decay",
    about="y' = -k y",
    f=lambda t, y, k: -k * y,
    y0=tensor(1.0, 2.0),
    theta=(torch.tensor(0.7, dtype=torch.float64),),
    ts=times(1.0, 2),
    solvers=("tsit5", "Reversible('tsit5')", "rodas5p"),
    exact=lambda ts, y0, k: y0 * torch.exp(-k * ts.unsqueeze(1)),
)
ABOUT = {"command": "a command", "date": "today", "machine": "a processor", "versions": {"torch": "2"}}


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    found = measure(DECAY, (1e-4, MIDDLE))
    add_times(DECAY, found, rounds=2, least=0.0)
    return found


def test_every_gradient_method_is_measured_with_the_solvers_that_suit_it(record: dict[str, Any]) -> None:
    for solver in DECAY.solvers:
        expected = {name for name, gradient in METHODS.items() if gradient.suits(solver_called(solver))}
        assert set(record["solvers"][solver]) == expected
    assert set(METHODS) > set(GRADIENTS)
    # Each method has a solver that suits it, in one problem at least.
    assert set().union(*record["solvers"].values()) == set(METHODS)


def test_errors_go_by_the_tolerance(record: dict[str, Any]) -> None:
    for entries in record["solvers"].values():
        for entry in entries.values():
            assert all(1e-16 < point["error"] < 30 * point["tolerance"] for point in entry["points"])
            assert entry["time"]["rounds"] == 2


def test_counts_are_those_of_the_solve(record: dict[str, Any]) -> None:
    _, point = record["solvers"]["tsit5"]["checkpoint"]["points"]
    y0, k = DECAY.inputs
    gradient = iso.RecursiveCheckpointAdjoint()
    sol = iso.solve(DECAY.f, y0, DECAY.ts, args=(k,), rtol=MIDDLE, atol=MIDDLE, gradient=gradient)
    DECAY.loss(sol.ys).backward()
    assert point["forward"] == sol.stats.evaluations
    assert point["backward"] == sol.stats.backward.evaluations
    assert point["steps"] == sol.stats.accepted
    assert point["bytes"] > 0


def test_the_page_shows_what_was_measured(record: dict[str, Any]) -> None:
    page = render({**ABOUT, "problems": {"decay": record}})
    row = next(line for line in page.splitlines() if line.startswith("| `tsit5` | `DirectAdjoint()` |"))
    loose, tight = record["solvers"]["tsit5"]["direct"]["points"]
    assert f"| {loose['error']:.1e} | {tight['error']:.1e} | {tight['steps']} | {tight['forward']} + 0 |" in row
    assert "`RecursiveCheckpointAdjoint(8)`" in page
    assert "| failed" not in page


def test_failures_are_reported() -> None:
    hopeless = replace(DECAY, f=lambda t, y, k: k * y**2, ts=times(3.0, 1), solvers=("tsit5",))
    found = measure(hopeless, (MIDDLE,))
    assert "STEP_TOO_SMALL" in found["solvers"]["tsit5"]["direct"]["points"][0]["failed"]
    add_times(hopeless, found, rounds=1, least=0.0)
    page = render({**ABOUT, "problems": {"decay": found}})
    assert "| `tsit5` | `DirectAdjoint()` | failed | – | – | – | – |" in page
    assert "- the solve stopped at t=" in page


def test_the_closed_form_is_the_solution() -> None:
    case = CASES["decay at rate 100"]
    sol = iso.solve(case.f, case.y0, times(0.5, 7), args=case.theta, method="vern9", rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sol.ys, relaxed(sol.ts, case.y0, *case.theta), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["Lotka-Volterra", "van der Pol, mu=1"])
def test_references_agree_with_finite_differences(name: str) -> None:
    case, eps = CASES[name], 1e-6

    def loss(shift: float) -> torch.Tensor:
        theta = (case.theta[0] + shift, *case.theta[1:])
        return case.loss(iso.solve(case.f, case.y0, case.ts, args=theta, method="vern9", rtol=1e-13, atol=1e-13).ys)

    exact, about = reference(case)
    assert "differs by" in about["by"]
    found = exact[case.y0.numel()]
    assert abs((loss(eps) - loss(-eps)) / (2 * eps) - found) < 1e-6 * abs(found)
    assert distance(exact, exact) == 0.0


def test_a_partial_run_keeps_the_rest(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "decay", replace(DECAY, solvers=("tsit5",)))
    file = tmp_path / "results.json"
    file.write_text(json.dumps({**ABOUT, "problems": {"MLP": {"about": "kept", "solvers": {"a": {"direct": {}}}}}}))
    monkeypatch.setattr("benchmarks.gradients.__main__.render", lambda results: ", ".join(results["problems"]))
    main(["--problems", "decay", "--no-times", "--results", str(file)])
    assert file.with_suffix(".md").read_text() == "MLP, decay"
    kept = json.loads(file.read_text())
    assert kept["command"] == f"python -m benchmarks.gradients --problems decay --no-times --results {file}"
    assert "time" not in kept["problems"]["decay"]["solvers"]["tsit5"]["direct"]


def test_page_is_made_from_the_results() -> None:
    if not RESULTS.exists():
        pytest.skip("nothing was measured yet")
    assert PAGE.read_text() == render(json.loads(RESULTS.read_text()))
