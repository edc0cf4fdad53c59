"""The wheel that users install: what is in it, and that it works by itself in an environment without the sources."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")
ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

SMOKE = """
import pathlib, sys, torch, isocline as iso
assert pathlib.Path(iso.__file__).is_relative_to(sys.prefix), iso.__file__
net = torch.nn.Linear(2, 2)
sol = iso.solve(lambda t, y: net(y).tanh(), torch.ones(3, 2), (0.0, 1.0), batch_dims=1)
sol.ys[-1].sum().backward()
assert net.weight.grad is not None and sol.success.all()
print(iso.__version__)
"""

USER = """
import torch
import isocline as iso


def field(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return -y


solution: iso.Solution = iso.solve(field, torch.ones(2), (0.0, 1.0), gradient=iso.RecursiveCheckpointAdjoint(4))
count: int = solution.stats.evaluations
layer: torch.nn.Module = iso.NeuralODE(field, rtol=1e-3)
wrong: str = solution.stats.evaluations
iso.solve(field, torch.ones(2), (0.0, 1.0), methode="tsit5")
"""


def attempt(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that sees no sources but those of its own environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)


def run(*command: object, cwd: Path | None = None) -> str:
    done = attempt(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out, ROOT)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel in it, and what it requires found in this one."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=False)
    interpreter = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    site = Path(run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # Files of this kind in there are not followed, so the sources, which are installed by one, are out of sight.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    pip = (sys.executable, "-m", "pip", "--python", interpreter, "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    return interpreter


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    inside = {name.partition("/")[0] for name in names}
    assert inside == {"isocline", f"isocline-{PROJECT['version']}.dist-info"}
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "isocline").rglob("*.py")}
    assert sources | {"isocline/py.typed", "isocline/experiments/report.html"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert [entry for entry in required if "extra ==" not in entry] == ["torch>=2.6"]


def test_it_works_by_itself(python: Path, tmp_path: Path) -> None:
    assert run(python, "-W", "error", "-c", SMOKE, cwd=tmp_path).strip() == PROJECT["version"]


def test_its_command(python: Path, tmp_path: Path) -> None:
    pytest.importorskip("tyro")
    assert run(python.parent / "isocline", "--version", cwd=tmp_path).split() == ["isocline", PROJECT["version"]]


def test_its_requirements_are_met(python: Path) -> None:
    done = attempt(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "check")
    # Others, in the environment that is borrowed from, are not ours to judge.
    assert not [line for line in done.stdout.splitlines() if line.startswith("isocline ")], done.stdout
    assert "No broken requirements" in done.stdout or done.returncode == 1


def test_a_user_sees_its_types(python: Path, tmp_path: Path) -> None:
    """Without ``py.typed`` everything would be Any, and nothing wrong."""
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(USER)
    # Of torch everything is Any: to look at all of it takes a minute, and is not what this is about.
    (tmp_path / "mypy.ini").write_text("[mypy]\n[mypy-torch.*]\nfollow_imports = skip\n")
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--no-error-summary")
    done = attempt(*mypy, "user.py", cwd=tmp_path)
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert len(errors) == 2, done.stdout + done.stderr
    assert "[assignment]" in errors[0] and 'Unexpected keyword argument "methode"' in errors[1]


def test_one_version_everywhere() -> None:
    version = PROJECT["version"]
    citation = dict(re.findall(r"^([\w-]+): (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE))
    assert citation["version"] == version and citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"] and "message" in citation and "title" in citation
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert f"version {version}" in (ROOT / "README.md").read_text()
