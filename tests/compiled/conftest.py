"""Compiling to machine code takes ten seconds a graph, so most tests stop one step before it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch


@pytest.fixture
def graphs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capture the loops as graphs, with all guards, but run the graphs as they are instead of compiling them.

    What is left out is the machine code, which the tests without this fixture look at. A field belongs to one kind of
    test only: its programs are kept.
    """
    real = torch.compile

    def front_end_only(function: Any, **settings: Any) -> Callable[..., Any]:
        if "options" in settings:  # those of inductor, so it is a loop
            del settings["options"]
            settings["backend"] = "eager"
        return real(function, **settings)

    monkeypatch.setattr(torch, "compile", front_end_only)
