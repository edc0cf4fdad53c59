"""Rates of events: the classical ones against quadrature, and the experiment in its smallest form."""

import json
import os
import sys
from dataclasses import replace
from math import log, nan
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import isocline as iso
from isocline import cli
from isocline.data.events import hawkes
from isocline.data.located import located
from isocline.experiments.processes import launched
from isocline.experiments.reproduction import content, drawn
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.events import MADE_UP, TRUE, EventRates, EventRatesResults, Row, Shown, by_event
from isocline.experiments.section5.rates import Constant, Hawkes, Periodic

END = 8.0


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> EventRatesResults:
    return EventRates().smaller().run(RunFolder.create(tmp_path_factory.mktemp("events"), {}), launched())


def sequences() -> iso.Series:
    return iso.Series.of_events([[0.5, 0.6, 3.0, 7.9], [], [4.0]])


def test_hawkes_against_quadrature() -> None:
    model, events = Hawkes(0.3, 0.7, 1.3), sequences()
    found = model.log_likelihood(events, END)
    ts = torch.linspace(0, END, 400_001, dtype=torch.float64)
    for i, times in enumerate(([0.5, 0.6, 3.0, 7.9], [], [4.0])):
        one = events.select([i])
        integral = torch.trapezoid(model.rates(one, ts)[:, 0], ts)
        logs = model.rates(one, torch.tensor(times, dtype=torch.float64)).log().sum()
        torch.testing.assert_close(found[i], logs - integral, rtol=0, atol=1e-4)  # jumps cost the rule a step


def test_hawkes_by_hand() -> None:
    events = iso.Series.of_events([[1.0, 2.0]])
    e = torch.tensor([-1.0, -2.0], dtype=torch.float64).exp()
    expected = log(0.5) + (0.5 + 0.4 * 2 * (-torch.tensor(2.0, dtype=torch.float64)).exp()).log()
    expected = expected - 0.5 * 3 - 0.4 * (2 - (-torch.tensor(4.0, dtype=torch.float64)).exp() - e[1])
    found = Hawkes(0.5, 0.4, 2.0).log_likelihood(events, 3.0)
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=0)


def test_hawkes_has_finite_gradients_where_there_are_no_events() -> None:
    model = Hawkes(0.5, 0.4, 2.0)
    model.log_likelihood(sequences(), END).sum().backward()
    assert model.logs.grad is not None and bool(model.logs.grad.isfinite().all())


def test_periodic_against_quadrature() -> None:
    model = Periodic(0.5, 3.0, waves=2)
    with torch.no_grad():
        model.waves[1:] = torch.tensor([0.5, -0.2, 0.3, 0.4])
    ts = torch.linspace(0, END, 20_001, dtype=torch.float64)
    integral = torch.trapezoid(model.rate(ts.unsqueeze(1))[:, 0], ts)
    at = torch.tensor([[0.5], [0.6], [3.0], [7.9]], dtype=torch.float64)
    found = model.log_likelihood(sequences(), END)
    torch.testing.assert_close(found[0], model.rate(at).log().sum() - integral, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found[1], -integral, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(model.rate(at), model.rate(at + 3.0))
    each = model.log_likelihood(sequences(), torch.tensor([8.0, 2.0, 8.0], dtype=torch.float64))
    torch.testing.assert_close(each[[0, 2]], found[[0, 2]])
    assert each[1] > found[1]


def test_constant() -> None:
    found = Constant(2.0).log_likelihood(sequences(), END)
    assert found.tolist() == pytest.approx([4 * log(2) - 16, -16, log(2) - 16])


def test_every_model_is_measured(small: EventRatesResults) -> None:
    assert [row.model for row in small.rows] == ["constant", "periodic", "hawkes", "recurrent", "truth"]
    for row in small.rows:
        assert -5 < row.log_likelihood < 5
        assert (row.p_value >= 0) is (row.model == "recurrent")
    (table,) = small.tables()
    assert [row[3] == "–" for row in table.rows] == [True, True, True, False, True]
    assert [len(points) for _, points in small.shown[0].rates] == [400] * 3
    assert json.loads(json.dumps(content(small), allow_nan=False))["rows"][4]["model"] == "truth"


def test_units_of_time_do_not_show(small: EventRatesResults) -> None:
    """What was fitted in units of a mean gap is reported in those of the set."""
    experiment = EventRates().smaller()
    test = experiment._events("made-up").test
    expected = by_event(Hawkes(*TRUE["made-up"]), test, MADE_UP, 7)
    assert small.value("made-up", "truth") == pytest.approx(expected, abs=1e-9)


def test_a_fitted_hawkes_process_is_near_the_true_one(tmp_path: Path) -> None:
    train = hawkes(200, 30.0, seed=5)
    model = Hawkes(0.5, 0.5, 1.0)
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = -model.log_likelihood(train, 30.0).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert model.settings() == pytest.approx((0.2, 0.8, 1.0), rel=0.15)


def test_findings_compare_with_the_best_classical_rate() -> None:
    def of(recurrent: float) -> list[str]:
        values = {"constant": 0.0, "periodic": 0.1, "hawkes": 0.5, "recurrent": recurrent, "truth": 0.51}
        rows = tuple(Row("made-up", model, 1, x, nan) for model, x in values.items())  # type: ignore[arg-type]
        return [f.holds for f in EventRatesResults(rows, (Shown("made-up", (), ()),)).findings()]

    assert of(0.505) == ["yes", "yes"]
    assert of(0.495) == ["in part", "in part"]
    assert of(0.4) == ["no", "no"]


def test_the_figure(small: EventRatesResults) -> None:
    figure = small.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2 and all(axes.get_xlabel() for axes in figure.axes)
    assert drawn(figure, "png").startswith(b"\x89PNG\r\n")


def test_a_finished_run_is_found_finished(tmp_path: Path) -> None:
    experiment = replace(EventRates().smaller(), epochs=1)
    folder = RunFolder.create(tmp_path, {})
    first = experiment.run(folder, launched())
    lines = folder.metrics()
    assert experiment.run(folder, launched()) == first
    assert folder.metrics() == lines


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["isocline", "reproduce", "events", "--quick", f"--out={tmp_path}"])
    cli.main()
    assert "sees the past" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["experiment"] == "EventRates"


def test_hawkes1_is_what_it_is_said_to_be() -> None:
    """The parameters are those by which the stored likelihoods were computed.

    These are by unit of time, and seem to go on to the first event after the end: they differ by about one event's.
    """
    if not os.environ.get("ISOCLINE_DATA"):
        pytest.skip("ISOCLINE_DATA names no folder with the sequences")
    with np.load(located(("hawkes1.npz",), "tpp_triangular", None, None)) as stored:
        times, lengths, nll = (torch.from_numpy(stored[name]) for name in ("times", "lengths", "nll"))
    found = -Hawkes(*TRUE["hawkes1"]).log_likelihood(iso.Series.of_events(times.split(lengths.tolist())), 100.0)
    surplus = 100 * nll - found.detach()
    assert abs(surplus.mean()) < 1
    assert torch.corrcoef(torch.stack([nll, found.detach()]))[0, 1] > 0.999
