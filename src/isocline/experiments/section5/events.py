"""`isocline reproduce events`: sequences of events, a learned rate that sees the past beside classical ones."""

from dataclasses import dataclass, replace
from functools import partial
from math import isnan, log, nan
from pathlib import Path
from typing import Literal, Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor, nn

import isocline as iso
from isocline.data.events import Events, earthquakes, hawkes, triangular
from isocline.experiments.memory import parameters
from isocline.experiments.points import Points
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section5.fitting import Fit, in_order
from isocline.experiments.section5.rates import Constant, Hawkes, Periodic
from isocline.experiments.tables import Table
from isocline.models import Autonomous, RecurrentProcess, ks_test

SetName = Literal[
    "made-up",
    "hawkes1",
    "earthquakes",
    "taxi",
    "twitter",
    "pubg",
    "yelp_airport",
    "yelp_mississauga",
]
ModelName = Literal["constant", "periodic", "hawkes", "recurrent", "truth"]
Model = Constant | Periodic | Hawkes | RecurrentProcess

FITTED: tuple[ModelName, ...] = ("constant", "periodic", "hawkes", "recurrent")
TRUE: dict[SetName, tuple[float, float, float]] = {"made-up": (0.2, 0.8, 1.0), "hawkes1": (0.2, 0.8, 1.0)}
"""Base rate, branching ratio and decay of simulated Hawkes processes; of hawkes1 after Omi et al., arXiv:1905.09690."""
MADE_UP = 10.0
"""How long made-up sequences last."""
CLOSE = 0.01
"""Nats by event."""


@dataclass(frozen=True)
class Row:
    """How well a model explains the events of test sequences.

    Attributes:
        events: Name of the set.
        model: What was fitted, or the truth.
        parameters: Numbers that were fitted.
        log_likelihood: By event, in nats, with time in the units of the set.
        p_value: Of the test by Kolmogorov and Smirnov whether the rate is right; nan where it is not made.
    """

    events: SetName
    model: ModelName
    parameters: int
    log_likelihood: float
    p_value: float


@dataclass(frozen=True)
class Shown:
    """A test sequence, for the figure.

    Attributes:
        events: Name of the set.
        times: Of its events.
        rates: Models, and their rates.
    """

    events: SetName
    times: tuple[float, ...]
    rates: tuple[tuple[ModelName, Points], ...]


