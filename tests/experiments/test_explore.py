"""`isocline explore`: which ODEs it finds, what it says of them, and its page, without a browser and with one."""

import math
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch import Tensor, nn

from isocline import cli
from isocline.experiments.demo import Demo
from isocline.experiments.explore.command import PAGE
from isocline.experiments.explore.figures import by_tolerance, phase_plane
from isocline.experiments.explore.found import subjects_of
from isocline.experiments.explore.subject import SHOWN, Subject
from isocline.experiments.explore.work import TOLERANCES, Plane, cost, exact_end, paths, slopes
from isocline.experiments.reproduction import Reproduction
from isocline.experiments.run_folder import RunFolderError
from isocline.experiments.section3.table1 import Table1
from isocline.experiments.section4.figure5 import Figure5
from isocline.experiments.section5.spiral_models import LATENT
from isocline.experiments.section5.table2 import Table2
from isocline.experiments.section6.memory import Memory


class Turning(nn.Module):
    """Rotation at an angular speed of 2 t."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.tensor([[0.0, -2.0], [2.0, 0.0]]))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return t * y @ self.matrix.T  # type: ignore[operator]


TURNING = Subject("turning", Turning(), torch.eye(2), (0.0, 1.0), ("one", "other"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small finished runs."""
    made: dict[str, Path] = {}
    kinds: list[Reproduction] = [Demo(), Table2(), Memory()]
    for settings in kinds:
        made[type(settings).__name__] = path = tmp_path_factory.mktemp("runs") / "run"
        small = type(settings)(out=path, quick=True)
        small.main()
    return made


def test_costs_are_those_of_the_solve() -> None:
    exact = exact_end(TURNING)
    angle = torch.tensor(1.0, dtype=torch.float64)
    turned = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
    torch.testing.assert_close(exact, turned, rtol=1e-7, atol=1e-7)
    costs = [cost(TURNING, "dopri5", tolerance, exact) for tolerance in (1e-2, 1e-5)]
    assert costs[0].evaluations < costs[1].evaluations
    assert costs[1].error < costs[0].error
    assert costs[1].error < 1e-5
    assert costs[0].evaluations == 6 * (costs[0].accepted + costs[0].rejected) + 2


def test_a_state_of_two_numbers_is_drawn_as_it_is() -> None:
    ways = paths(TURNING, "tsit5", 1e-5)
    plane = Plane.of(ways)
    assert plane.share == 1
    torch.testing.assert_close(plane.on(ways), ways)
    torch.testing.assert_close(slopes(TURNING, plane, 0.5, torch.tensor([[1.0, 2.0]])), torch.tensor([[-2.0, 1.0]]))


def test_the_plane_is_that_of_most_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    sizes = torch.tensor([3.0, 2.0, 0.1, 0.0, 0.0])
    states = 1 + torch.randn(50, 4, 5, generator=generator) * sizes @ basis.T
    plane = Plane.of(states)
    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2), rtol=0, atol=1e-5)
    # What is left out is 0.01 of 13.
    assert 0.998 < plane.share < 1
    back = plane.off(plane.on(states))
    assert (back - states).abs().max() < 0.5
    assert (plane.axes @ (basis * sizes))[:, 2:].abs().max() < 0.02


def test_figures_are_labelled() -> None:
    costs = [cost(TURNING, "tsit5", tolerance, exact_end(TURNING)) for tolerance in (1e-1, 1e-3)]
    ways = paths(TURNING, "tsit5", 1e-3)
    for figure in (by_tolerance(costs, costs[1]), phase_plane(TURNING, ways, Plane.of(ways), 0.5)):
        assert figure.axes[-1].get_xlabel()
        assert all(axes.get_ylabel() for axes in figure.axes)


def test_demo_and_table2_hold_odes(runs: dict[str, Path]) -> None:
    nets = subjects_of(runs["Demo"])
    assert [subject.title for subject in nets] == ["RK-Net, seed 0", "ODE-Net, seed 0"]
    assert len(nets[0].y0) == len(nets[0].groups) == SHOWN
    assert not torch.equal(nets[0].y0, nets[1].y0)
    latent = subjects_of(runs["Table2"])
    assert [subject.title for subject in latent] == ["latent ODE, 10 observations", "latent ODE, 30 observations"]
    assert set(latent[0].groups) == {"clockwise", "counter-clockwise"}
    assert latent[0].y0.shape == (SHOWN, LATENT)


