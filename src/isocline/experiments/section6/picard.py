"""`isocline reproduce picard`: what solvers and gradients do where solutions are not unique, not smooth, or end."""

from dataclasses import dataclass, replace
from math import exp, isfinite, nan, prod
from typing import Self, cast

import torch
from lightning_fabric import Fabric
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

import isocline as iso
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section6.differentiate import suited
from isocline.experiments.section6.laws import EPS, LAWS
from isocline.experiments.section6.showing import draw
from isocline.gradients import GRADIENTS

CROSSED = "y' = 1 below 0, 2 above"
BLOWN = "y' = y^2"
WRONG = 0.01
"""An error from which on the end that a solve gives is wrong."""

WITH_EVENT = "direct, with an event"
RESTING = ("y' = y^(1/3)", "y' = |y|^(1/2)", "y' = 3 y^(2/3)")
"""Continuous, and not Lipschitz at 0."""


@dataclass(frozen=True)
class End:
    """How a solve ended.

    Attributes:
        law: The field.
        method: The solver.
        start: y(0).
        status: A name of `isocline.Status`.
        message: What the solver says, if it did not arrive.
        y: The state at the end; nan if it did not arrive.
        exact: The solution there; nan where there are many, inf where there is none.
        evaluations: Of the field.
    """

    law: str
    method: str
    start: float
    status: str
    message: str
    y: float
    exact: float
    evaluations: int

    @property
    def wrong(self) -> bool:
        """Whether it arrived, but not where the only solution does."""
        return isfinite(self.exact) and isfinite(self.y) and abs(self.y - self.exact) > WRONG


@dataclass(frozen=True)
class Slope:
    """A derivative dy(t1)/dy(0).

    Attributes:
        law: The field.
        gradient: The gradient method.
        start: y(0).
        found: What it gives; nan if it fails.
        exact: The derivative; inf where the solutions part.
        message: What it says, if it fails.
    """

    law: str
    gradient: str
    start: float
    found: float
    exact: float
    message: str


@dataclass(frozen=True)
class Curve:
    """A solution at several times.

    Attributes:
        law: The field.
        start: y(0).
        ts: The times.
        ys: The states; nan beyond where the solve got.
    """

    law: str
    start: float
    ts: tuple[float, ...]
    ys: tuple[float, ...]


@dataclass(frozen=True)
class Net:
    """A net as a field, over one unit of time.

    Attributes:
        activation: Its nonlinearity.
        tolerance: rtol and atol of the solve that is differentiated.
        lipschitz: A bound of its Lipschitz constant: the product of the layers' largest singular values.
        growth: By how much the distance of two starts grew.
        gradient_error: Of a directional derivative beside finite differences, relative.
        evaluations: Of the field.
    """

    activation: str
    tolerance: float
    lipschitz: float
    growth: float
    gradient_error: float
    evaluations: int


