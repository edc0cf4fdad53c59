"""Fields against their formulas, written out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.models.flows import (
    CNF,
    Concat,
    ConcatSquash,
    FFJORDField,
    HamiltonianField,
    PlanarField,
    PlanarFlow,
    conv3x3,
)
from models.flows.fields import double, draw


def scalar(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


def test_the_planar_field() -> None:
    field, z, t = double(lambda: PlanarField(3, units=4)), draw(5, 3, seed=0), scalar(0.4)
    numbers = field.net(t.reshape(1, 1)).reshape(4, 8)
    expected = torch.zeros(5, 3, dtype=torch.float64)
    for u, w, b, gate in ((n[:3], n[3:6], n[6], n[7]) for n in numbers):
        expected = expected + torch.outer(torch.tanh(z @ w + b), u) / (1 + (-gate).exp())
    torch.testing.assert_close(field(t, z), expected)
    assert (field(scalar(0.9), z) - expected).abs().max() > 1e-2


def test_planar_units_begin_unlike_each_other() -> None:
    torch.manual_seed(0)
    field = PlanarField(4, units=2000)
    _, w, b = field.units_at(torch.tensor(0.5), torch.zeros(1, 4))
    assert w.std().item() == pytest.approx(0.5, rel=0.1)  # w^T z of standard normal z is about as wide as tanh
    assert b.std().item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("mix", [Concat, ConcatSquash])
def test_layers_that_see_the_time(mix: Any) -> None:
    layer = double(lambda: mix(nn.Linear, 2, 4, 3))
    c, x = draw(1, 3, seed=0), draw(5, 2, seed=1)
    if mix is Concat:
        weight = layer.layer.weight
        expected = x @ weight[:, 3:].mT + c @ weight[:, :3].mT + layer.layer.bias
    else:
        gate = 1 / (1 + (-(c @ layer.gate.weight.mT + layer.gate.bias)).exp())
        expected = (x @ layer.layer.weight.mT + layer.layer.bias) * gate + c @ layer.shift.weight.mT
    torch.testing.assert_close(layer(c, x), expected)
    # On images of one pixel a convolution is a linear layer.
    images = double(lambda: mix(lambda a, b: nn.Conv2d(a, b, 1), 2, 4, 3))
    for own, other in zip(images.parameters(), layer.parameters(), strict=True):
        own.data = other.data.reshape(own.shape)
    torch.testing.assert_close(images(c, x.reshape(5, 2, 1, 1)).reshape(5, 4), expected)


def test_the_hamiltonian_field() -> None:
    field = HamiltonianField(lambda t, p: p / 2, lambda t, q: -t * q)
    z = draw(5, 4, seed=0)
    expected = torch.cat([z[:, 2:] / 2, -0.3 * z[:, :2]], dim=1)
    torch.testing.assert_close(field(scalar(0.3), z), expected)
    with pytest.raises(ValueError, match="even number of components"):
        field(scalar(0.3), z[:, :3])


FIELDS: dict[str, Callable[[int], nn.Module]] = {
    "planar": lambda context: PlanarField(2, 5, context=context),
    "squash": lambda context: FFJORDField(2, (6,), context=context),
    "concat": lambda context: FFJORDField(2, (6,), mix=Concat, context=context),
    "hamiltonian": lambda c: HamiltonianField(FFJORDField(1, (6,), context=c), FFJORDField(1, (6,), context=c)),
    "images": lambda context: FFJORDField(2, (6,), layer=conv3x3, context=context),
}


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("name", FIELDS)
def test_samples_may_have_their_own_times_and_contexts(name: str, context: int) -> None:
    field = double(lambda: FIELDS[name](context))
    z = draw(4, 2, 3, 3, seed=0) if name == "images" else draw(4, 2, seed=0)
    t, c = torch.rand(4, dtype=torch.float64), draw(4, context, seed=1)
    found = field(t.reshape(4, *[1] * (z.ndim - 1)), z, *((c,) if context else ()))
    for i in range(4):
        alone = field(t[i], z[i : i + 1], *((c[i : i + 1],) if context else ()))
        torch.testing.assert_close(found[i : i + 1], alone)


def test_contexts_leave_with_their_samples() -> None:
    def turning(t: Tensor, z: Tensor, speed: Tensor) -> Tensor:
        return torch.stack([-z[:, 1], z[:, 0]], dim=1) * speed

    flow = CNF(turning, 2, batch_dims=1, rtol=1e-6, atol=1e-6).double()
    speeds = torch.logspace(-1, 1.5, 8, dtype=torch.float64).unsqueeze(1)
    x = draw(8, 2, seed=0)
    for trace in (iso.ExactTrace(), iso.Hutchinson()):
        flow.trace = trace
        many = flow.given(speeds)
        torch.testing.assert_close(many.log_prob(x), many.base.log_prob(x), rtol=1e-3, atol=1e-3)
        assert many.stats is not None
        assert many.stats.rows < 0.4 * 8 * many.stats.evaluations


def test_a_planar_layer() -> None:
    flow = PlanarFlow(3, layers=1).double()
    w, u, b = draw(3, seed=0), 2 * draw(3, seed=1), draw(1, seed=2)
    with torch.no_grad():
        for parameter, value in zip(flow.parameters(), (w, u, b), strict=True):
            parameter.copy_(value.reshape(parameter.shape))
    z = draw(5, 3, seed=3)
    allowed = (1 + (w @ u).exp()).log() - 1
    shifted = u + (allowed - w @ u) * w / (w @ w)
    torch.testing.assert_close(w @ shifted, allowed)
    torch.testing.assert_close(flow.to_data(z), z + torch.outer(torch.tanh(z @ w + b), shifted))


def test_a_layer_may_contract_to_nothing_but_not_fold() -> None:
    flow = PlanarFlow(1, layers=1).double()
    with torch.no_grad():
        for parameter, value in zip(flow.parameters(), (1.0, -30.0, 0.0), strict=True):
            parameter.fill_(value)
    line = torch.linspace(-2, 2, 101, dtype=torch.float64).unsqueeze(1)
    steps = flow.to_data(line).diff(dim=0)
    assert (steps > 0).all()
    assert steps.min() < 1e-3 * line.diff(dim=0).max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PlanarField(0, 2), "dim must be"),
        (lambda: PlanarField(2, 0), "units must be"),
        (lambda: PlanarField(2, 2, context=-1), "context must be"),
        (lambda: FFJORDField(2, (0,)), "channels and hidden widths must be"),
        (lambda: FFJORDField(2, context=-1), "context must be"),
    ],
)
def test_settings_are_checked(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