@pytest.mark.parametrize("kind", [Table1, Figure5])
def test_other_runs_hold_odes(kind: type[Reproduction], tmp_path: Path) -> None:
    extra: dict[str, Any] = {"models": ("odenet", "odenet-kinetic")} if kind is Table1 else {}
    kind(out=tmp_path / "run", quick=True, **extra).main()
    for subject in subjects_of(tmp_path / "run"):
        found = cost(subject, "tsit5", 1e-3, exact_end(subject))
        assert found.error < 0.1, subject.title


def test_runs_without_an_ode_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="expected a trained ODE, found none in this run of Memory"):
        subjects_of(runs["Memory"])
    with pytest.raises(RunFolderError, match="expected a run's configuration, found none"):
        subjects_of(tmp_path)
    (tmp_path / "config.json").write_text('{"experiment": "Another"}')
    with pytest.raises(RunFolderError, match="expected a run of an experiment, found one of Another"):
        subjects_of(tmp_path)


def test_the_command_refuses_before_it_serves(monkeypatch: pytest.MonkeyPatch, runs: dict[str, Path]) -> None:
    monkeypatch.setattr(sys, "argv", ["isocline", "explore", str(runs["Memory"])])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2


def test_the_page(monkeypatch: pytest.MonkeyPatch, runs: dict[str, Path]) -> None:
    monkeypatch.setattr(sys, "argv", ["page.py", str(runs["Table2"])])
    page = AppTest.from_file(str(PAGE), default_timeout=120).run()
    assert not page.exception
    subject = subjects_of(runs["Table2"])[0]
    expected = [cost(subject, "tsit5", tolerance, exact_end(subject)) for tolerance in TOLERANCES]
    assert page.metric[0].value == str(expected[2].evaluations)
    page.sidebar.select_slider[0].set_value(1e-5).run()
    assert page.metric[0].value == str(expected[4].evaluations)
    assert math.isclose(float(page.metric[3].value), expected[4].error, rel_tol=0.1)
    page.sidebar.selectbox[1].set_value("bosh3").run()
    assert page.metric[0].value == str(cost(subject, "bosh3", 1e-5, exact_end(subject)).evaluations)
    page.sidebar.selectbox[0].set_value("latent ODE, 30 observations").run()
    assert not page.exception
    assert page.title[0].value == "latent ODE, 30 observations"


# In a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser() -> Iterator[Any]:
    """A headless Chromium, if there is one."""
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        pytest.skip("no chromium with its chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    quiet = "background-networking", "component-update", "sync", "gpu", "quic"
    for argument in (
        "headless",
        "no-sandbox",
        "no-first-run",
        "window-size=1400,1000",
        *(f"disable-{x}" for x in quiet),
    ):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))
    yield driver
    driver.quit()


def wait_for(what: Any, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "did not appear"
        time.sleep(0.2)


def images(driver: Any) -> int:
    """How many are drawn on the page."""
    script = "return [...document.images].filter(x => x.complete && x.naturalWidth > 0).length"
    return int(driver.execute_script(script))


def test_the_page_in_a_browser(runs: dict[str, Path], browser: Any) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "isocline.cli",
        "explore",
        str(runs["Table2"]),
        "--no-browser",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(f"http://localhost:{port}"))
        browser.get(f"http://localhost:{port}")
        wait_for(lambda: images(browser) >= 2)
        assert "latent ODE, 10 observations" in browser.find_element("tag name", "body").text
    finally:
        server.terminate()
        server.wait()


def answers(address: str) -> bool:
    try:
        with urlopen(address):
            return True
    except URLError:
        return False


def test_a_report_in_a_browser(runs: dict[str, Path], browser: Any, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    isocline = [sys.executable, "-m", "isocline.cli", "report", *map(str, runs.values()), "--out", str(out)]
    subprocess.run(isocline, check=True, capture_output=True)
    browser.get(out.as_uri())
    wait_for(lambda: images(browser) >= 2)
    assert "Table2" in browser.find_element("tag name", "body").text
    width = "return document.documentElement.scrollWidth <= window.innerWidth"
    assert browser.execute_script(width), "wider than the window"
