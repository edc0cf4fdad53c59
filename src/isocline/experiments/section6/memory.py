"""`isocline reproduce memory`: peak memory of a training step against the number of solver steps."""

from dataclasses import dataclass, replace
from functools import partial
from math import log
from typing import Self, cast

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor, nn

import isocline as iso
from isocline.experiments.memory import peak_memory
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section6.differentiate import suited
from isocline.experiments.section6.showing import draw
from isocline.gradients import GRADIENTS


@dataclass(frozen=True)
class Peak:
    """Memory of one training step.

    Attributes:
        gradient: The gradient method.
        steps: Of the solver.
        bytes: The peak of all tensors that the step made and that were alive at one time.
    """

    gradient: str
    steps: int
    bytes: int


@dataclass(frozen=True)
class Memory(Reproduction):
    """Peak memory of forward and backward pass against the number of steps, for every gradient method."""

    method: str = "midpoint"
    """With steps of a fixed size; gradient methods that undo steps get its reversible form."""
    steps: tuple[int, ...] = (10, 30, 100, 300, 1000)
    """Numbers of steps."""
    batch: int = 64
    """Samples."""
    width: int = 64
    """Numbers a sample, and units of the field's only layer."""
    checkpoints: tuple[int, ...] = (8,)
    """Budgets of RecursiveCheckpointAdjoint, beside the one without."""

    def smaller(self) -> Self:
        """Fewer steps."""
        return replace(self, steps=(20, 40))

    def run(self, folder: RunFolder, fabric: Fabric) -> "MemoryResults":
        """Takes a training step in every way."""
        ways = GRADIENTS | {f"checkpoint ({k} states)": iso.RecursiveCheckpointAdjoint(k) for k in self.checkpoints}
        return MemoryResults(
            self.batch * self.width * 4,
            tuple(
                Peak(name, steps, peak_memory(partial(self._train, gradient, steps)))
                for name, gradient in ways.items()
                for steps in self.steps
            ),
        )

    def _train(self, gradient: iso.Gradient, steps: int) -> None:
        torch.manual_seed(0)
        layer = nn.Sequential(nn.Linear(self.width, self.width), nn.Tanh())
        method, controller = suited(gradient, self.method), iso.FixedStep(1.0 / steps)
        start = torch.randn(self.batch, self.width)
        sol = iso.solve(
            lambda t, y: layer(y), start, (0.0, 1.0), method=method, controller=controller, gradient=gradient
        )
        cast(Tensor, sol.ys)[-1].square().mean().backward()


@dataclass(frozen=True)
class MemoryResults(Results):
    """What was measured.

    Attributes:
        state: Bytes of one state.
        peaks: A row for every gradient method and number of steps.
    """

    state: int
    peaks: tuple[Peak, ...]

    @property
    def gradients(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(dict.fromkeys(row.gradient for row in self.peaks))

    def of(self, gradient: str) -> list[Peak]:
        """The rows of one gradient method, by number of steps."""
        return sorted((row for row in self.peaks if row.gradient == gradient), key=lambda row: row.steps)

    def exponent(self, gradient: str) -> float:
        """p, where memory grows as steps^p, from the last but one to the largest number."""
        before, last = self.of(gradient)[-2:]
        return log(last.bytes / before.bytes) / log(last.steps / before.steps)

    def findings(self) -> tuple[Finding, ...]:
        """Constant, and linear."""
        return self._constant(), self._linear()

    def _constant(self) -> Finding:
        flat = {name: self.exponent(name) for name in self.gradients if self.exponent(name) < 0.1}
        steps = self.of("backsolve")[-1].steps
        shown = ", ".join(f"{name}: {self.of(name)[-1].bytes / self.state:.0f} states" for name in flat)
        return Finding(
            "Table 1 and section 1: the adjoint needs memory O(1) in the number of steps.",
            "yes" if "backsolve" in flat else "no",
            f"At {steps} steps, and no more with more: {shown}. What still grows is the record of accepted times of "
            "methods that take the steps again, 8 bytes a step. So constant memory is no privilege of solving "
            "backwards: a budget of checkpoints has it, and gives the exact gradient of the computed solution.",
        )

    def _linear(self) -> Finding:
        rows = {name: self.of(name) for name in self.gradients if self.exponent(name) >= 0.1}
        shown = ", ".join(
            f"{name}: {(last.bytes - first.bytes) / (last.steps - first.steps) / self.state:.2f} states a step"
            for name, (first, *_, last) in rows.items()
        )
        return Finding(
            "Table 1: backpropagation through the solver needs memory in proportion to the number of evaluations.",
            "yes" if "direct" in rows and self.exponent("direct") > 0.8 else "no",
            f"Memory grows with: {shown}. DirectAdjoint keeps what autograd needs of every evaluation, "
            "RecursiveCheckpointAdjoint without a budget only the state before each step.",
        )

    def plot(self) -> Figure:
        """Memory against steps."""
        figure = Figure(figsize=(7, 4.8), layout="constrained")
        axes = figure.subplots()
        for index, name in enumerate(self.gradients):
            draw(axes, [(row.steps, row.bytes / 1e6) for row in self.of(name)], label=name, index=index)
        axes.axhline(self.state / 1e6, color="0.5", linestyle=":", label="one state")
        axes.set(xscale="log", yscale="log", xlabel="steps of the solver", ylabel="peak of a training step (MB)")
        axes.legend(fontsize="small")
        return figure
