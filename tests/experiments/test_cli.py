import json
import sys
from pathlib import Path
from typing import Any

import pytest

from isocline import METHODS, cli
from isocline.experiments import demo, train_mnist
from isocline.experiments.section3.classifiers import MODEL_NAMES

_SMALL = ("--channels=4", "--epochs=1", "--batch-size=32", "--limit=40", "--device=cpu")
TINY = (*_SMALL, "--rtol=0.1", "--atol=0.1")


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["isocline", *map(str, arguments)])
    cli.main()


def _fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        _run(monkeypatch, *arguments)
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _run(monkeypatch, "--version")
    assert capsys.readouterr().out.startswith("isocline 0.")


def test_demo_leaves_table_figure_and_results_and_resumes_to_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    out = tmp_path / "run"
    _run(monkeypatch, "demo", *TINY, "--seed", 7, "--out", out)
    shown = capsys.readouterr().out
    assert f"run folder: {out}" in shown
    assert f"figure: {out / 'figure.png'}" in shown
    assert all(name in shown for name in ("ResNet", "RK-Net", "ODE-Net", "test error (%)", "NFE backward"))
    assert json.loads((out / "config.json").read_text())["train"]["seed"] == 7
    before = json.loads((out / "results.json").read_text())
    assert [row["model"] for row in before["results"]] == list(MODEL_NAMES)
    assert len(before["tolerance"]) > 20
    _check_rows(before["results"])

    (out / "figure.png").unlink()
    _run(monkeypatch, "demo", "--resume", out)
    assert json.loads((out / "results.json").read_text()) == before
    assert (out / "figure.png").exists()


def _check_rows(rows: list[dict[str, Any]]) -> None:
    resnet, rknet, odenet = rows
    assert resnet["nfe_forward"] is None
    assert rknet["nfe_backward"] is None
    assert odenet["nfe_backward"] > 0
    assert rknet["parameters"] == odenet["parameters"] < resnet["parameters"]
    for row in rows:
        assert 0 <= row["test_error"] <= 100
        assert row["peak_memory"] > 0
        assert row["seconds"] > 0


def test_train_mnist_trains_the_model_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(train_mnist, "mnist", lambda data_dir: demo.digits())
    _run(monkeypatch, "train", "mnist", *TINY, "--model", "odenet", "--out", tmp_path)
    shown = capsys.readouterr().out
    assert "ODE-Net" in shown
    assert "ResNet" not in shown
    assert (tmp_path / "odenet.pt").exists()
    assert "expected a run of demo, found one of mnist" in _fails(monkeypatch, capsys, "demo", "--resume", tmp_path)


def test_missing_data_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    message = _fails(monkeypatch, capsys, "train", "mnist", "--data-dir", tmp_path, "--out", tmp_path / "run")
    assert message.count("\n") == 1
    assert f"neither in {tmp_path}" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config.json: expected a run's configuration, found none"),
        ({"task": "demo"}, "config.json: expected a run's settings, found KeyError('models')"),
        ({"task": "demo", "models": ["vgg"], "train": {}}, "found ValueError"),
        ({"task": "demo", "models": ["resnet"], "train": {"epochs": 2}}, "no value for atol, batch_size"),
    ],
)
def test_a_run_that_cannot_be_resumed_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    config: dict[str, Any] | None,
    message: str,
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    shown = _fails(monkeypatch, capsys, "demo", "--resume", tmp_path)
    assert shown.count("\n") == 1
    assert message in shown


def test_settings_together_with_resume_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "takes every setting from the run" in _fails(
        monkeypatch, capsys, "demo", "--resume", tmp_path, "--epochs", 3
    )


def test_an_occupied_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "already holds a run" in _fails(monkeypatch, capsys, "demo", "--out", tmp_path)


def test_a_bad_option_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "channels must be even, not 3" in _fails(monkeypatch, capsys, "demo", "--channels", 3)


def test_methods_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    _run(monkeypatch, "methods")
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert lines.keys() >= set(METHODS)
    assert lines["tsit5"].split()[:7] == ["tsit5", "5", "explicit", "Runge-Kutta", "adaptive", "4", "Tsitouras"]
    assert lines["rk4"].split()[4] == "fixed"


def test_methods_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _run(monkeypatch, "methods", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(METHODS)
    for row in rows:
        assert row["kind"] and row["citation"], row["name"]
        assert row["order"] >= 1 and row["dense_order"] >= 1
        assert row["adaptive"] == (METHODS[row["name"]].error_order is not None)
