"""The smaller experiments on series, in their smallest form: they run, resume, and say what they found."""

import json
import sys
from dataclasses import replace
from functools import cache
from math import pi
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from matplotlib.figure import Figure

import isocline as iso
from isocline import cli
from isocline.data import DataError
from isocline.experiments.processes import launched
from isocline.experiments.registry import EXPERIMENTS
from isocline.experiments.reproduction import Reproduction, Results, content, drawn, plain
from isocline.experiments.run_folder import RunFolder, RunFolderError
from isocline.experiments.section5.figure8 import END, Accuracy, Figure8, Figure8Results, Watched
from isocline.experiments.section5.figure10 import Figure10, Figure10Results, turning
from isocline.experiments.section5.figure11 import Figure11, Figure11Results, Row
from isocline.experiments.section5.pelts import REFERENCE, Fitted, Pelts, Unknown
from isocline.experiments.section5.table2 import Table2

SMALL = {
    "figure8": Figure8().smaller(),
    "figure10": Figure10().smaller(),
    "figure11": Figure11().smaller(),
    "pelts": Pelts().smaller(),
}
every_experiment = pytest.mark.parametrize("name", SMALL)


def run(experiment: Reproduction, folder: Path) -> Results:
    return experiment.run(RunFolder.create(folder, {"experiment": type(experiment).__name__}), launched())


@cache
def small(name: str) -> Results:
    with TemporaryDirectory() as folder:
        return run(SMALL[name], Path(folder))


@every_experiment
def test_it_says_what_it_found(name: str) -> None:
    results = small(name)
    assert results.findings()
    json.dumps(content(results), allow_nan=False)
    assert all(len(row) == len(table.head) for table in results.tables() for row in table.rows)
    figure = results.plot()
    assert isinstance(figure, Figure)
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert drawn(figure, "png").startswith(b"\x89PNG\r\n")


@every_experiment
def test_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = small(name)
    monkeypatch.setattr(EXPERIMENTS[name], "run", lambda self, folder, fabric: results)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["isocline", "reproduce", name, "--quick", f"--out={tmp_path}"])
    cli.main()
    assert "What is claimed" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["experiment"] == EXPERIMENTS[name].__name__


