"""Poisson processes: likelihoods against quadrature, sampling, and time rescaling."""

import math

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.models import Autonomous, PoissonProcess, ks_test
from models.series.make import draw, gradients, rng

both_ways = pytest.mark.parametrize("batch_dims", [0, 1])
TIGHT = {"rtol": 1e-10, "atol": 1e-10}
EVENTS = [[0.3, 0.9, 1.4], [], [0.1, 1.9]]
ENDS = torch.tensor([2.0, 1.0, 2.5], dtype=torch.float64)


class Wave(nn.Module):
    """z' = a (cos t, -sin t), whatever z is."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return self.a * torch.cat([t.cos() + 0 * z[..., :1], -t.sin() + 0 * z[..., 1:]], -1)


def simpson(values: Tensor, width: Tensor) -> Tensor:
    """Integrate values (2 M + 1, ...) at evenly spread points."""
    weights = torch.ones(len(values), dtype=values.dtype)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    return torch.tensordot(weights, values, dims=1) * width / (3 * (len(values) - 1))


def process(**settings: object) -> PoissonProcess:
    torch.manual_seed(0)
    rates = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2), nn.Softplus())
    return PoissonProcess(Wave(), rates, **{**TIGHT, **settings}).double()


def kinds(ts: list[list[float]], seed: int) -> iso.Series:
    """Events at these times, of one kind, the other, or both."""
    values = [torch.ones(len(t), 2, dtype=torch.float64) for t in ts]
    for i, x in enumerate(values):
        hidden = torch.rand(x.shape, generator=rng(seed + i)) < 0.4
        hidden[:, 1] &= ~hidden.all(1)
        x[hidden] = float("nan")
    return iso.Series.of(ts, values, empty=0.0, dtype=torch.float64)


@both_ways
@pytest.mark.parametrize("controlled", [False, True])
def test_likelihood_and_gradients_equal_quadrature(batch_dims: int, controlled: bool) -> None:
    model, events, z0 = process(batch_dims=batch_dims, controlled=controlled), kinds(EVENTS, 0), draw(3, 2, seed=1)
    z0.requires_grad_()

    def z(t: Tensor) -> Tensor:  # (S, B) -> (S, B, 2), in closed form
        return z0 + model.counting.field.a * torch.stack([t.sin(), t.cos() - 1], -1)

    grid = torch.linspace(0, 1, 401, dtype=torch.float64).unsqueeze(1) * ENDS
    whole = simpson(model.intensity(z(grid)).sum(2), ENDS)
    logs = model.intensity(z(events.ts)).log()
    expected = torch.where(events.observed, logs, 0.0).sum((0, 2)) - whole
    found = model.log_likelihood(z0, events, ENDS)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    weights, parameters = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), [z0, *model.parameters()]
    one = torch.autograd.grad((found * weights).sum(), parameters)
    two = torch.autograd.grad((expected * weights).sum(), parameters)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)


@both_ways
def test_one_solve_whose_steps_are_those_of_z_alone(batch_dims: int) -> None:
    model, events, z0 = process(batch_dims=batch_dims, controlled=False), kinds(EVENTS, 0), draw(3, 2, seed=1)
    with iso.track() as work:
        model.log_likelihood(z0, events, ENDS)
    assert work.solves == 1
    ts = (0.0, ENDS) if batch_dims else (0.0, ENDS.max())
    alone = iso.solve(model.counting.field, z0, ts, batch_dims=batch_dims, **TIGHT)
    assert work.forward.evaluations == alone.stats.evaluations
    assert model.dynamics.stats is not None
    assert torch.equal(model.dynamics.stats.steps, alone.stats.steps)


def test_an_integral_under_error_control_is_judged() -> None:
    # z hardly moves, the rate does: only a solve that judges the integral sees it.
    rate = lambda z: 1 + (40 * z).sin().square()  # noqa: E731
    z0, until = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([10.0], dtype=torch.float64)
    exact = 10 + 5 - math.sin(80 * 10) / 160
    errors = []
    for settings in ({"controlled": False}, {}):
        model = PoissonProcess(lambda t, z: 1 + 0 * z, rate, **settings, rtol=1e-6, atol=1e-6)
        errors.append(abs(model(z0, until.unsqueeze(0))[1].item() - exact))
    assert errors[1] < 1e-3 < errors[0]


def test_series_that_end_early_cost_nothing_more() -> None:
    z0, events = draw(8, 2, seed=0), iso.Series.of_events([[]] * 8)
    ends = torch.tensor([0.01] * 7 + [20.0], dtype=torch.float64)
    with iso.track() as work:
        process().log_likelihood(z0, kinds([[0.005]] * 8, 3), ends)
    assert work.forward.rows < 0.4 * 8 * work.forward.evaluations
    assert len(events) == 8


def test_the_mean_and_spread_of_sampled_counts() -> None:
    # lambda = 3 + 2 sin t, of which the integral is 3 t + 2 (1 - cos t)
    model = PoissonProcess(lambda t, z: t.cos() + 0 * z, lambda z: 3 + 2 * z)
    count, until = 4000, 5.0
    events = model.sample(torch.zeros(count, 1), until, generator=rng(0))
    expected = 3 * until + 2 * (1 - math.cos(until))
    counts = events.lengths.double()
    assert abs(counts.mean() - expected) < 4 * math.sqrt(expected / count)
    assert abs(counts.var() / expected - 1) < 4 * math.sqrt(2 / count)
    early = (events.observed[:, :, 0] & (events.ts <= 1.5)).sum() / count
    assert abs(early - (4.5 + 2 * (1 - math.cos(1.5)))) < 4 * math.sqrt(6 / count)


def test_kinds_are_sampled_at_their_own_rates_and_series_to_their_own_ends() -> None:
    rates = torch.tensor([[1.0, 8.0], [4.0, 2.0]]).repeat(1000, 1)
    model = PoissonProcess(lambda t, z: 0 * z, lambda z: z)
    ends = torch.tensor([1.0, 3.0]).repeat(1000)
    events = model.sample(rates, ends, generator=rng(1))
    counts = events.observed.sum(0).reshape(1000, 2, 2).double()
    expected = (rates * ends.unsqueeze(1))[:2].double()
    assert (abs(counts.mean(0) - expected) < 4 * (expected / 1000).sqrt()).all()
    assert (events.ts <= ends).all()


def test_a_bound_that_was_too_low_is_raised() -> None:
    # A peak between the two points that are looked at.
    model = PoissonProcess(lambda t, z: 1 + 0 * z, lambda z: 0.1 + 50 * (-((z - 0.5) ** 2) * 200).exp())
    events = model.sample(torch.zeros(500, 1), 1.0, generator=rng(0), points=2)
    expected = 0.1 + 50 * math.sqrt(math.pi / 200)
    assert abs(events.lengths.double().mean() - expected) < 4 * math.sqrt(expected / 500)


def wave(z: Tensor) -> Tensor:
    """Return two rates at z = sin t."""
    return torch.cat([(1.5 + z).exp(), 3 + 2 * z], -1)


def test_residuals_of_the_truth_are_exponential_and_of_another_rate_not() -> None:
    settings, z0 = {"rtol": 1e-7, "atol": 1e-7}, torch.zeros(40, 1, dtype=torch.float64)
    truth = PoissonProcess(lambda t, z: t.cos() + 0 * z, wave, **settings)
    events = truth.sample(z0, 8.0, generator=rng(4))
    residuals = truth.residuals(z0, events, 8.0)
    assert len(residuals) == events.observed.sum() > 1000
    assert (residuals >= 0).all()
    statistic, p = ks_test(residuals)
    assert p > 0.05
    total = events.observed.sum((0, 1)) / (40 * 8.0)  # the right rates on average, but constant
    for wrong in (lambda z: 1.2 * wave(z), lambda z: total + 0 * wave(z), lambda z: wave(-z)):
        worse, chance = ks_test(PoissonProcess(truth.counting.field, wrong, **settings).residuals(z0, events, 8.0))
        assert chance < 1e-4
        assert worse > statistic


def test_residuals_go_on_from_series_to_series() -> None:
    model = PoissonProcess(lambda t, z: 0 * z, lambda z: z)
    events = iso.Series.of_events([[0.5], [], [1.0, 1.5]])
    found = model.residuals(torch.tensor([[2.0], [1.0], [4.0]]), events, torch.tensor([1.0, 3.0, 2.0]))
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0 + 3.0 + 4.0, 2.0]))


def test_padding_has_no_influence() -> None:
    model, z0 = process(), draw(3, 2, seed=1)
    together = model.log_likelihood(z0, kinds(EVENTS, 0), ENDS)
    for i in range(3):
        alone = model.log_likelihood(z0[i : i + 1], kinds(EVENTS, 0).select([i]), ENDS[i])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-11)
        own = gradients(model, together[i])  # of a graph that is used again
        for a, b in zip(gradients(model, alone.sum()), own, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
        together = model.log_likelihood(z0, kinds(EVENTS, 0), ENDS)


def test_a_known_rate_is_recovered() -> None:
    # z = (sin t, cos t) on its circle; log lambda = 1.5 + sin t is linear in it.
    turn = Autonomous(nn.Linear(2, 2, bias=False)).requires_grad_(False)
    turn.net.weight.copy_(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
    z0 = torch.tensor([[0.0, 1.0]]).repeat(60, 1)
    truth = PoissonProcess(turn, lambda z: (1.5 + z[..., :1]).exp())
    events = truth.sample(z0, 6.0, generator=rng(0))
    torch.manual_seed(0)
    line = nn.Linear(2, 1)
    model = PoissonProcess(turn, lambda z: line(z).exp(), batch_dims=0, rtol=1e-4, atol=1e-4)
    optimizer = torch.optim.LBFGS(line.parameters(), max_iter=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        negative = -model.log_likelihood(z0, events, 6.0).mean()
        negative.backward()
        return negative

    optimizer.step(loss)
    found = torch.cat([line.bias, line.weight[0]]).detach()
    # Within four standard errors, from the information of 60 series.
    ts = torch.linspace(0, 6, 601)
    features = torch.stack([torch.ones_like(ts), ts.sin(), ts.cos()], 1)
    information = 60 * 0.01 * (features.T * (1.5 + ts.sin()).exp()) @ features
    errors = information.inverse().diagonal().sqrt()
    assert (errors < 0.1).all()
    assert ((found - torch.tensor([1.5, 1.0, 0.0])).abs() < 4 * errors).all()


def test_what_does_not_fit_is_refused() -> None:
    model = PoissonProcess(Autonomous(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 3), nn.Softplus()))
    events = iso.Series.of_events([[0.5, 1.0]])
    with pytest.raises(ValueError, match=r"observation of series 0 ends at 0\.7, but it has an event at 1"):
        model.log_likelihood(torch.zeros(1, 2), events, 0.7)
    with pytest.raises(ValueError, match="3 rates, but there are 1 kinds"):
        model.log_likelihood(torch.zeros(1, 2), events, 2.0)
