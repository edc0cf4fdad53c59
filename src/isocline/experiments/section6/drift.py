"""`isocline reproduce drift`: what becomes of a trajectory, and of the gradient, when it is solved backwards."""

from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Any, Self, cast

import torch
from lightning_fabric import Fabric
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import isocline as iso
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section6.differentiate import differentiate, exact_gradient, suited
from isocline.experiments.section6.fields import Attracted, Case, Lorenz, SpiralNet
from isocline.experiments.section6.showing import draw, in_words, worst
from isocline.gradients import GRADIENTS

CASES = (
    Case("attracted, k = 8", lambda: Attracted(8.0), (0.5,), 3.0),
    Case("tanh net", SpiralNet, (2.0, 0.0), 10.0),
    Case("Lorenz", Lorenz, (1.0, 1.0, 20.0), 2.0),
)
"""With the longest intervals."""

RECOVERED = 0.01
"""The relative error up to which a start counts as recovered."""


@dataclass(frozen=True)
class Rebuilt:
    """The start as it comes out of a solve back from the end.

    Attributes:
        case: Name of the problem.
        length: Of the interval, in units of time.
        tolerance: rtol and atol of both solves.
        amplification: By how much the exact solution backwards enlarges a small error of the state at the end.
        error: Of the rebuilt start, relative; nan if the solve back failed.
    """

    case: str
    length: float
    tolerance: float
    amplification: float
    error: float


@dataclass(frozen=True)
class Slope:
    """A gradient beside the exact one.

    Attributes:
        case: Name of the problem.
        length: Of the interval, in units of time.
        gradient: The gradient method; "backsolve (4 pieces)" stores the state at the start of each quarter.
        error: Relative; nan if the backward pass failed.
        backward: Evaluations of the field backwards.
    """

    case: str
    length: float
    gradient: str
    error: float
    backward: int


@dataclass(frozen=True)
class Drift(Reproduction):
    """Trajectories rebuilt by solving backwards: how far they drift, and what checkpoints do about it."""

    method: str = "tsit5"
    """For all solves."""
    tolerances: tuple[float, ...] = (1e-3, 1e-6, 1e-9)
    """rtol = atol of the trajectories."""
    tolerance: float = 1e-6
    """rtol = atol of the gradients."""
    lengths: int = 8
    """How many intervals, up to the longest of each problem."""
    pieces: tuple[int, ...] = (4, 16)
    """In how many pieces the adjoint is solved, for comparison."""
    max_steps: int = 2000
    """Attempted steps after which a solve counts as failed."""

    def smaller(self) -> Self:
        """One interval for each problem."""
        return replace(self, tolerances=(1e-3, 1e-6), lengths=1, pieces=(16,), max_steps=200)

    def run(self, folder: RunFolder, fabric: Fabric) -> "DriftResults":
        """Solves forwards and back, and differentiates, on intervals of growing length."""
        shares = [i / self.lengths for i in range(1, self.lengths + 1)]
        cases = [replace(case, t1=case.t1 * share) for case in CASES for share in shares]
        return DriftResults(
            tuple(row for case in cases for row in self.rebuilt(case)),
            tuple(row for case in cases for row in self._slopes(case)),
        )

    def rebuilt(self, case: Case) -> list[Rebuilt]:
        """Solves there and back, at every tolerance."""
        kappa, start = amplification(case), case.start()
        rows = []
        for tolerance in self.tolerances:
            end = self._end(case, start, (0.0, case.t1), tolerance)
            error = (self._end(case, end, (case.t1, 0.0), tolerance) - start).norm() / start.norm()
            rows.append(Rebuilt(case.name, case.t1, tolerance, kappa, error.item()))
        return rows

    @torch.no_grad()
    def _end(self, case: Case, start: Tensor, ts: tuple[float, float], tolerance: float) -> Tensor:
        controller, most = iso.PID(tolerance, tolerance), self.max_steps
        sol = iso.solve(case.field(), start, ts, method=self.method, controller=controller, max_steps=most, throw=False)
        return cast(Tensor, sol.ys)[-1]

    def _slopes(self, case: Case) -> list[Slope]:
        expected = exact_gradient(case)
        ways: dict[str, tuple[iso.Gradient, int]] = {name: (gradient, 1) for name, gradient in GRADIENTS.items()}
        ways |= {f"backsolve ({n} pieces)": (iso.BacksolveAdjoint(), n) for n in self.pieces}
        settings: dict[str, Any] = {
            "controller": iso.PID(self.tolerance, self.tolerance),
            "max_steps": self.max_steps,
        }
        rows = []
        for name, (gradient, pieces) in ways.items():
            settings |= {"gradient": gradient, "method": suited(gradient, self.method)}
            try:
                found = differentiate(case, pieces=pieces, **settings)
                rows.append(Slope(case.name, case.t1, name, found.error(expected), found.backward))
            except RuntimeError:  # a SolveError, or another way to say that the way back was lost
                rows.append(Slope(case.name, case.t1, name, nan, 0))
        return rows


