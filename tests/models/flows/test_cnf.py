"""CNF: densities against closed forms, against themselves, and as torch.distributions has them."""

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, constraints

import isocline as iso
from isocline.gradients import GRADIENTS
from isocline.models.flows import (
    CNF,
    ExactTrace,
    FFJORDField,
    Flow,
    Hutchinson,
    HutchPlusPlus,
    LogDensity,
    PlanarField,
    PlanarFlow,
    conv3x3,
)
from models.flows.fields import FIELDS, FLOWS, TIGHT, Linear, continuous, double, draw, planar_flow

every_flow = pytest.mark.parametrize("name", FLOWS)
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)


def grid(reach: float = 9.0, count: int = 181) -> tuple[Tensor, float]:
    """Points in a square, and the area of a cell."""
    line = torch.linspace(-reach, reach, count, dtype=torch.float64)
    return torch.cartesian_prod(line, line), (2 * reach / (count - 1)) ** 2


# Densities


@every_flow
@torch.no_grad()
def test_densities_integrate_to_one(name: str) -> None:
    flow = FLOWS[name]()
    flow.rtol = flow.atol = 1e-6
    points, area = grid()
    total = sum(flow.log_prob(part).exp().sum() for part in points.split(8192)) * area
    assert abs(total - 1) < 1e-3
    # It is not the density that it began with.
    assert (flow.log_prob(points[::100]) - flow.base.log_prob(points[::100])).abs().max() > 0.5


@every_flow
@torch.no_grad()
def test_there_and_back(name: str) -> None:
    flow, noise = FLOWS[name](), draw(200, 2, seed=3)
    if isinstance(flow, CNF):
        flow.rtol, flow.atol = 1e-5, 1e-6
    assert (flow.to_noise(flow.to_data(noise)) - noise).abs().max() < 1e-4
    assert (flow.to_data(flow.to_noise(noise)) - noise).abs().max() < 1e-4


