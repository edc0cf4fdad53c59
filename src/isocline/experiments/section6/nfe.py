"""`isocline reproduce nfe`: evaluations of the backward pass beside those of the forward pass."""

from dataclasses import dataclass, replace
from math import isfinite, nan
from statistics import median
from typing import Self

from lightning_fabric import Fabric
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import isocline as iso
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section6.differentiate import differentiate, suited
from isocline.experiments.section6.fields import Attracted, Case, LotkaVolterra, SpiralNet, VanDerPol
from isocline.experiments.section6.showing import MARKERS, draw
from isocline.gradients import GRADIENTS

CASES = (
    Case("tanh net", SpiralNet, (2.0, 0.0), 5.0),
    Case("Lotka–Volterra", LotkaVolterra, (1.0, 1.0), 5.0),
    Case("attracted, k = 1", lambda: Attracted(1.0), (0.5,), 5.0),
    Case("van der Pol, mu = 1", lambda: VanDerPol(1.0), (2.0, 0.0), 5.0),
)


@dataclass(frozen=True)
class Count:
    """Evaluations of a forward and a backward pass.

    Attributes:
        case: Name of the problem.
        method: Of both passes.
        gradient: The gradient method.
        tolerance: rtol and atol of both passes.
        scale: A factor of the loss, and so of the adjoint.
        forward: Evaluations of the field; nan if the backward pass failed.
        backward: Likewise, each with a product with its Jacobian.
    """

    case: str
    method: str
    gradient: str
    tolerance: float
    scale: float
    forward: float
    backward: float

    @property
    def ratio(self) -> float:
        """Backward over forward."""
        return self.backward / self.forward


@dataclass(frozen=True)
class Nfe(Reproduction):
    """Evaluations forwards and backwards: methods, tolerances, gradient methods, and sizes of the loss."""

    methods: tuple[str, ...] = ("tsit5", "dopri5", "adams", "LSODA")
    """All of them with BacksolveAdjoint, the first for the other comparisons; LSODA is SciPy's."""
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
    """rtol = atol, of both passes."""
    scales: tuple[float, ...] = (1.0, 1e-2, 1e-4, 1e-6, 1e-8)
    """Factors of the loss."""
    tolerance: float = 1e-5
    """rtol = atol where the loss is scaled."""

    def smaller(self) -> Self:
        """One method, few tolerances."""
        return replace(self, methods=("tsit5",), tolerances=(1e-3, 1e-5), scales=(1.0, 1e-6))

    def run(self, folder: RunFolder, fabric: Fabric) -> "NfeResults":
        """Differentiates everything in every way."""
        first = self.methods[0]
        pairs = [(method, "backsolve") for method in self.methods]
        pairs += [(first, name) for name in GRADIENTS if name != "backsolve"]
        counts = [count(case, *pair, tolerance) for pair in pairs for case in CASES for tolerance in self.tolerances]
        scaled = [count(case, first, "backsolve", self.tolerance, scale) for case in CASES for scale in self.scales]
        return NfeResults(tuple(counts), tuple(scaled))


def count(case: Case, method: str, gradient: str, tolerance: float, scale: float = 1.0) -> Count:
    """Differentiates once."""
    how = GRADIENTS[gradient]
    solver = suited(how, method) if method in iso.METHODS else iso.SciPy(method)
    controller = iso.PID(tolerance, tolerance)
    try:
        found = differentiate(case, scale=scale, method=solver, gradient=how, controller=controller)
    except RuntimeError:  # a backward pass failed
        return Count(case.name, method, gradient, tolerance, scale, nan, nan)
    return Count(case.name, method, gradient, tolerance, scale, found.forward, found.backward)


