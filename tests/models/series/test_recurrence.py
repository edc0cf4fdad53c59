"""Encoders and autoregressive models: what they see, and what they must not."""

import math

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.models import GRUD, ODERNN, DecayRNN, Forecaster, GaussianNoise, GRUField, encode, read
from models.series.make import CELLS, cell, draw, gradients, irregular

every_cell = pytest.mark.parametrize("name", CELLS)


def forecaster(name: str, channels: int = 2) -> Forecaster:
    one = cell(name, channels)
    torch.manual_seed(3)
    return Forecaster(one, nn.Linear(one.size, channels), GaussianNoise(channels, 0.5, learned=True)).double()


def longer(series: iso.Series, extra: int) -> iso.Series:
    """Return the same series beside one that is longer, so that they are padded further."""
    length = len(series.ts) + extra
    ts = torch.cat([series.ts, series.ts[-1:].expand(extra, -1)])
    values = torch.cat([series.values, series.values.new_zeros(extra, *series.values.shape[1:])])
    mask = torch.cat([series.observed, torch.zeros(extra, *series.values.shape[1:], dtype=torch.bool)])
    more = torch.linspace(0.0, 3.0, length, dtype=torch.float64).unsqueeze(1)
    other = draw(length, 1, series.values.shape[2], seed=99)
    return iso.Series(
        torch.cat([ts, more], 1), torch.cat([values, other], 1), torch.cat([mask, torch.ones_like(other).bool()], 1)
    )


