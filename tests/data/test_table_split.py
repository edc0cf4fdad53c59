"""Tables: their split, their scale, their columns."""

from typing import get_args

import pytest
import torch

from isocline.data import TableName, table_split

every_table = pytest.mark.parametrize("name", get_args(TableName))


@every_table
def test_parts_are_standardised_seeded_and_apart(name: TableName) -> None:
    split, again, other = table_split(name, 0), table_split(name, 0), table_split(name, 1)
    parts = (split.train, split.valid, split.test)
    assert all(part.dtype is torch.float32 and part.isfinite().all() for part in parts)
    torch.testing.assert_close(split.train.mean(0), torch.zeros(split.train.shape[1]), rtol=0, atol=1e-5)
    torch.testing.assert_close(split.train.std(0), torch.ones(split.train.shape[1]))
    assert torch.equal(split.test, again.test)
    assert not torch.equal(split.train, other.train)
    rows = sum(map(len, parts))
    assert 0.68 < len(split.train) / rows < 0.72
    assert 0.13 < len(split.valid) / rows < 0.17
    # Nothing is in two parts, but for measurements that were made twice.
    assert len(torch.cat(parts).unique(dim=0)) >= rows - 2


@every_table
def test_columns_have_a_density(name: TableName) -> None:
    split = table_split(name, 0)
    rows = torch.cat([split.train, split.valid, split.test])
    assert rows.shape[1] > 1
    assert min(len(column.unique()) for column in rows.mT) >= 20
    correlation = torch.corrcoef(rows.mT).fill_diagonal_(0)
    assert correlation.abs().max() < 0.981
