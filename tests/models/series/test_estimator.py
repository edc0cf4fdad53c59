"""SeriesRegressor: tables in, tables with bands out, and nothing from the future."""

import math
from typing import Any

import pytest
import torch

import isocline as iso
from isocline.models import SeriesRegressor
from models.series.make import rng


def waves(count: int, seed: int = 0, until: float = 20.0, noise: float = 0.02) -> dict[str, list[Any]]:
    """Sine and cosine of different phases, in units of their own, at times of their own."""
    generator, rows = rng(seed), []
    for i in range(count):
        phase = 6.28 * torch.rand(1, generator=generator).item()
        for t in (until * torch.rand(30, generator=generator)).tolist():
            one, two = (noise * torch.randn(2, generator=generator)).tolist()
            rows.append((f"s{i}", t, "x", 100 + 20 * (math.sin(0.5 * t + phase) + one)))
            rows.append((f"s{i}", t, "y", 0.001 * (math.cos(0.5 * t + phase) + two)))
    return dict(zip(("series", "time", "channel", "value"), map(list, zip(*rows, strict=True)), strict=True))


@pytest.fixture(scope="module")
def fitted() -> SeriesRegressor:
    return SeriesRegressor(latent=3, hidden=20, epochs=60, batch_size=20, learning_rate=0.02, samples=50).fit(waves(40))


def before(table: dict[str, list[Any]], time: float) -> dict[str, list[Any]]:
    rows = [row for row in zip(*table.values(), strict=True) if row[1] <= time]
    return dict(zip(table, map(list, zip(*rows, strict=True)), strict=True))


def test_learns_and_holds_observations_in_its_bands(fitted: SeriesRegressor) -> None:
    assert fitted.losses[-1] < fitted.losses[0] - 50
    new = waves(20, seed=7)
    history = before(new, 10.0)
    times = sorted({t for t in new["time"] if 10.0 < t < 14.0})
    forecast = fitted.predict(history, times)
    found = {(s, t, c): i for i, (s, t, c) in enumerate(zip(*list(forecast.values())[:3], strict=True))}
    inside, errors = [], []
    for s, t, c, value in zip(*new.values(), strict=True):
        if 10.0 < t < 14.0:
            i = found[s, t, c]
            inside.append(forecast["lower"][i] <= value <= forecast["upper"][i])
            errors.append((forecast["mean"][i] - value) / (20.0 if c == "x" else 0.001))
    assert len(inside) > 100
    assert sum(inside) / len(inside) > 0.8
    assert math.sqrt(sum(e**2 for e in errors) / len(errors)) < 0.5  # of an amplitude of 1


def test_predictions_do_not_look_at_the_future(fitted: SeriesRegressor) -> None:
    table, times = waves(3, seed=5), [8.0, 12.0, 30.0]
    shifted = {
        **table,
        "value": [v if t <= 8.0 else v + 50.0 for v, t in zip(table["value"], table["time"], strict=True)],
    }
    moved = {**table, "time": [t if t <= 8.0 else t + 1.0 for t in table["time"]]}
    expected = fitted.predict(before(table, 8.0), times)
    for other in (table, shifted, moved):
        assert fitted.predict(other, times) == expected
    assert fitted.predict(table, times, known_until=math.inf) != expected
    assert fitted.predict(shifted, times, known_until=9.0) != fitted.predict(table, times, known_until=9.0)


def test_a_series_of_which_nothing_is_known_yet(fitted: SeriesRegressor) -> None:
    late = {"series": ["new"], "time": [15.0], "channel": ["x"], "value": [100.0]}
    forecast = fitted.predict(late, [5.0])
    assert forecast["series"] == ["new", "new"]
    assert forecast["channel"] == ["x", "y"]
    wide = forecast["upper"][0] - forecast["lower"][0]
    assert wide > 30.0  # the phase is unknown


def test_rows_come_by_series_time_and_channel_in_the_order_asked(fitted: SeriesRegressor) -> None:
    table = waves(2, seed=5)
    one, other = fitted.predict(table, [12.0, 9.0]), fitted.predict(table, [9.0, 12.0])
    assert one["time"] == [12.0, 12.0, 9.0, 9.0] * 2
    assert one["series"] == ["s0"] * 4 + ["s1"] * 4
    assert one["channel"] == ["x", "y"] * 4
    assert [other["time"][i] for i in (2, 0)] == [one["time"][i] for i in (0, 2)]
    assert other["mean"][2] == pytest.approx(one["mean"][0])
    assert all(low < mean < high for low, mean, high in zip(one["lower"], one["mean"], one["upper"], strict=True))


def test_the_same_table_gives_the_same_predictions_whatever_was_drawn_before() -> None:
    table, found = waves(4), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        regressor = SeriesRegressor(epochs=2, samples=5).fit(table)
        found.append(regressor.predict(table, [3.0]))
        assert torch.rand(1) == torch.rand(1, generator=rng(seed))  # the user's own randomness is left alone
    assert found[0] == found[1]


@pytest.mark.parametrize(("unit", "zero"), [(1e-30, 0.0), (1e20, 0.0), (1.0, 1e9)])
def test_values_may_have_any_unit_and_zero(unit: float, zero: float) -> None:
    table = {"series": ["a"] * 3, "time": [0.0, 1.0, 2.0], "channel": ["x"] * 3, "value": [1.0, 2.0, 4.0]}
    scaled = {**table, "value": [zero + unit * x for x in table["value"]]}
    fits = [SeriesRegressor(epochs=2, samples=3).fit(data) for data in (table, scaled)]
    assert fits[0].losses == pytest.approx(fits[1].losses, rel=1e-5)
    means = [regressor.predict(data, [3.0])["mean"][0] for regressor, data in zip(fits, (table, scaled), strict=True)]
    assert (means[1] - zero) / unit == pytest.approx(means[0], rel=1e-5)


def test_one_reading_of_one_series_can_be_fitted() -> None:
    table = {"series": [0], "time": [5.0], "channel": ["x"], "value": [3.0]}
    forecast = SeriesRegressor(epochs=1, samples=3).fit(table).predict(table, [5.0, 6.0])
    assert all(math.isfinite(x) for x in forecast["mean"])


def test_columns_may_have_other_names() -> None:
    table = dict(zip(("id", "h", "kind", "y"), waves(2).values(), strict=True))
    regressor = SeriesRegressor(epochs=1, samples=3, series="id", time="h", channel="kind", value="y").fit(table)
    assert list(regressor.predict(table, [1.0])) == ["id", "h", "kind", "mean", "lower", "upper"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"times": []}, "times must be a list of numbers"),
        ({"times": [-1.0]}, "none before"),
        ({"times": [1.0], "level": 1.0}, "level must be"),
    ],
)
def test_what_cannot_be_predicted(fitted: SeriesRegressor, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted.predict(waves(2), **settings)


def test_what_cannot_be_fitted_or_is_not_yet(fitted: SeriesRegressor) -> None:
    with pytest.raises(ValueError, match=r"call fit\(table\) first"):
        SeriesRegressor().predict(waves(1), [1.0])
    with pytest.raises(ValueError, match="epochs must be"):
        SeriesRegressor(epochs=0).fit(waves(1))
    table = {**waves(1), "channel": ["z"] * 60}
    with pytest.raises(ValueError, match="a channel 'z'"):
        fitted.predict(table, [1.0])
    with pytest.raises(ValueError, match="a reading before"):
        fitted.predict({**waves(1), "time": [-1.0] * 60, "value": [0.0] * 60}, [1.0])
    assert isinstance(fitted.model, iso.LatentODE)
