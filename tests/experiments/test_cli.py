import json
import sys
from pathlib import Path
from typing import Any

import pytest

from isocline import METHODS, cli
from isocline.experiments.demo import MODELS

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
    assert str(out / "figure.png") in shown
    assert all(name in shown for name in ("ResNet", "RK-Net", "ODE-Net", "test error (%)", "NFE backward"))
    assert json.loads((out / "config.json").read_text())["train"]["seed"] == 7
    before = json.loads((out / "results.json").read_text())
    assert [row["model"] for row in before["rows"]] == list(MODELS)
    assert len(before["points"]) > 20
    _check_rows(before["rows"])

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
        assert 0 <= row["test_errors"][0] <= 100
        assert row["peak_memory"] > 0
        assert row["seconds"] > 0


def test_table1_trains_the_models_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    which = ["--images", "digits", "--models", "stem", "odenet", "--seeds", "0", "1"]
    sizes = ["--depths", "1", "2", "--steps", "1", "2"]
    out = tmp_path / "run"
    _run(monkeypatch, "reproduce", "table1", *TINY, *which, *sizes, "--out", out)
    shown = capsys.readouterr().out
    assert "ODE-Net" in shown
    assert {path.name for path in out.glob("*.pt")} == {f"{m}-{s}.pt" for m in ("stem", "odenet") for s in (0, 1)}
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [(row["model"], len(row["test_errors"])) for row in rows] == [("stem", 2), ("odenet", 2)]
    assert "expected a run of Demo, found one of Table1" in _fails(monkeypatch, capsys, "demo", "--resume", out)
    _run(monkeypatch, "reproduce", "table1", "--resume", out)  # finds everything trained
    again = json.loads((out / "results.json").read_text())["rows"]
    assert again == rows


def test_missing_data_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    message = _fails(monkeypatch, capsys, "reproduce", "table1", "--data-dir", tmp_path, "--out", tmp_path / "run")
    assert message.count("\n") == 1
    assert f"neither in {tmp_path}" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config.json: expected a run's configuration, found none"),
        ({"experiment": "Nfe"}, "expected a run of Demo, found one of Nfe"),
        ({"experiment": "Demo", "train": {"epochs": "two"}}, "config.json: expected a run's settings, found: "),
        ({"experiment": "Demo", "train": {"epochs": 0}}, "epochs must be positive"),
        ({"experiment": "Demo", "models": []}, "models"),
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
