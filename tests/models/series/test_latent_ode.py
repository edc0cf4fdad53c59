"""Latent ODEs: bounds against closed forms, the ways to solve against each other, and what has no influence."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import isocline as iso
from isocline.models import GapRNN, GaussianNoise, PoissonProcess, SeriesODE, latent_field
from models.series.make import CELLS, draw, gradients, irregular, latent_ode
from models.series.test_recurrence import longer

both_ways = pytest.mark.parametrize("batch_dims", [0, 1])


def linear(batch_dims: int = 1, noise: float = 0.5) -> iso.LatentODE:
    """z' = -z / 2 turned, x = D z + noise: all that is observed is normal. The encoder says nothing: q is constant."""
    a = torch.tensor([[-0.2, 1.0], [-1.0, -0.4]], dtype=torch.float64)
    decoder = nn.Linear(2, 2)
    model = iso.LatentODE(
        GapRNN(2, 3),
        lambda t, z: z @ a.mT,
        decoder,
        latent=2,
        noise=GaussianNoise(2, noise),
        batch_dims=batch_dims,
        rtol=1e-10,
        atol=1e-10,
    ).double()
    torch.manual_seed(0)
    nn.init.normal_(decoder.weight)
    nn.init.zeros_(model.code.weight)
    model.a = a
    return model


