"""`isocline reproduce lanes`: what solving a batch as one system costs, beside solving each sample by itself."""

from dataclasses import dataclass, replace
from typing import Literal, Self, cast

import torch
from lightning_fabric import Fabric
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import isocline as iso
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section6.mixtures import ALIKE, MIXTURES, Batch
from isocline.experiments.section6.showing import draw

Way = Literal["joint, rms", "joint, max", "per sample"]
WAYS: tuple[Way, ...] = ("joint, rms", "joint, max", "per sample")
"""Joint solves judge a step by the root mean square over the batch, the field's standard, or by the worst number."""


@dataclass(frozen=True)
class Solved:
    """A batch, solved in one way.

    Attributes:
        mixture: What it is made of.
        size: K, the number of systems in it.
        way: "joint" with a norm, or "per sample".
        calls: Of the field.
        rows: Evaluations that each system asked for, summed over systems; of a joint solve all for each.
        first_error: Of the first system's state at the end, in units of tolerance x (1 + |y|). In unlike mixtures it is
            the hard one.
        worst_error: The largest of all systems, likewise.
        median_error: Likewise.
    """

    mixture: str
    size: int
    way: Way
    calls: int
    rows: int
    first_error: float
    worst_error: float
    median_error: float


@dataclass(frozen=True)
class Lanes(Reproduction):
    """Batches solved jointly, and per sample: evaluations, and the error of each sample."""

    method: str = "tsit5"
    """For all solves but the references."""
    sizes: tuple[int, ...] = (1, 4, 16, 64)
    """Numbers of systems in a batch."""
    tolerance: float = 1e-6
    """rtol = atol."""

    def smaller(self) -> Self:
        """Small batches."""
        return replace(self, sizes=(1, 16), tolerance=1e-4)

    @torch.no_grad()
    def run(self, folder: RunFolder, fabric: Fabric) -> "LanesResults":
        """Solves every mixture in every size and way."""
        rows = []
        for name, make in MIXTURES.items():
            for size in self.sizes:
                batch = make(size)
                tight = 1e-4 * self.tolerance
                expected = end(batch, 1, method="vern9", rtol=tight, atol=tight)[0]
                rows += [self._solved(name, batch, way, expected) for way in WAYS]
        return LanesResults(tuple(rows))

    def _solved(self, name: str, batch: Batch, way: Way, expected: Tensor) -> Solved:
        controller = iso.PID(self.tolerance, self.tolerance, norm="max" if way == "joint, max" else "rms")
        y, stats = end(batch, int(way == "per sample"), method=self.method, controller=controller)
        errors = ((y - expected).abs() / (self.tolerance * (1 + expected.abs()))).amax(dim=1)
        size = len(batch.y0)
        calls, steps = stats.evaluations, cast(Tensor, stats.steps)
        # Not `stats.rows`: systems that have ended are evaluated on if some go by rounding errors of the whole batch.
        spared = int((steps.max() - steps).sum()) * iso.METHODS[self.method].evaluations
        rows = size * calls - spared
        first, worst, median = errors[0].item(), errors.max().item(), errors.median().item()
        return Solved(name, size, way, calls, rows, first, worst, median)


def end(batch: Batch, batch_dims: int, **settings: object) -> tuple[Tensor, iso.Stats]:
    """The states at the end, (K, n), and the work."""
    args = tuple(map(iso.PerLane, batch.args)) if batch_dims else batch.args
    sol = iso.solve(
        batch.f,
        batch.y0,
        (0.0, batch.t1),
        args=args,
        batch_dims=batch_dims,
        max_steps=10**6,
        **settings,  # type: ignore[arg-type]
    )
    return cast(Tensor, sol.ys)[-1], sol.stats


