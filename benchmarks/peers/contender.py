"""A contender: one way of one library to solve a case. No library is imported before a contender is built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers.case import Case

Counts = dict[str, int]
"""evaluations (calls of the field forwards), backward (calls in the backward pass), steps (attempts; the most of any
sample), and where samples have their own steps: rows (samples that went into all calls together) and rows_alone."""


class Answer(NamedTuple):
    """What a contender found, in float64."""

    states: np.ndarray
    """(saved times after the start, batch, numbers)."""
    gradient: np.ndarray | None = None
    """By y0 and all parameters, flat."""


@dataclass(frozen=True)
class Job:
    """A contender that is ready to run one case."""

    call: Callable[[], Any]
    """The work that is timed; it is over when this returns."""
    answer: Callable[[Any], Answer | None]
    """What a call returned, in the form in which it is checked; None if there is nothing to check."""
    count: Callable[[], Counts]
    """Run the work once more and count."""


def solves(case: Case) -> bool:
    return not case.overhead


@dataclass(frozen=True)
class Contender:
    """Words joined by colons name it: the library, the kind of gradient if there is one, how it is run."""

    name: str
    package: str
    """What must be installed."""
    build: Callable[[Case, str], Job]
    """Make the job on a device."""
    cuda: bool = False
    """Whether it runs on a CUDA device."""
    gradient: bool = False
    """Whether it is for cases with a gradient."""
    suits: Callable[[Case], bool] = solves

    def takes(self, case: Case, device: str) -> bool:
        fits = self.gradient == case.gradient and self.suits(case)
        return fits and (self.cuda or device == "cpu")

    def chosen(self, choice: str) -> bool:
        """Whether a choice on the command line means this: all its words are in the name."""
        return set(choice.split(":")) <= set(self.name.split(":"))
