"""`isocline reproduce gradient-error`: how well each gradient method does, for what it asks of the tolerance."""

from dataclasses import dataclass, replace
from math import nan
from typing import Any, Self, cast

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor

import isocline as iso
from isocline.dense import Interpolant
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section6.differentiate import differentiate, exact_gradient, suited
from isocline.experiments.section6.fields import Case, LotkaVolterra, SpiralNet, VanDerPol
from isocline.experiments.section6.showing import draw, in_words, worst
from isocline.gradients import GRADIENTS

CASES = (
    Case("Lotka–Volterra", LotkaVolterra, (1.0, 1.0), 5.0),
    Case("tanh net", lambda: SpiralNet(16), (2.0, 0.0), 2.0),
    Case("van der Pol, mu = 5 (mildly stiff)", lambda: VanDerPol(5.0), (2.0, 0.0), 2.0),
)

MOST = 3000
"""A method that needs more steps than this for one of them is not for that problem."""


@dataclass(frozen=True)
class Error:
    """Errors of one gradient.

    Attributes:
        case: Name of the problem.
        gradient: The gradient method.
        tolerance: rtol and atol.
        exact: Distance from the gradient of the exact solution, relative; nan if a pass failed.
        discrete: Distance from the gradient of the computed solution, relative, in some random directions: from finite
            differences of a solve with the same steps.
        evaluations: Of the field, forwards and backwards.
    """

    case: str
    gradient: str
    tolerance: float
    exact: float
    discrete: float
    evaluations: int


@dataclass(frozen=True)
class GradientError(Reproduction):
    """Errors of gradients against tolerance, for every gradient method: beside the exact one and the discrete one."""

    method: str = "tsit5"
    """For all solves but the references; gradient methods that undo steps get its reversible form."""
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
    """rtol = atol."""
    directions: int = 3
    """Random directions for the finite differences."""

    def smaller(self) -> Self:
        """Few tolerances."""
        return replace(self, tolerances=(1e-3, 1e-5), directions=1)

    def run(self, folder: RunFolder, fabric: Fabric) -> "GradientErrorResults":
        """Differentiates every problem by every method at every tolerance."""
        rows = []
        for case in CASES:
            exact = exact_gradient(case)
            for tolerance in self.tolerances:
                controller = iso.PID(tolerance, tolerance)
                for solver, gradients in self._by_solver().items():
                    rows += self._errors(case, gradients, solver, controller, exact)
        return GradientErrorResults(tuple(sorted(rows, key=lambda row: list(GRADIENTS).index(row.gradient))))

    def _by_solver(self) -> dict[iso.Solver, list[str]]:
        """Names of gradient methods, by the solver that suits them."""
        groups: dict[iso.Solver, list[str]] = {}
        for name, gradient in GRADIENTS.items():
            groups.setdefault(suited(gradient, self.method), []).append(name)
        return groups

    def _errors(
        self, case: Case, gradients: list[str], solver: iso.Solver, controller: iso.PID, exact: Tensor
    ) -> list[Error]:
        """One row each; a method that cannot solve the problem has no gradient."""
        try:
            discrete = Slopes(case, solver, controller, self.directions, len(exact))
        except iso.SolveError:
            return [Error(case.name, name, cast(float, controller.rtol), nan, nan, 0) for name in gradients]
        return [self._error(case, name, solver, controller, exact, discrete) for name in gradients]

    def _error(
        self, case: Case, name: str, solver: iso.Solver, controller: iso.PID, exact: Tensor, discrete: "Slopes"
    ) -> Error:
        tolerance = cast(float, controller.rtol)
        try:
            found = differentiate(case, method=solver, controller=controller, gradient=GRADIENTS[name])
        except RuntimeError:
            return Error(case.name, name, tolerance, nan, nan, 0)
        evaluations = found.forward + found.backward
        return Error(case.name, name, tolerance, found.error(exact), discrete.error(found.gradient), evaluations)


