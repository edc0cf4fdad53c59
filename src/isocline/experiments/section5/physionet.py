"""`isocline reproduce physionet`: stays in intensive care, reconstructed by latent ODEs, and deaths predicted.

References:
    Y. Rubanova, R. T. Q. Chen & D. Duvenaud 2019, Latent ODEs for irregularly-sampled time series, arXiv:1907.03907.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

import torch
from lightning_fabric import Fabric
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import isocline as iso
from isocline.data import Stays, physionet2012
from isocline.experiments.memory import parameters
from isocline.experiments.points import Points
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.fitting import Fit, in_order
from isocline.experiments.section5.stay_models import TITLES, Classifier, Encoder, GapMethod, encoder, latent_ode
from isocline.experiments.section5.stays import HOURS, Split, Units, features, made_up
from isocline.experiments.tables import Table

PAPER_ERROR = 2.118e-3
"""Mean square error of interpolation of the latent ODE with an ODE-RNN encoder, as published."""
PAPER_AUC: dict[Encoder, float] = {"ode-rnn": 0.833}
"""Areas under the curve, as published, of what is trained here as well."""


@dataclass(frozen=True)
class Interpolation:
    """How well a latent ODE reconstructs stays of the test set.

    Attributes:
        encoder: Of the latent ODE.
        parameters: Numbers that were fitted.
        error: Mean square error at all values that were observed, which the encoder saw.
        hidden: The same at values that it did not see: those at a share of the times.
        constant: The same of the mean of each channel.
        seconds: Training time.
        shown: One stay, channel by channel.
    """

    encoder: Encoder
    parameters: int
    error: float
    hidden: float
    constant: float
    seconds: float
    shown: "tuple[Shown, ...]"


@dataclass(frozen=True)
class Shown:
    """One channel of a stay, for the figure, by hours.

    Attributes:
        channel: Its name.
        observed: What was observed.
        mean: The reconstruction.
    """

    channel: str
    observed: Points
    mean: Points


@dataclass(frozen=True)
class Mortality:
    """How well deaths are told from what a recurrence has read.

    Attributes:
        encoder: What reads.
        parameters: Numbers that were fitted.
        auc: Area under the curve of the test set, for each seed.
        chosen: The same of the stays by which the epoch was chosen.
        seconds: Training time, for each seed.
        curve: False and true positive rates of the first seed.
    """

    encoder: Encoder
    parameters: int
    auc: tuple[float, ...]
    chosen: tuple[float, ...]
    seconds: tuple[float, ...]
    curve: Points

    def area(self) -> float:
        """Mean over the seeds."""
        return sum(self.auc) / len(self.auc)


@dataclass(frozen=True)
class PhysioNet(Reproduction):
    """Reconstruct stays in intensive care by latent ODEs, and predict deaths from what recurrent networks have read."""

    stays: Literal["physionet2012", "made-up"] = "physionet2012"
    """Which; made-up ones need no download."""
    data_dir: Path | None = None
    """Folder with the files of the challenge; else ISOCLINE_DATA; else they are downloaded."""
    rounding: float = 0.1
    """Times are multiples of this, in hours."""
    limit: int | None = None
    """At most so many stays."""
    interpolating: tuple[Encoder, ...] = ("ode-rnn",)
    """Encoders of latent ODEs."""
    classifying: tuple[Encoder, ...] = ("ode-rnn", "gru-d", "rnn-decay")
    """What reads stays for a classifier."""
    width: int = 40
    """Numbers of the recurrent states."""
    units: int = 50
    """Of hidden layers."""
    latent: int = 20
    """Numbers of the latent state."""
    noise: float = 0.01
    """Standard deviation of an observation, in units of a channel's range."""
    gap_method: GapMethod = "euler"
    """What an ODE-RNN takes one step of for each gap."""
    tolerance: float = 1e-3
    """rtol = atol of the latent solves."""
    epochs: int = 100
    """Of a latent ODE."""
    classifier_epochs: int = 12
    """Of a classifier, of which the best by a tenth of the training set counts."""
    batch_size: int = 50
    """Stays a step."""
    learning_rate: float = 4e-3
    """Peak of the one-cycle schedule of Adam, of latent ODEs."""
    classifier_learning_rate: float = 3e-3
    """The same, of classifiers."""
    dropout: float = 0.2
    """In the classifier's head."""
    hidden: float = 0.3
    """Share of the times that the encoder does not see when errors at values it has not seen are measured."""
    samples: int = 3
    """Of the latent path, over which errors are averaged."""
    seeds: tuple[int, ...] = (0,)
    """Of classifiers; latent ODEs have the first."""
    split_seed: int = 0
    """Of the split into training and test set."""

    def smaller(self) -> Self:
        """Few stays that nobody had, small networks, two epochs."""
        return replace(
            self,
            stays="made-up",
            limit=60,
            noise=0.1,
            width=6,
            units=8,
            latent=4,
            epochs=2,
            classifier_epochs=2,
            batch_size=20,
            learning_rate=1e-2,
        )

    def check(self) -> None:
        """Raises DataError: see `isocline.data.physionet2012`."""
        self._stays()

    def run(self, folder: RunFolder, fabric: Fabric) -> "PhysioNetResults":
        """Trains what the folder does not hold trained, and measures."""
        stays = self._stays()
        split = Split.of(len(stays), self.split_seed)
        return PhysioNetResults(
            len(stays),
            stays.died.float().mean().item(),
            tuple(self._classify(name, stays, split, folder) for name in self.classifying),
            tuple(self._interpolate(name, stays, split, folder) for name in self.interpolating),
        )

    def _stays(self) -> Stays:
        if self.stays == "made-up":
            return made_up(self.limit or 8000)
        stays = physionet2012(self.data_dir, rounding=self.rounding)
        return stays.select(torch.arange(min(self.limit or len(stays), len(stays))))

    def _encoder(self, name: Encoder, series: iso.Series) -> iso.models.Recurrence:
        mean = series.values.sum((0, 1)) / series.observed.sum((0, 1)).clamp(min=1)
        return encoder(name, series.values.shape[2], self.width, self.units, self.gap_method, mean)

    def _classify(self, name: Encoder, stays: Stays, split: Split, folder: RunFolder) -> Mortality:
        parts = [stays.select(index) for index in (split.fit, split.choose, split.test)]
        units = Units.usual(parts[0].series)
        fit, choose, test = (
            Labelled(units.of(part.series, 6.0), features(part.descriptors, parts[0].descriptors), part.died.float())
            for part in parts
        )
        areas: list[float] = []
        chosen: list[float] = []
        seconds: list[float] = []
        curve: Points = ()
        for seed in self.seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = Classifier(self._encoder(name, fit.series), fit.beside.shape[1], self.units, self.dropout)
            course = Fit(
                f"mortality-{name}-{seed}",
                model,
                fit.series.lengths,
                partial(_cross_entropy, model, fit),
                self.classifier_epochs,
                self.batch_size,
                self.classifier_learning_rate,
                seed,
                score=partial(_area, model, choose, self.batch_size),
            ).run(folder)
            seconds.append(course.seconds)
            model.eval()
            areas.append(_area(model, test, self.batch_size))
            chosen.append(_area(model, choose, self.batch_size))
            curve = curve or _curve(model, test, self.batch_size)
        return Mortality(name, parameters(model), tuple(areas), tuple(chosen), tuple(seconds), curve)

    def _interpolate(self, name: Encoder, stays: Stays, split: Split, folder: RunFolder) -> Interpolation:
        learn = stays.series.select(torch.cat([split.fit, split.choose]))
        units = Units.whole(learn)
        fit, test = units.of(learn), units.of(stays.series.select(split.test))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seeds[0])
            reader = self._encoder(name, fit)
            model = latent_ode(reader, fit.values.shape[2], self.latent, self.units, self.noise, self.tolerance)
        course = Fit(
            f"interpolation-{name}",
            model,
            fit.lengths,
            partial(_bound, model, fit),
            self.epochs,
            self.batch_size,
            self.learning_rate,
            self.seeds[0],
        ).run(folder)
        mean = fit.values.sum((0, 1)) / fit.observed.sum((0, 1)).clamp(min=1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            seen = torch.rand(test.ts.shape).unsqueeze(2) >= self.hidden
            return Interpolation(
                name,
                parameters(model),
                self._error(model, test, test),
                self._error(model, test.where(seen, empty=0.0), test.where(~seen, empty=0.0)),
                test.mse(mean.expand_as(test.values)).item(),
                course.seconds,
                _shown(model, test, units),
            )

    def _error(self, model: iso.LatentODE, known: iso.Series, target: iso.Series) -> float:
        """Mean square error at the values of the target, from what is known."""
        total = 0.0
        for index in in_order(len(known), self.batch_size):
            asked = target.select(index)
            if n := int(asked.observed.sum()):
                predicted = model.predict(known.select(index), asked.ts, samples=self.samples)
                total += n * asked.mse(predicted).item()
        return total / int(target.observed.sum())


@dataclass(frozen=True)
class Labelled:
    """What a classifier gets.

    Attributes:
        series: In the units of the model.
        beside: Features beside it, (B, F).
        died: 0 or 1, (B,).
    """

    series: iso.Series
    beside: Tensor
    died: Tensor


def _cross_entropy(model: Classifier, data: Labelled, batch: Tensor, done: float) -> Tensor:
    return binary_cross_entropy_with_logits(model(data.series.select(batch), data.beside[batch]), data.died[batch])


def _bound(model: iso.LatentODE, series: iso.Series, batch: Tensor, done: float) -> Tensor:
    seen = series.select(batch)
    return -model.elbo(seen, kl_weight=min(1.0, 2 * done)).sum() / seen.observed.sum()  # by value: of about unit size


@torch.no_grad()
def _logits(model: Classifier, data: Labelled, size: int) -> Tensor:
    return torch.cat([model(data.series.select(i), data.beside[i]) for i in in_order(len(data.died), size)])


def _area(model: Classifier, data: Labelled, size: int) -> float:
    return float(roc_auc_score(data.died.numpy(), _logits(model, data, size).numpy()))


def _curve(model: Classifier, data: Labelled, size: int) -> Points:
    wrong, right, _ = roc_curve(data.died.numpy(), _logits(model, data, size).numpy())
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in zip(wrong, right, strict=True))


