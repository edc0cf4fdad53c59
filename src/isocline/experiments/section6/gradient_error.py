"""`isocline reproduce gradient-error`: how well each gradient method does, for what it asks of the tolerance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import Self, cast

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import isocline as iso
from isocline.dense import Interpolant
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.section6.differentiate import differentiate, exact_gradient, suited
from isocline.experiments.section6.fields import Case, LotkaVolterra, SpiralNet, VanDerPol
from isocline.experiments.section6.showing import draw, in_words, worst
from isocline.gradients import GRADIENTS

CASES = (
    Case("Lotka–Volterra", LotkaVolterra, (1.0, 1.0), 5.0),
    Case("tanh net", lambda: SpiralNet(16), (2.0, 0.0), 2.0),
    Case("van der Pol, mu = 5 (mildly stiff)", lambda: VanDerPol(5.0), (2.0, 0.0), 2.0),
)


@dataclass(frozen=True)
class Error:
    """Errors of one gradient.

    Attributes:
        case: Name of the problem.
        gradient: The gradient method.
        tolerance: rtol and atol.
        exact: Distance from the gradient of the exact solution, relative; nan if the backward pass failed.
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
        return replace(self, tolerances=(1e-3, 1e-6), directions=2)

    def run(self) -> "GradientErrorResults":
        """Differentiates every problem by every method at every tolerance."""
        rows = []
        for case in CASES:
            expected = exact_gradient(case)
            for tolerance in self.tolerances:
                controller = iso.PID(rtol=tolerance, atol=tolerance)
                for name, gradient in GRADIENTS.items():
                    solver = suited(gradient, self.method)
                    rows.append(self._error(case, name, gradient, solver, controller, expected))
        return GradientErrorResults(tuple(rows))

    def _error(
        self, case: Case, name: str, gradient: iso.Gradient, solver: iso.Solver, controller: iso.PID, expected: Tensor
    ) -> Error:
        tolerance = cast(float, controller.rtol)
        try:
            found = differentiate(case, method=solver, controller=controller, gradient=gradient)
        except RuntimeError:
            return Error(case.name, name, tolerance, nan, nan, 0)
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(self.directions, len(expected), dtype=torch.float64, generator=generator)
        directions = directions / directions.norm(dim=1, keepdim=True)
        slopes = discrete_slopes(case, solver, controller, directions)
        discrete = (directions @ found.gradient - slopes).norm() / slopes.norm()
        evaluations = found.forward + found.backward
        return Error(case.name, name, tolerance, found.error(expected), discrete.item(), evaluations)


@torch.no_grad()
def discrete_slopes(case: Case, solver: iso.Solver, controller: iso.PID, directions: Tensor) -> Tensor:
    """Derivatives of the computed loss along `directions` (D, P), (D,): finite differences with the steps held.

    The steps are those that the controller chose; were they chosen anew for each shifted input, their changes would be
    differentiated, too, and the jumps where one more is taken.
    """
    field, y0 = case.field(), case.start()
    chosen = iso.solve(field, y0, (0.0, case.t1), method=solver, controller=controller, dense=True)
    ends = cast(Interpolant, chosen.interpolant).dense.t1[:-1, 0]
    given = [y0.clone(), *(p.clone() for p in field.parameters())]

    def loss(shift: Tensor) -> Tensor:
        parts = shift.split([part.numel() for part in given])
        start, *parameters = [part + by.view_as(part) for part, by in zip(given, parts, strict=True)]
        set_parameters(field, parameters)
        whole = iso.FixedStep(case.t1)  # as far as the next of the ends
        sol = iso.solve(field, start, (0.0, case.t1), method=solver, controller=whole, step_ts=ends)
        return cast(Tensor, sol.ys)[-1].square().sum() / 2

    h = 1e-5  # with four points the error is O(h^4), so h need not be so small that rounding shows
    slopes = [(8 * (loss(h * v) - loss(-h * v)) - loss(2 * h * v) + loss(-2 * h * v)) / (12 * h) for v in directions]
    return torch.stack(slopes)


def set_parameters(field: nn.Module, values: Sequence[Tensor]) -> None:
    """Overwrites the parameters."""
    for parameter, value in zip(field.parameters(), values, strict=True):
        parameter.copy_(value)


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
        units = {name: worst(row.exact / row.tolerance for row in self.of(name)) for name in self.gradients}
        tightest = min(row.tolerance for row in self.errors)
        lost = any(not row.exact < 0.01 for row in self.errors if row.tolerance == tightest)
        return Finding(
            "Sections 2 and 6: the adjoint gives the gradient, to a precision that the tolerances set.",
            "in part" if lost else "yes",
            f"Relative error in units of the tolerance, the worst of all problems and tolerances: {in_words(units)}. "
            "BacksolveAdjoint is controlled by its tolerances where the problem is not stiff. On van der Pol's "
            "equation it loses the trajectory, or fails: what comes together forwards parts backwards.",
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