@every_flow
def test_samples_come_with_their_density(name: str) -> None:
    flow = FLOWS[name]()
    samples, log_prob = flow.rsample_with_log_prob((50,))
    torch.testing.assert_close(flow.log_prob(samples.detach()), log_prob, rtol=1e-6, atol=1e-6)
    assert samples.requires_grad and log_prob.requires_grad
    torch.manual_seed(1)
    one = flow.sample((50,))
    torch.manual_seed(1)
    again = flow.rsample((50,))
    torch.testing.assert_close(one, again, rtol=0, atol=1e-7)
    assert not one.requires_grad and again.requires_grad


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_a_gaussian_stays_gaussian_in_a_linear_field(batch_dims: int) -> None:
    matrix = draw(3, 3, seed=0)
    flow = CNF(Linear(matrix), 3, batch_dims=batch_dims, **TIGHT).double()
    forward = torch.linalg.matrix_exp(matrix)
    exact = MultivariateNormal(torch.zeros(3, dtype=torch.float64), forward @ forward.mT)
    x = draw(20, 3, seed=1)
    torch.testing.assert_close(flow.log_prob(x), exact.log_prob(x), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(flow.to_data(x), x @ forward.mT, rtol=1e-7, atol=1e-7)
    torch.manual_seed(0)
    assert flow.entropy(20_000).item() == pytest.approx(exact.entropy().item(), abs=0.03)


def test_other_bases_and_times() -> None:
    base = Independent(Normal(torch.tensor([1.0, -1.0]).double(), torch.tensor([0.5, 2.0]).double()), 1)
    flow = CNF(lambda t, z: 2 * t * z, base, ts=(-1.0, 2.0), **TIGHT)  # z(2) = z(-1) exp(3)
    x = draw(5, 2, seed=0)
    exact = base.log_prob(x * math.exp(-3)) - 6
    torch.testing.assert_close(flow.log_prob(x), exact, rtol=1e-7, atol=1e-7)
    assert flow.event_shape == (2,)


def test_a_flow_may_be_the_base_of_another() -> None:
    first, second = FIELDS["planar"](), FIELDS["concat"]()
    nested = CNF(second, CNF(first, 2, **TIGHT).double(), **TIGHT).double()
    both = CNF([first, second], 2, **TIGHT).double()
    x = draw(5, 2, seed=0)
    torch.testing.assert_close(nested.log_prob(x), both.log_prob(x), rtol=1e-7, atol=1e-7)
    assert len(list(nested.parameters())) == len(list(both.parameters()))


@pytest.mark.parametrize("name", ["planar", "concat-squash"])
def test_liouvilles_equation(name: str) -> None:
    """Appendix A.2: on a grid, d log p / dt + f grad log p = -tr(df/dz), along solutions or not."""
    flow, field = continuous(name, rtol=1e-11, atol=1e-11), FIELDS[name]()
    z, _ = grid(2.5, 9)
    z.requires_grad_()
    t, eps = 0.6, 1e-4
    log_p = flow.at(t).log_prob(z)
    (slope,) = torch.autograd.grad(log_p.sum(), z)
    with torch.no_grad():
        rate = (flow.at(t + eps).log_prob(z) - flow.at(t - eps).log_prob(z)) / (2 * eps)
    velocity = field(torch.tensor(t, dtype=torch.float64), z)
    trace = iso.models.flows.trace_of(lambda z: field(torch.tensor(t, dtype=torch.float64), z), z)
    torch.testing.assert_close(rate + (velocity * slope).sum(1), -trace, rtol=0, atol=1e-6)
    assert trace.abs().max() > 0.05


# Traces, tolerances, steps


@pytest.mark.parametrize("name", FIELDS)
def test_the_closed_form_changes_nothing(name: str) -> None:
    field, x = FIELDS[name](), draw(10, 2, seed=0)
    plain = CNF(lambda t, z: field(t, z), 2, **TIGHT).double()
    torch.testing.assert_close(continuous(name).log_prob(x), plain.log_prob(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("trace", [Hutchinson(), Hutchinson("gaussian", 3), HutchPlusPlus()])
def test_estimates_in_a_solve_are_unbiased(trace: Any) -> None:
    """Of the log-density, because the path does not depend on the noise."""
    flow, count = continuous("planar", rtol=1e-5, atol=1e-5), 4000
    x = draw(1, 2, seed=0)
    exact = flow.log_prob(x).item()
    flow.trace = trace
    with torch.no_grad():
        samples = flow.log_prob(x.expand(count, 2))
    spread = samples.std() / count**0.5
    assert 0 < spread < 0.1
    assert abs(samples.mean() - exact) < 4 * spread


def test_the_noise_of_a_solve_is_fixed() -> None:
    flow, x = continuous("planar", trace=Hutchinson()), draw(10, 2, seed=0)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(flow.log_prob(x))
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2])
    # With fixed noise the integrand is smooth: the integral converges at tight tolerances in few steps.
    assert flow.stats is not None and flow.stats.steps < 200


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_the_log_density_has_a_tolerance_of_its_own(batch_dims: int) -> None:
    # Where nothing moves, the log-density alone asks for steps.
    def still(t: Tensor, z: Tensor) -> Tensor:
        return torch.sin(30 * t) * z * (z.square().sum(1, keepdim=True) - 1)

    angle = torch.linspace(0, 6, 12, dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    flow = CNF(still, 2, rtol=1e-6, atol=1e-6, batch_dims=batch_dims).double()
    exact = flow.base.log_prob(x) - 2 * (1 - math.cos(30)) / 30
    steps, errors = {}, {}
    for tolerance in (None, 1e-3, 1e-9, math.inf):
        flow.log_prob_tol = tolerance
        errors[tolerance] = (flow.log_prob(x) - exact).abs().max().item()
        steps[tolerance] = int(flow.stats.steps.max())  # type: ignore[union-attr]
    assert steps[math.inf] < steps[1e-3] < steps[None] < steps[1e-9]
    assert errors[1e-9] < errors[None] < errors[1e-3] < errors[math.inf]
    assert errors[1e-9] < 1e-7


def test_without_the_log_density_the_steps_are_those_of_the_field() -> None:
    flow, x = continuous("planar", log_prob_tol=math.inf), draw(20, 2, seed=0)
    flow.log_prob(x)
    assert flow.stats is not None
    with_density = flow.stats.evaluations
    flow.to_noise(x)
    assert flow.stats.evaluations == with_density


def test_samples_have_their_own_steps() -> None:
    # The farther out, the faster it turns.
    def turning(t: Tensor, z: Tensor) -> Tensor:
        return torch.stack([-z[:, 1], z[:, 0]], dim=1) * z.square().sum(1, keepdim=True)

    flow = CNF(turning, 2, batch_dims=1, **TIGHT).double()
    x = torch.tensor([[0.1, 0.0], [4.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(flow.log_prob(x), flow.base.log_prob(x), rtol=1e-6, atol=1e-6)
    assert flow.stats is not None
    assert flow.stats.steps[1] > 10 * flow.stats.steps[0]  # type: ignore[index]
    assert flow.stats.rows < 0.6 * 2 * flow.stats.evaluations


# Gradients


def parameters_of(flow: CNF) -> list[Tensor]:
    return [p for p in flow.parameters() if p.requires_grad]


@pytest.mark.parametrize(
    ("trace", "batch_dims"), [(ExactTrace(), 0), (Hutchinson(), 1)], ids=["exact, joint", "Hutchinson, per sample"]
)
@every_gradient
def test_all_gradient_methods_agree(gradient: iso.Gradient, trace: Any, batch_dims: int) -> None:
    x = draw(4, 2, seed=0)
    found = []
    for how in (iso.DirectAdjoint(), gradient):
        settings = {"method": iso.Reversible("tsit5"), "batch_dims": batch_dims, "gradient": how, "trace": trace}
        flow = CNF(double(lambda: FFJORDField(2, (6,))), 2, rtol=1e-8, atol=1e-8, **settings).double()
        torch.manual_seed(0)
        start = x.clone().requires_grad_()
        loss = -(flow.log_prob(start) * torch.arange(1.0, 5.0)).sum()
        found.append(torch.autograd.grad(loss, [start, *parameters_of(flow)]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_gradients_of_the_log_density() -> None:
    """Against finite differences: fixed steps, so that they are differences of one smooth function."""
    flow = CNF(
        double(lambda: PlanarField(2, units=2, hidden=2)), 2, method="rk4", controller=iso.FixedStep(0.25)
    ).double()
    names = dict(flow.named_parameters())

    def log_prob(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(flow, dict(zip(names, values, strict=True)), (x,))

    inputs = [draw(2, 2, seed=0), *(p.detach().clone() for p in names.values())]
    assert torch.autograd.gradcheck(log_prob, [x.requires_grad_() for x in inputs])


def test_gradients_of_samples() -> None:
    flow = CNF(double(lambda: PlanarField(2, units=2, hidden=2)), 2, method="rk4", controller=iso.FixedStep(0.25))
    flow.double()
    names = dict(flow.named_parameters())

    def cost(*values: Tensor) -> Tensor:
        torch.manual_seed(0)
        x, log_prob = _call(flow, dict(zip(names, values, strict=True)))
        return x.square().sum() + log_prob.sum()

    assert torch.autograd.gradcheck(cost, [p.detach().clone().requires_grad_() for p in names.values()])


def _call(flow: CNF, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    class Sampling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = flow

        def forward(self) -> tuple[Tensor, Tensor]:
            return self.flow.rsample_with_log_prob((3,))

    return torch.func.functional_call(Sampling(), {f"flow.{k}": v for k, v in values.items()}, ())


def test_regularised_training() -> None:
    field = double(lambda: FFJORDField(2, (8,)))
    flow = CNF(iso.Regularised(field, kinetic=True, jacobian=True), 2, trace=Hutchinson(), **TIGHT).double()
    x = draw(6, 2, seed=0)
    log_prob, penalties = flow.log_prob_and_penalties(x)
    assert set(penalties) == {"kinetic", "jacobian"}
    # The same energies as along the way to the data.
    layer = iso.NeuralODE(iso.Regularised(field, kinetic=True), **TIGHT)
    _, expected = layer(flow.to_noise(x).detach())
    torch.testing.assert_close(penalties["kinetic"], expected["kinetic"], rtol=1e-6, atol=1e-6)
    assert (penalties["jacobian"] > 0).all()
    (-log_prob + penalties["kinetic"] + penalties["jacobian"]).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in flow.parameters())
    plain = CNF(field, 2, **TIGHT).double()
    flow.trace = ExactTrace()
    torch.testing.assert_close(flow.log_prob(x), plain.log_prob(x), rtol=1e-7, atol=1e-7)
    assert flow.sample((3,)).shape == (3, 2)


def test_penalties_of_blocks_add_up() -> None:
    fields = [iso.Regularised(FIELDS[name](), kinetic=True) for name in ("planar", "concat")]
    x = draw(4, 2, seed=0)
    _, total = CNF(fields, 2, **TIGHT).double().log_prob_and_penalties(x)
    last = CNF(fields[1], 2, **TIGHT).double()
    _, one = last.log_prob_and_penalties(x)
    _, other = CNF(fields[0], 2, **TIGHT).double().log_prob_and_penalties(last.to_noise(x))
    torch.testing.assert_close(total["kinetic"], one["kinetic"] + other["kinetic"], rtol=1e-7, atol=1e-7)


def test_a_few_steps_of_maximum_likelihood() -> None:
    torch.manual_seed(0)
    flow = CNF(PlanarField(2, units=8), 2, rtol=1e-3, atol=1e-3)
    optimiser = torch.optim.Adam(flow.parameters(), lr=0.02)
    x = 0.3 * torch.randn(128, 2) + torch.tensor([1.0, -0.5])
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = -flow.log_prob(x).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    exact = -Independent(Normal(x.mean(0), x.std(0)), 1).log_prob(x).mean().item()
    assert losses[0] > exact + 1.0
    assert losses[-1] < exact + 0.5


# As a distribution, and as a module


def test_shapes_are_those_of_distributions() -> None:
    flow = CNF(FFJORDField(2, (4,)), 2)
    assert isinstance(flow, torch.distributions.Distribution)
    assert (flow.batch_shape, flow.event_shape) == ((), (2,))
    assert flow.has_rsample
    assert flow.support.check(torch.zeros(3, 2)).all()
    assert constraints.is_dependent(flow.support) is False
    assert flow.sample().shape == (2,)
    assert flow.sample((3, 4)).shape == (3, 4, 2)
    assert flow.sample((0,)).shape == (0, 2)
    assert flow.log_prob(torch.zeros(0, 2)).shape == (0,)
    assert flow.rsample_with_log_prob((3, 0))[1].shape == (3, 0)
    assert flow.log_prob(torch.zeros(2)).shape == ()
    assert flow.log_prob(torch.zeros(3, 4, 2)).shape == (3, 4)
    assert flow.entropy(8).shape == ()
    wide = flow.expand((5,))
    assert wide.batch_shape == (5,)
    assert wide.sample((3,)).shape == (3, 5, 2)
    assert wide.log_prob(torch.zeros(2)).shape == (5,)
    assert wide.expand((4, 5)).entropy(2).shape == (4, 5)
    assert Independent(wide, 1).log_prob(torch.zeros(5, 2)).shape == ()
    assert next(wide.parameters()) is next(flow.parameters())
    assert flow.batch_shape == ()


def test_images() -> None:
    flow = CNF(FFJORDField(1, (4,), layer=conv3x3), (1, 3, 3), rtol=1e-3, atol=1e-3)
    x = flow.sample((2,))
    assert x.shape == (2, 1, 3, 3)
    assert flow.log_prob(x).shape == (2,)
    flow.batch_dims = 1
    torch.testing.assert_close(flow.log_prob(x), CNF(flow.fields[0], (1, 3, 3)).log_prob(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("make", [lambda: FFJORDField(2, (8,), context=3), lambda: PlanarField(2, 4, context=3)])
def test_each_sample_may_have_a_context(make: Callable[[], nn.Module], batch_dims: int) -> None:
    flow = CNF(double(make), 2, batch_dims=batch_dims, **TIGHT).double()
    contexts, x = draw(4, 3, seed=0), draw(5, 4, 2, seed=1)
    many = flow.given(contexts)
    assert many.batch_shape == (4,)
    found = many.log_prob(x)
    assert found.shape == (5, 4)
    for i, context in enumerate(contexts):
        torch.testing.assert_close(flow.given(context).log_prob(x[:, i]), found[:, i], rtol=1e-6, atol=1e-6)
    assert (found[:, 0] - flow.given(contexts[1]).log_prob(x[:, 0])).abs().max() > 1e-2
    assert many.sample((2,)).shape == (2, 4, 2)
    assert many.expand((3, 4)).sample().shape == (3, 4, 2)
    one = flow.given(contexts[2])
    torch.testing.assert_close(one.log_prob(x[3, 2]), found[3, 2], rtol=1e-6, atol=1e-6)
    assert one.sample().shape == (2,)
    assert flow.context is None


def test_estimates_of_conditional_flows() -> None:
    flow = CNF(double(lambda: FFJORDField(3, (8,), context=2)), 3, trace=HutchPlusPlus(sketch=3), **TIGHT).double()
    given, x = flow.given(draw(4, 2, seed=0)), draw(4, 3, seed=1)
    found = given.log_prob(x)
    given.trace = ExactTrace()
    torch.testing.assert_close(found, given.log_prob(x), rtol=1e-7, atol=1e-7)


@every_gradient
def test_gradients_of_contexts(gradient: iso.Gradient) -> None:
    field = double(lambda: PlanarField(2, 4, context=2))
    x, found = draw(3, 2, seed=0), []
    for how in (iso.DirectAdjoint(), gradient):
        settings = {"method": iso.Reversible("tsit5"), "gradient": how, "batch_dims": 1}
        flow = CNF(field, 2, rtol=1e-7, atol=1e-7, **settings).double()
        context = draw(2, seed=1).requires_grad_()
        found.append(torch.autograd.grad(flow.given(context).log_prob(x).sum(), context)[0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_the_flow_until_a_time() -> None:
    flow, x = continuous("concat"), draw(4, 2, seed=0)
    torch.testing.assert_close(flow.at(1e-12).log_prob(x), flow.base.log_prob(x), rtol=1e-9, atol=1e-9)
    assert torch.equal(flow.at(0.0).log_prob(x), flow.base.log_prob(x))
    torch.testing.assert_close(flow.at(1.0).log_prob(x), flow.log_prob(x), rtol=0, atol=0)
    assert flow.ts == (0.0, 1.0)


def test_settings_may_change_at_any_time() -> None:
    flow, x = continuous("planar"), draw(4, 2, seed=0)
    exact = flow.log_prob(x)
    flow.method, flow.rtol, flow.atol = "bosh3", 1e-2, 1e-2
    rough = flow.log_prob(x)
    assert 1e-6 < (rough - exact).abs().max() < 0.1
    iso.ToleranceSchedule(flow, 1e-1, 1e-3, steps=2)
    assert flow.rtol == 1e-1
    assert "method='bosh3', rtol=0.1" in repr(flow)
    assert "trace=ExactTrace()" in repr(flow)


def test_copies_files_and_precision() -> None:
    flow, x = continuous("planar"), draw(4, 2, seed=0)
    expected = flow.log_prob(x)
    for same in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        torch.testing.assert_close(same.log_prob(x), expected, rtol=0, atol=0)
    other = continuous("planar")
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert not torch.allclose(other.log_prob(x), expected)
    other.load_state_dict(flow.state_dict())
    torch.testing.assert_close(other.log_prob(x), expected, rtol=0, atol=0)
    single = flow.float()
    single.rtol = single.atol = 1e-5
    torch.testing.assert_close(single.log_prob(x.float()), expected.float(), rtol=1e-3, atol=1e-3)
    assert single.sample().dtype == torch.float32


def test_inference_mode_and_transforms() -> None:
    flow, x = continuous("planar"), draw(3, 2, seed=0)
    with torch.inference_mode():
        torch.testing.assert_close(flow.log_prob(x), flow.log_prob(x.clone()))
    score = torch.func.vmap(torch.func.grad(flow.log_prob))(x)
    start = x.clone().requires_grad_()
    torch.testing.assert_close(score, torch.autograd.grad(flow.log_prob(start).sum(), start)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_compiled() -> None:
    field = double(lambda: PlanarField(2, 2, hidden=4))
    flow = CNF(field, 2, trace=Hutchinson(), method="midpoint", controller=iso.FixedStep(0.1)).double()
    x = draw(8, 2, seed=0)
    found = []
    for flow.compiled in (False, True):
        torch.manual_seed(0)
        log_prob = flow.log_prob(x)
        found.append((log_prob.detach(), *torch.autograd.grad(log_prob.sum(), parameters_of(flow))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_the_field_with_its_density_is_one_for_any_solve() -> None:
    f = LogDensity(Linear(draw(2, 2, seed=0)))
    z = draw(5, 2, seed=1)
    state, args = f.start(z)
    _, log_p, none = iso.solve(f, state, torch.linspace(0, 1, 4).double(), args=args, **TIGHT).ys
    assert none == {}
    slope = -f.field.matrix.trace()  # type: ignore[union-attr]
    expected = slope * torch.linspace(0, 1, 4).double().unsqueeze(1).expand(4, 5)
    torch.testing.assert_close(log_p, expected, rtol=1e-9, atol=1e-9)


# Errors


def field(t: Tensor, z: Tensor) -> Tensor:
    return -z


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CNF(field, 2.5), TypeError, "base must be a distribution or the shape of an event"),
        (lambda: CNF(field, ()), TypeError, "base must be a distribution or the shape of an event"),
        (lambda: CNF(field, 0), ValueError, "whole number >= 1"),
        (lambda: CNF(field, Normal(torch.zeros(2), 1.0)), ValueError, r"Independent\(base, 1\)"),
        (lambda: CNF([], 2), TypeError, "field must be callable"),
        (lambda: CNF(3, 2), TypeError, "field must be callable"),
        (lambda: CNF(field, 2, steps=3), TypeError, "steps"),
        (lambda: CNF(field, 2).log_prob(torch.zeros(3)), ValueError, r"events of shape \(2,\)"),
        (lambda: CNF(field, 2).log_prob([0.0, 0.0]), ValueError, r"events of shape \(2,\)"),
        (lambda: CNF(field, 2).expand((3,)).log_prob(torch.zeros(4, 2)), ValueError, "does not fit batch_shape"),
        (lambda: CNF(field, 2).expand((3,)).expand((4,)), ValueError, "cannot be expanded"),
        (lambda: CNF(field, 2).given(1.0), TypeError, "context must be a tensor"),
        (lambda: CNF([field, field], 2).at(0.5), ValueError, "2 blocks"),
        (lambda: CNF(field, 2, batch_dims=2).log_prob(torch.zeros(3, 2)), ValueError, "batch_dims must be 0, or 1"),
        (lambda: CNF(field, 2).entropy(0), ValueError, "samples must be"),
        (
            lambda: CNF(field, 2, controller=iso.FixedStep(0.1), log_prob_tol=1e-3).log_prob(torch.zeros(3, 2)),
            ValueError,
            "log_prob_tol goes with rtol and atol",
        ),
        (
            lambda: CNF(FFJORDField(2, context=3), 2).log_prob(torch.zeros(4, 2)),
            ValueError,
            r"made with context=3, and got 0 numbers.*flow.given\(context\)",
        ),
        (
            lambda: CNF(FFJORDField(2), 2).given(torch.zeros(3)).log_prob(torch.zeros(4, 2)),
            ValueError,
            "made with context=0, and got 3.*leave the context out",
        ),
        (lambda: PlanarFlow((1, 2), layers=2), ValueError, "planar layers move vectors"),
        (lambda: PlanarFlow(2, layers=0), ValueError, "layers must be"),
        (lambda: PlanarFlow(2, layers=1, closed_form="both"), ValueError, "closed_form must be"),
    ],
)
def test_errors_say_what_to_write(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


# Planar flows


@pytest.mark.parametrize("closed_form", ["to_data", "to_noise"])
def test_determinants_of_planar_flows(closed_form: str) -> None:
    flow, noise = planar_flow(closed_form), draw(6, 2, seed=0)
    moved = flow.move(noise, torch.Size((6,)), to_data=True, density=True)
    jacobians = (
        torch.stack([torch.func.jacrev(flow_row(flow))(row) for row in noise]) if closed_form == "to_data" else None
    )
    if jacobians is None:
        jacobians = torch.stack([torch.autograd.functional.jacobian(flow_row(flow), row) for row in noise])
    torch.testing.assert_close(moved.log_det, jacobians.det().abs().log(), rtol=1e-8, atol=1e-8)
    assert (jacobians.det() > 0).all()


def flow_row(flow: Flow) -> Callable[[Tensor], Tensor]:
    return lambda row: flow.to_data(row.unsqueeze(0)).squeeze(0)


def test_planar_layers_stay_invertible_whatever_their_parameters() -> None:
    flow = PlanarFlow(2, layers=1).double()
    noise = draw(500, 2, seed=0)
    for seed in range(20):
        with torch.no_grad():
            for index, parameter in enumerate(flow.parameters()):
                parameter.copy_(6 * draw(*parameter.shape, seed=100 * seed + index))
        data, log_det = flow.move(noise, torch.Size((500,)), to_data=True, density=True)[:2]
        assert log_det.isfinite().all()
        back = flow.to_noise(data)
        slopes = log_det.exp().clamp(min=1e-12)
        assert ((back - noise).abs().amax(1) * slopes).max() < 1e-9


def test_gradients_of_planar_flows_against_their_closed_form() -> None:
    inputs = [draw(5, 2, seed=0)]
    flow = planar_flow("to_noise")
    inverse = planar_flow("to_data")
    for one in (flow, inverse):
        names = dict(one.named_parameters())

        def log_prob(x: Tensor, *values: Tensor, one: Flow = one, names: Any = names) -> Tensor:
            return torch.func.functional_call(one, dict(zip(names, values, strict=True)), (x,))

        given = [x.detach().clone().requires_grad_() for x in (*inputs, *names.values())]
        assert torch.autograd.gradcheck(log_prob, given, atol=1e-5)


def test_a_field_that_cannot_be_compiled_is_tried_once() -> None:
    def field(t: Tensor, z: Tensor) -> Tensor:
        return -z * float(z.new_ones(()))

    flow = CNF(field, 2, compile=True)
    x = torch.zeros(3, 2)
    with pytest.warns(RuntimeWarning, match="cannot be compiled"):
        flow.log_prob(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(flow.log_prob(x), CNF(field, 2).log_prob(x))
