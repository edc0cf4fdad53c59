"""The stays in intensive care in the smallest form: runs, resumes to the same numbers, says what it found."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import isocline as iso
from isocline import cli
from isocline.experiments.processes import launched
from isocline.experiments.reproduction import content, drawn
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.fitting import Fit, batches
from isocline.experiments.section5.physionet import Interpolation, Mortality, PhysioNet, PhysioNetResults
from isocline.experiments.section5.stays import Split, Units, features, made_up


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> PhysioNetResults:
    folder = RunFolder.create(tmp_path_factory.mktemp("physionet"), {})
    return PhysioNet(interpolating=("ode-rnn", "gru-d")).smaller().run(folder, launched())


def test_every_encoder_is_measured(small: PhysioNetResults) -> None:
    assert [found.encoder for found in small.mortality] == ["ode-rnn", "gru-d", "rnn-decay"]
    assert [found.encoder for found in small.interpolation] == ["ode-rnn", "gru-d"]
    for found in small.mortality:
        assert 0 <= found.area() <= 1
        assert found.curve[0] == (0.0, 0.0) and found.curve[-1] == (1.0, 1.0)
    deaths, errors = small.tables()
    assert [row[2] for row in deaths.rows] == ["0.833", "–", "–"]
    assert len(errors.rows) == 2
    for one in small.interpolation:
        assert 0 < one.error < 1 and 0 < one.hidden < 1 and 0 < one.constant < 1
    assert len(json.loads(json.dumps(content(small), allow_nan=False))["mortality"]) == 3


def test_the_figure(small: PhysioNetResults) -> None:
    figure = small.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 4
    assert all(axes.lines and axes.get_xlabel() for axes in figure.axes)
    assert drawn(figure, "png").startswith(b"\x89PNG\r\n")


def test_findings_set_numbers_beside_the_papers() -> None:
    right = Mortality("ode-rnn", 1, (0.83, 0.84), (0.8,), (60.0,), ())
    near, wrong = replace(right, auc=(0.82,)), replace(right, auc=(0.7,))
    unpublished = replace(right, encoder="gru-d")
    errors = [Interpolation("ode-rnn", 1, e, 0.1, 0.1, 60.0, ()) for e in (2.1e-3, 2.5e-3, 3e-3)]
    findings = PhysioNetResults(8000, 0.14, (right, near, unpublished, wrong), tuple(errors)).findings()
    assert [finding.holds for finding in findings] == ["yes", "in part", "no"] * 2
    assert "0.830, 0.840 on a fifth of 8000" in findings[3].found


def test_units_of_a_paper_and_units_that_wrong_values_do_not_change() -> None:
    x = torch.cat([torch.linspace(0, 100, 101), torch.tensor([1e6])]).reshape(-1, 1, 1)
    series = iso.Series(48 * torch.linspace(0, 1, len(x)).unsqueeze(1), x)
    whole, usual = Units.whole(series).of(series), Units.usual(series).of(series, 6.0)
    assert whole.values.max() == 1 and whole.values.min() == 0 and whole.ts[-1] == 1
    assert usual.values.max() == 6 and usual.values[50] == pytest.approx(0, abs=0.1)
    assert usual.values[:101].abs().max() < 2.2


def test_parts_do_not_share_stays() -> None:
    split = Split.of(100, seed=3)
    assert torch.cat([split.fit, split.choose, split.test]).sort().values.tolist() == list(range(100))
    assert (len(split.fit), len(split.choose), len(split.test)) == (72, 8, 20)


def test_features_are_filled_in_where_nothing_is_known() -> None:
    known = torch.tensor([[40.0, 0.0, 160.0, 1.0], [60.0, 1.0, torch.nan, 4.0]])
    found = features(known, known)
    assert found.tolist() == [[-1, -1, 0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 1]]
    assert features(torch.full((1, 4), torch.nan), known).tolist() == [[0, 0, 0, 1, 0, 0, 0, 0]]


def test_classifiers_learn_what_there_is_to_learn(tmp_path: Path) -> None:
    settings = replace(PhysioNet().smaller(), limit=300, interpolating=(), classifying=("gru-d",), classifier_epochs=6)
    results = settings.run(RunFolder.create(tmp_path, {}), launched())
    assert results.mortality[0].area() > 0.8  # the risk grows with the level of all channels


def untimed(results: PhysioNetResults) -> PhysioNetResults:
    return replace(
        results,
        mortality=tuple(replace(one, seconds=()) for one in results.mortality),
        interpolation=tuple(replace(one, seconds=0.0) for one in results.interpolation),
    )


def test_a_stopped_training_resumes_to_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = replace(PhysioNet().smaller(), classifier_epochs=3, epochs=3, classifying=("gru-d",))
    whole = experiment.run(RunFolder.create(tmp_path / "whole", {}), launched())
    stops = {"mortality-gru-d-0", "interpolation-ode-rnn"}
    cut, save = RunFolder.create(tmp_path / "cut", {}), RunFolder.save_checkpoint

    def killed(folder: RunFolder, name: str, state: dict[str, object]) -> None:
        if name in stops and state["epoch"] == 2:
            stops.remove(name)
            raise KeyboardInterrupt
        save(folder, name, state)

    monkeypatch.setattr(RunFolder, "save_checkpoint", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            experiment.run(cut, launched())
    monkeypatch.undo()
    assert untimed(experiment.run(cut, launched())) == untimed(whole)
    assert cut.metrics() == RunFolder(tmp_path / "whole", {}).metrics()


def test_a_fit_ends_with_what_scored_best(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    scores = iter([0.2, 0.9, 0.1])
    seen: list[Tensor] = []

    def score() -> float:
        seen.append(model.weight.detach().clone())
        return next(scores)

    def loss(batch: Tensor, done: float) -> Tensor:
        return model(torch.ones(len(batch), 1)).square().mean()

    fit = partial(Fit, "m", model, torch.arange(8), loss, 3, 4, 0.1, 0, score=score)
    fit().run(RunFolder.create(tmp_path, {}))
    assert torch.equal(model.weight, seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_a_step_whose_gradient_overflows_is_left_out(tmp_path: Path) -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    lengths = torch.arange(6)

    def loss(batch: Tensor, done: float) -> Tensor:
        one = model(torch.ones(1)).square().sum()
        return one * torch.inf if bool((batch == 3).any()) else one

    Fit("fitted", model, lengths, loss, 5, 2, 0.1, 0).run(RunFolder.create(tmp_path, {}))
    assert abs(model.weight.item()) < 0.9


def test_batches_are_of_about_equal_length() -> None:
    lengths = torch.randint(1, 200, (500,), generator=torch.Generator().manual_seed(0))
    found = list(batches(lengths, 10))
    assert torch.cat(found).sort().values.tolist() == list(range(500))
    padding = sum(int(lengths[b].max() * len(b) - lengths[b].sum()) for b in found)
    assert padding < 0.15 * lengths.sum()


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(sys, "argv", ["isocline", "reproduce", "physionet", "--quick", f"--out={tmp_path}"])
    cli.main()
    assert "Mortality" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["experiment"] == "PhysioNet"
    assert (tmp_path / "figure.svg").exists()


def test_made_up_stays_are_seeded() -> None:
    one, two, other = made_up(5), made_up(5), made_up(5, seed=1)
    assert torch.equal(one.series.values, two.series.values)
    assert (
        not torch.equal(one.descriptors[:, 0], other.descriptors[:, 0]) or one.series.ts.shape != other.series.ts.shape
    )
