"""`isocline reproduce pelts`: hares and lynxes by Lotka and Volterra's equations, alone and beside an unknown part."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn
from torch.distributions import Normal

import isocline as iso
from isocline.data import lynx_hare
from isocline.experiments.points import Points
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.tables import Table
from isocline.models import Hybrid

NAMES = ("alpha", "beta", "gamma", "delta", "hares at 0", "lynxes at 0", "sigma hares", "sigma lynxes")
REFERENCE = (0.546864, 0.0277473, 0.800095, 0.0240859, 34.03522, 5.935897, 0.248057, 0.251017)
"""Posterior means of posteriordb's reference draws, hudson_lynx_hare-lotka_volterra (BSD 3-clause licence)."""
START = (0.5, 0.03, 0.8, 0.03, 30.0, 5.0, 0.3, 0.3)


class LotkaVolterra(nn.Module):
    """Of the logarithms of the numbers of hares and lynxes: (alpha - beta e^v, -gamma + delta e^u)."""

    def __init__(self, settings: Tensor) -> None:
        """`settings` are alpha, beta, gamma, delta."""
        super().__init__()
        self.settings = settings

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """The growth rates."""
        alpha, beta, gamma, delta = self.settings
        hares, lynxes = y.exp().unbind(-1)
        return torch.stack([alpha - beta * lynxes, delta * hares - gamma], dim=-1)


class Unknown(nn.Module):
    """What a network adds to the growth rates; nothing at first."""

    def __init__(self, units: int, centre: Tensor) -> None:
        """`centre` is where the logarithms lie."""
        super().__init__()
        self.centre = centre
        last = nn.Linear(units, 2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Linear(2, units), nn.Tanh(), last).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """The growth rates."""
        out: Tensor = self.net(y - self.centre)
        return out


@dataclass(frozen=True)
class Setting:
    """A number of the model.

    Attributes:
        name: Its name.
        reference: Its posterior mean, by Hamiltonian Monte Carlo.
        mean: The same by Laplace's approximation of the posterior of the logarithms.
        deviation: Its standard deviation, likewise.
        hybrid: What it is beside an unknown part.
    """

    name: str
    reference: float
    mean: float
    deviation: float
    hybrid: float


@dataclass(frozen=True)
class Model:
    """A fitted model.

    Attributes:
        name: Which.
        log_likelihood: Of all years.
        forecast: Root mean square error of the logarithms in the last years, when fitted to those before.
        hares: Years and numbers, in thousands.
        lynxes: The same.
    """

    name: str
    log_likelihood: float
    forecast: float
    hares: Points
    lynxes: Points