@dataclass(frozen=True)
class NfeResults(Results):
    """What was measured.

    Attributes:
        counts: Methods, gradient methods and tolerances.
        scaled: The first method with BacksolveAdjoint, for losses of several sizes.
    """

    counts: tuple[Count, ...]
    scaled: tuple[Count, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(dict.fromkeys(row.method for row in self.counts))

    @property
    def gradients(self) -> tuple[str, ...]:
        """Names of those that did not always fail, in order."""
        return tuple(dict.fromkeys(row.gradient for row in self.counts if isfinite(row.ratio)))

    def of(self, method: str, gradient: str = "backsolve") -> list[Count]:
        """The rows of a method and a gradient method whose backward pass did not fail."""
        rows = [row for row in self.counts if (row.method, row.gradient) == (method, gradient)]
        return [row for row in rows if isfinite(row.ratio)]

    def by_scale(self, case: str) -> list[tuple[float, float]]:
        """Factors of the loss, the smallest first, and backward over forward."""
        return sorted((row.scale, row.ratio) for row in self.scaled if row.case == case)

    @property
    def cases(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(dict.fromkeys(row.case for row in self.counts))

    def findings(self) -> tuple[Finding, ...]:
        """Half as many evaluations backwards, and what follows from it."""
        return self._half(), self._scale(), self._cheaper()

    def _half(self) -> Finding:
        middle = {method: median(row.ratio for row in self.of(method)) for method in self.methods}
        every = [row.ratio for method in self.methods for row in self.of(method)]
        failed = sum(not isfinite(row.ratio) for row in self.counts if row.gradient == "backsolve")
        shown = ", ".join(f"{method} {ratio:.2f}" for method, ratio in middle.items())
        return Finding(
            "Figure 3c: the backward pass needs about half as many evaluations as the forward pass.",
            "yes" if max(middle.values()) < 0.7 else "in part" if min(middle.values()) < 0.7 else "no",
            f"Backward over forward by BacksolveAdjoint, median over {len(self.cases)} problems and all tolerances: "
            f"{shown}; single cases from {min(every):.2f} to {max(every):.2f}, and {failed} failed. The state is "
            "solved again, and the adjoint beside it, by the same method at the same tolerances: so there is no "
            "reason for fewer steps. (Multistep methods of isocline evaluate at three more points a step for the "
            "parameters' integral.)",
        )

    def _scale(self) -> Finding:
        ends = {case: (self.by_scale(case)[-1][1], self.by_scale(case)[0][1]) for case in self.cases}
        shown = ", ".join(f"{case} {large:.2f} and {small:.2f}" for case, (large, small) in ends.items())
        (smallest, _), *_ = self.by_scale(self.cases[0])
        return Finding(
            "Not in the paper: that ratio depends on the units of the loss.",
            "yes" if any(small < 0.9 * large for large, small in ends.values()) else "no",
            f"Ratio at tolerance {self.scaled[0].tolerance:.0e}, {self.methods[0]}, for a loss as it is, and times "
            f"{smallest:.0e}: {shown}. An adjoint below atol is not controlled at all (and less accurate), which saves "
            "steps where it was the adjoint that made them short. The state is controlled still, so there is no half "
            "to be had that way either.",
        )

    def _cheaper(self) -> Finding:
        first = self.methods[0]
        middle = {gradient: median(row.ratio for row in self.of(first, gradient)) for gradient in self.gradients}
        shown = ", ".join(f"{gradient} {ratio:.2f}" for gradient, ratio in middle.items())
        return Finding(
            "Section 3: so the adjoint is computationally cheaper than backpropagation through the solver.",
            "no" if middle["backsolve"] > middle["direct"] else "yes",
            f"Evaluations backwards over forwards, median, {first}: {shown}. Backpropagation evaluates nothing again: "
            "it pulls the gradient once through each accepted evaluation, which was kept; the adjoint evaluates, and "
            "pulls, once in each of its own. The adjoint saves memory, not work.",
        )

    def plot(self) -> Figure:
        """The paper's Figure 3c for several methods, and the ratio against tolerance, scale and gradient method."""
        figure = Figure(figsize=(11, 8.5), layout="constrained")
        both, tolerances, scales, gradients = figure.subplots(2, 2).flat
        first = self.methods[0]
        self._plot_both(both)
        for index, case in enumerate(self.cases):
            at = [(row.tolerance, row.ratio) for row in self.of(first) if row.case == case]
            draw(tolerances, at, label=case, index=index)
            draw(scales, self.by_scale(case), label=case, index=index)
        for index, gradient in enumerate(self.gradients):
            rows = self.of(first, gradient)
            middles = [
                (tolerance, median(row.ratio for row in rows if row.tolerance == tolerance))
                for tolerance in dict.fromkeys(row.tolerance for row in rows)
            ]
            draw(gradients, middles, label=gradient, index=index)
        tolerances.set(title=f"(b) BacksolveAdjoint, {first}", xlabel="tolerance (rtol = atol)")
        scales.set(title=f"(c) the same at tolerance {self.scaled[0].tolerance:.0e}", xlabel="factor of the loss")
        gradients.set(title=f"(d) gradient methods, {first}: median of problems", xlabel="tolerance (rtol = atol)")
        for axes in (tolerances, scales, gradients):
            axes.set(xscale="log", ylabel="evaluations backwards over forwards", ylim=(0, None))
            axes.axhline(0.5, color="0.4", linestyle=":")
        for axes in (both, tolerances, gradients):
            axes.legend(fontsize="small")
        return figure

    def _plot_both(self, axes: Axes) -> None:
        for index, method in enumerate(self.methods):
            rows = self.of(method)
            forward, backward = [row.forward for row in rows], [row.backward for row in rows]
            axes.scatter(forward, backward, s=22, alpha=0.7, color=f"C{index}", marker=MARKERS[index], label=method)
        ends = [row.forward for method in self.methods for row in self.of(method)]
        line = min(ends), max(ends)
        axes.plot(line, line, color="0.4", linewidth=0.8, label="equal")
        axes.plot(line, [x / 2 for x in line], color="0.4", linestyle=":", label="half, as in the paper's Figure 3c")
        axes.set(title="(a) BacksolveAdjoint, all problems and tolerances", xscale="log", yscale="log")
        axes.set(xlabel="evaluations forwards", ylabel="evaluations backwards")
