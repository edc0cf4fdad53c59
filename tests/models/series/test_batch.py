"""Series: irregular data put together, from lists, tables and tensors."""

import math
from typing import Any

import pytest
import torch

import isocline as iso


def test_series_are_sorted_and_padded_with_their_own_last_time() -> None:
    series = iso.Series.of(
        [[3.0, 1.0, 2.0], [0.5]], [[[3.0, 30.0], [1.0, math.nan], [2.0, 20.0]], [[math.nan, 5.0]]], dtype=torch.float64
    )
    assert series.ts.T.tolist() == [[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]]
    assert series.ts.dtype == series.values.dtype == torch.float64
    assert series.values[:, 0].tolist() == [[1.0, 0.0], [2.0, 20.0], [3.0, 30.0]]
    assert series.observed[:, 0].tolist() == [[True, False], [True, True], [True, True]]
    assert series.observed[:, 1].tolist() == [[False, True], [False, False], [False, False]]
    assert series.lengths.tolist() == [3, 1]
    assert len(series) == 2


def test_a_table_gives_the_same_in_any_order_of_rows() -> None:
    rows = [("b", 2.0, "x", 1.0), ("a", 1.0, "y", 2.0), ("b", 0.0, "y", 3.0), ("a", 1.0, "x", 4.0)]
    columns = ("series", "time", "channel", "value")

    def read(order: list[int], **settings: Any) -> iso.Series:
        table = dict(zip(columns, map(list, zip(*(rows[i] for i in order), strict=True)), strict=True))
        return iso.Series.of_table(table, **settings)

    series = read([0, 1, 2, 3])
    assert series.names == ("b", "a")
    assert series.channels == ("x", "y")
    assert series.ts.T.tolist() == [[0.0, 2.0], [1.0, 1.0]]
    assert series.values[:, 0].tolist() == [[0.0, 3.0], [1.0, 0.0]]
    assert series.values[0, 1].tolist() == [4.0, 2.0]  # two channels at one time share a row
    assert series.lengths.tolist() == [2, 1]
    again = read([3, 2, 1, 0], channels=["x", "y"])
    assert again.names == ("a", "b")
    for part in ("ts", "values", "mask"):
        assert torch.equal(getattr(series, part).flip(1), getattr(again, part))


def test_tables_of_any_kind() -> None:
    class Column:  # as a DataFrame's, which is no list
        def __init__(self, items: list[Any]) -> None:
            self.items = items

        def tolist(self) -> list[Any]:
            return self.items

    table = {
        "patient": Column([7, 7, 9]),
        "hour": torch.tensor([1, 2, 0]),
        "kind": ("hr", "hr", "hr"),
        "reading": [60.0, None, 70.0],
    }
    series = iso.Series.of_table(table, series="patient", time="hour", channel="kind", value="reading")
    assert series.names == (7, 9)
    assert series.lengths.tolist() == [1, 1]


def test_duplicates() -> None:
    assert iso.Series.of([[1.0, 1.0]], [[2.0, 2.0]]).values.flatten().tolist() == [2.0]
    with pytest.raises(ValueError, match=r"series 0 has different values for channel 0 at time 1; .*mean"):
        iso.Series.of([[1.0, 1.0]], [[2.0, 3.0]])
    assert iso.Series.of([[1.0, 1.0]], [[2.0, 3.0]], duplicates="mean").values.flatten().tolist() == [2.5]


def test_one_observation_of_one_series() -> None:
    series = iso.Series.of([[2.0]], [[5.0]])
    assert series.ts.tolist() == [[2.0]]
    assert series.values.shape == (1, 1, 1)


def test_a_channel_never_observed_is_kept() -> None:
    series = iso.Series.of([[0.0, 1.0]], [[[1.0, math.nan], [2.0, math.nan]]])
    assert series.values.shape == (2, 1, 2)
    assert not series.observed[:, :, 1].any()


def test_a_series_without_observations_needs_a_time() -> None:
    with pytest.raises(ValueError, match=r"series 1 has no observation; .*empty=0\.0"):
        iso.Series.of([[1.0], []], [[2.0], []])
    series = iso.Series.of([[1.0], []], [[2.0], []], empty=0.5)
    assert series.ts.tolist() == [[1.0, 0.5]]
    assert series.lengths.tolist() == [1, 0]
    assert iso.Series.of_events([[], []], start=2.0).ts.tolist() == [[2.0, 2.0]]


def test_tensors_lose_what_was_not_observed() -> None:
    ts = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 3.0]])
    values = torch.tensor([[math.nan, 1.0], [math.nan, 2.0], [4.0, 3.0]]).unsqueeze(2)
    mask = torch.tensor([[True, True], [True, False], [True, True]]).unsqueeze(2)
    series = iso.Series(ts, values, mask)
    assert series.ts.T.tolist() == [[2.0, 2.0], [0.0, 3.0]]
    assert series.values[:, :, 0].T.tolist() == [[4.0, 0.0], [1.0, 3.0]]
    assert series.lengths.tolist() == [1, 2]