@dataclass(frozen=True)
class Picard(Reproduction):
    """Fields that break the conditions of Picard's theorem: what every solver and gradient says of them."""

    methods: tuple[str, ...] = (
        *("tsit5", "dopri5", "bosh3", "vern9", "rk4", "adams"),
        *("rodas5p", "kvaerno5", "radau", "bdf", "auto"),
    )
    """Solvers; rk4 takes 100 steps a unit of time. Gradients are made with the first."""
    tolerance: float = 1e-6
    """rtol = atol."""
    max_steps: int = 1000
    """For all solves."""

    def smaller(self) -> Self:
        """Two solvers."""
        return replace(self, methods=("tsit5", "rodas5p"), max_steps=400)

    def run(self, folder: RunFolder, fabric: Fabric) -> "PicardResults":
        """Solves and differentiates every field from every start."""
        ends = (self._end(law, method, y0) for law in LAWS for method in self.methods for y0 in LAWS[law].starts)
        slopes = [
            self._slope(law, name, gradient, y0)
            for law in LAWS
            for name, gradient in GRADIENTS.items()
            for y0 in LAWS[law].slope_starts
        ]
        slopes += [self._slope(CROSSED, WITH_EVENT, iso.DirectAdjoint(), LAWS[CROSSED].starts[0], seen=True)]
        activations, tolerances = (nn.ReLU(), nn.Tanh()), (self.tolerance, 1e-10)
        nets = tuple(self._net(activation, tolerance) for activation in activations for tolerance in tolerances)
        curves = (self._curve(law, y0) for law in (RESTING[0], BLOWN) for y0 in LAWS[law].starts)
        return PicardResults(tuple(ends), tuple(slopes), tuple(curves), nets)

    def _controller(self, method: str) -> iso.Controller:
        adaptive = iso.METHODS[method].error_order is not None
        return iso.PID(self.tolerance, self.tolerance) if adaptive else iso.FixedStep(0.01)

    @torch.no_grad()
    def _end(self, name: str, method: str, y0: float) -> End:
        law, start, message = LAWS[name], torch.tensor([y0], dtype=torch.float64), ""
        try:
            sol = iso.solve(
                lambda t, y: law.f(y),
                start,
                (0.0, law.t1),
                method=method,
                controller=self._controller(method),
                max_steps=self.max_steps,
            )
        except iso.SolveError as error:
            message, sol = str(error), cast(iso.Solution, error.solution)
        status, y = iso.Status(int(sol.status)).name, cast(Tensor, sol.ys)[-1].item()
        return End(name, method, y0, status, message, y, law.exact(y0), sol.stats.evaluations)

    def _slope(self, name: str, way: str, gradient: iso.Gradient, y0: float, seen: bool = False) -> Slope:
        law, start = LAWS[name], torch.tensor([y0], dtype=torch.float64, requires_grad=True)
        # Its time moves with the start. The state goes on from where the field jumps, exactly.
        event = iso.Event(lambda t, y: y[0], jump=lambda t, y: y - y.detach()) if seen else None
        found, message = nan, ""
        try:
            sol = iso.solve(
                lambda t, y: law.f(y),
                start,
                (0.0, law.t1),
                method=suited(gradient, self.methods[0]),
                controller=self._controller(self.methods[0]),
                gradient=gradient,
                event=event,
                max_steps=self.max_steps,
            )
            found = torch.autograd.grad(cast(Tensor, sol.ys)[-1].sum(), start)[0].item()
        except RuntimeError as error:
            message = str(error)
        return Slope(name, way, y0, found, law.slope(y0), message)

    @torch.no_grad()
    def _curve(self, name: str, y0: float) -> Curve:
        law, ts = LAWS[name], torch.linspace(0, LAWS[name].t1, 81, dtype=torch.float64)
        start, controller = torch.tensor([y0], dtype=torch.float64), self._controller(self.methods[0])
        sol = iso.solve(lambda t, y: law.f(y), start, ts, method=self.methods[0], controller=controller, throw=False)
        return Curve(name, y0, tuple(ts.tolist()), tuple(cast(Tensor, sol.ys)[:, 0].tolist()))

    def _net(self, activation: nn.Module, tolerance: float) -> Net:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 32), activation, nn.Linear(32, 4)).double()
        start, direction = torch.randn(2, 4, dtype=torch.float64)
        start.requires_grad_()

        def end(y0: Tensor, tolerance: float) -> iso.Solution:
            controller = iso.PID(tolerance, tolerance)
            return iso.solve(lambda t, y: net(y), y0, (0.0, 1.0), method=self.methods[0], controller=controller)

        sol, h = end(start, tolerance), 1e-4
        found = torch.autograd.grad(cast(Tensor, sol.ys)[-1].sum(), start)[0] @ direction
        up, down = (cast(Tensor, end(start + shift * direction, 1e-11).ys)[-1] for shift in (h, -h))
        expected = (up - down).sum() / (2 * h)
        lipschitz = prod(torch.linalg.matrix_norm(layer.weight, 2).item() for layer in (net[0], net[2]))
        growth = ((up - down).norm() / (2 * h * direction.norm())).item()
        error = ((found - expected) / expected).abs().item()
        return Net(type(activation).__name__, tolerance, lipschitz, growth, error, sol.stats.evaluations)