@dataclass(frozen=True)
class EventRates(Reproduction):
    """Fit constant, periodic, self-exciting and recurrent rates to sequences of events, and compare likelihoods."""

    sets: tuple[SetName, ...] = ("hawkes1", "earthquakes", "taxi")
    """Which; made-up ones need no files."""
    data_dir: Path | None = None
    """Folder with the files; else ISOCLINE_DATA."""
    width: int = 32
    """Numbers of the recurrent state, from which the ODE starts."""
    hidden: int = 32
    """Units of the field's layer."""
    tolerance: float = 1e-3
    """rtol = atol of the solves."""
    waves: int = 4
    """Of the periodic rate; its period is a day for earthquakes, and the time of observation for other sets."""
    epochs: int = 200
    """Of the recurrent model, of which the best by the sequences that are kept for this counts."""
    batch_size: int = 50
    """Sequences a step."""
    learning_rate: float = 1e-2
    """Peak of the one-cycle schedule of Adam."""
    iterations: int = 200
    """Of the other models, each with all sequences."""
    seed: int = 0
    """Of weights, order, and split."""

    def smaller(self) -> Self:
        """A few made-up sequences, few iterations."""
        return replace(self, sets=("made-up",), epochs=2, batch_size=20, iterations=4, width=8, hidden=8)

    def check(self) -> None:
        """Raises DataError: see `isocline.data.events`."""
        for name in self.sets:
            self._events(name)

    def run(self, folder: RunFolder, fabric: Fabric) -> "EventRatesResults":
        """Fits what the folder does not hold fitted, and measures."""
        rows: list[Row] = []
        shown: list[Shown] = []
        for name in self.sets:
            given = self._events(name)
            # In this unit of time there is one event, on average.
            unit = given.until * len(given.train) / int(given.train.lengths.sum())
            train, choose, test = (
                iso.Series(x.ts / unit, x.values, x.observed) for x in (given.train, given.choose, given.test)
            )
            events = Events(train, choose, test, given.until / unit)
            models = {model: self._fitted(name, model, events, unit, folder) for model in FITTED}
            if name in TRUE:
                base, branching, decay = TRUE[name]
                models["truth"] = Hawkes(base * unit, branching, decay * unit)
            rows += [self._row(name, which, model, events, unit) for which, model in models.items()]
            shown.append(_shown(name, models, events, unit))
        return EventRatesResults(tuple(rows), tuple(shown))

    def _events(self, name: SetName) -> Events:
        if name == "made-up":
            train, choose, test = (hawkes(20, MADE_UP, seed=self.seed + part) for part in range(3))
            return Events(train, choose, test, MADE_UP)
        if name == "earthquakes":
            return earthquakes(self.data_dir)
        return triangular(name, self.data_dir, seed=self.seed)

    def _fitted(self, name: SetName, which: ModelName, events: Events, unit: float, folder: RunFolder) -> Model:
        train, until = events.train, events.until
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            period = 1.0 / unit if name == "earthquakes" else until
            model = self._model(which, until, period)
        recurrent = which == "recurrent"
        Fit(
            f"{name}-{which}",
            model,
            train.lengths,
            partial(_loss, model, train, until),
            self.epochs if recurrent else self.iterations,
            self.batch_size if recurrent else len(train),
            self.learning_rate if recurrent else 0.1,
            self.seed,
            every=1 if recurrent else self.iterations,
            score=partial(by_event, model, events.choose, until, self.batch_size) if recurrent else None,
        ).run(folder)
        return model

    def _model(self, which: ModelName, until: float, period: float) -> Model:
        if which == "constant":
            return Constant(1.0)
        if which == "periodic":
            return Periodic(1.0, period, self.waves)
        if which == "hawkes":
            return Hawkes(0.5, 0.5, 1.0)
        width, hidden = self.width, self.hidden
        return RecurrentProcess(
            Autonomous(nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))),
            nn.Sequential(nn.Linear(width, 1), nn.Softplus()),
            kinds=1,
            width=width,
            span=until,
            rtol=self.tolerance,
            atol=self.tolerance,
        )

    def _row(self, name: SetName, which: ModelName, model: Model, events: Events, unit: float) -> Row:
        found = by_event(model, events.test, events.until, self.batch_size) - log(unit)
        p = nan
        if isinstance(model, RecurrentProcess):
            p = ks_test(model.residuals(events.test, events.until))[1]
        return Row(name, which, 0 if which == "truth" else parameters(model), found, p)


def _loss(model: Model, events: iso.Series, until: float, batch: Tensor, done: float) -> Tensor:
    part = events.select(batch)
    return -model.log_likelihood(part, until).sum() / part.lengths.sum()


@torch.no_grad()
def by_event(model: Model, events: iso.Series, until: float, size: int) -> float:
    """Log-likelihood of all sequences, by event."""
    parts = (model.log_likelihood(events.select(index), until) for index in in_order(len(events), size))
    return float(torch.cat(list(parts)).double().sum() / events.lengths.sum())


