"""NeuralODE: the solver as a layer."""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting


class Field(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, dtype=torch.float64)
        self.dropout = nn.Dropout(0.5)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.linear(y)) + t


def start(batch: int = 4) -> Tensor:
    return torch.randn(batch, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def layer() -> iso.NeuralODE:
    torch.manual_seed(0)
    return iso.NeuralODE(Field(), (0.0, 0.5, 2.0))


def test_returns_the_last_state(layer: iso.NeuralODE) -> None:
    assert torch.equal(layer(start()), iso.solve(layer.field, start(), (0.0, 0.5, 2.0)).ys[-1])


def test_returns_all_states_when_asked(layer: iso.NeuralODE) -> None:
    layer.return_all = True
    assert torch.equal(layer(start()), iso.solve(layer.field, start(), (0.0, 0.5, 2.0)).ys)


def test_nested_states() -> None:
    layer = iso.NeuralODE(lambda t, s: {"x": s["v"], "v": -s["x"]}, (0.0, torch.pi))
    out = layer({"x": torch.ones(3), "v": torch.zeros(3)})
    torch.testing.assert_close(out["x"], -torch.ones(3), rtol=0, atol=1e-3)
    assert out["v"].shape == (3,)


@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
def test_trains_with_every_gradient(layer: iso.NeuralODE, gradient: iso.Gradient) -> None:
    layer.gradient, layer.method = gradient, fitting(gradient)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = (layer(start()) - 1.0).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_settings_may_change_after_training(layer: iso.NeuralODE) -> None:
    def evaluations() -> int:
        layer(start())
        return layer.stats.evaluations

    with torch.no_grad():
        normal = evaluations()
        layer.rtol = layer.atol = 1e-10
        accurate = evaluations()
        layer.rtol = layer.atol = None
        layer.method, layer.controller = "rk4", iso.FixedStep(0.5)
        fixed = evaluations()
        layer.ts = (0.0, 1.0)
        assert evaluations() == 2 * 4
    assert accurate > 2 * normal
    assert fixed == 4 * 4


def test_batch_dims_gives_each_sample_its_own_steps(layer: iso.NeuralODE) -> None:
    layer.batch_dims = 1
    layer(start() * torch.tensor([[1e-2], [1.0], [10.0], [100.0]]))
    assert layer.stats.steps.shape == (4,)
    assert layer.stats.steps.unique().numel() > 1


def test_max_steps_is_passed_on(layer: iso.NeuralODE) -> None:
    layer.max_steps = 1
    with pytest.raises(iso.SolveError, match="MAX_STEPS"):
        layer(start())


def test_further_arguments_reach_the_field() -> None:
    layer = iso.NeuralODE(lambda t, y, rate, shift: -rate * y + shift, rtol=1e-8, atol=1e-8)
    rate = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    out = layer(start(), rate, 0.0)
    torch.testing.assert_close(out, start() * torch.exp(-rate), rtol=1e-6, atol=1e-7)
    out.sum().backward()
    torch.testing.assert_close(rate.grad, -(start() * torch.exp(-rate)).sum().detach(), rtol=1e-6, atol=1e-6)


def test_stats_of_the_last_call(layer: iso.NeuralODE) -> None:
    layer.gradient = iso.RecursiveCheckpointAdjoint()
    assert layer.stats is None
    out = layer(start())
    first = layer.stats
    assert first.evaluations > 0
    assert first.backward is None
    out.sum().backward()
    assert first.backward.evaluations > 0
    layer(start())
    assert layer.stats is not first


def test_state_dict_is_the_field_s(layer: iso.NeuralODE) -> None:
    assert set(layer.state_dict()) == {"field.linear.weight", "field.linear.bias"}
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = iso.NeuralODE(Field(), layer.ts)
    assert not torch.equal(other(start()), layer(start()))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(start()), layer(start()))


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("used", [False, True])
def test_copies(layer: iso.NeuralODE, how: str, used: bool) -> None:
    layer.gradient, layer.controller = iso.BacksolveAdjoint(rtol=1e-4), iso.PID(rtol=1e-3)
    if used:
        layer(start()).sum().backward()
    other = copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))
    assert (other.gradient, other.controller) == (layer.gradient, layer.controller)
    assert torch.equal(other(start()), layer(start()))
    with torch.no_grad():
        other.field.linear.bias.add_(1.0)
    assert not torch.equal(other(start()), layer(start()))


def test_modes_reach_the_field(layer: iso.NeuralODE) -> None:
    assert layer.field.dropout.training
    assert not layer.eval().field.dropout.training
    assert layer.train().field.dropout.training


def test_learnable_end_time() -> None:
    end = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    layer = iso.NeuralODE(lambda t, y: -y, (0.0, end), rtol=1e-8, atol=1e-8)
    layer(torch.ones(1, dtype=torch.float64)).sum().backward()
    assert end.grad.item() == pytest.approx(-torch.exp(torch.tensor(-1.0)).item(), rel=1e-6)


def test_settings_are_printed(layer: iso.NeuralODE) -> None:
    layer.rtol = 0.125
    assert "method='tsit5'" in repr(layer)
    assert "rtol=0.125" in repr(layer)
    assert "compile" not in repr(layer)
    layer.controller = iso.FixedStep(0.25)
    layer.compiled = True
    assert "FixedStep(dt=0.25)" in repr(layer)
    assert "compile=True" in repr(layer)
