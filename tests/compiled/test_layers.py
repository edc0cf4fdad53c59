"""``compile`` of the layers."""

import copy

import pytest
import torch

import isocline as iso
from isocline.models.flows import PlanarField

from .problems import Net, draw, graphs


class Field(Net):
    pass


@pytest.mark.usefixtures("graphs_only")
class TestNeuralODE:
    def test_same_results_and_gradients(self) -> None:
        layer, y0 = iso.NeuralODE(Field(), (0.0, 1.0), compile=True), draw(4, 2)
        other = copy.deepcopy(layer)
        other.compiled = False
        outs = [x(y0) for x in (layer, other)]
        for out in outs:
            out.square().sum().backward()
        torch.testing.assert_close(*outs, rtol=1e-9, atol=1e-9)
        for a, b in zip(layer.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-8)
        assert layer.stats.backward is not None
        assert other.stats.backward is None  # eager

    def test_may_be_changed_at_any_time(self) -> None:
        layer, y0 = iso.NeuralODE(Field(), (0.0, 1.0)), draw(4, 2)
        before = graphs()
        layer(y0)
        assert graphs() == before
        layer.compiled = True
        layer(y0).sum().backward()
        assert layer.stats.backward is not None

    def test_the_method_of_modules_is_left_alone(self) -> None:
        assert callable(iso.NeuralODE(Field(), compile=True).compile)

    def test_trains(self) -> None:
        layer = iso.NeuralODE(Field(2), (0.0, 1.0), compile=True)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
        losses = []
        for _ in range(12):
            optimizer.zero_grad()
            loss = (layer(draw(4, 2)) - 1.0).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]


def test_augmented(graphs_only: None) -> None:
    layer = iso.AugmentedNeuralODE(lambda t, y: torch.cos(t) * y - y.sin(), channels=2, compile=True)
    assert layer.ode.compiled
    y0 = draw(4, 1)
    compiled = layer(y0)
    layer.ode.compiled = False
    torch.testing.assert_close(compiled, layer(y0), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_a_flow_of_any_number_of_samples(graphs_only: None) -> None:
    """Its field has an operation (baddbmm) that can be described in Python only, once sizes vary."""
    compiled = iso.CNF(PlanarField(2, units=3), 2, compile=True)
    eager = iso.CNF(compiled.fields[0], 2)
    for samples in (5, 7):
        x = draw(samples, 2).float()
        torch.testing.assert_close(compiled.log_prob(x), eager.log_prob(x), rtol=1e-4, atol=1e-4)
