"""Flows in their smallest form; and that what trains resumes to the same numbers."""

import io
import json
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from isocline import cli
from isocline.data import DataError
from isocline.experiments.processes import launched
from isocline.experiments.reproduction import Reproduction, Results, drawn, plain
from isocline.experiments.run_folder import RunFolder, RunFolderError
from isocline.experiments.section4 import tabular
from isocline.experiments.section4.densities import Densities, DensitiesResults
from isocline.experiments.section4.figure4 import Figure4, Figure4Results
from isocline.experiments.section4.figure5 import Figure5, Figure5Results, stages
from isocline.experiments.section4.fitting import Fit, Mean
from isocline.experiments.section4.tabular import Tabular, TabularResults
from isocline.models.flows import CNF, Flow, PlanarField, PlanarFlow

every_experiment = pytest.mark.parametrize("experiment", [Figure4, Figure5, Densities, Tabular])


@cache
def small(experiment: type[Reproduction]) -> tuple[Results, Path]:
    path = Path(mkdtemp())
    return experiment().smaller().run(RunFolder.create(path, {}), launched()), path


@every_experiment
def test_claims_are_answered_figures_drawn_and_results_kept(experiment: type[Reproduction]) -> None:
    results, path = small(experiment)
    for finding in results.findings():
        assert finding.holds in ("yes", "in part", "no")
        assert re.match(r"Figure \d|Section \d|\w+ et al\. \d{4}", finding.claim)
        assert "nan" not in finding.found
    figure = results.plot()
    assert isinstance(figure, Figure)
    assert drawn(figure, "png").startswith(b"\x89PNG\r\n")
    assert json.loads(json.dumps(plain(results), allow_nan=False))
    metrics = RunFolder(path, {}).metrics()
    assert {record["model"] for record in metrics} == {file.stem for file in path.glob("*.pt")}
    solved = re.compile("-(CNF|FFJORD|RNODE)")
    assert all((record["nfe_forward"] is None) == (not solved.search(record["model"])) for record in metrics)


def test_matching_comes_nearer_to_the_target() -> None:
    results, _ = small(Figure4)
    assert isinstance(results, Figure4Results)
    for cell in results.cells:
        assert cell.divergence.value > -3 * cell.divergence.error  # it is a divergence, if the normaliser is right
        assert cell.losses[-1] < cell.losses[0] or len(cell.losses) == 1
    assert results.cell("U2", "NF", 2).parameters == 2 * 5


def test_likelihoods_grow() -> None:
    results, path = small(Figure5)
    assert isinstance(results, Figure5Results)
    for row in results.fitted:
        assert row.losses[-1] < row.losses[0] or len(row.losses) == 1
        assert row.log_likelihood.value > -5
        assert row.round_trip < 1e-4
    animation = (path / "two-moons-CNF.gif").read_bytes()
    assert len(animation) < 2e6
    with Image.open(io.BytesIO(animation)) as film:
        assert film.n_frames >= 3  # equal frames are put together


def test_flows_of_one_size_trained_in_several_ways() -> None:
    results, _ = small(Densities)
    assert isinstance(results, DensitiesResults)
    assert results.data == ("8 Gaussians", "pinwheel")
    assert len(results.findings()) == 4
    assert len({row.parameters for row in results.rows}) == 1
    for row in results.rows:
        assert row.seconds > 0
        assert -20 < row.log_likelihood.value < -2
        assert 6 < row.nfe_own < row.nfe_log_prob
    for training in ("FFJORD", "RNODE"):
        assert all(row.losses[-1] < row.losses[0] for row in results.of(training))  # type: ignore[arg-type]
    (table,) = results.tables()
    assert len(table.rows) == 8
    assert all(len(row) == len(table.head) for row in table.rows)
    alone = DensitiesResults(tuple(results.of("RNODE")))
    assert len(alone.findings()) == 1


def test_the_tables_models() -> None:
    results, _ = small(Tabular)
    assert isinstance(results, TabularResults)
    assert [row.model for row in results.rows] == ["CNF", "FM", "NSF"]
    assert len(results.findings()) == 2
    assert all(len(row.test) == 1 and -20 < row.test[0] < 0 for row in results.rows)
    (table,) = results.tables()
    assert all(len(row) == len(table.head) for row in table.rows)
    without = TabularResults(results.rows[:2])
    assert without.findings() == ()


def test_a_spline_flow_needs_zuko(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"zuko's: pip install 'isocline\[peers\]'"):
        Tabular().check()
    Tabular(models=("CNF",)).check()


@every_experiment
def test_a_finished_run_is_not_trained_again(experiment: type[Reproduction], monkeypatch: pytest.MonkeyPatch) -> None:
    results, path = small(experiment)
    monkeypatch.setattr(Fit, "_piece", None)
    again = experiment().smaller().run(RunFolder(path, {}), launched())
    assert plain(again) == plain(results)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("model", ["CNF", "NF"])
