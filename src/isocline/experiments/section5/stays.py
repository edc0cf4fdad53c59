"""Stays in intensive care as models see them: units, splits, and made-up ones."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

import isocline as iso
from isocline.data import Stays
from isocline.data.physionet import CHANNELS

HOURS = 48.0
UNITS_OF_ICU = 4


@dataclass(frozen=True)
class Units:
    """What 0 and 1 are for each channel; times go from 0 to 1 in 48 hours.

    Attributes:
        zero: (C,)
        span: From 0 to 1, (C,).
    """

    zero: Tensor
    span: Tensor

    @staticmethod
    def whole(series: iso.Series) -> "Units":
        """From the smallest value to the largest, as in the paper; wrong values count."""
        low, high = _quantiles(series, 0.0, 1.0)
        return Units(low, _positive(high - low))

    @staticmethod
    def usual(series: iso.Series) -> "Units":
        """From the median, a quarter of the way between the 2nd and the 98th percentile: wrong values do not count."""
        low, middle, high = _quantiles(series, 0.02, 0.5, 0.98)
        return Units(middle, _positive((high - low) / 4))

    def of(self, series: iso.Series, limit: float = torch.inf) -> iso.Series:
        """The series in these units, values beyond ± limit cut."""
        values = ((series.values - self.zero) / self.span).clamp(-limit, limit)
        return iso.Series(series.ts / HOURS, values, series.observed, series.names, series.channels)


def _quantiles(series: iso.Series, *shares: float) -> Tensor:
    wanted = torch.tensor(shares)
    found = torch.zeros(len(shares), series.values.shape[2])
    for channel, (x, mask) in enumerate(zip(series.values.unbind(2), series.observed.unbind(2), strict=True)):
        if bool(mask.any()):
            found[:, channel] = x[mask].quantile(wanted)
    return found


def _positive(span: Tensor) -> Tensor:
    return torch.where(span > 0, span, 1.0)


@dataclass(frozen=True)
class Split:
    """Places of stays, four fifths of which are to learn from.

    Attributes:
        fit: To fit to, (N,).
        choose: To choose the epoch by: a tenth of what is to learn from.
        test: To measure on.
    """

    fit: Tensor
    choose: Tensor
    test: Tensor

    @staticmethod
    def of(count: int, seed: int) -> "Split":
        """A random split."""
        order = torch.randperm(count, generator=Generator().manual_seed(seed))
        learn, test = order.split([count - count // 5, count // 5])
        choose, fit = learn.split([len(learn) // 10, len(learn) - len(learn) // 10])
        return Split(fit, choose, test)


def features(descriptors: Tensor, known: Tensor) -> Tensor:
    """Age, gender, height and unit as numbers of about unit size, (B, 8), by means and deviations of those known."""
    age_to_height = known[:, :3]
    mean = age_to_height.nanmean(0)
    deviation = (age_to_height - mean).square().nanmean(0).sqrt()
    numbers = ((descriptors[:, :3] - mean) / _positive(deviation)).nan_to_num(0.0).clamp(-4, 4)
    missing = descriptors[:, 2:3].isnan().float()
    unit = descriptors[:, 3:].nan_to_num(0.0) == torch.arange(1, UNITS_OF_ICU + 1)
    return torch.cat([numbers, missing, unit.float()], dim=1)


def made_up(count: int, seed: int = 0) -> Stays:
    """Stays that nobody had, for trying things out: waves with noise, of which higher ones mean a greater risk."""
    generator = Generator().manual_seed(seed)
    level = torch.randn(count, 1, generator=generator)
    ts, values = [], []
    for each in level:
        n = int(torch.randint(1, 12, (), generator=generator))
        t = (HOURS * torch.rand(n, 1, generator=generator)).round(decimals=1).unique(dim=0)
        wave = 100 + 20 * each + 10 * (t / 6 + torch.arange(len(CHANNELS))).sin()
        x = wave + torch.randn(wave.shape, generator=generator)
        hidden = torch.rand(x.shape, generator=generator) < 0.7
        ts.append(t.squeeze(1))
        values.append(torch.where(hidden, torch.nan, x))
    died = torch.rand(count, generator=generator) < (2 * level.squeeze(1)).sigmoid()
    descriptors = torch.tensor([60.0, 0.0, torch.nan, 2.0]) + 10 * torch.rand(count, 1, generator=generator).round()
    descriptors[:, 1:] = torch.tensor([0.0, torch.nan, 2.0])
    return Stays(iso.Series.of(ts, values, channels=CHANNELS, empty=0.0), descriptors, died)