def test_parts_of_series() -> None:
    series = iso.Series.of([[0.0, 1.0, 2.0], [0.5], [1.5, 2.5]], [[1.0, 2.0, 3.0], [4.0], [5.0, 6.0]], names="abc")
    short = series.select([2, 1])
    assert short.ts.T.tolist() == [[1.5, 2.5], [0.5, 0.5]]
    assert short.names == ("c", "b")
    assert torch.equal(series.select(series.lengths == 2).ts, series.select([2]).ts)
    early = series.until(1.5)
    assert early.ts.T.tolist() == [[0.0, 1.0], [0.5, 0.5], [1.5, 1.5]]
    assert early.lengths.tolist() == [2, 1, 1]
    late = series.after(torch.tensor([1.0, 0.0, 2.0]))
    assert late.ts.tolist() == [[2.0, 0.5, 2.5]]
    with pytest.raises(ValueError, match="series 'b' has no observation"):
        series.after(1.0)
    assert series.after(1.0, empty=9.0).ts.T.tolist() == [[2.0, 2.0], [9.0, 9.0], [1.5, 2.5]]


def test_batches_hold_every_series_once() -> None:
    series = iso.Series.of([[float(i)] for i in range(7)], [[1.0]] * 7)
    parts = list(series.batches(3, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert sorted(t for part in parts for t in part.ts.flatten().tolist()) == list(range(7))


def test_mean_square_error_counts_what_was_observed() -> None:
    series = iso.Series.of([[0.0, 1.0], [0.0]], [[1.0, 2.0], [3.0]])
    predicted = torch.full((2, 2, 4, 1), math.nan)
    predicted[:, 0], predicted[0, 1] = 0.0, 0.0
    assert series.mse(predicted).item() == pytest.approx((1 + 4 + 9) / 3)


def test_what_pandas_writes_for_nothing_is_nothing() -> None:
    nothing = type("NAType", (), {})()
    columns = {"series": [0, 0], "time": [0.0, 1.0], "channel": ["x", "x"]}
    assert iso.Series.of_table({**columns, "value": [1.0, nothing]}).observed.sum() == 1
    with pytest.raises(ValueError, match=r"column 'channel' has .* for a label in row 0"):
        iso.Series.of_table({**columns, "value": [1.0, 2.0], "channel": [nothing, "x"]})


def test_describes_itself() -> None:
    series = iso.Series.of([[0.0, 1.0], [0.5]], [[1.0, 2.0], [3.0]])
    assert repr(series) == "Series(2 series, 1 channels, up to 2 times from 0 to 1, 3 observations)"
    assert series.to(torch.float64).values.dtype == torch.float64


TIMES, VALUES = torch.zeros(2, 3), torch.zeros(2, 3, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: iso.Series([0.0], VALUES), r"ts must be a floating point tensor, got .*Series\.of"),
        (lambda: iso.Series(TIMES, VALUES[:, :, 0]), r"needs ts \(T, B\) and values \(T, B, C\)"),
        (lambda: iso.Series(TIMES[:, :0], VALUES[:, :0]), "none of them 0"),
        (lambda: iso.Series(TIMES, VALUES[:, :, :0]), "none of them 0"),
        (lambda: iso.Series(TIMES, VALUES, torch.ones(2, 3, dtype=torch.bool)), "mask must be bool, of the shape"),
        (lambda: iso.Series(TIMES, VALUES, VALUES), "mask must be bool"),
        (lambda: iso.Series(TIMES, VALUES + math.inf), "must be finite"),
        (lambda: iso.Series(TIMES - torch.tensor([[0.0], [1.0]]), VALUES), "must not decrease"),
        (lambda: iso.Series(TIMES, VALUES, names=("a",)), "there are 1 names, expected 3"),
        (lambda: iso.Series(TIMES, VALUES).select([]), "none of them 0"),
        (lambda: iso.Series.of([], []), "expected times and values for each series, got 0"),
        (lambda: iso.Series.of([[0.0]], [[1.0], [2.0]]), "got 1 and 2"),
        (lambda: iso.Series.of([[0.0, 1.0]], [[1.0]]), r"series 0 has times of shape \(2,\) and values"),
        (lambda: iso.Series.of([[0.0], [0.0]], [[[1.0]], [[1.0, 2.0]]]), "same number of channels"),
        (lambda: iso.Series.of([[0.0]], [[[]]]), "at least one"),
        (lambda: iso.Series.of([[math.nan]], [[1.0]]), "times must be finite"),
        (lambda: iso.Series.of_table({"series": [0]}), "the table has no column 'channel'"),
        (lambda: table(value=[math.nan, None]), "holds no observation"),
        (lambda: table(time=["noon", "one"]), "column 'time' must be numbers"),
        (lambda: table(value=[1.0]), "must have one length"),
        (lambda: table(channels=["y"]), r"a channel 'x'; expected one of \['y'\]"),
        (lambda: table(time=[math.inf, 0.0]), "column 'time' must be finite, but has inf in row 0"),
        (lambda: table(time=[0.0, None]), "column 'time' must be finite, but has nan in row 1"),
        (lambda: table(series=["a", None]), "column 'series' has None for a label in row 1"),
        (lambda: table(channel=[math.nan, "x"]), "column 'channel' has nan for a label in row 0"),
        (
            lambda: table(series=["a", "a"], time=[0.0, 0.0]),
            "series 'a' has different values for channel 'x'",
        ),
        (lambda: table(series=["a", "b"], value=[0.0, None]), "series 'b' has no observation"),
    ],
)
def test_what_cannot_be_right_is_refused(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def table(channels: list[str] | None = None, **columns: list[Any]) -> iso.Series:
    whole = {"series": [0, 0], "time": [0.0, 1.0], "channel": ["x", "x"], "value": [1.0, 2.0], **columns}
    return iso.Series.of_table(whole, channels=channels)