class Slopes:
    """Derivatives of the computed loss along random directions: finite differences, with the steps held.

    The steps are those that the controller chose; were they chosen anew for each shifted input, their changes would be
    differentiated, too, and the jumps where one more is taken.
    """

    @torch.no_grad()
    def __init__(self, case: Case, solver: iso.Solver, controller: iso.PID, directions: int, size: int) -> None:
        """Differentiates along `directions` directions in the `size` numbers that the loss depends on."""
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(directions, size, dtype=torch.float64, generator=generator)
        self.directions = drawn / drawn.norm(dim=1, keepdim=True)
        self.case, self.solver, self.whole = case, solver, iso.FixedStep(case.t1)
        settings: dict[str, Any] = {"method": solver, "controller": controller, "dense": True, "max_steps": MOST}
        chosen = iso.solve(case.field(), case.start(), (0.0, case.t1), **settings)
        self.ends = cast(Interpolant, chosen.interpolant).dense.t1[:-1, 0]
        self.expected = torch.stack([self._along(v) for v in self.directions])

    def error(self, gradient: Tensor) -> float:
        """Distance of a gradient from these derivatives, relative."""
        return float((self.directions @ gradient - self.expected).norm() / self.expected.norm())

    def _along(self, v: Tensor) -> Tensor:
        h = 1e-5
        near, far = self._loss(h * v) - self._loss(-h * v), self._loss(2 * h * v) - self._loss(-2 * h * v)
        return (8 * near - far) / (12 * h)

    def _loss(self, shift: Tensor) -> Tensor:
        """The loss with y0 and all parameters shifted, by steps that end at the same times."""
        field, start = self.case.field(), self.case.start()
        leaves = [start, *field.parameters()]
        for leaf, by in zip(leaves, shift.split([leaf.numel() for leaf in leaves]), strict=True):
            leaf += by.view_as(leaf)
        ts, ends = (0.0, self.case.t1), self.ends
        sol = iso.solve(field, start, ts, method=self.solver, controller=self.whole, step_ts=ends)
        return cast(Tensor, sol.ys)[-1].square().sum() / 2


@dataclass(frozen=True)
class GradientErrorResults(Results):
    """What was measured.

    Attributes:
        errors: A row for every problem, gradient method and tolerance.
    """

    errors: tuple[Error, ...]

    def of(self, gradient: str, case: str | None = None) -> list[Error]:
        """The rows of one gradient method."""
        return [row for row in self.errors if row.gradient == gradient and case in (None, row.case)]

    @property
    def gradients(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(dict.fromkeys(row.gradient for row in self.errors))

    @property
    def cases(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(dict.fromkeys(row.case for row in self.errors))

    def findings(self) -> tuple[Finding, ...]:
        """Control by tolerance, and which gradient it is."""
        return self._controlled(), self._discrete()

    def _controlled(self) -> Finding:
        *smooth, stiff = self.cases
        calm = {n: worst(r.exact / r.tolerance for r in self.of(n) if r.case in smooth) for n in self.gradients}
        hard = {n: worst(r.exact / r.tolerance for r in self.of(n, stiff)) for n in self.gradients}
        tightest = min(row.tolerance for row in self.errors)
        lost = any(not row.exact < 0.01 for row in self.errors if row.tolerance == tightest)
        return Finding(
            "Sections 2 and 6: the adjoint gives the gradient, to a precision that the tolerances set.",
            "in part" if lost else "yes",
            f"Relative error in units of the tolerance, the worst of all tolerances: {in_words(calm)} where the "
            f"problem is not stiff; {in_words(hard)} for {stiff}, where what comes together forwards parts backwards.",
        )

    def _discrete(self) -> Finding:
        errors = {name: worst(row.discrete for row in self.of(name)) for name in self.gradients}
        same = {name: error for name, error in errors.items() if error < 1e-6}
        other = {name: error for name, error in errors.items() if name not in same}
        return Finding(
            "Section 2: the adjoint is not the gradient of the solver's operations.",
            "yes" if "backsolve" in other and "direct" in same else "no",
            "Worst relative error beside finite differences of the computed solution: "
            f"{in_words(same)}; {in_words(other)}. The former give the gradient of what was computed, at any "
            "tolerance, the latter that of the exact solution, up to the tolerance.",
        )

    def plot(self) -> Figure:
        """A column a problem: errors beside the exact gradient above, beside the discrete one below."""
        figure = Figure(figsize=(12, 7.5), layout="constrained")
        top, bottom = figure.subplots(2, len(self.cases), sharex=True, sharey="row")
        for case, above, below in zip(self.cases, top, bottom, strict=True):
            for index, name in enumerate(self.gradients):
                rows = self.of(name, case)
                draw(above, [(r.tolerance, r.exact) for r in rows], label=name, index=index, failed=True)
                draw(below, [(r.tolerance, r.discrete) for r in rows], label=name, index=index, failed=True)
            tolerances = sorted({row.tolerance for row in self.errors})
            above.plot(tolerances, tolerances, color="0.5", linestyle=":", label="the tolerance")
            above.set(title=case, xscale="log", yscale="log")
            below.set(xlabel="tolerance (rtol = atol)", yscale="log")
        top[0].set_ylabel("error beside the exact gradient (relative)")
        bottom[0].set_ylabel("error beside the gradient of the\ncomputed solution (relative)")
        top[0].legend(fontsize="small")
        return figure