def test_a_killed_training_resumes_to_the_same_numbers(model: str, tmp_path: Path) -> None:
    def fit(kill_at: int | None = None) -> Fit:
        torch.manual_seed(0)
        flow: Flow = CNF(PlanarField(2, 2), 2, rtol=1e-2, atol=1e-2) if model == "CNF" else PlanarFlow(2, 2)
        calls = []

        def loss(done: float) -> torch.Tensor:
            calls.append(done)
            if len(calls) == kill_at:
                raise KilledError
            x, log_prob = flow.rsample_with_log_prob((8,))
            return (log_prob + x.square().sum(1)).mean()

        return Fit(model, flow, torch.optim.Adam(flow.parameters(), 0.01), loss, iterations=10, every=4, seed=0)

    whole, parts = (RunFolder.create(tmp_path / name, {}) for name in ("whole", "parts"))
    expected = fit()
    course = expected.run(whole)
    assert len(course.losses) == 3
    with pytest.raises(KilledError):
        fit(kill_at=7).run(parts)
    parts.append_metrics({"model": model, "piece": 2, "loss": 0.0})  # as if killed between line and checkpoint
    resumed = fit()
    again = resumed.run(parts)
    assert (again.losses, again.scores) == (course.losses, course.scores)
    assert course.seconds > 0 and again.seconds > 0
    for one, other in zip(expected.flow.parameters(), resumed.flow.parameters(), strict=True):
        assert torch.equal(one, other)
    assert parts.metrics() == whole.metrics()


def test_the_best_piece_is_taken(tmp_path: Path) -> None:
    parameter = torch.nn.Linear(1, 1)
    seen: list[torch.Tensor] = []
    scores = [1.0, 3.0, 2.0]

    def score() -> float:
        seen.append(parameter.weight.detach().clone())
        return scores[len(seen) - 1]

    def fit(score: Any) -> Fit:
        optimiser = torch.optim.SGD(parameter.parameters(), 0.1)
        loss = lambda done: parameter(torch.ones(1, 1)).sum()  # noqa: E731
        return Fit("best", parameter, optimiser, loss, iterations=6, every=2, seed=0, score=score)

    folder = RunFolder.create(tmp_path, {})
    assert fit(score).run(folder).scores == (1.0, 3.0, 2.0)
    assert torch.equal(parameter.weight, seen[1])
    assert [record["score"] for record in folder.metrics()] == scores
    # Again from the finished folder, which scores nothing.
    with torch.no_grad():
        parameter.weight.zero_()
    fit(None).run(folder)
    assert torch.equal(parameter.weight, seen[1])


def test_a_checkpoint_of_another_flow_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, {})
    for layers in (2, 3):
        flow = PlanarFlow(2, layers)
        optimiser = torch.optim.Adam(flow.parameters())
        fit = Fit("NF", flow, optimiser, lambda done, flow=flow: flow.log_prob(torch.zeros(1, 2)).sum(), 2, 2, 0)
        if layers == 2:
            fit.run(folder)
    with pytest.raises(RunFolderError, match=r"does not fit the run's config\.json"):
        fit.run(folder)


def test_the_command_runs_quickly_and_resumes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(*options: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["isocline", "reproduce", "figure4", *options])
        cli.main()
        return json.loads((tmp_path / "results.json").read_text())

    first = run("--quick", f"--out={tmp_path}")
    assert "KL(q || p)" in " ".join(capsys.readouterr().out.split())
    assert run(f"--resume={tmp_path}") == first
    assert {path.suffix for path in tmp_path.iterdir()} >= {".png", ".svg", ".pt", ".json"}


@every_experiment
def test_the_small_form_is_smaller(experiment: type[Reproduction]) -> None:
    assert experiment().smaller() != experiment()
    assert replace(experiment(), quick=True).smaller().out is None


def test_stages_end_at_the_flow() -> None:
    z = torch.randn(5, 2)
    for flow in (CNF(PlanarField(2, 4), 2), PlanarFlow(2, 8), PlanarFlow(2, 8, closed_form="to_noise")):
        found = [stage(z) for stage in stages(flow)]
        torch.testing.assert_close(found[-1], flow.log_prob(z), rtol=1e-4, atol=1e-5)
        change = [(one - flow.base.log_prob(z)).abs().max() for one in found]
        assert change[0] < change[-1]


@pytest.mark.parametrize("closed_form", ["to_data", "to_noise"])
def test_the_layers_nearest_to_noise(closed_form: Any) -> None:
    flow = PlanarFlow(2, 3, closed_form=closed_form)
    z = torch.randn(4, 2)
    first, rest = flow.nearest_to_noise(2), PlanarFlow(2, 1, closed_form=closed_form)
    with torch.no_grad():
        for own, whole in zip(rest.parameters(), flow.parameters(), strict=True):
            own.copy_(whole[2:] if closed_form == "to_data" else whole[:1])
    torch.testing.assert_close(rest.to_data(first.to_data(z)), flow.to_data(z), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("behind", "verdict"), [(0.02, "no"), (0.5, "yes"), (-0.5, "no")])
def test_a_flow_that_is_behind_by_less_than_the_errors_has_no_difficulty(behind: float, verdict: str) -> None:
    results, _ = small(Figure5)
    assert isinstance(results, Figure5Results)
    cnf, nf = results.fitted
    cnf = replace(cnf, log_likelihood=Mean(-2.0, 0.01))
    nf = replace(nf, log_likelihood=Mean(-2.0 - behind, 0.01))
    claim = Figure5Results((cnf, nf)).findings()[1]
    assert "difficulty" in claim.claim
    assert claim.holds == verdict
