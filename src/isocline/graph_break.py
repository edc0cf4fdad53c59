"""A solve inside ``torch.compile``: a break in the graph around it, because how often it steps depends on values."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def exporting() -> bool:
    """Whether ``torch.export`` is making a graph."""
    known = getattr(torch.compiler, "is_exporting", None)  # since torch 2.7
    return known is not None and bool(known())


def outside_graphs(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function as it stands when torch's compiler traces a program that calls it."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_dynamo_compiling() and not exporting():
            # Here and not as a decorator: that would import the compiler, which takes longer than all of torch.
            apart: Callable[P, R] = torch.compiler.disable(function)
            return apart(*args, **kwargs)
        return function(*args, **kwargs)

    return call
