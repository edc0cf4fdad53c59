"""One page of runs that needs nothing else."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from isocline import cli
from isocline.experiments.report import html, text
from isocline.experiments.reproduction import drawn
from isocline.experiments.run_folder import RunFolder

COMMITTED = Path(__file__).parent.parent.parent / "docs" / "figures"


class Page(HTMLParser):
    """What a browser would show and load."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.loaded: list[str] = []
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        targets = [value or "" for name, value in attrs if name in ("src", "href")]
        self.loaded += [target for target in targets if not target.startswith("#")]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "run", {"experiment": "Drift", "train": {"epochs": 3}, "quick": False})
    finding = {"claim": "a < b & <script>", "holds": "in part", "found": "1e-3"}
    rows = [{"model": "rnn", "errors": [0.25, 0.5], "path": [[0.0, 1.0]]}, {"model": "ode", "seconds": None}]
    table = {"title": "Errors", "head": ["model", "error (%)"], "rows": [["RNN", "1.5 ± 0.1"]], "note": "of three"}
    content = {"experiment": "Drift", "findings": [finding], "tables": [table], "rows": rows, "rtol": 0.001}
    folder.write_json("results.json", content)
    folder.write("figure.svg", drawn(Figure(), "svg"))
    for epoch in (1, 2):
        folder.append_metrics({"model": "ode", "epoch": epoch, "loss": 1 / (3 * epoch)})
    return folder


def report(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Page:
    out = Path("report.html")
    monkeypatch.setattr(sys, "argv", ["isocline", "report", *map(str, arguments), "--out", str(out)])
    cli.main()
    return Page(out.read_text())


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["isocline", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_everything_is_on_the_page(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = report(monkeypatch, run.path)
    assert {"a < b & <script>", "in part", "1e-3"} <= set(page.cells)  # shown, not run
    assert {"error (%)", "RNN", "1.5 ± 0.1"} <= set(page.cells)
    assert {"model", "errors", "rnn", "0.25, 0.5", "(1 values)", "–"} <= set(page.cells)
    assert {"train.epochs", "3", "quick", "False", "rtol", "0.001"} <= set(page.cells)
    assert "0.1667" in page.cells and "0.3333" not in page.cells  # the last line of a training
    assert "torch" in page.cells
    assert page.loaded and all(target.startswith("data:image/svg+xml;base64,") for target in page.loaded)


def test_a_folder_of_runs_and_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = {path.stem: json.loads(path.read_text()) for path in COMMITTED.glob("*.json")}
    for name, content in results.items():
        folder = RunFolder.create(tmp_path / "all" / name, {"experiment": name})
        folder.write_json("results.json", content)
        folder.write("figure.png", (COMMITTED / f"{name}.png").read_bytes())
    page = report(monkeypatch, tmp_path / "all")
    assert len(page.loaded) == len(results) > 5
    assert all(target.startswith("data:image/png;base64,") for target in page.loaded)
    for content in results.values():
        for finding in content["findings"]:
            assert set(finding.values()) <= set(page.cells)


def test_a_run_that_is_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RunFolder.create(tmp_path / "run", {"experiment": "Table1"})
    page = report(monkeypatch, tmp_path / "run")
    assert "torch" in page.cells
    assert "not finished" in Path("report.html").read_text()
    assert not page.loaded


def test_what_is_no_run_is_one_line(
    tmp_path: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "expected at least one run folder" in refused(monkeypatch, capsys)
    assert re.search(
        r"config\.json: expected a run's configuration", refused(monkeypatch, capsys, tmp_path / "nothing")
    )
    assert re.search(r"config\.json: expected a run's config", refused(monkeypatch, capsys, run.path, COMMITTED))
    assert "cannot be written" in refused(monkeypatch, capsys, run.path, "--out", "no/such/folder.html")
    run.write("results.json", b'{"findings": [')
    assert "results.json: expected JSON, found a damaged file" in refused(monkeypatch, capsys, run.path)
    run.write("results.json", b"[]")
    assert "results.json: expected a JSON object, found list" in refused(monkeypatch, capsys, run.path)
    run.write("results.json", b'{"tables": [{"rows": 3}]}')
    assert "results.json: expected tables and findings" in refused(monkeypatch, capsys, run.path)
    assert not Path("report.html").exists()


def test_cells() -> None:
    assert text(1 / 3) == "0.3333"
    assert text(True) == "True"
    assert text([1.0] * 9) == "(9 values)"
    assert text({"a": "é"}) == '{"a": "é"}'
    assert "<nav>" in html([])