def _shown(name: SetName, models: dict[ModelName, Model], events: Events, unit: float, points: int = 400) -> Shown:
    """The sequence of median length."""
    one = events.test.select([int(events.test.lengths.argsort()[len(events.test) // 2])])
    ts = torch.linspace(0, events.until, points, dtype=torch.float64)
    rates: list[tuple[ModelName, Points]] = []
    for which, model in models.items():
        if isinstance(model, RecurrentProcess):
            values = model.rates(one, ts, events.until)[:, 0, 0]
        elif isinstance(model, Hawkes):
            values = model.rates(one, ts)[:, 0]
        else:
            continue
        pairs = zip((unit * ts).tolist(), (values / unit).tolist(), strict=True)
        rates.append((which, tuple((round(t, 4), round(x, 4)) for t, x in pairs)))
    times = (unit * one.ts[: int(one.lengths), 0]).tolist()
    return Shown(name, tuple(round(t, 4) for t in times), tuple(rates))


@dataclass(frozen=True)
class EventRatesResults(Results):
    """What was measured.

    Attributes:
        rows: A row for each set and model.
        shown: A sequence of each set.
    """

    rows: tuple[Row, ...]
    shown: tuple[Shown, ...]

    def value(self, events: SetName, model: ModelName) -> float:
        """Log-likelihood by event."""
        (found,) = (row.log_likelihood for row in self.rows if (row.events, row.model) == (events, model))
        return found

    def findings(self) -> tuple[Finding, ...]:
        """The recurrent rate beside the best classical one, and beside the truth."""
        return tuple(finding for one in self.shown for finding in self._of(one.events))

    def _of(self, events: SetName) -> list[Finding]:
        rows = {row.model: row for row in self.rows if row.events == events}
        learned = rows["recurrent"].log_likelihood
        classical = {model: rows[model].log_likelihood for model in ("constant", "periodic", "hawkes")}
        best = max(classical.values())
        listed = ", ".join(f"{model} {value:.4f}" for model, value in classical.items())
        ahead = learned > best
        found = [
            Finding(
                f"{events}: a learned rate that sees the past explains events as well as the best classical rate.",
                "yes" if ahead else "in part" if learned > best - CLOSE else "no",
                f"Log-likelihood by event of test sequences, in nats: recurrent {learned:.4f}; {listed}. Whether its "
                f"rate is right: p = {rows['recurrent'].p_value:.3g} (Kolmogorov, Smirnov).",
            )
        ]
        if "truth" in rows:
            lack = rows["truth"].log_likelihood - learned
            found.append(
                Finding(
                    f"{events}: it comes near the process that made the events.",
                    "yes" if lack < CLOSE else "in part" if lack < 5 * CLOSE else "no",
                    f"{lack:.4f} nats by event below the truth, {rows['truth'].log_likelihood:.4f}; the Hawkes process "
                    f"that was fitted {rows['truth'].log_likelihood - classical['hawkes']:.4f}.",
                )
            )
        return found

    def tables(self) -> tuple[Table, ...]:
        """Likelihoods."""
        rows = tuple(
            (row.events, row.model, f"{row.log_likelihood:.4f}", _p(row.p_value), f"{row.parameters:,}")
            for row in self.rows
        )
        head = "events", "rate", "log-likelihood by event", "p of its test", "params"
        return (Table("Sequences that were not fitted to", head, rows),)

    def plot(self) -> Figure:
        """For each set the rates over a sequence, and the likelihoods."""
        figure = Figure(figsize=(11, 2.6 * len(self.shown)), layout="constrained")
        rows = figure.subplots(len(self.shown), 2, squeeze=False, width_ratios=(3, 1))
        for (left, right), one in zip(rows, self.shown, strict=True):
            for model, points in one.rates:
                left.plot(*zip(*points, strict=True), label=model, linewidth=1)
            left.plot(one.times, [0.0] * len(one.times), "|", color="0.3")
            left.set(title=f"{one.events}: a test sequence", xlabel="time", ylabel="rate")
            left.legend(fontsize="small")
            found = {
                row.model: row.log_likelihood - self.value(one.events, "constant")
                for row in self.rows
                if row.events == one.events
            }
            right.barh(list(found), list(found.values()))
            right.set(xlabel="nats by event above constant")
        return figure


def _p(value: float) -> str:
    return "–" if isnan(value) else f"{value:.2g}"
