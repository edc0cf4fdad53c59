"""What ``import isocline`` gives, costs and documents."""

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import isocline

EXTRAS = ("matplotlib", "numpy", "pooch", "rich", "safetensors", "scipy", "sklearn", "torchdiffeq", "tqdm", "tyro")
OPTIONAL = ("isocline.cli", "isocline.data", "isocline.experiments")
"""Modules that may need the extras."""

MODULES = ["isocline", *(module.name for module in pkgutil.walk_packages(isocline.__path__, "isocline."))]

PLAIN = {"METHODS", "Status", "Tableau", "ImplicitTableau", "Stats", "Solver", "Controller", "Gradient", "SolveError"}
"""Names that need no example: data, results and base classes."""


def import_module(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if name.startswith(OPTIONAL) and error.name is not None and error.name.split(".")[0] in EXTRAS:
            pytest.skip(f"{error.name} is not installed")
        raise


def test_all_is_complete_and_sorted() -> None:
    assert len(set(isocline.__all__)) == len(isocline.__all__)
    # Constants first, then classes, then functions, each by name.
    groups = [
        sorted(n for n in isocline.__all__ if n.isupper()),
        sorted(n for n in isocline.__all__ if not n.isupper() and n[0].isupper()),
        sorted(n for n in isocline.__all__ if n[0].islower()),
    ]
    assert isocline.__all__ == [name for group in groups for name in group]
    for name in isocline.__all__:
        assert hasattr(isocline, name)
    public = {
        name
        for name, value in vars(isocline).items()
        if not name.startswith("_") and not inspect.ismodule(value) and (inspect.isclass(value) or callable(value))
    }
    assert public - {"PackageNotFoundError", "version"} <= set(isocline.__all__)


def test_the_names_are_there() -> None:
    assert set(isocline.__all__) >= {
        "METHODS",
        "PID",
        "AugmentedNeuralODE",
        "BacksolveAdjoint",
        "DirectAdjoint",
        "FixedStep",
        "GaussAdjoint",
        "InterpolatingAdjoint",
        "NeuralODE",
        "RecursiveCheckpointAdjoint",
        "RungeKutta",
        "Solution",
        "SolveError",
        "Stats",
        "Status",
        "Tableau",
        "solve",
    }
    assert set(isocline.METHODS) >= {
        "euler",
        "midpoint",
        "heun",
        "ralston",
        "rk4",
        "rk4_38",
        "bosh3",
        "dopri5",
        "tsit5",
        "ssprk33",
        "vern7",
        "vern8",
        "vern9",
        "dopri8",
        "dop853",
    }
    assert isocline.__version__[0].isdigit()


def test_solve_is_callable_though_a_module_has_its_name() -> None:
    assert inspect.isfunction(isocline.solve)


def test_importing_brings_no_extras_along() -> None:
    """Beyond those that torch itself imports when they are there."""
    code = (
        f"import sys, torch; before = set(sys.modules); import isocline; "
        f"print(sorted((set(sys.modules) - before) & set({EXTRAS!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


@pytest.mark.parametrize("name", sorted(set(isocline.__all__) - {"METHODS"}))
def test_every_public_name_is_documented(name: str) -> None:
    documented = inspect.getdoc(getattr(isocline, name))
    assert documented
    if name not in PLAIN:
        assert "Example:" in documented
        assert ">>>" in documented


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_docstrings_work(module: str) -> None:
    result = doctest.testmod(import_module(module))  # type: ignore[arg-type]
    assert result.failed == 0


def test_the_examples_are_found() -> None:
    attempted = sum(
        doctest.testmod(importlib.import_module(m)).attempted for m in MODULES if not m.startswith(OPTIONAL)
    )
    assert attempted > 25


def test_the_package_is_typed() -> None:
    from importlib.resources import files

    assert files("isocline").joinpath("py.typed").is_file()
