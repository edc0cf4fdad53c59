"""Tables of measurements that scikit-learn embeds, split and standardised for density estimation; needs no network."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

TableName = Literal["breast cancer", "diabetes", "iris", "wine"]
MOST_ALIKE = 0.98
"""Of two columns whose correlation is beyond this, the second is left out."""
FEWEST = 20
"""A column with fewer distinct values is left out as discrete."""


@dataclass(frozen=True)
class TableSplit:
    """Rows of a table, (n, d) each, standardised by mean and standard deviation of the training rows.

    Attributes:
        train: Seven tenths of the rows.
        valid: To select by, three twentieths.
        test: The rest.
    """

    train: Tensor
    valid: Tensor
    test: Tensor


def table_split(name: TableName, seed: int) -> TableSplit:
    """Return a table's rows, without labels, in three parts that the seed draws.

    A density of discrete numbers, or of numbers that follow from others, has no bound. So discrete columns and those
    that are nearly a multiple of an earlier one are left out, as Papamakarios, Pavlakou & Murray 2017,
    arXiv:1705.07057, appendix D, do it; the columns are the same for every seed.

    Args:
        name: Which.
        seed: Of the split.
    """
    # Here and not above: other data do not need scikit-learn.
    from sklearn import datasets

    load = getattr(datasets, f"load_{name.replace(' ', '_')}")
    rows = _continuous(torch.tensor(load(return_X_y=True)[0]))
    order = torch.randperm(len(rows), generator=Generator().manual_seed(seed))
    sizes = [int(0.7 * len(rows)), int(0.15 * len(rows))]
    train, valid, test = rows[order].split([*sizes, len(rows) - sum(sizes)])
    mean, std = train.mean(0), train.std(0)
    return TableSplit(*(((part - mean) / std).float() for part in (train, valid, test)))


def _continuous(rows: Tensor) -> Tensor:
    """Return the columns that have a density."""
    alike = torch.corrcoef(rows.mT).abs() > MOST_ALIKE
    kept: list[int] = []
    for column in range(rows.shape[1]):
        if len(rows[:, column].unique()) >= FEWEST and not alike[column, kept].any():
            kept.append(column)
    return rows[:, kept]