def amplification(case: Case, pieces: int = 8) -> float:
    """By how much the exact solution, followed backwards, enlarges a small error at the end: |dy(0)/dy(t1)|.

    The product of the inverses over short pieces: over all of a long interval dy(t1)/dy(0) cannot be inverted.
    """
    field, y = case.field(), case.start()
    product = torch.eye(len(y), dtype=y.dtype)
    for ends in torch.linspace(0.0, case.t1, pieces + 1, dtype=torch.float64).unfold(0, 2, 1):
        start = y.detach().requires_grad_()
        y = cast(Tensor, iso.solve(field, start, ends, method="vern9", rtol=1e-9, atol=1e-9).ys)[-1]
        rows = [torch.autograd.grad(component, start, retain_graph=True)[0] for component in y]
        product = product @ torch.linalg.inv(torch.stack(rows))
    return float(torch.linalg.matrix_norm(product, 2))


@dataclass(frozen=True)
class DriftResults(Results):
    """What was measured.

    Attributes:
        rebuilt: Trajectories.
        slopes: Gradients.
    """

    rebuilt: tuple[Rebuilt, ...]
    slopes: tuple[Slope, ...]

    def findings(self) -> tuple[Finding, ...]:
        """Drift, whether it is a problem in practice, and the cure."""
        return self._drift(), self._practice(), self._cure()

    def _drift(self) -> Finding:
        # Where the error is neither rounding nor beyond what a linear theory can be about.
        ratios = sorted(
            row.error / (row.tolerance * row.amplification)
            for row in self.rebuilt
            if isfinite(row.error) and 1e-12 < row.tolerance * row.amplification < 0.1
        )
        low, high = ratios[0], ratios[-1]
        return Finding(
            "Section 6: solving the dynamics backwards can introduce extra error, if the trajectory diverges.",
            "yes" if any(not row.error < RECOVERED for row in self.rebuilt) else "no",
            f"The error of the rebuilt start is {low:.1g} to {high:.1g} times the tolerance times the amplification by "
            "the exact flow backwards, which grows as exp(rate of contraction x length): where that product nears 1 "
            "nothing of the start is left. The tolerance is a factor, the length an exponent.",
        )

    def _practice(self) -> Finding:
        parts = []
        for name in dict.fromkeys(row.case for row in self.rebuilt):
            rows = [row for row in self.rebuilt if row.case == name]
            for tolerance in sorted({row.tolerance for row in rows}):
                good = [row.length for row in rows if row.tolerance == tolerance and row.error < RECOVERED]
                parts.append(f"{name} at {tolerance:.0e}: {max(good, default=0.0):.3g} of {rows[-1].length:.3g}")
        return Finding(
            "Section 6: this was not found to be a problem in practice; reversed flows recovered the initial states.",
            "in part",
            f"Longest interval whose start is recovered to {RECOVERED:.0%}: "
            + "; ".join(parts)
            + ". It depends on the "
            "field: a net that contracts little is no problem, a strongly contracting or chaotic field soon is.",
        )

    def _cure(self) -> Finding:
        errors = {name: worst(row.error for row in rows) for name, rows in self._ways().items()}
        pieces = [error for name, error in errors.items() if "pieces" in name]
        return Finding(
            "Section 6: storing intermediate states and solving again from them addresses it (checkpointing).",
            "yes" if min(pieces) < 0.01 * errors["backsolve"] else "no",
            f"Worst relative error of the gradient over all problems and lengths: {in_words(errors)}. Each "
            "piece has to be short beside the time in which an error grows by 1 / tolerance. Methods that take the "
            "stored steps again do not solve backwards at all, so nothing can drift. Where the field is linear the "
            "gradient is right even when the start is lost, because the Jacobian is the same everywhere.",
        )

    def _ways(self) -> dict[str, list[Slope]]:
        names = dict.fromkeys(row.gradient for row in self.slopes)
        return {name: [row for row in self.slopes if row.gradient == name] for name in names}

    def plot(self) -> Figure:
        """A column a problem: the rebuilt start above, gradients below."""
        figure = Figure(figsize=(12, 7.5), layout="constrained")
        names = list(dict.fromkeys(row.case for row in self.rebuilt))
        top, bottom = figure.subplots(2, len(names), sharex="col", sharey="row")
        for name, above, below in zip(names, top, bottom, strict=True):
            self._plot_rebuilt(above, [row for row in self.rebuilt if row.case == name])
            above.set_title(name)
            for index, (way, rows) in enumerate(self._ways().items()):
                points = [(row.length, row.error) for row in rows if row.case == name]
                draw(below, points, label=way, index=index, failed=True)
            below.set(xlabel="length of the interval (units of time)", yscale="log")
        top[0].set_ylabel("relative error of the rebuilt y(0)")
        bottom[0].set_ylabel("relative error of the gradient")
        top[0].legend(fontsize="small")
        bottom[1].legend(fontsize="small", ncols=2, loc="upper left")
        return figure

    def _plot_rebuilt(self, axes: Axes, rows: list[Rebuilt]) -> None:
        for index, tolerance in enumerate(sorted({row.tolerance for row in rows}, reverse=True)):
            chosen = [row for row in rows if row.tolerance == tolerance]
            draw(
                axes,
                [(r.length, r.error) for r in chosen],
                label=f"tolerance {tolerance:.0e}",
                index=index,
                failed=True,
            )
            expected = [tolerance * row.amplification for row in chosen]
            label = "tolerance x amplification" if index == 0 else None
            axes.plot([row.length for row in chosen], expected, color="0.5", linestyle=":", label=label)
        axes.axhline(1.0, color="0.8", linewidth=0.8)
        axes.set(yscale="log", ylim=(1e-10, 1e5))
