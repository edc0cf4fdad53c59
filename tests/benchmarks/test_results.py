"""The results file is merged: what a partial run did not measure stays."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.peers.cases import make_case
from benchmarks.peers.measure import Settings
from benchmarks.peers.results import Results, begin_run, load, merge, save
from benchmarks.peers.run import run


def record(median: float, **counts: Any) -> dict[str, Any]:
    return {**counts, "timing": {"status": "ok", "median": median}}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Two cases, two contenders, one run."""
    found = load(tmp_path / "none.json")
    number = begin_run(found, Settings(), "first")
    for name in ("mlp-3x2x8", "vdp-4"):
        records = {"a": record(1.0, error=0.1, evaluations=8), "b": record(2.0)}
        merge(found, make_case(name), None, "together", number, records)
    return found


def test_a_partial_run_keeps_the_rest(results: Results) -> None:
    number = begin_run(results, Settings(), "second")
    merge(results, make_case("vdp-4"), 1e-9, "together", number, {"a": record(3.0, error=0.2)})
    assert results["cases"]["mlp-3x2x8"]["contenders"]["a"]["together"]["median"] == 1.0
    contenders = results["cases"]["vdp-4"]["contenders"]
    assert contenders["a"] == {"error": 0.2, "together": {"status": "ok", "median": 3.0, "run": "2"}}
    assert contenders["b"]["together"] == {"status": "ok", "median": 2.0, "run": "1"}
    assert {number: about["command"] for number, about in results["runs"].items()} == {"1": "first", "2": "second"}


def test_the_other_mode_is_a_second_number(results: Results) -> None:
    number = begin_run(results, Settings(), "second")
    merge(results, make_case("vdp-4"), None, "alone", number, {"a": record(3.0, error=0.1)})
    found = results["cases"]["vdp-4"]["contenders"]["a"]
    assert found["together"]["median"] == 1.0
    assert found["alone"]["median"] == 3.0


def test_a_failure_keeps_what_is_known(results: Results) -> None:
    number = begin_run(results, Settings(), "second")
    merge(results, make_case("vdp-4"), None, "alone", number, {"a": {"timing": {"status": "failed"}}})
    found = results["cases"]["vdp-4"]["contenders"]["a"]
    assert (found["error"], found["evaluations"], found["together"]["median"]) == (0.1, 8, 1.0)
    assert found["alone"] == {"status": "failed", "run": "2"}


def test_the_order_is_that_of_a_full_run(results: Results) -> None:
    number = begin_run(results, Settings(), "second")
    records = {name: record(1.0) for name in ("scipy", "isocline:eager")}
    for name in ("lorenz-1", "mlp-1x2x50"):
        merge(results, make_case(name), None, "together", number, dict(records))
        records = {name: record(1.0) for name in records}
    assert list(results["cases"]) == ["mlp-1x2x50", "lorenz-1", "mlp-3x2x8", "vdp-4"]
    assert list(results["cases"]["lorenz-1"]["contenders"]) == ["isocline:eager", "scipy"]


def test_runs_that_nothing_is_left_of_are_dropped(results: Results) -> None:
    number = begin_run(results, Settings(), "second")
    for name in ("mlp-3x2x8", "vdp-4"):
        merge(results, make_case(name), None, "together", number, {"a": record(1.0), "b": record(1.0)})
    assert list(results["runs"]) == ["2"]


def test_saved_results_are_loaded_again(results: Results, tmp_path: Path) -> None:
    save(results, tmp_path / "folder" / "peers.json")
    assert load(tmp_path / "folder" / "peers.json") == results
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["peers.json"]


def test_a_run_writes_results_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "peers.json"
    run(["mlp-3x2x8", "saves-3"], ["isocline:eager"], "together", Settings(rounds=2, least=0.0), "a command", path)
    results = json.loads(path.read_text())
    assert list(results["cases"]) == ["mlp-3x2x8", "saves-3"]
    entry = results["cases"]["mlp-3x2x8"]["contenders"]["isocline:eager"]
    assert entry["together"]["rounds"] == 2
    assert entry["evaluations"] > 0
    assert results["runs"]["1"]["versions"]["torch"]
    assert "### `saves-3`" in path.with_suffix(".md").read_text()
    assert "isocline:eager" in capsys.readouterr().out
