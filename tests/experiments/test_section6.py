"""What the experiments on section 6 of the paper find, in their smallest form."""

import json
import sys
from functools import cache
from math import exp, isfinite, isnan, nan
from pathlib import Path
from typing import cast

import pytest
import torch
from benchmarks.section6 import DOCS, page, results_of
from matplotlib.figure import Figure

from isocline import cli
from isocline.experiments import registry
from isocline.experiments.processes import launched
from isocline.experiments.reproduction import Finding, Reproduction, Results, drawn, findings_table, plain
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section6.differentiate import exact_gradient
from isocline.experiments.section6.drift import CASES, Drift, DriftResults
from isocline.experiments.section6.fields import Attracted, Case
from isocline.experiments.section6.gradient_error import GradientError, GradientErrorResults
from isocline.experiments.section6.lanes import Lanes, LanesResults
from isocline.experiments.section6.laws import EPS
from isocline.experiments.section6.memory import Memory, MemoryResults
from isocline.experiments.section6.mixtures import ALIKE, kepler
from isocline.experiments.section6.nfe import Nfe, NfeResults
from isocline.experiments.section6.picard import CROSSED, RESTING, Picard, PicardResults
from isocline.gradients import GRADIENTS

EXPERIMENTS = {name: kind for name, kind in registry.EXPERIMENTS.items() if "section6" in kind.__module__}
every_experiment = pytest.mark.parametrize("name", EXPERIMENTS)


@cache
def small(experiment: type[Reproduction]) -> Results:
    folder = RunFolder(Path("nowhere"), {})  # these leave nothing in it themselves
    return experiment().smaller().run(folder, launched())


@every_experiment
def test_every_claim_is_answered_in_words(name: str) -> None:
    findings = small(EXPERIMENTS[name]).findings()
    assert findings
    for finding in findings:
        assert finding.holds in ("yes", "in part", "no")
        assert finding.claim.startswith(("Section", "Sections", "Table", "Figure", "Not in the paper"))
        assert len(finding.found) > 50
        assert "inf" not in finding.found.split()


@every_experiment
def test_every_axis_is_labelled_and_every_curve_is_drawn(name: str) -> None:
    figure = small(EXPERIMENTS[name]).plot()
    assert isinstance(figure, Figure)
    for axes in figure.axes:
        assert axes.lines or axes.collections or axes.patches
        assert axes.get_xlabel() or axes.get_title()
    assert drawn(figure, "png").startswith(b"\x89PNG\r\n")


@every_experiment
def test_results_are_json(name: str) -> None:
    text = json.dumps(plain(small(EXPERIMENTS[name])), allow_nan=False)
    assert len(json.loads(text)) > 0


@every_experiment
def test_the_small_form_is_smaller(name: str) -> None:
    full = EXPERIMENTS[name]()
    assert full.smaller() != full


def test_a_command_leaves_settings_results_and_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    command = ["isocline", "reproduce", "memory", "--quick", "--width=8", "--steps", "10", "20", f"--out={tmp_path}"]
    monkeypatch.setattr(sys, "argv", command)
    cli.main()
    shown = capsys.readouterr().out
    assert "holds here" in shown
    assert str(tmp_path / "figure.png") in shown
    assert {path.name for path in tmp_path.iterdir()} == {
        *("config.json", "versions.json", "results.json", "figure.png", "figure.svg")
    }
    assert json.loads((tmp_path / "config.json").read_text())["width"] == 8
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["experiment"] == "Memory"
    assert {row["steps"] for row in results["peaks"]} == set(Memory().smaller().steps)
    assert [finding["holds"] for finding in results["findings"]]
    with pytest.raises(SystemExit):
        cli.main()
    assert "already holds a run" in capsys.readouterr().err


def test_numbers_that_json_lacks_become_words() -> None:
    assert plain((nan, float("inf"), 1.0, Path("a"), Finding("c", "yes", "f"))) == [
        *("nan", "inf", 1.0, "a"),
        {"claim": "c", "holds": "yes", "found": "f"},
    ]


def test_the_table_has_a_row_for_each_finding() -> None:
    (table,) = findings_table((Finding("a", "yes", "b"), Finding("c", "no", "d")))
    assert table.rows == (("a", "yes", "b"), ("c", "no", "d"))
    assert findings_table(()) == ()