@dataclass(frozen=True)
class Pelts(Reproduction):
    """Fit Lotka and Volterra's equations to pelts of hares and lynxes, alone and with a network beside them."""

    pelts: Literal["hudson-bay", "made-up"] = "hudson-bay"
    """Which; made-up ones need no file."""
    data_dir: Path | None = None
    """Folder with hudson_lynx_hare.json or its zip; else ISOCLINE_DATA; else it is downloaded."""
    units: int = 8
    """Of the network."""
    weight: float = 0.3
    """Standard deviation of the network's weights in their prior: smaller ones leave less to the unknown part."""
    iterations: int = 300
    """Of L-BFGS, at most."""
    forecast: int = 6
    """Years that are predicted from those before."""
    seed: int = 0
    """Of the network's first layer."""

    def smaller(self) -> Self:
        """Numbers that nobody counted, few iterations."""
        return replace(self, pelts="made-up", iterations=6, units=4)

    def check(self) -> None:
        """Raises DataError: see `isocline.data.lynx_hare`."""
        self._series()

    def run(self, folder: RunFolder, fabric: Fabric) -> "PeltsResults":
        """Fits both models, to all years and to those before the last."""
        series = self._series()
        years, logs = series.ts[:, 0], series.values[:, 0].log()
        alone = self._fit(years, logs, hybrid=False)
        both = self._fit(years, logs, hybrid=True)
        mean, deviation = alone.laplace()
        values = both.logs.detach().exp()
        settings = tuple(
            Setting(*row)
            for row in zip(NAMES, REFERENCE, mean.tolist(), deviation.tolist(), values.tolist(), strict=True)
        )
        with torch.no_grad():
            size = both.share()
        models = tuple(
            self._model(
                name, fit, self._fit(years[: -self.forecast], logs[: -self.forecast], hybrid=hybrid), years, logs
            )
            for name, fit, hybrid in (("Lotka-Volterra", alone, False), ("with an unknown part", both, True))
        )
        observed = tuple(tuple(zip(years.tolist(), logs[:, i].exp().tolist(), strict=True)) for i in range(2))
        return PeltsResults(settings, models, size, observed)

    def _series(self) -> iso.Series:
        if self.pelts == "hudson-bay":
            return lynx_hare(self.data_dir)
        known = torch.tensor(REFERENCE, dtype=torch.float64)
        ts = torch.arange(21.0, dtype=torch.float64)
        exact = iso.solve(LotkaVolterra(known[:4]), known[4:6].log(), ts).ys
        noise = 0.1 * torch.randn(exact.shape, generator=Generator().manual_seed(self.seed), dtype=torch.float64)
        return iso.Series.of([ts], [(exact + noise).exp()], dtype=torch.float64)

    def _fit(self, years: Tensor, logs: Tensor, *, hybrid: bool) -> "Fitted":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            fitted = Fitted(years, logs, Unknown(self.units, logs.mean(0)) if hybrid else None, self.weight)
        optimiser = torch.optim.LBFGS(
            fitted.parameters(), max_iter=self.iterations, tolerance_change=1e-10, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = -fitted.log_posterior(fitted.logs)
            loss.backward()
            return loss

        optimiser.step(closure)
        return fitted

    def _model(self, name: str, fitted: "Fitted", before: "Fitted", years: Tensor, logs: Tensor) -> Model:
        grid = torch.linspace(years[0].item(), years[-1].item(), 201, dtype=torch.float64)
        with torch.no_grad():
            curves = fitted.path(fitted.logs, grid).exp()
            later = before.path(before.logs, years)[-self.forecast :] - logs[-self.forecast :]
            likelihood = fitted.log_likelihood(fitted.logs).item()
        hares, lynxes = (
            tuple((round(t, 3), round(x, 4)) for t, x in zip(grid.tolist(), curve.tolist(), strict=True))
            for curve in curves.unbind(1)
        )
        return Model(name, likelihood, later.square().mean().sqrt().item(), hares, lynxes)


class Fitted(nn.Module):
    """The posterior of the logarithms of all numbers, with the priors of the reference, and where it is largest.

    Numbers of pelts are lognormal around the solution; those of the priors that are normal are cut at 0.
    """

    def __init__(self, years: Tensor, observed: Tensor, unknown: Unknown | None, weight: float) -> None:
        """`observed` are the logarithms of the numbers of pelts, (T, 2)."""
        super().__init__()
        self.years, self.observed, self.unknown, self.weight = years, observed, unknown, weight
        self.logs = nn.Parameter(torch.tensor(START, dtype=torch.float64).log())

    def field(self, logs: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The growth rates."""
        known = LotkaVolterra(logs[:4].exp())
        return known if self.unknown is None else Hybrid(known, self.unknown)

    def path(self, logs: Tensor, ts: Tensor) -> Tensor:
        """Logarithms of the numbers at ts, (T, 2)."""
        out: Tensor = iso.solve(self.field(logs), logs[4:6], ts, method="vern7", rtol=1e-6, atol=1e-6).ys
        return out

    def log_likelihood(self, logs: Tensor) -> Tensor:
        """Of the pelts, whose density has a factor 1 / pelts."""
        density = Normal(self.path(logs, self.years), logs[6:].exp()).log_prob(self.observed)
        total: Tensor = density.sum() - self.observed.sum()
        return total

    def log_posterior(self, logs: Tensor) -> Tensor:
        """Up to a constant, as a density of the logarithms."""
        rates = logs[:4].exp()
        centre, width = torch.tensor([[1.0, 0.05] * 2, [0.5, 0.05] * 2], dtype=torch.float64)
        prior: Tensor = Normal(centre, width).log_prob(rates).sum() + logs[:4].sum()  # the logarithms' own density
        prior = prior + Normal(torch.tensor(10.0).log(), 1.0).log_prob(logs[4:6]).sum()
        prior = prior + Normal(-1.0, 1.0).log_prob(logs[6:]).sum()
        if self.unknown is not None:
            prior = prior - sum(p.square().sum() for p in self.unknown.parameters()) / (2 * self.weight**2)
        return self.log_likelihood(logs) + prior

    def laplace(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the numbers, if their logarithms are normal."""
        hessian = torch.autograd.functional.hessian(self.log_posterior, self.logs.detach())
        variance = torch.linalg.inv(-hessian).diagonal()
        mean = (self.logs.detach() + variance / 2).exp()
        return mean, mean * torch.expm1(variance).sqrt()

    def share(self) -> float:
        """Size of the unknown part beside the known one, along the solution: a ratio of root mean squares."""
        assert self.unknown is not None
        path = self.path(self.logs, self.years)
        known = LotkaVolterra(self.logs[:4].exp())(self.years, path)
        ratio: Tensor = self.unknown(self.years, path).square().mean() / known.square().mean()
        return ratio.sqrt().item()


@dataclass(frozen=True)
class PeltsResults(Results):
    """What was fitted.

    Attributes:
        settings: The numbers of Lotka and Volterra's model.
        models: Without and with an unknown part.
        share: Size of the unknown part beside the known one.
        observed: Years and pelts, in thousands, of hares and of lynxes.
    """

    settings: tuple[Setting, ...]
    models: tuple[Model, ...]
    share: float
    observed: tuple[Points, ...]

    def findings(self) -> tuple[Finding, ...]:
        """Numbers beside the reference, and models beside each other."""
        rates, sizes = (
            max(abs(s.mean - s.reference) / s.deviation for s in part)
            for part in (self.settings[:6], self.settings[6:])
        )
        shown = ", ".join(f"{s.name} {s.mean:.4g} ± {s.deviation:.2g} ({s.reference:.4g})" for s in self.settings)
        alone, both = self.models
        return (
            Finding(
                "Posterior means of the Lotka-Volterra model of the pelts, by Hamiltonian Monte Carlo (posteriordb).",
                "yes" if max(rates, sizes) < 0.25 else "in part" if rates < 0.25 else "no",
                f"Laplace's approximation, from second derivatives through the solver (reference): {shown}. The "
                f"largest distance is {rates:.2f} standard deviations of rates and first numbers, {sizes:.2f} of the "
                "sizes of the noise: those are skewed, which the approximation does not see.",
            ),
            Finding(
                "Beside known dynamics a network finds what they leave out.",
                "yes"
                if both.forecast < alone.forecast
                else "in part"
                if both.log_likelihood > alone.log_likelihood
                else "no",
                f"Log-likelihood {both.log_likelihood:.1f} with a network, {alone.log_likelihood:.1f} without; error "
                f"of the last years' logarithms, predicted from those before, {both.forecast:.3f} and "
                f"{alone.forecast:.3f}. "
                f"The unknown part is {100 * self.share:.0f} % of the known one. There are 21 years.",
            ),
        )

    def tables(self) -> tuple[Table, ...]:
        """The numbers, and the models."""
        rows = tuple(
            (s.name, f"{s.reference:.4g}", f"{s.mean:.4g}", f"{s.deviation:.2g}", f"{s.hybrid:.4g}")
            for s in self.settings
        )
        models = tuple((m.name, f"{m.log_likelihood:.1f}", f"{m.forecast:.3f}") for m in self.models)
        return (
            Table(
                "Lotka and Volterra's equations",
                ("", "reference", "Laplace", "deviation", "beside an unknown part"),
                rows,
            ),
            Table("Models", ("", "log-likelihood", "error of the forecast"), models),
        )

    def plot(self) -> Figure:
        """Pelts and both models; how far the numbers are from the reference."""
        figure = Figure(figsize=(12, 3.7), layout="constrained")
        *panels, last = figure.subplots(1, 3)
        for axes, observed, title in zip(panels, self.observed, ("hares", "lynxes"), strict=True):
            axes.plot(*zip(*observed, strict=True), "o", color="0.3", markersize=4, label="pelts")
            for model in self.models:
                axes.plot(*zip(*getattr(model, title), strict=True), label=model.name)
            axes.set(title=title, xlabel="years since 1900", ylabel="thousands")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
        off = [(s.mean - s.reference) / s.deviation for s in self.settings]
        last.barh([s.name for s in self.settings], off)
        last.set(title="distance from the reference", xlabel="posterior standard deviations")
        return figure
