"""`isocline reproduce tabular`: densities of small tables by a CNF, by flow matching, and by zuko's spline flow."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from statistics import mean, stdev
from typing import Literal, Self

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor, nn

import isocline as iso
from isocline.data import DataError, TableName, TableSplit, table_split
from isocline.experiments.memory import parameters
from isocline.experiments.reproduction import Finding, Reproduction, Results
from isocline.experiments.run_folder import RunFolder
from isocline.experiments.section4.fitting import Fit, accurate
from isocline.experiments.tables import Table
from isocline.models.flows import FFJORDField, minibatch_optimal_transport

Model = Literal["CNF", "FM", "NSF"]
MODELS: tuple[Model, ...] = ("CNF", "FM", "NSF")
TITLES: dict[Model, str] = {
    "CNF": "CNF (FFJORD)",
    "FM": "CNF, flow matching",
    "NSF": "neural spline flow (zuko)",
}


@dataclass(frozen=True)
class Row:
    """One model on one table.

    Attributes:
        data: Name of the table.
        columns: Its columns.
        model: Its name.
        parameters: Numbers that were fitted.
        valid: Log-likelihood of validation data in nats a row, for each seed.
        test: The same of test data.
        seconds: Training time, for each seed.
    """

    data: TableName
    columns: int
    model: Model
    parameters: int
    valid: tuple[float, ...]
    test: tuple[float, ...]
    seconds: tuple[float, ...]

    def likelihood(self) -> str:
        """Mean over seeds and, of several, standard deviation."""
        shown = f"{mean(self.test):.2f}"
        return shown if len(self.test) == 1 else f"{shown} ± {stdev(self.test):.2f}"


@dataclass(frozen=True)
class Trained:
    """A model with its losses.

    Attributes:
        module: What is fitted.
        loss: Of training rows.
        log_prob: The log-density, accurately.
    """

    module: nn.Module
    loss: Callable[[Tensor], Tensor]
    log_prob: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tabular(Reproduction):
    """Density estimation on the tables that scikit-learn embeds; the best of each training by validation."""

    data: tuple[TableName, ...] = ("iris", "diabetes", "wine", "breast cancer")
    """Tables, without columns that are discrete or nearly a multiple of others."""
    models: tuple[Model, ...] = MODELS
    """CNFs by maximum likelihood and by flow matching with optimal transport; NSF, a neural spline flow, needs zuko."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One split and training for each."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of all three."""
    transforms: int = 3
    """Of the spline flow."""
    cnf_iterations: int = 2000
    """Of AdamW."""
    iterations: int = 3000
    """Of the other two models."""
    learning_rate: float = 3e-3
    """It falls to zero like half a cosine."""
    weight_decay: float = 1e-3
    """Of AdamW."""
    batch_size: int = 128
    """Rows of an iteration, drawn with replacement."""
    tolerance: float = 1e-3
    """rtol = atol of the solves in training; measured is at 1e-5, for each row."""
    exact: int = 10
    """With up to so many columns the trace is exact in training, with more Hutchinson's; measured is the exact one."""
    pieces: int = 25
    """A training is left in the folder, and scored by validation rows, so many times."""

    def smaller(self) -> Self:
        """One table, one seed, a few iterations."""
        return replace(
            self,
            data=("iris",),
            seeds=(0,),
            hidden=(8,),
            transforms=1,
            cnf_iterations=12,
            iterations=40,
            learning_rate=1e-2,
            batch_size=32,
            tolerance=1e-2,
            pieces=2,
        )

    def check(self) -> None:
        """Raises if zuko is wanted and not there."""
        if "NSF" in self.models and find_spec("zuko") is None:
            raise DataError("the model NSF is zuko's: pip install 'isocline[peers]', or choose --models CNF FM")

    def run(self, folder: RunFolder, fabric: Fabric) -> "TabularResults":
        """Trains every model on every split, one after the other."""
        return TabularResults(tuple(self._row(name, model, folder) for name in self.data for model in self.models))

    def _row(self, name: TableName, model: Model, folder: RunFolder) -> Row:
        valid, test, seconds = [], [], []
        for seed in self.seeds:
            split = table_split(name, seed)
            trained = self._model(model, split.train.shape[1], seed)
            iterations = self.cnf_iterations if model == "CNF" else self.iterations
            fit = Fit(
                name=f"{name.replace(' ', '-')}-{model}-{seed}",
                flow=trained.module,
                optimiser=torch.optim.AdamW(
                    trained.module.parameters(), self.learning_rate, weight_decay=self.weight_decay
                ),
                loss=partial(self._loss, trained, split),
                iterations=iterations,
                every=-(-iterations // self.pieces),
                seed=seed,
                score=partial(_likelihood, trained, split.valid),
            )
            course = fit.run(folder)
            seconds.append(course.seconds)
            valid.append(max(course.scores))
            test.append(_likelihood(trained, split.test))
        columns, size = split.train.shape[1], parameters(trained.module)
        return Row(name, columns, model, size, tuple(valid), tuple(test), tuple(seconds))

    def _loss(self, trained: Trained, split: TableSplit, done: float) -> Tensor:
        return trained.loss(split.train[torch.randint(len(split.train), (self.batch_size,))])

    def _model(self, model: Model, columns: int, seed: int) -> Trained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if model == "NSF":
                return self._spline_flow(columns)
            field = FFJORDField(columns, self.hidden)
        log_prob = iso.CNF(field, columns, controller=accurate()).log_prob
        if model == "FM":
            return Trained(field, partial(iso.flow_matching_loss, field, pairing=minibatch_optimal_transport), log_prob)
        trace = iso.ExactTrace() if columns <= self.exact else iso.Hutchinson()
        flow = iso.CNF(field, columns, trace=trace, rtol=self.tolerance, atol=self.tolerance)
        return Trained(field, lambda x: -flow.log_prob(x).mean(), log_prob)

    def _spline_flow(self, columns: int) -> Trained:
        from zuko.flows import NSF  # of an extra of its own

        flow = NSF(columns, transforms=self.transforms, hidden_features=self.hidden)

        def log_prob(x: Tensor) -> Tensor:
            found: Tensor = flow().log_prob(x)
            return found

        return Trained(flow, lambda x: -log_prob(x).mean(), log_prob)


@torch.no_grad()
def _likelihood(trained: Trained, rows: Tensor) -> float:
    return trained.log_prob(rows).mean().item()


@dataclass(frozen=True)
class TabularResults(Results):
    """What was trained.

    Attributes:
        rows: Models by tables.
    """

    rows: tuple[Row, ...]

    def findings(self) -> tuple[Finding, ...]:
        """Whether continuous flows are level with spline flows; nothing without them."""
        splines = {row.data: row for row in self.rows if row.model == "NSF"}
        return tuple(
            self._beside(model, splines) for model in ("CNF", "FM") if splines and model in {r.model for r in self.rows}
        )

    def _beside(self, model: Model, splines: dict[TableName, Row]) -> Finding:
        own = [row for row in self.rows if row.model == model]
        wins = [mean(row.test) > mean(splines[row.data].test) for row in own]
        shown = "; ".join(
            f"{row.data}, {row.columns} columns: {row.likelihood()} against {splines[row.data].likelihood()}"
            for row in own
        )
        return Finding(
            f"Grathwohl et al. 2019: continuous flows are level with discrete ones on tables. Here: {TITLES[model]} "
            "beside a neural spline flow.",
            "yes" if all(wins) else "in part" if any(wins) else "no",
            f"Log-likelihood of test rows in nats, mean and standard deviation over {len(own[0].test)} splits: "
            f"{shown}. The continuous flow is above in {sum(wins)} of {len(wins)} tables. These have few rows: what is "
            "selected by validation is when to stop.",
        )

    def plot(self) -> Figure:
        """A panel a table: the likelihood of each split."""
        names = list(dict.fromkeys(row.data for row in self.rows))
        figure = Figure(figsize=(3 * len(names), 3.2), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            rows = [row for row in self.rows if row.data == name]
            for place, row in enumerate(rows):
                axes.plot([place] * len(row.test), row.test, "o", alpha=0.6)
            axes.set_xticks(range(len(rows)), [row.model for row in rows])
            axes.set(title=f"{name}, {rows[0].columns} columns", ylabel="test log-likelihood (nats)")
        return figure

    def tables(self) -> tuple[Table, ...]:
        """A row a model and table."""
        head = "data", "model", "columns", "test log-likelihood (nats)", "parameters", "training (s)"
        return (Table("Density estimation on tables", head, tuple(_cells(row) for row in self.rows)),)


def _cells(row: Row) -> tuple[str, ...]:
    numbers = row.likelihood(), f"{row.parameters:,}", f"{mean(row.seconds):.0f}"
    return row.data, TITLES[row.model], str(row.columns), *numbers