def joint(model: iso.LatentODE, series: iso.Series, index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return G, c and x where the observed x = G z0 + c + noise."""
    length = int(series.lengths[index])
    powers = torch.linalg.matrix_exp(series.ts[:length, index, None, None] * model.a)
    g = (model.decoder.weight @ powers)[series.observed[:length, index]]
    c = model.decoder.bias.expand(length, -1)[series.observed[:length, index]]
    return g, c, series.values[:length, index][series.observed[:length, index]]


def evidence(model: iso.LatentODE, series: iso.Series) -> Tensor:
    found = []
    for i in range(len(series)):
        g, c, x = joint(model, series, i)
        covariance = g @ g.mT + model.noise.std[0] ** 2 * torch.eye(len(x), dtype=x.dtype)
        found.append(MultivariateNormal(c, covariance).log_prob(x))
    return torch.stack(found)


def exact_posterior(model: iso.LatentODE, series: iso.Series, index: int) -> tuple[Tensor, Tensor]:
    g, c, x = joint(model, series, index)
    precision = g.mT @ g / model.noise.std[0] ** 2 + torch.eye(2, dtype=x.dtype)
    return torch.linalg.solve(precision, g.mT @ (x - c) / model.noise.std[0] ** 2), precision


def set_posterior(model: iso.LatentODE, mean: Tensor, std: Tensor) -> None:
    with torch.no_grad():
        model.code.bias.copy_(torch.cat([mean, 2 * std.log()]))


@both_ways
def test_bounds_of_a_linear_model(batch_dims: int) -> None:
    model, series = linear(batch_dims), irregular()
    exact = evidence(model, series)
    mean = torch.tensor([0.3, -0.2], dtype=torch.float64)
    std = torch.tensor([1.2, 1.1], dtype=torch.float64)  # wider than the posterior
    set_posterior(model, mean, std)
    with torch.no_grad():
        bound = model.elbo(series, samples=20_000)
        weighted = [model.importance_bound(series, samples=k) for k in (10, 1000, 50_000)]
    # E log p(x | z) is exact for a normal q: |x - G m - c|^2 + sum of squares of G std.
    q = Normal(mean, std)
    for i in range(len(series)):
        g, c, x = joint(model, series, i)
        variance = model.noise.std[0] ** 2
        misfit = (x - g @ mean - c).square().sum() + (g * std).square().sum()
        expected = -0.5 * (misfit / variance + len(x) * (2 * math.pi * variance).log())
        expected = expected - kl_divergence(q, Normal(0 * mean, 0 * std + 1)).sum()
        assert abs(bound[i] - expected) < 0.02 * (1 + abs(expected))
    assert (bound < exact).all()
    gaps = [(exact - w).mean() for w in weighted]
    assert (weighted[-1] - exact).abs().max() < 0.1
    assert gaps[0] > 3 * gaps[1].abs()
    assert (weighted[0] > bound).all()


def test_with_the_true_posterior_every_sample_gives_the_evidence() -> None:
    # One series; its posterior is made diagonal by turning z0.
    model, series = linear(), irregular(lengths=(5,))
    _, precision = exact_posterior(model, series, 0)
    turn = torch.linalg.eigh(precision).eigenvectors
    with torch.no_grad():
        model.decoder.weight.copy_(model.decoder.weight @ turn)
    model.a.copy_(turn.mT @ model.a @ turn)
    mean, precision = exact_posterior(model, series, 0)
    assert (precision - precision.diagonal().diag()).abs().max() < 1e-10
    set_posterior(model, mean, precision.diagonal() ** -0.5)
    exact = evidence(model, series)
    for samples in (1, 7):
        torch.testing.assert_close(model.importance_bound(series, samples=samples), exact, rtol=1e-7, atol=1e-7)
    bounds = torch.stack([model.elbo(series, samples=1000) for _ in range(5)])
    assert (bounds - exact).abs().max() < 0.2


def test_the_divergence_has_its_weight() -> None:
    model, series = latent_ode(), irregular()
    q = model.posterior(series)
    divergence = kl_divergence(q, Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))).sum(1)
    torch.manual_seed(0)
    none = model.elbo(series, samples=3, kl_weight=0.0)
    torch.manual_seed(0)
    torch.testing.assert_close(none - 0.3 * divergence, model.elbo(series, samples=3, kl_weight=0.3))


def value(model: iso.LatentODE, series: iso.Series, weights: Tensor, **settings: object) -> Tensor:
    torch.manual_seed(5)
    return (model.elbo(series, samples=2, **settings) * weights).sum()


WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 1.5], dtype=torch.float64)


@pytest.mark.parametrize("rates", [False, True])
def test_own_times_and_the_union_of_times_give_the_same(rates: bool) -> None:
    series = irregular()
    models = [latent_ode(batch_dims=b, rates=rates) for b in (0, 1)]
    values = [value(model, series, WEIGHTS) for model in models]
    torch.testing.assert_close(*values, rtol=1e-7, atol=1e-7)
    for one, other in zip(*(gradients(m, v) for m, v in zip(models, values, strict=True)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rates", [False, True])
def test_padding_order_and_company_have_no_influence(rates: bool) -> None:
    series, model = irregular(), latent_ode(rates=rates)
    z0 = draw(5, 2, 3, seed=0)
    alone, padded = model.log_likelihood(z0[:4], series), model.log_likelihood(z0, longer(series, 3))[:4]
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-12)
    weights = draw(4, 2, seed=1)
    pairs = zip(gradients(model, (alone * weights).sum()), gradients(model, (padded * weights).sum()), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12 * max(1.0, float(one.abs().max())))
    order = torch.tensor([2, 0, 3, 1])
    moved = model.log_likelihood(z0[order], series.select(order))
    torch.testing.assert_close(moved, alone.detach()[order], rtol=0, atol=1e-12)


@both_ways
def test_what_was_not_observed_has_no_influence(batch_dims: int) -> None:
    series, model = irregular(), latent_ode(batch_dims=batch_dims)
    garbage = torch.where(series.observed, series.values, 1e6 * draw(*series.values.shape, seed=7))
    other = iso.Series(series.ts, garbage, series.observed)
    one, two = value(model, series, WEIGHTS), value(model, other, WEIGHTS)
    assert torch.equal(one, two)
    assert all(torch.equal(a, b) for a, b in zip(gradients(model, one), gradients(model, two), strict=True))


@pytest.mark.parametrize("rates", [False, True])
@pytest.mark.parametrize("gradient", [None, iso.RecursiveCheckpointAdjoint(), iso.BacksolveAdjoint()])
def test_gradients_are_right(gradient: iso.Gradient | None, rates: bool) -> None:
    series, model = irregular(), latent_ode(gradient=gradient, rates=rates)
    parameters = list(model.parameters())
    directions = [draw(*p.shape, seed=10 + i) for i, p in enumerate(parameters)]
    expected = sum(
        (g * d).sum() for g, d in zip(gradients(model, value(model, series, WEIGHTS)), directions, strict=True)
    )
    eps, values = 1e-5, []
    with torch.no_grad():
        for sign in (1, -2, 1):
            for p, d in zip(parameters, directions, strict=True):
                p += sign * eps * d
            values.append(value(model, series, WEIGHTS))
    assert abs((values[0] - values[1]) / (2 * eps) - expected) < 1e-5 * abs(expected)


@pytest.mark.parametrize("name", CELLS)
def test_every_encoder_trains(name: str) -> None:
    series, model = irregular(), latent_ode(name, rtol=1e-4, atol=1e-4)
    before = value(model, series, WEIGHTS.abs()).item()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(8):
        optimizer.zero_grad()
        (-value(model, series, WEIGHTS.abs())).backward()
        optimizer.step()
    assert value(model, series, WEIGHTS.abs()).item() > before + 1.0


def test_what_is_known_of_the_future_has_no_influence() -> None:
    series, model = irregular(lengths=(6, 5, 7)), latent_ode()
    known = series.until(1.2, empty=0.0)
    assert (known.lengths < series.lengths).any()
    later = series.ts > 1.2
    other = iso.Series(
        torch.where(later, series.ts + 0.3, series.ts),
        torch.where(later.unsqueeze(2), series.values - 9.0, series.values),
        series.observed,
    ).until(1.2, empty=0.0)
    ts = torch.tensor([1.2, 1.5, 4.0], dtype=torch.float64)
    found = []
    for history in (known, other):
        torch.manual_seed(0)
        found.append(model.predict(history, ts, samples=4))
    assert torch.equal(*found)
    assert found[0].shape == (3, 3, 4, 2)


def test_a_target_need_not_be_what_the_encoder_sees() -> None:
    series, model = irregular(lengths=(6, 5, 7)), latent_ode()
    known, later = series.until(1.2, empty=0.0), series.after(1.2, empty=0.0)
    torch.manual_seed(0)
    bound = model.elbo(known, target=later)
    torch.manual_seed(0)
    q = model.posterior(known)
    z0 = q.rsample((1,)).transpose(0, 1)
    divergence = kl_divergence(q, Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))).sum(1)
    torch.testing.assert_close(bound, model.log_likelihood(z0, later)[:, 0] - divergence)


@pytest.mark.parametrize("rates", [False, True])
def test_one_solve_for_all_samples(rates: bool) -> None:
    model, series = latent_ode(rates=rates), irregular()
    with iso.track() as work:
        model.elbo(series, samples=5)
    assert work.solves == 1


def test_series_may_begin_at_their_own_times() -> None:
    model, series = latent_ode(t0=None), irregular()
    shifted = iso.Series(series.ts + torch.arange(4.0), series.values, series.observed)
    torch.testing.assert_close(value(model, series, WEIGHTS), value(model, shifted, WEIGHTS), rtol=1e-9, atol=1e-9)
    torch.manual_seed(0)
    later = model.predict(series, series.ts[-1:] + 1.0, samples=2)
    torch.manual_seed(0)
    again = model.predict(shifted, shifted.ts[-1:] + 1.0, samples=2)
    torch.testing.assert_close(later, again, rtol=1e-8, atol=1e-8)


def test_rates_add_the_likelihood_of_the_times() -> None:
    model, series, z0 = latent_ode(rates=True), irregular(), draw(4, 2, 3, seed=0)
    end = series.ts[-1] + 0.5
    assert isinstance(model.path, PoissonProcess)
    times = model.path.log_likelihood(z0, series, end)
    found = model.log_likelihood(z0, series, end)
    plain = latent_ode(rates=False)
    plain.path.field = model.path.counting.field
    plain.decoder, plain.noise = model.decoder, model.noise
    torch.testing.assert_close(found, plain.log_likelihood(z0, series) + times, rtol=1e-7, atol=1e-7)


# SeriesODE


@both_ways
def test_states_at_own_times(batch_dims: int) -> None:
    ode = SeriesODE(lambda t, y: {"y": -y["y"] * t}, t0=0.5, batch_dims=batch_dims, rtol=1e-10, atol=1e-10)
    ts = torch.tensor([[0.5, 1.0, 0.5], [1.0, 1.0, 0.5], [3.0, 1.5, 0.5]], dtype=torch.float64)
    y0 = draw(3, 2, seed=0)
    expected = y0 * ((0.25 - ts**2) / 2).exp().unsqueeze(2)
    torch.testing.assert_close(ode({"y": y0}, ts)["y"], expected, rtol=1e-8, atol=1e-10)


@both_ways
def test_nothing_to_solve(batch_dims: int) -> None:
    ode = SeriesODE(lambda t, y: -y, batch_dims=batch_dims)
    for count in (1, 3):
        y0 = draw(count, 2, seed=0)
        assert torch.equal(ode(y0, torch.zeros(2, count)), y0.expand(2, count, 2))


def test_own_times_cost_what_each_series_needs() -> None:
    ts = torch.linspace(0.1, 8.0, 16).unsqueeze(0)
    ode = SeriesODE(lambda t, y: torch.stack([y[..., 1], -y[..., 0]], -1))
    with iso.track() as work:
        ode(torch.ones(16, 2), ts)
    assert work.forward.rows < 0.75 * 16 * work.forward.evaluations


@pytest.mark.parametrize("settings", [{"batch_dims": 2}, {"batch_dims": 0, "t0": None}])
def test_series_odes_are_solved_in_one_of_two_ways(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="SeriesODE solves per series"):
        SeriesODE(lambda t, y: y, **settings)


@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize(("y0", "ts"), [((2, 3), (4, 5)), ((), (4, 1)), ((5, 3), (5,))])
def test_states_are_of_the_series_of_the_times(batch_dims: int, y0: tuple[int, ...], ts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="of the same series; got"):
        SeriesODE(lambda t, y: y, batch_dims=batch_dims)(torch.zeros(y0), torch.zeros(ts))


def test_latent_fields_are_a_network_at_first_and_a_linear_flow_in_the_end() -> None:
    torch.manual_seed(0)
    field = latent_field(2, 8).double()
    t, z = torch.tensor(0.0), draw(5, 2, seed=1)
    assert torch.equal(field(t, z), field.learned(t, z))
    turn = torch.tensor([[-0.1, -2.0], [2.0, -0.1]], dtype=torch.float64)
    weights = dict.fromkeys(field.state_dict(), torch.zeros(())) | {"known.net.weight": turn}
    with torch.no_grad():
        for name, parameter in field.named_parameters():
            parameter.copy_(weights[name])
    end = iso.solve(field, z, (0.0, 1.0), rtol=1e-9, atol=1e-9).ys[-1]
    assert torch.allclose(end, z @ turn.matrix_exp().T, atol=1e-7)


def test_times_before_the_start_are_refused() -> None:
    for batch_dims in (0, 1):
        with pytest.raises(ValueError, match=r"y0 is at t0=1, but a series is wanted at 0\.5"):
            SeriesODE(lambda t, y: y, t0=1.0, batch_dims=batch_dims)(torch.ones(2, 1), torch.tensor([[0.5, 2.0]]))


def test_settings_that_do_not_fit_are_refused() -> None:
    parts = GapRNN(1, 2), lambda t, z: z, nn.Linear(1, 1)
    with pytest.raises(ValueError, match="give t0"):
        iso.LatentODE(*parts, latent=1, intensity=nn.Softplus(), t0=None)
    with pytest.raises(ValueError, match="std must be positive"):
        GaussianNoise(1, 0.0)
    model = iso.LatentODE(*parts, latent=1)
    with pytest.raises(ValueError, match="no intensity"):
        model.elbo(iso.Series.of([[1.0]], [[1.0]]), until=2.0)
    with pytest.raises(ValueError, match="samples must be"):
        model.elbo(iso.Series.of([[1.0]], [[1.0]]), samples=0)