@dataclass(frozen=True)
class PicardResults(Results):
    """What was measured.

    Attributes:
        ends: Solves.
        slopes: Gradients.
        curves: Solutions in time.
        nets: Nets as fields.
    """

    ends: tuple[End, ...]
    slopes: tuple[Slope, ...]
    curves: tuple[Curve, ...]
    nets: tuple[Net, ...]

    def findings(self) -> tuple[Finding, ...]:
        """Uniqueness, nets, gradients, jumps and blow-up."""
        return self._unique(), self._nets(), self._gradients(), self._jumps(), self._blow_up()

    def _unique(self) -> Finding:
        rows = [row for row in self.ends if row.law in RESTING]
        at = [row for row in rows if row.start == 0]
        silent = [row for row in at if row.status == "SUCCESS"]
        apart = []
        for law in RESTING:
            ends = [row.y for row in rows if row.law == law and isfinite(row.y)]
            apart.append(f"{law} {max(ends) - min(ends):.3g}")
        others = sorted({row.method for row in at if row.status != "SUCCESS"})
        off = [f"{r.method} on {r.law} {r.y:.2g} for {r.exact:.2g}" for r in rows if r.wrong and r.start > 0]
        return Finding(
            "Section 6: a solution exists and is unique where the field is Lipschitz continuous, uniformly, in the "
            "state.",
            "yes",
            f"And only there: from starts {2 * EPS:.0e} apart, around a point where the field is continuous but not "
            f"Lipschitz, solutions end this far apart: {', '.join(apart)}. From the point itself {len(silent)} of "
            f"{len(at)} solves succeed, {sum(row.y == 0 for row in silent)} of them by resting there: one of many "
            "solutions, and nothing says so. The others need the Jacobian, which is infinite, and stop: "
            f"{', '.join(others) or 'none'}. Beside it some arrive, but off by more than {WRONG}, with no complaint: "
            f"{', '.join(off) or 'none'}.",
        )

    def _nets(self) -> Finding:
        shown = "; ".join(
            f"{net.activation} at {net.tolerance:.0e}: {net.gradient_error:.0e}, {net.evaluations} evaluations"
            for net in self.nets
        )
        growth = max(net.growth / exp(net.lipschitz) for net in self.nets)
        tightest = min(net.tolerance for net in self.nets)
        good = growth < 1 and all(net.gradient_error < 1e-2 for net in self.nets if net.tolerance == tightest)
        return Finding(
            "Section 6: that holds for nets with finite weights and Lipschitz nonlinearities, such as tanh or relu.",
            "yes" if good else "no",
            f"Distances of solutions stay below the bound exp(Lipschitz constant), at most {growth:.2f} of it. But "
            "kinks have a price that is not in the theorem: in steps, and in the gradient, whose error is far above "
            f"the tolerance. Error of a directional derivative: {shown}.",
        )

    def _gradients(self) -> Finding:
        rows = [row for row in self.slopes if row.law in RESTING]
        at, beside = [r for r in rows if r.start == 0], [r for r in rows if r.start > 0]
        wrong = sorted({row.gradient for row in at if isfinite(row.found)})
        far = [row for row in beside if isfinite(row.found) and not abs(row.found / row.exact - 1) < 0.1]
        return Finding(
            "Not in the paper: where solutions part the derivative by the start is infinite, and must not come out "
            "finite.",
            "no" if wrong else "yes",
            f"At 0 {sum(bool(row.message) for row in at)} of {len(at)} gradients are refused with an error and "
            f"{sum(not row.message and not isfinite(row.found) for row in at)} are not finite; finite are those of: "
            f"{', '.join(wrong) or 'none'}. From {min(r.start for r in beside):.0e} to "
            f"{max(r.start for r in beside):.0e} beside it {len(far)} of {len(beside)} are finite and off by more than "
            f"10 %, all from {max((r.start for r in far), default=0.0):.0e} or less: there the state is far below "
            "atol, and the solution is right to the tolerance, but not its derivative.",
        )

    def _jumps(self) -> Finding:
        found = {row.gradient: row.found for row in self.slopes if row.law == CROSSED}
        event = found.pop(WITH_EVENT)
        shown = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
        parting = {row.found for row in self.slopes if row.law == "y' = sign(y)" and row.start == 0}
        ended = [row for row in self.ends if row.law == "y' = -sign(y)"]
        chatter = ", ".join(f"{row.method} {row.status} ({row.evaluations})" for row in ended)
        return Finding(
            "Section 6: the field must be Lipschitz in the state; one that jumps is not.",
            "yes",
            f"{CROSSED}: solutions are unique, but the derivative by the start, 2, comes out as {shown}, and nothing "
            f"says so; an event where the field jumps makes it {event:.6g}. From 0, y' = sign(y) has the derivative "
            f"{', '.join(f'{value:.3g}' for value in parting)} for an infinite one: autograd takes sign for a "
            f"constant. y' = -sign(y), whose solutions end on the jump, by method, with evaluations: {chatter}.",
        )

    def _blow_up(self) -> Finding:
        rows = [row for row in self.ends if row.law == BLOWN]
        shown = ", ".join(f"{row.method} {row.status}" for row in rows)
        message = next(row.message for row in rows if row.method == self.ends[0].method).partition(":")[0]
        return Finding(
            "Section 6: uniformly Lipschitz; y' = y^2 is so only in bounded regions, and its solutions end.",
            "yes" if not any(row.status == "SUCCESS" for row in rows) else "in part",
            f"From 1, infinite at time 1, asked for time 2: {shown}. Solvers with error control stop there and say "
            f"where: “{message}”.",
        )

    def plot(self) -> Figure:
        """Branches, blow-up, what every solver does, and derivatives near 0."""
        figure = Figure(figsize=(13, 9), layout="constrained")
        left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.15)).flat
        branches, blow_up, slopes = left.subplots(3, 1).flat
        self._plot_branches(branches)
        self._plot_blow_up(blow_up)
        self._plot_slopes(slopes)
        self._plot_ends(right.subplots())
        return figure

    def _plot_branches(self, axes: Axes) -> None:
        curves = [curve for curve in self.curves if curve.law == RESTING[0]]
        for leave in (0.0, 0.25, 0.5, 0.75):
            ts = [max(t - leave, 0.0) for t in curves[0].ts]
            for sign in (1, -1):
                label = "solutions from 0" if leave == 0.0 and sign == 1 else None
                axes.plot(curves[0].ts, [sign * (2 * t / 3) ** 1.5 for t in ts], color="0.75", linewidth=1, label=label)
        for index, curve in enumerate(curves):
            axes.plot(
                curve.ts,
                curve.ys,
                color=f"C{index}",
                linestyle="--",
                linewidth=2,
                label=f"tsit5 from {curve.start:.0e}",
            )
        axes.set(title=f"(a) {RESTING[0]}", xlabel="t", ylabel="y")
        axes.legend(fontsize="small", loc="upper left")

    def _plot_blow_up(self, axes: Axes) -> None:
        (curve,) = (curve for curve in self.curves if curve.law == BLOWN)
        before = [t for t in curve.ts if t < 1]
        axes.plot(before, [1 / (1 - t) for t in before], color="0.6", linewidth=3, label="exact, 1 / (1 - t)")
        reached = [(t, y) for t, y in zip(curve.ts, curve.ys, strict=True) if isfinite(y)]
        axes.plot(*zip(*reached, strict=True), color="C0", linestyle="", marker=".", label="tsit5, until it stops")
        axes.axvline(1.0, color="0.7", linestyle=":")
        axes.set(title=f"(b) {BLOWN} from 1, asked for t = 2", xlabel="t", ylabel="y", yscale="log", xlim=(0, 2))
        axes.legend(fontsize="small", loc="lower right")

    def _plot_slopes(self, axes: Axes) -> None:
        rows = [row for row in self.slopes if row.law == RESTING[0] and row.start > 0]
        exact = sorted({(row.start, row.exact) for row in rows})
        axes.plot(*zip(*exact, strict=True), color="0.6", linewidth=3, label="exact")
        for index, name in enumerate(dict.fromkeys(row.gradient for row in rows)):
            draw(axes, [(r.start, r.found) for r in rows if r.gradient == name], label=name, index=index, failed=True)
        axes.set(
            title=f"(c) {RESTING[0]}: at 0 it is infinite",
            xlabel="y(0)",
            ylabel="dy(1)/dy(0)",
            xscale="log",
            yscale="log",
        )
        axes.legend(fontsize="small")

    def _plot_ends(self, axes: Axes) -> None:
        columns = list(dict.fromkeys((row.law, row.start) for row in self.ends))
        methods = list(dict.fromkeys(row.method for row in self.ends))
        colours = {
            "SUCCESS": "tab:green",
            "MAX_STEPS": "tab:orange",
            "STEP_TOO_SMALL": "tab:red",
            "NON_FINITE": "tab:purple",
        }
        for row in self.ends:
            x, y = methods.index(row.method), columns.index((row.law, row.start))
            axes.add_patch(_square(x, y, colours[row.status], 0.35))
            axes.text(x, y, f"{row.evaluations}{'*' if row.wrong else ''}", ha="center", va="center", fontsize=7)
        for status, colour in colours.items():
            axes.scatter([], [], marker="s", color=colour, alpha=0.35, label=status)
        axes.set(
            title=f"(d) evaluations, by status\n*: arrived, but off by more than {WRONG}",
            xlim=(-0.5, len(methods) - 0.5),
            ylim=(len(columns) - 0.5, -0.5),
        )
        axes.set_xticks(range(len(methods)), methods, rotation=45, ha="right")
        axes.set_yticks(range(len(columns)), [f"{law}, from {start:.2g}" for law, start in columns])
        axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.1), ncols=2, fontsize="small")


def _square(x: float, y: float, colour: str, alpha: float) -> Rectangle:
    return Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, color=colour, alpha=alpha, linewidth=0)
