"""Test problems with known solutions, for the tests and the benchmarks."""

from benchmarks.problems.detest import DETEST
from benchmarks.problems.nonstiff import NONSTIFF
from benchmarks.problems.problem import Problem
from benchmarks.problems.stiff import STIFF

PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in (*DETEST, *NONSTIFF, *STIFF)}

__all__ = ["DETEST", "NONSTIFF", "PROBLEMS", "STIFF", "Problem"]
