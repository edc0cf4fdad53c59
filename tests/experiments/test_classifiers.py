import pytest
import torch

import isocline as iso
from isocline.experiments.memory import parameters
from isocline.experiments.section3.classifiers import (
    ABOUT,
    MODEL_NAMES,
    ConvField,
    ModelName,
    TimeConv,
    build_classifier,
)


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("pixels", [8, 28])
def test_logits_and_gradients_of_every_parameter(name: ModelName, pixels: int) -> None:
    model = build_classifier(name, 4, pixels)
    logits = model(torch.rand(3, 1, pixels, pixels))
    assert logits.shape == (3, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all((p.grad != 0).any() for n, p in model.named_parameters() if "conv" in n and p.grad is not None)


def test_parameter_counts_are_those_of_the_paper() -> None:
    counts = {name: parameters(build_classifier(name, 64, 28)) for name in MODEL_NAMES}
    for name, about in ABOUT.items():
        if about.paper_parameters is not None:
            assert counts[name] == pytest.approx(1e6 * about.paper_parameters, rel=0.06)
    assert counts["odenet"] == counts["rknet"] == counts["odenet-kinetic"] <= 0.22e6
    assert counts["small-resnet"] == pytest.approx(counts["odenet"], rel=0.01)


def test_the_stem_alone_has_no_block() -> None:
    stem, block = (build_classifier(name, 4, 8).body for name in ("stem", "small-resnet"))
    assert not list(stem.parameters())
    assert len(list(block.children())) == 1


def test_kinetic_energy_is_the_integral_of_the_squared_speed() -> None:
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = build_classifier("odenet-kinetic", 4, 8, rtol=1e-7, atol=1e-7).double()
    state = model.stem(x)
    model.body(state)
    ts = torch.linspace(0, 1, 401, dtype=torch.float64)
    field = model.body.field.field
    with torch.no_grad():
        ys = iso.solve(field, state, ts, rtol=1e-8, atol=1e-8).ys
        speeds = torch.stack([field(t, y).square().mean() for t, y in zip(ts, ys, strict=True)])
    expected = torch.trapezoid(speeds, ts)
    torch.testing.assert_close(model.penalty(), expected, rtol=1e-4, atol=0)
    assert build_classifier("odenet", 4, 8).penalty() == 0.0


def test_layers_of_sixteen_bits_leave_the_state_in_float32() -> None:
    model = build_classifier("odenet", 4, 8, rtol=1e-1, atol=1e-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.rand(3, 1, 8, 8))
    assert logits.isfinite().all()


def test_the_field_sees_the_time() -> None:
    field, y = ConvField(4), torch.randn(2, 4, 3, 3)
    assert not torch.allclose(field(torch.tensor(0.0), y), field(torch.tensor(1.0), y))
    conv = TimeConv(4)
    torch.nn.init.zeros_(conv.conv.weight[:, 1:].detach())
    one, two = (conv(torch.tensor(t), y) - conv.conv.bias[:, None, None] for t in (1.0, 2.0))
    torch.testing.assert_close(two, 2 * one)


def test_rk_net_and_ode_net_differ_in_how_they_find_the_same_gradient() -> None:
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    models = [build_classifier(name, 4, 8, rtol=1e-5, atol=1e-5).double() for name in ("rknet", "odenet")]
    outputs = [model(x) for model in models]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    direct, adjoint = (torch.cat([p.grad.flatten() for p in model.parameters()]) for model in models)
    assert (direct - adjoint).norm() < 0.05 * direct.norm()
    assert models[1].body.stats.backward.evaluations > 0


def test_the_seed_decides_the_weights_and_nothing_else_changes() -> None:
    state = torch.get_rng_state()
    one, same, other = (build_classifier("resnet", 4, 8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
