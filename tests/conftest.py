"""One thread, one seed: every test is the same on every run and in any order."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _nothing_old() -> None:
    """Let the collector pass over what earlier files left: of torch's compiler alone nearly a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def graphs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture compiled loops as graphs, with our guards, but run the graphs as they are.

    Machine code takes ten seconds a graph, so most tests stop one step before it. What is left out are the tests
    without this fixture for. A field belongs to one kind of test only: its programs are kept.
    """
    real = torch.compile

    def front_end_only(function: Any, **settings: Any) -> Callable[..., Any]:
        if "options" in settings:  # those of inductor, so it is a loop
            kept = {key: x for key, x in settings["options"].items() if key == "guard_filter_fn"}
            settings = {**settings, "options": kept, "backend": "eager"}
        return real(function, **settings)

    monkeypatch.setattr(torch, "compile", front_end_only)
