"""Sequences of events: real ones and simulated ones from files, and Hawkes processes made on the spot."""

import zipfile
from dataclasses import dataclass
from math import exp
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from isocline.data.errors import DataError
from isocline.data.located import located
from isocline.models.series.batch import Series


@dataclass(frozen=True)
class Events:
    """Sequences of events of one kind, observed from 0 to the same end.

    Attributes:
        train: To fit to.
        choose: To choose by.
        test: To measure on.
        until: When observation ended.
    """

    train: Series
    choose: Series
    test: Series
    until: float


def triangular(name: str, data_dir: str | Path | None = None, *, seed: int = 0) -> Events:
    """A set of Shchur et al. 2020: "taxi", "twitter", "yelp_airport", "hawkes1" and others.

    Three fifths of the sequences are to fit to, and a fifth each to choose by and to measure on, as in the paper;
    which, is drawn here.

    Source: O. Shchur, N. Gao, M. Biloš, S. Günnemann 2020, Fast and flexible temporal point processes with triangular
    maps, arXiv:2006.12631 (MIT licence).

    Args:
        name: Of the set.
        data_dir: A folder with NAME.npz in itself or in its folder `tpp_triangular`: `times` of all sequences one
            behind the other, `lengths`, and `t_max`. By default the environment variable ISOCLINE_DATA.
        seed: Of the split.

    Raises:
        DataError: The file is missing, damaged, or does not hold what it should.
    """
    path = located((f"{name}.npz",), "tpp_triangular", data_dir, None)
    content = _arrays(path, "times", "lengths", "t_max")
    until = float(content["t_max"])
    sequences = _sequences(path, content["times"], content["lengths"], until)
    order = torch.randperm(len(sequences), generator=Generator().manual_seed(seed)).tolist()
    fifth = len(order) // 5
    parts = order[2 * fifth :], order[fifth : 2 * fifth], order[:fifth]
    train, choose, test = (Series.of_events([sequences[i] for i in part]) for part in parts)
    return Events(train, choose, test, until)


def earthquakes(data_dir: str | Path | None = None) -> Events:
    """Earthquakes in Japan, in sequences of 30 days: 950 to fit to, 50 to choose by, 50 to measure on; when, not where.

    Source: United States Geological Survey; the split of R. T. Q. Chen, B. Amos, M. Nickel 2021, Neural spatio-temporal
    point processes, arXiv:2011.04583.

    Args:
        data_dir: A folder with train.npz, val.npz and test.npz in itself or in its folder `stpp_earthquake_jp`:
            `events` of all sequences, of which the first column is the day, and `lengths`. By default the environment
            variable ISOCLINE_DATA.

    Raises:
        DataError: A file is missing, damaged, or does not hold what it should.
    """
    until, parts = 30.0, []
    for name in ("train", "val", "test"):
        path = located((f"{name}.npz",), "stpp_earthquake_jp", data_dir, None)
        content = _arrays(path, "events", "lengths")
        if content["events"].ndim != 2:
            raise DataError(f"{path}: expected events of shape (N, columns), found {content['events'].shape}")
        parts.append(Series.of_events(_sequences(path, content["events"][:, 0], content["lengths"], until)))
    train, choose, test = parts
    return Events(train, choose, test, until)


def _arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        shown = ", ".join(names)
        raise DataError(f"{path}: expected an npz file with {shown}, found a damaged one ({error})") from error


def _sequences(path: Path, times: np.ndarray, lengths: np.ndarray, until: float) -> list[Tensor]:
    if times.ndim != 1 or lengths.sum() != len(times) or (lengths < 0).any():
        raise DataError(f"{path}: expected {lengths.sum()} times by its lengths, found an array of {times.shape}")
    if not (np.isfinite(times).all() and times.min(initial=0.0) >= 0 and times.max(initial=0.0) <= until):
        raise DataError(f"{path}: expected times from 0 to {until:.6g}, found {times.min():.6g} to {times.max():.6g}")
    return [x.sort().values for x in torch.from_numpy(times).double().split(lengths.tolist())]


def hawkes(
    count: int, until: float, *, base: float = 0.2, branching: float = 0.8, decay: float = 1.0, seed: int = 0
) -> Series:
    r"""Sequences of a Hawkes process, :math:`\lambda(t) = \mu + \alpha \beta \sum_i e^{-\beta (t - t_i)}`, by thinning.

    Args:
        count: Sequences.
        until: They last from 0 to this.
        base: mu.
        branching: alpha, how many events each event causes on average; below 1.
        decay: beta.
        seed: Of all that is drawn.

    References:
        Y. Ogata 1981, On Lewis' simulation method for point processes, IEEE Transactions on Information Theory 27.
    """
    generator = Generator().manual_seed(seed)
    return Series.of_events([_hawkes(until, base, branching, decay, generator) for _ in range(count)])


def _hawkes(until: float, base: float, branching: float, decay: float, generator: Generator) -> list[float]:
    t, excited = 0.0, 0.0
    times: list[float] = []
    while True:
        bound = base + excited  # the rate only falls until the next event
        wait, chance = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        gap = -np.log1p(-wait) / bound
        t, excited = t + gap, excited * exp(-decay * gap)
        if t > until:
            return times
        if chance * bound < base + excited:
            times.append(t)
            excited += branching * decay