# Drift


@pytest.mark.parametrize("length", [0.5, 1.0, 1.5])
def test_a_rebuilt_start_errs_by_the_tolerance_times_the_amplification(length: float) -> None:
    rows = Drift(tolerances=(1e-7, 1e-9)).rebuilt(Case("", lambda: Attracted(8.0), (0.5,), length))
    assert len(rows) == 2
    for row in rows:
        assert row.amplification == pytest.approx(exp(8 * length), rel=1e-6)
        assert 0.01 < row.error / (row.tolerance * row.amplification) < 3, row


def test_nothing_is_left_of_the_start_of_a_long_chaotic_trajectory() -> None:
    rows = [r for r in cast(DriftResults, small(Drift)).rebuilt if r.case == "Lorenz" and r.length == CASES[2].t1]
    assert rows
    assert all(not row.error < 0.1 for row in rows)


def test_stored_states_and_steps_taken_again_save_the_gradient() -> None:
    rows = [
        row for row in cast(DriftResults, small(Drift)).slopes if row.length == CASES[2].t1 and row.case == "Lorenz"
    ]
    errors = {row.gradient: row.error for row in rows}
    assert not errors["backsolve"] < 1e-2
    assert errors["backsolve (16 pieces)"] < 1e-3
    assert errors["checkpoint"] < 1e-3
    assert set(GRADIENTS) < set(errors)


# Lanes


def test_one_system_costs_the_same_jointly() -> None:
    results = cast(LanesResults, small(Lanes))
    for mixture in results.mixtures:
        assert results.factor(mixture, 1) == 1.0


def test_joint_solves_of_unlike_systems_cost_more() -> None:
    results = cast(LanesResults, small(Lanes))
    size = results.sizes[-1]
    for mixture in results.mixtures:
        factor = results.factor(mixture, size)
        assert (0.5 < factor < 2) if mixture in ALIKE else (2 < factor < size), mixture


def test_a_joint_solve_neglects_the_one_that_is_hard() -> None:
    results = cast(LanesResults, small(Lanes))
    mixture, size = "one fast oscillator among slow", results.sizes[-1]
    errors = {way: results.row(mixture, size, way).first_error for way in ("joint, rms", "joint, max", "per sample")}
    assert errors["joint, rms"] > 2 * errors["per sample"]
    assert errors["joint, max"] < 1.2 * errors["per sample"]


def test_kepler_orbits_start_on_their_orbit() -> None:
    batch = kepler(7)
    q, p = batch.y0.split(2, dim=1)
    energy = p.square().sum(1) / 2 - 1 / q.norm(dim=1)
    momentum = q[:, 0] * p[:, 1] - q[:, 1] * p[:, 0]
    torch.testing.assert_close(energy, torch.full_like(energy, -0.5))
    torch.testing.assert_close(momentum, torch.full_like(momentum, (1 - 0.9**2) ** 0.5))


# Evaluations


def test_what_backward_passes_evaluate() -> None:
    results = cast(NfeResults, small(Nfe))
    assert {row.ratio for row in results.of("tsit5", "direct")} == {0.0}
    assert all(0.5 < row.ratio <= 1.1 for row in results.of("tsit5", "checkpoint"))
    assert all(row.ratio > 0.4 for row in results.of("tsit5"))


def test_a_small_loss_needs_fewer_evaluations_backwards() -> None:
    results = cast(NfeResults, small(Nfe))
    (_, of_small), (_, of_large) = results.by_scale("tanh net")
    assert of_small < 0.9 * of_large


# Errors of gradients


