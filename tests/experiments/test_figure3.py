"""Figure 3, from a training of a minute part and from one that is there."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pytest
import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure

from isocline import cli
from isocline.experiments.everything import Everything
from isocline.experiments.reproduction import Finding, Reproduction, Results, plain
from isocline.experiments.run_folder import RunFolder, RunFolderError
from isocline.experiments.section3.figure3 import Epoch, Figure3, Figure3Results, Pass
from isocline.experiments.section3.table1 import Table1
from isocline.experiments.settings import restored


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of table1 with nothing but an ODE-Net."""
    out = tmp_path_factory.mktemp("table") / "run"
    small = Table1(out=out).smaller()
    train = replace(small.train, channels=4, limit=64)
    replace(small, train=train, models=("odenet",), seeds=(3,), depths=(1, 2), steps=(2, 4)).main()
    return out


@pytest.fixture(scope="module")
def found(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("figure") / "run"
    replace(Figure3(out=out, trained=table).smaller(), methods=("dopri5",)).main()
    results: dict[str, object] = json.loads((out / "results.json").read_text())
    return results


def test_the_trained_net_of_the_table_is_taken(found: dict[str, object], table: Path) -> None:
    records = RunFolder.open(table).metrics()
    assert [r["model"] for r in records] == ["odenet-3"]
    (epoch,) = found["epochs"]  # type: ignore[misc]
    assert epoch["forward"] == records[0]["nfe_forward"]
    assert epoch["test_error"] == pytest.approx(100 * records[0]["test_error"])


def test_tighter_tolerances_cost_more_and_err_less(found: dict[str, object]) -> None:
    passes = found["passes"]
    assert [row["tolerance"] for row in passes] == [1e-1, 1e-2, 1e-3]  # type: ignore[index, attr-defined]
    loose, _, tight = passes  # type: ignore[misc]
    assert tight["forward"] > loose["forward"] and tight["backward"] > loose["backward"]
    assert tight["error"] < 0.3 * loose["error"]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, {"experiment": "Memory"})
    with pytest.raises(RunFolderError, match="expected a run of Table1"):
        Figure3(out=tmp_path / "out", trained=tmp_path, images="digits").main()


def _made(backward: float, last: float) -> Figure3Results:
    rows = [Pass("dopri5", 10.0**-k, 20 * k, int(backward * 20 * k), 10.0**-k, 0.02 * k, 0.05 * k) for k in (1, 2, 3)]
    return Figure3Results(tuple(rows), (Epoch(1, 20.0, 20.0, 3.0), Epoch(2, last, 20.0, 2.0)))


def test_findings_follow_the_numbers() -> None:
    assert [f.holds for f in _made(0.5, 30.0).findings()] == ["yes", "yes", "yes", "yes"]
    assert [f.holds for f in _made(1.0, 20.0).findings()] == ["yes", "yes", "no", "no"]
    assert all(axes.get_ylabel() for axes in _made(1.0, 20.0).plot().axes)


@dataclass(frozen=True)
class Drawn(Reproduction):
    """One number."""

    number: float = 2.0

    def smaller(self) -> Self:
        return replace(self, number=1.0)

    def run(self, folder: RunFolder, fabric: Fabric) -> "DrawnResults":
        return DrawnResults(self.number)


@dataclass(frozen=True)
class DrawnResults(Results):
    number: float

    def findings(self) -> tuple[Finding, ...]:
        return ()

    def plot(self) -> Figure:
        return Figure()


def test_all_experiments_go_on_where_they_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small: dict[str, type[Reproduction]] = {"one": Drawn, "two": Drawn}
    monkeypatch.setattr("isocline.experiments.everything.EXPERIMENTS", small)
    Everything(out=tmp_path, quick=True).main()
    first = (tmp_path / "one" / "results.json").read_bytes()
    (tmp_path / "two" / "results.json").unlink()
    capsys.readouterr()
    Everything(out=tmp_path, quick=True).main()
    assert f"one: finished in {tmp_path / 'one'}" in capsys.readouterr().out
    assert (tmp_path / "one" / "results.json").read_bytes() == first
    assert json.loads((tmp_path / "two" / "results.json").read_text()) == json.loads(first)
    assert torch.get_num_threads() == 1


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    table = Table1(out=tmp_path / "a", models=("stem",), seeds=(4, 5), data_dir=tmp_path)
    assert restored(Table1, json.loads(json.dumps(plain(table))), tmp_path) == table
    with pytest.raises(RunFolderError, match="nonsense"):
        restored(Table1, {"nonsense": 1}, tmp_path)


def test_every_experiment_is_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["isocline", "reproduce", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("all", "table1", "figure3", "picard"))