@every_cell
def test_padding_has_no_influence(name: str) -> None:
    series, model = irregular(), cell(name)
    padded = longer(series, 3)
    h, other = encode(model, series, 0.0), encode(model, padded, 0.0)[: len(series)]
    torch.testing.assert_close(h, other, rtol=0, atol=1e-12)
    weights = draw(*h.shape, seed=5)
    for one, two in zip(gradients(model, (h * weights).sum()), gradients(model, (other * weights).sum()), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


@every_cell
def test_each_series_is_encoded_as_if_it_were_alone(name: str) -> None:
    series, model = irregular(), cell(name)
    together = encode(model, series, 0.0)
    for i in range(len(series)):
        torch.testing.assert_close(encode(model, series.select([i]), 0.0)[0], together[i], rtol=0, atol=1e-12)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(encode(model, series.select(order), 0.0), together[order], rtol=0, atol=1e-12)


@every_cell
def test_what_was_not_observed_has_no_influence(name: str) -> None:
    series, model = irregular(), cell(name)
    garbage = torch.where(series.observed, series.values, 1e6 * draw(*series.values.shape, seed=7))
    other = iso.Series(series.ts, garbage, series.observed)
    assert torch.equal(encode(model, series, 0.0), encode(model, other, 0.0))


@every_cell
def test_encoders_see_times(name: str) -> None:
    series, model = irregular(lengths=(4, 5)), cell(name)
    h = encode(model, series, 0.0)
    later = iso.Series(series.ts + 0.5, series.values, series.observed)
    assert (encode(model, later, 0.0) - h).abs().amax(1).min() > 1e-4  # from t0 to the first
    torch.testing.assert_close(encode(model, later, 0.5), h, rtol=0, atol=1e-12)  # only gaps count
    stretched = iso.Series(series.ts[:1] + 1.5 * (series.ts - series.ts[:1]), series.values, series.observed)
    assert (encode(model, stretched, 0.0) - h).abs().amax(1).min() > 1e-4  # between observations


@every_cell
def test_gradients_of_encoders_are_right(name: str) -> None:
    series, model = irregular(lengths=(3, 2)), cell(name)
    weights = draw(2, model.size, seed=5)

    def loss() -> Tensor:
        return (encode(model, series, 0.0) * weights).sum()

    parameters = list(model.parameters())
    directions = [draw(*p.shape, seed=10 + i) for i, p in enumerate(parameters)]
    expected = sum((g * d).sum() for g, d in zip(gradients(model, loss()), directions, strict=True))
    eps, values = 1e-5, []
    with torch.no_grad():
        for sign in (1, -2, 1):
            for p, d in zip(parameters, directions, strict=True):
                p += sign * eps * d
            values.append(loss())
    # Adaptive steps change with the parameters, by what the tolerance allows.
    assert abs((values[0] - values[1]) / (2 * eps) - expected) < 1e-4 * abs(expected)


def test_a_state_decays_at_its_rate() -> None:
    model = DecayRNN(1, 3)
    nn.init.constant_(model.rate, math.log(math.e**2 - 1))  # softplus of it is 2
    torch.testing.assert_close(model.evolve(torch.ones(1, 3), torch.tensor([[0.5]])), torch.full((1, 3), math.exp(-1)))


def test_missing_values_of_gru_d_decay_to_the_mean() -> None:
    model, seen = GRUD(2, 4, torch.tensor([5.0, -1.0])), []
    nn.init.constant_(model.weight, 0.7)
    model.cell.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    series = iso.Series.of([[0.0, 2.0, 3.0]], [[[math.nan, 1.0], [3.0, math.nan], [9.0, math.nan]]])
    encode(model, series, 0.0)
    _, later, earlier = seen  # it is read backwards: nothing was seen of the second channel
    torch.testing.assert_close(later, torch.tensor([[3.0, -1.0, 1.0, 0.0]]))
    kept = math.exp(-0.7 * 2.0)
    torch.testing.assert_close(earlier, torch.tensor([[kept * 3.0 + (1 - kept) * 5.0, 1.0, 0.0, 1.0]]))


def test_an_ode_rnn_follows_its_field_between_observations() -> None:
    for batch_dims in (0, 1):
        model = ODERNN(lambda s, h: -h + s, 1, 2, batch_dims=batch_dims, rtol=1e-9, atol=1e-9).double()
        gap = torch.tensor([[0.5], [2.0], [0.0]], dtype=torch.float64)
        h = draw(3, 2, seed=0)
        expected = (h + 1) * (-gap).exp() + gap - 1
        torch.testing.assert_close(model.evolve(h, gap), expected, rtol=1e-7, atol=1e-8)


def test_one_step_of_euler_in_the_field_of_a_gru() -> None:
    field, h = GRUField(3).double(), draw(2, 3, seed=0)
    r, z = field.gates(h).sigmoid().chunk(2, dim=1)
    updated = z * h + (1 - z) * (field.candidate(r * h)).tanh()
    torch.testing.assert_close(h + field(torch.zeros(()), h), updated)


def test_the_encoder_needs_a_t0_before_all_observations() -> None:
    with pytest.raises(ValueError, match=r"start at t0=1, but one has an observation at 0\.5"):
        encode(cell("GapRNN", 1), iso.Series.of([[0.5, 2.0]], [[1.0, 1.0]], dtype=torch.float64), 1.0)


@every_cell
def test_read_forwards_is_encode_of_the_mirrored_series(name: str) -> None:
    series, model = irregular(), cell(name)
    end = torch.tensor([2.5, 3.0, 2.2, 4.0], dtype=torch.float64)
    holes = torch.where(series.observed, series.values, torch.nan)
    ts, values = [], []
    for i, n in enumerate(series.lengths.tolist()):
        ts.append(end[i] - series.ts[:n, i])
        values.append(holes[:n, i])
    mirrored = iso.Series.of(ts, values, dtype=torch.float64)
    torch.testing.assert_close(read(model, series, end), encode(model, mirrored, 0.0), rtol=0, atol=1e-12)


@every_cell
def test_padding_has_no_influence_forwards(name: str) -> None:
    series, model = irregular(), cell(name)
    together = read(model, longer(series, 3), 4.0)[: len(series)]
    torch.testing.assert_close(read(model, series, 4.0), together, rtol=0, atol=1e-12)


def test_a_series_is_not_read_until_before_its_end() -> None:
    with pytest.raises(ValueError, match=r"read until 0\.5, but one has an observation at .*series\.until"):
        read(cell("GRUD"), irregular(), 0.5)


# Autoregressive models


@every_cell
def test_forecasts_do_not_look_ahead(name: str) -> None:
    series, model = irregular(), forecaster(name)
    for row in range(1, len(series.ts)):
        changed = series.values.clone()
        changed[row:] = 1e3
        other = iso.Series(series.ts, changed, series.observed)
        torch.testing.assert_close(model(other)[: row + 1], model(series)[: row + 1], rtol=0, atol=1e-12)


@every_cell
def test_padding_has_no_influence_on_likelihoods(name: str) -> None:
    series, model = irregular(), forecaster(name)
    one, two = model.log_likelihood(series), model.log_likelihood(longer(series, 2))[: len(series)]
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    for a, b in zip(gradients(model, one.sum()), gradients(model, two.sum()), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@every_cell
def test_predictions_go_on_from_the_last_observation_of_each(name: str) -> None:
    series, model = irregular(), forecaster(name)
    ts = torch.tensor([2.5, 2.75, 4.0], dtype=torch.float64)
    predicted = model.predict(series, ts)
    assert predicted.shape == (3, len(series), 2)
    for i in range(len(series)):
        alone = series.select([i])
        torch.testing.assert_close(model.predict(alone, ts)[:, 0], predicted[:, i], rtol=0, atol=1e-12)
        # The same by hand: each prediction becomes an observation.
        history = alone
        for t, mean in zip(ts, predicted[:, i], strict=True):
            both = iso.Series(
                torch.cat([history.ts, t.reshape(1, 1)]),
                torch.cat([history.values, torch.zeros_like(mean).reshape(1, 1, 2)]),
                torch.cat([history.observed, torch.ones(1, 1, 2, dtype=torch.bool)]),
            )
            torch.testing.assert_close(model(both)[-1, 0], mean, rtol=0, atol=1e-12)
            both.values[-1, 0] = mean
            history = both


def test_predictions_of_the_past_are_refused() -> None:
    with pytest.raises(ValueError, match=r"series\.until\(ts\[0\]\)"):
        forecaster("GapRNN").predict(irregular(), torch.tensor([1.0, 2.0]))


def test_a_forecaster_learns() -> None:
    ts = torch.linspace(0, 6, 30)
    series = iso.Series.of([ts] * 8, [torch.sin(ts + phase) for phase in torch.linspace(0, 6, 8)])
    torch.manual_seed(0)
    model = Forecaster(cell("GapRNN", 1).float(), nn.Linear(5, 1), GaussianNoise(1, 0.3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(40):
        optimizer.zero_grad()
        (-model.log_likelihood(series).mean()).backward()
        optimizer.step()
    assert series.mse(model(series)) < 0.2 * series.values.var()