def _shown(model: iso.LatentODE, series: iso.Series, units: Units, channels: int = 3) -> tuple[Shown, ...]:
    """The longest stay, in the channels in which it was observed most often."""
    one = series.select([int(series.lengths.argmax())])
    ts = torch.linspace(0, 1, 97, dtype=torch.float64)
    mean = model.predict(one, ts, samples=20).mean(2)[:, 0] * units.span + units.zero
    values = one.values[:, 0] * units.span + units.zero
    hours, grid = (HOURS * one.ts[:, 0]).tolist(), (HOURS * ts).tolist()
    shown = []
    for channel in one.observed[:, 0].sum(0).argsort(descending=True)[:channels].tolist():
        seen = one.observed[:, 0, channel].tolist()
        points = zip(hours, values[:, channel].tolist(), seen, strict=True)
        observed = tuple((round(t, 2), round(x, 3)) for t, x, there in points if there)
        path = tuple((round(t, 2), round(x, 3)) for t, x in zip(grid, mean[:, channel].tolist(), strict=True))
        shown.append(Shown(str(one.channels[channel]), observed, path))
    return tuple(shown)


@dataclass(frozen=True)
class PhysioNetResults(Results):
    """What was measured.

    Attributes:
        stays: How many there are.
        died: Share of them.
        mortality: By what reads.
        interpolation: By encoder.
    """

    stays: int
    died: float
    mortality: tuple[Mortality, ...]
    interpolation: tuple[Interpolation, ...]

    def findings(self) -> tuple[Finding, ...]:
        """Errors and areas beside those published."""
        published = (found for found in self.mortality if found.encoder in PAPER_AUC)
        return (*map(self._of_interpolation, self.interpolation), *map(self._of_mortality, published))

    def _of_interpolation(self, found: Interpolation) -> Finding:
        return Finding(
            f"Interpolation: latent ODE with an ODE encoder, mean square error {1e3 * PAPER_ERROR:.3f}e-3.",
            "yes" if found.error <= PAPER_ERROR else "in part" if found.error <= 1.25 * PAPER_ERROR else "no",
            f"{TITLES[found.encoder]} encoder: {1e3 * found.error:.3f}e-3 at values that the encoder has seen, as in "
            f"the paper, {1e3 * found.hidden:.3f}e-3 at those that it has not; the mean of each channel: "
            f"{1e3 * found.constant:.3f}e-3. Units are the range of each channel in the training set, here without "
            "negative values (-1 means not known) and descriptors, so they are not quite the paper's.",
        )

    def _of_mortality(self, found: Mortality) -> Finding:
        paper, area = PAPER_AUC[found.encoder], found.area()
        shown = ", ".join(f"{x:.3f}" for x in found.auc)
        return Finding(
            f"Mortality: {TITLES[found.encoder]}, area under the curve {paper:.3f}.",
            "yes" if area >= paper else "in part" if area >= paper - 0.02 else "no",
            f"{TITLES[found.encoder]}: {shown} on a fifth of {self.stays} stays; {100 * self.died:.1f} % of the people "
            "died. The paper has half as many; here the classifier knows age, gender, height and unit, too.",
        )

    def tables(self) -> tuple[Table, ...]:
        """Areas under the curve, and errors."""
        areas = tuple(
            (
                TITLES[m.encoder],
                f"{m.area():.3f}",
                _or_dash(PAPER_AUC.get(m.encoder)),
                str(len(m.auc)),
                f"{m.parameters:,}",
                f"{sum(m.seconds) / len(m.seconds) / 60:.0f}",
            )
            for m in self.mortality
        )
        errors = tuple(
            (
                TITLES[i.encoder],
                f"{1e3 * i.error:.3f}",
                f"{1e3 * i.hidden:.3f}",
                f"{1e3 * i.constant:.3f}",
                f"{i.parameters:,}",
                f"{i.seconds / 60:.0f}",
            )
            for i in self.interpolation
        )
        return (
            Table(
                "Deaths: area under the curve",
                ("reads", "area", "paper's", "seeds", "params", "training (min)"),
                areas,
            ),
            Table(
                "Latent ODE: mean square error, times 1000",
                ("encoder", "seen", "hidden", "mean of the channel", "params", "training (min)"),
                errors,
            ),
        )

    def plot(self) -> Figure:
        """Receiver operating characteristics, and a stay that was reconstructed."""
        shown = self.interpolation[0].shown if self.interpolation else ()
        figure = Figure(figsize=(4 + 3 * len(shown), 3.6), layout="constrained")
        first, *others = figure.subplots(1, 1 + len(shown), squeeze=False)[0]
        for found in self.mortality:
            first.plot(*zip(*found.curve, strict=True), label=f"{TITLES[found.encoder]}, {found.area():.3f}")
        first.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
        first.set(title="deaths", xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        first.legend(fontsize="small", loc="lower right")
        for axes, one in zip(others, shown, strict=True):
            _draw(axes, one)
        return figure


def _or_dash(x: float | None) -> str:
    return "–" if x is None else f"{x:.3f}"


def _draw(axes: Axes, one: Shown) -> None:
    axes.plot(*zip(*one.observed, strict=True), ".", color="0.3", markersize=4, label="observed")
    axes.plot(*zip(*one.mean, strict=True), color="C0", label="latent ODE")
    axes.set(title=one.channel, xlabel="hours")
    axes.legend(fontsize="small")