@dataclass(frozen=True)
class LanesResults(Results):
    """What was measured.

    Attributes:
        solved: A row for every mixture, size and way.
    """

    solved: tuple[Solved, ...]

    def factor(self, mixture: str, size: int, way: Way = "joint, rms") -> float:
        """Calls of a joint solve over the mean of what each system needs alone."""
        return self.row(mixture, size, way).calls / (self.row(mixture, size, "per sample").rows / size)

    def row(self, mixture: str, size: int, way: Way) -> Solved:
        """The one that is asked for."""
        return next(r for r in self.solved if (r.mixture, r.size, r.way) == (mixture, size, way))

    @property
    def mixtures(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(dict.fromkeys(row.mixture for row in self.solved))

    @property
    def sizes(self) -> tuple[int, ...]:
        """In order."""
        return tuple(dict.fromkeys(row.size for row in self.solved))

    def findings(self) -> tuple[Finding, ...]:
        """The bound, the practice, and what the paper does not say: the errors."""
        return self._bound(), self._practice(), self._errors()

    def _bound(self) -> Finding:
        size = self.sizes[-1]
        shown = ", ".join(f"{name}: {self.factor(name, size):.2f}" for name in self.mixtures)
        largest = max(self.factor(name, size) for name in self.mixtures)
        strict = max(self.factor(name, size, "joint, max") for name in self.mixtures)
        return Finding(
            "Section 6: a joint solve of K systems might need K times the evaluations of solving each by itself.",
            "yes" if largest > 2 else "no",
            f"Evaluations of a joint solve of K = {size}, over the mean of what each system needs alone: {shown}; at "
            f"most {strict:.2f} where steps are judged by the worst number, not the root mean square. A factor of K "
            "would need systems that are hard at K different times and cost nothing otherwise.",
        )

    def _practice(self) -> Finding:
        size = self.sizes[-1]
        alike = max(self.factor(name, size) for name in ALIKE)
        unlike = [self.factor(name, size) for name in self.mixtures if name not in ALIKE]
        error = max(self._worse(name, size) for name in ALIKE)
        return Finding(
            "Section 6: in practice the number of evaluations did not increase substantially with minibatches.",
            "yes" if max(unlike) < 2 else "in part" if alike < 2 else "no",
            f"At K = {size} the factor is at most {alike:.2f} for samples of one smooth field or of similar "
            f"frequencies, which is what the paper's networks are like (their worst error is up to {error:.1f} times "
            f"that with steps of their own), and {min(unlike):.1f} to {max(unlike):.1f} for unlike samples. Each with "
            "its own steps (batch_dims=1) costs what each costs alone.",
        )

    def _worse(self, mixture: str, size: int) -> float:
        """The largest error of a joint solve over that of solves with steps of their own."""
        joint, own = self.row(mixture, size, "joint, rms"), self.row(mixture, size, "per sample")
        return joint.worst_error / own.worst_error

    def _errors(self) -> Finding:
        size = self.sizes[-1]
        rows = {way: self.row("one fast oscillator among slow", size, way).first_error for way in WAYS}
        return Finding(
            "Not in the paper: a joint solve controls the error of the batch, not of each sample.",
            "yes" if rows["joint, rms"] > 2 * rows["per sample"] else "no",
            f"One fast oscillator among {size - 1} slow: its error is {rows['joint, rms']:.3g} tolerances in a joint "
            f"solve, {rows['per sample']:.3g} with its own steps, {rows['joint, max']:.3g} in a joint solve judged by "
            "the worst number. The root mean square over the batch divides one sample's error by the root of K.",
        )

    def plot(self) -> Figure:
        """Evaluations and errors against the size of the batch."""
        figure = Figure(figsize=(12, 4.6), layout="constrained")
        factors, calls, errors = figure.subplots(1, 3)
        for index, name in enumerate(self.mixtures):
            points = [(size, self.factor(name, size)) for size in self.sizes]
            draw(factors, points, label=name, index=index)
            self._draw(calls, name, index, "calls")
            self._draw(errors, name, index, "worst_error")
        factors.plot(self.sizes, self.sizes, color="0.5", linestyle=":", label="K, the bound")
        factors.set(ylabel="evaluations, joint over mean alone", title="(a) what a joint solve costs", yscale="log")
        calls.set(ylabel="calls of the field", title="(b) joint: solid; per sample: dashed", yscale="log")
        errors.set(ylabel="largest error (tolerances)", title="(c) joint: solid; per sample: dashed", yscale="log")
        for axes in (factors, calls, errors):
            axes.set_xscale("log", base=2)
            axes.set_xticks(self.sizes, [str(size) for size in self.sizes])
            axes.set_xlabel("systems in the batch, K")
        factors.legend(fontsize="small")
        return figure

    def _draw(self, axes: Axes, name: str, index: int, value: str) -> None:
        for way, linestyle in (("joint, rms", "-"), ("per sample", "--")):
            rows = [row for row in self.solved if row.mixture == name and row.way == way]
            points = [(row.size, getattr(row, value)) for row in rows]
            draw(axes, points, label=None, index=index, linestyle=linestyle)
