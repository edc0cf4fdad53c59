"""Rates that see the past: likelihoods against quadrature, and what they must not depend on."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.models import Autonomous, RecurrentProcess, ks_test

END = 3.0
SEQUENCES = ([0.4, 1.1, 1.15, 2.7], [2.0], [], [0.3, 2.9])


def process(kinds: int = 1, t0: float = 0.0) -> RecurrentProcess:
    torch.manual_seed(1)
    field = Autonomous(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4)))
    rate = nn.Sequential(nn.Linear(4, kinds), nn.Softplus())
    model = RecurrentProcess(field, rate, kinds=kinds, width=4, t0=t0, span=END, rtol=1e-9, atol=1e-9).double()
    nn.init.normal_(model.start)
    return model


def sequences(*ts: list[float]) -> iso.Series:
    return iso.Series.of_events(ts, dtype=torch.float64)


def test_likelihoods_are_those_of_the_rates_by_quadrature() -> None:
    model, events = process(), sequences(*SEQUENCES)
    expected = []
    for i, times in enumerate(SEQUENCES):
        one = events.select([i])
        at = torch.tensor(times, dtype=torch.float64)
        logs = model.rates(one, at, END).log().sum() if times else torch.zeros(())
        ends = [0.0, *times, END]
        expected.append(logs - sum(_integral(model, one, a, b) for a, b in pairwise(ends)))
    found = model.log_likelihood(events, END)
    torch.testing.assert_close(found, torch.stack(expected).to(found), rtol=1e-7, atol=1e-7)


def _integral(model: RecurrentProcess, events: iso.Series, a: float, b: float, n: int = 12) -> Tensor:
    """Gauss-Legendre between two events, where the rate is smooth."""
    from numpy.polynomial.legendre import leggauss

    nodes, weights = (torch.from_numpy(x) for x in leggauss(n))
    rates = model.rates(events, a + (b - a) * (nodes + 1) / 2, END)[:, 0, 0]
    return (b - a) / 2 * (weights * rates).sum()


def test_a_rate_that_is_constant_has_the_likelihood_of_poisson() -> None:
    model = RecurrentProcess(lambda s, z: 0 * z, lambda z: 2.0 + 0 * z[..., :1], kinds=1, width=4)
    found = model.log_likelihood(sequences(*SEQUENCES), END)
    counts = torch.tensor([4.0, 1.0, 0.0, 2.0])
    torch.testing.assert_close(found, counts * math.log(2) - 2 * END, rtol=1e-5, atol=1e-5)


def test_each_sequence_is_alone() -> None:
    model, events = process(), sequences(*SEQUENCES)
    ends = torch.tensor([3.0, 2.5, 1.0, 4.0], dtype=torch.float64)
    together = model.log_likelihood(events, ends)
    for i in range(4):
        alone = model.log_likelihood(events.select([i]), ends[i])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-7, atol=1e-7)


def test_rates_do_not_look_ahead() -> None:
    model, ts = process(), torch.linspace(0, END, 31, dtype=torch.float64)
    one = model.rates(sequences([0.5, 1.5, 2.5]), ts, END)[:, 0, 0]
    other = model.rates(sequences([0.5, 1.5, 1.9]), ts, END)[:, 0, 0]
    same = ts <= 1.9
    torch.testing.assert_close(one[same], other[same], rtol=0, atol=1e-12)
    assert (one[~same] - other[~same]).abs().min() > 1e-6


def test_gradients_are_right() -> None:
    model, events = process(), sequences([0.4, 1.1], [2.0])
    parameters = [*model.parameters()]
    loss = model.log_likelihood(events, END).sum()
    for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        direction = torch.randn_like(p)
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                p += sign * 1e-5 * direction
                values.append(model.log_likelihood(events, END).sum())
                p -= sign * 1e-5 * direction
        found = (values[0] - values[1]) / 2e-5
        torch.testing.assert_close((gradient * direction).sum(), found, rtol=1e-5, atol=1e-6)


def test_kinds_have_rates_of_their_own() -> None:
    model = process(kinds=2)
    ts = [torch.tensor([0.5, 1.0, 2.0])]
    marks = torch.tensor([[1.0, torch.nan], [torch.nan, 1.0], [1.0, 1.0]])
    events = iso.Series.of(ts, [marks], dtype=torch.float64)
    rates = model.rates(events, ts[0], END)[:, 0]
    logs = rates[0, 0].log() + rates[1, 1].log() + rates[2].log().sum()
    ends = [0.0, 0.5, 1.0, 2.0, END]
    total = sum(_of_all(model, events, a, b) for a, b in pairwise(ends))
    torch.testing.assert_close(model.log_likelihood(events, END)[0], logs - total, rtol=1e-7, atol=1e-7)
    assert len(model.residuals(events, END)) == 4


def _of_all(model: RecurrentProcess, events: iso.Series, a: float, b: float) -> Tensor:
    ts = torch.linspace(a + 1e-9, b, 4001, dtype=torch.float64)
    return torch.trapezoid(model.rates(events, ts, END)[:, 0].sum(1), ts)


def test_residuals_are_the_clock_of_the_rate() -> None:
    model = RecurrentProcess(lambda s, z: 0 * z, lambda z: 2.0 + 0 * z[..., :1], kinds=1, width=4)
    found = model.residuals(sequences([0.5, 1.5], [], [1.0]), END)
    # at a rate of 2 and a length of 3: events at 1 and 3, in the third sequence at 12 + 2
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, 11.0]), rtol=1e-5, atol=1e-5)


def test_it_learns_what_a_poisson_process_cannot() -> None:
    """Events that come at a distance of 1, from a random start: after one the next is known."""
    torch.manual_seed(0)
    phase = torch.rand(30, dtype=torch.float64)
    jitter = 0.05 * torch.randn(30, 5, dtype=torch.float64)
    events = sequences(
        *[(p + 0.2 + torch.arange(5) + j).sort().values.tolist() for p, j in zip(phase, jitter, strict=True)]
    )
    field = Autonomous(nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8)))
    model = RecurrentProcess(
        field, nn.Sequential(nn.Linear(8, 1), nn.Softplus()), kinds=1, width=8, span=5.0, rtol=1e-2, atol=1e-2
    )
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(60):
        optimiser.zero_grad()
        loss = -model.log_likelihood(events, 6.0).mean()
        loss.backward()
        optimiser.step()
    constant = 5 * (math.log(5 / 6) - 1)
    assert -loss.item() > constant + 2.0


def test_what_lies_outside_of_observation_is_refused() -> None:
    model, events = process(), sequences([0.5, 1.5])
    with pytest.raises(ValueError, match=r"observation of series 0 ends at 1, but it has an event at 1\.5"):
        model.log_likelihood(events, 1.0)
    with pytest.raises(ValueError, match=r"begins at t0=1, but there is an event at 0\.5"):
        process(t0=1.0).log_likelihood(events, END)
    with pytest.raises(ValueError, match="rates are known from t0=0 to the end, got 0 to 4"):
        model.rates(events, torch.tensor([0.0, 4.0]), END)
    with pytest.raises(ValueError, match="span must be positive, got 0"):
        RecurrentProcess(lambda s, z: z, lambda z: z, kinds=1, width=1, span=0)


def test_the_test_of_the_fit_tells_a_wrong_rate() -> None:
    generator = torch.Generator().manual_seed(0)
    events = sequences(*[(10 * torch.rand(20, generator=generator)).sort().values.tolist() for _ in range(20)])
    for rate, right in ((2.0, True), (3.0, False)):
        model = RecurrentProcess(lambda s, z: 0 * z, lambda z, r=rate: r + 0 * z[..., :1], kinds=1, width=1)
        assert (ks_test(model.residuals(events, 10.0))[1] > 0.01) is right