@pytest.mark.parametrize("name", ["figure8", "figure10"])
def test_a_killed_run_resumes_to_the_same_numbers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = RunFolder.save_checkpoint

    def killed(folder: RunFolder, name: str, state: dict[str, object]) -> None:
        save(folder, name, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run(SMALL[name], tmp_path)
    monkeypatch.undo()
    assert SMALL[name].run(RunFolder.open(tmp_path), launched()) == small(name)


# Figure 8


def test_watched_signals_have_the_rate_that_is_said() -> None:
    data = Watched.draw(300, seed=1)
    ts = torch.linspace(0, END, 2001, dtype=torch.float64)
    rates = data.rates(ts)
    assert rates[0].tolist() == pytest.approx((3 * data.start[:, 0].exp()).tolist(), rel=1e-4)
    expected = torch.trapezoid(rates, ts.to(rates), dim=0)
    surplus = (data.series.lengths - expected) / expected.sqrt()
    assert abs(surplus.mean()) < 3 / 300**0.5 and 0.85 < surplus.std() < 1.15
    # the signal turns twice in the window, so it is where it was
    assert rates[-1].tolist() == pytest.approx(rates[0].tolist(), rel=1e-2)


def test_accuracy_of_rates() -> None:
    truth = torch.full((3, 2), 2.0)
    wide = torch.linspace(1.0, 3.0, 101).expand(3, 2, 101)
    assert Accuracy.of(wide, truth) == Accuracy(pytest.approx(0.0, abs=1e-6), 1.0)
    assert Accuracy.of(wide + 0.89, truth) == Accuracy(pytest.approx(0.445), 1.0)  # nine tenths reach 0.9 from the mean
    assert Accuracy.of(wide + 0.91, truth) == Accuracy(pytest.approx(0.455), 0.0)


def test_findings_of_figure8() -> None:
    def verdict(error: float) -> str:
        found = Accuracy(error, 0.9)
        return Figure8Results(found, (found,), 0.4, ()).findings()[0].holds

    assert [verdict(x) for x in (0.09, 0.15, 0.3)] == ["yes", "in part", "no"]


# Figures 10 and 11


def test_turning_of_circles() -> None:
    angles = torch.linspace(0, 3 * pi, 100)
    circle = torch.stack([angles.cos(), angles.sin()], -1)
    both = torch.stack([circle, circle * torch.tensor([1.0, -1.0])], 1)
    expected = 3 * pi * 98 / 99  # one step less than there are: each turn is between two
    assert turning(both).tolist() == pytest.approx([expected, -expected], rel=1e-4)


def test_findings_of_figure10() -> None:
    def verdict(*rows: tuple[float, ...]) -> str:
        return Figure10Results((), rows).findings()[0].holds

    right, wrong = (-1.0, -0.5, 2.0), (-1.0, 1.0, -1.0, 2.0)
    assert [verdict(right, right), verdict(right, wrong), verdict(wrong, wrong)] == ["yes", "in part", "no"]


def test_findings_of_figure11() -> None:
    def verdict(*errors: float) -> str:
        rows = tuple(Row(10 * i, 10, 0.1, e, 0.1) for i, e in enumerate(errors))
        return Figure11Results(rows, ()).findings()[0].holds

    assert [verdict(3, 2, 1), verdict(3, 4, 1), verdict(1, 2, 3)] == ["yes", "in part", "no"]


def test_trained_models_of_table2_are_taken(tmp_path: Path) -> None:
    table = replace(Table2().smaller(), models=("latent-ode",), shown=1)
    folder = RunFolder.create(tmp_path / "table", {"experiment": "Table2", **plain(table)})
    table.run(folder, launched())
    lines = folder.metrics()
    experiment = replace(Figure11(), trained=tmp_path / "table", seen=(5, 30), fresh=6, samples=2, shown=1)
    results = run(experiment, tmp_path / "figure")
    assert isinstance(results, Figure11Results)
    assert [(row.seen, row.trained) for row in results.rows] == [(5, 10), (30, 30)]
    assert folder.metrics() == lines  # nothing was trained again
    assert not list((tmp_path / "figure").glob("*.pt"))
    with pytest.raises(RunFolderError, match="expected a run of Table2, found one of Figure11"):
        run(replace(experiment, trained=tmp_path / "figure"), tmp_path / "other")


# Pelts


def fitted(hybrid: bool = False) -> Fitted:
    series = Pelts().smaller()._series()
    years, logs = series.ts[:, 0], series.values[:, 0].log()
    return Fitted(years, logs, Unknown(4, logs.mean(0)) if hybrid else None, 0.3)


def test_made_up_pelts_give_back_what_they_were_made_of() -> None:
    model = fitted()
    found = replace(Pelts().smaller(), iterations=40)._fit(model.years, model.observed, hybrid=False)
    means, deviations = found.laplace()
    for mean, deviation, true in zip(means[:6].tolist(), deviations[:6].tolist(), REFERENCE, strict=False):
        assert abs(mean - true) < 4 * deviation < 0.8 * true


def test_an_unknown_part_begins_as_nothing() -> None:
    alone, both = fitted(), fitted(hybrid=True)
    assert both.share() == 0
    torch.testing.assert_close(both.path(both.logs, both.years), alone.path(alone.logs, alone.years))


def test_the_posterior_is_that_of_the_reference() -> None:
    """The densities of Stan's model, one by one, at numbers that are not those of its mean."""
    from scipy import stats

    model = fitted()
    values = torch.tensor([0.6, 0.03, 0.7, 0.02, 30.0, 6.0, 0.2, 0.3], dtype=torch.float64)
    path = model.path(values.log(), model.years)
    expected = 0.0
    for x, centre, width in zip(values[:4].tolist(), (1, 0.05, 1, 0.05), (0.5, 0.05, 0.5, 0.05), strict=True):
        expected += stats.norm.logpdf(x, centre, width)
    expected += sum(stats.lognorm.logpdf(x, 1, scale=10) for x in values[4:6].tolist())
    expected += sum(stats.lognorm.logpdf(x, 1, scale=2.718281828459045**-1) for x in values[6:].tolist())
    for channel, sigma in enumerate(values[6:].tolist()):
        pelts, median = (x[:, channel].exp().detach().numpy() for x in (model.observed, path))
        expected += stats.lognorm.logpdf(pelts, sigma, scale=median).sum()
    expected += values.log().sum().item()  # of the logarithms, not of the numbers
    assert model.log_posterior(values.log()).item() == pytest.approx(expected, rel=1e-9)


def test_second_derivatives_through_the_solver_are_right() -> None:
    model = fitted()
    hessian = torch.autograd.functional.hessian(model.log_posterior, model.logs.detach())
    direction = torch.linspace(-1, 1, 8, dtype=torch.float64)
    gradients = []
    for sign in (1, -1):
        logs = (model.logs.detach() + sign * 1e-4 * direction).requires_grad_()
        gradients.append(torch.autograd.grad(model.log_posterior(logs), logs)[0])
    found = (gradients[0] - gradients[1]) / 2e-4
    torch.testing.assert_close(hessian @ direction, found, rtol=1e-3, atol=1e-2)


def test_missing_pelts_are_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hudson_lynx_hare\.json"):
        Pelts(data_dir=tmp_path).check()
    assert isinstance(Pelts().smaller()._series(), iso.Series)