def test_exact_gradients_are_exact() -> None:
    # y = ((k^2 cos t + k sin t) - k^2 exp(-kt)) / (1 + k^2) + y0 exp(-kt)
    k, y0 = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (8.0, 0.5))
    t = torch.tensor(1.5, dtype=torch.float64)
    decay = (-k * t).exp()
    y = (k**2 * t.cos() + k * t.sin() - k**2 * decay) / (1 + k**2) + y0 * decay
    expected = torch.stack(torch.autograd.grad(y**2 / 2, [y0, k]))
    found = exact_gradient(Case("", lambda: Attracted(8.0), (0.5,), 1.5))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_which_gradient_each_method_gives() -> None:
    results = cast(GradientErrorResults, small(GradientError))
    assert results.gradients == tuple(GRADIENTS)
    for row in (*results.of("direct"), *results.of("checkpoint")):
        assert row.discrete < 1e-8, row
    for row in results.of("backsolve", "Lotka–Volterra"):
        assert row.discrete > 1e-2 * row.tolerance, row
        assert row.exact < 100 * row.tolerance, row


def test_tolerances_control_the_error_beside_the_exact_gradient() -> None:
    results = cast(GradientErrorResults, small(GradientError))
    for gradient in ("direct", "backsolve"):
        loose, tight = results.of(gradient, "Lotka–Volterra")
        assert tight.exact < 0.05 * loose.exact


def test_backsolving_a_stiff_problem_loses_the_gradient() -> None:
    results = cast(GradientErrorResults, small(GradientError))
    assert all(not row.exact < 1e-2 for row in results.of("backsolve", results.cases[-1]))


# Memory


def test_how_memory_grows() -> None:
    results = cast(MemoryResults, small(Memory))
    assert set(results.gradients) > set(GRADIENTS)
    assert results.exponent("direct") > 0.8
    assert results.exponent("checkpoint") > 0.5
    assert abs(results.exponent("backsolve")) < 0.05
    assert abs(results.exponent("checkpoint (8 states)")) < 0.05


# Picard's theorem


def test_solutions_part_where_the_field_is_not_lipschitz() -> None:
    rows = [row for row in cast(PicardResults, small(Picard)).ends if row.law == RESTING[0] and row.method == "tsit5"]
    ends = {row.start: row.y for row in rows}
    assert ends[0.0] == 0.0
    assert ends[EPS] == pytest.approx((2 / 3) ** 1.5, rel=1e-3)
    assert ends[-EPS] == pytest.approx(-((2 / 3) ** 1.5), rel=1e-3)


@pytest.mark.parametrize("law", RESTING)
def test_infinite_derivatives_do_not_come_out_finite(law: str) -> None:
    rows = [row for row in cast(PicardResults, small(Picard)).slopes if row.law == law and row.start == 0]
    assert {row.gradient for row in rows} == set(GRADIENTS)
    for row in rows:
        assert not isfinite(row.found), row
        assert row.message or isnan(row.found) or row.found == float("inf"), row


def test_a_jump_on_the_way_needs_an_event() -> None:
    found = {row.gradient: row.found for row in cast(PicardResults, small(Picard)).slopes if row.law == CROSSED}
    assert found["direct, with an event"] == pytest.approx(2.0, abs=1e-9)
    assert abs(found["direct"] - 2) > 0.1


def test_blow_up_is_reported_where_it_happens() -> None:
    rows = [row for row in cast(PicardResults, small(Picard)).ends if row.law == "y' = y^2"]
    assert {row.status for row in rows} <= {"STEP_TOO_SMALL", "NON_FINITE"}
    (tsit5,) = (row for row in rows if row.method == "tsit5")
    assert "stopped at t=1 of 2" in tsit5.message


def test_nets_are_lipschitz() -> None:
    nets = {(net.activation, net.tolerance): net for net in cast(PicardResults, small(Picard)).nets}
    for net in nets.values():
        assert net.growth < exp(net.lipschitz)
    assert nets["ReLU", 1e-6].evaluations > nets["Tanh", 1e-6].evaluations
    assert nets["ReLU", 1e-10].gradient_error < 0.2 * nets["ReLU", 1e-6].gradient_error
    assert nets["Tanh", 1e-10].gradient_error < 1e-6


# The page


def test_the_page_is_that_of_the_kept_results() -> None:
    assert (DOCS / "section6.md").read_text() == page()


@every_experiment
def test_every_experiment_is_on_the_page(name: str) -> None:
    assert f"isocline reproduce {name}`" in page()
    kept = json.loads(results_of(name).read_text())
    assert set(plain(small(EXPERIMENTS[name]))) < set(kept)
    assert results_of(name).with_suffix(".png").exists()
