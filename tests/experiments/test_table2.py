"""Table 2 in its smallest form: it runs, resumes to the same numbers, and says what it found."""

import json
import sys
from dataclasses import replace
from math import isfinite, isnan
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from isocline import Series, cli
from isocline.data import spirals
from isocline.experiments.processes import launched
from isocline.experiments.reproduction import drawn, plain
from isocline.experiments.run_folder import RunFolder, RunFolderError
from isocline.experiments.section5.spiral_models import TrainConfig, build, fitted, predicted
from isocline.experiments.section5.table2 import PAPER, Row, Table2, Table2Results
from isocline.experiments.section5.table2 import Path as Shown
from isocline.models import Forecaster

CONFIG = TrainConfig(epochs=4, batch_size=8, checkpoint_every=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Table2Results:
    folder = RunFolder.create(tmp_path_factory.mktemp("table2"), {})
    return Table2().smaller().run(folder, launched())


def test_every_model_is_measured_for_every_number_of_observations(small: Table2Results) -> None:
    assert {(row.model, row.observations) for row in small.rows} == {
        (model, n) for model in ("rnn", "latent-ode") for n in Table2().smaller().observations
    }
    for row in small.rows:
        assert len(row.beyond) == 1
        assert all(0 < x < 20 for x in (*row.beyond, *row.noisy, *row.visited))
    text = json.dumps(plain(small), allow_nan=False)
    assert [path["clockwise"] for path in json.loads(text)["paths"]] == [True] * 3 + [False] * 3


def test_findings_set_errors_beside_the_papers() -> None:
    assert len(PAPER) == 6
    rows = [Row(model, n, (0.9 * error, 1.0 * error), (error,), (error,), 10) for (model, n), error in PAPER.items()]
    findings = Table2Results(("rnn", "latent-ode"), tuple(rows), ()).findings()
    assert [finding.holds for finding in findings] == ["yes"] * 7
    worse = [replace(row, beyond=(1.05 * PAPER[row.model, row.observations],)) for row in rows]
    assert [f.holds for f in Table2Results(("rnn", "latent-ode"), tuple(worse), ()).findings()] == ["in part"] * 6 + [
        "yes"
    ]
    turned = [replace(row, beyond=(1.0 if row.model == "rnn" else 2.0,)) for row in rows]
    assert {f.holds for f in Table2Results(("rnn", "latent-ode"), tuple(turned), ()).findings()} == {"no"}


def test_the_figure_shows_paths_and_latents(small: Table2Results) -> None:
    figure = small.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 9
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.lines
    assert drawn(figure, "png").startswith(b"\x89PNG\r\n")
    path: Shown = small.paths[0]
    assert len(path.truth) == len(path.latent) == 200
    rnn, latent_ode = path.predicted
    assert all(isnan(x) for x, _ in rnn[:100])
    assert all(isfinite(x) for x, _ in (*rnn[100:], *latent_ode))


@pytest.mark.parametrize("name", ["rnn", "latent-ode"])
def test_a_stopped_training_resumes_to_the_same_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = spirals(16, 10)

    def train(folder: RunFolder) -> None:
        fitted("m", build(name, CONFIG, 1), data.observed, CONFIG, 1, folder)  # type: ignore[arg-type]

    whole = RunFolder.create(tmp_path / "whole", {})
    train(whole)
    cut = RunFolder.create(tmp_path / "cut", {})
    save = RunFolder.save_checkpoint

    def killed(folder: RunFolder, name: str, state: dict[str, object]) -> None:
        if state["epoch"] == 4:
            raise KeyboardInterrupt
        save(folder, name, state)

    monkeypatch.setattr(RunFolder, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train(cut)
    monkeypatch.undo()
    assert [record["epoch"] for record in cut.metrics()] == [2, 4]
    torch.rand(3)  # what was drawn elsewhere does not matter
    train(cut)
    assert cut.metrics() == whole.metrics()
    one, other = cut.load_checkpoint("m"), whole.load_checkpoint("m")
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one["model"], other["model"], rtol=0, atol=0)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    folder, data = RunFolder.create(tmp_path, {}), spirals(16, 10)
    fitted("m", build("rnn", CONFIG, 0), data.observed, replace(CONFIG, epochs=1), 0, folder)
    with pytest.raises(RunFolderError, match=r"m\.pt: does not fit"):
        fitted("m", build("latent-ode", CONFIG, 0), data.observed, CONFIG, 0, folder)


@pytest.mark.parametrize("name", ["rnn", "latent-ode"])
def test_predictions_know_only_what_was_observed(name: str) -> None:
    data = spirals(6, 10)
    model = build(name, CONFIG, 0)  # type: ignore[arg-type]
    other = replace(data, truth=data.truth + 1, noisy=data.noisy + 1)
    one, two = predicted(model, data), predicted(model, other)
    assert torch.equal(one[100:], two[100:])
    assert one.shape == (200, 6, 2)


def test_the_recurrent_network_goes_on_in_gaps_that_it_has_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked, predict = spirals(6, 30), [], Forecaster.predict

    def recorded(model: Forecaster, series: Series, ts: Tensor) -> Tensor:
        asked.append(ts)
        return predict(model, series, ts)

    monkeypatch.setattr(Forecaster, "predict", recorded)
    assert predicted(build("rnn", CONFIG, 0), data)[100:].isfinite().all()
    assert torch.equal(torch.cat(asked).sort().values, data.ts[100:])
    for ts in asked:
        torch.testing.assert_close(ts.diff(), 3 * data.ts[1].expand(len(ts) - 1))


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["isocline", "reproduce", "table2", "--quick", f"--out={tmp_path}"])
    cli.main()
    assert "Predictive RMSE" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["experiment"] == "Table2"
    assert (tmp_path / "figure.svg").exists()


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="epochs must be positive"):
        TrainConfig(epochs=0)
