import pytest
import torch

from isocline.experiments.section3.classifiers import (
    MODEL_NAMES,
    ConvField,
    ModelName,
    TimeConv,
    build_classifier,
)


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize(("pixels", "halvings"), [(8, 1), (28, 2)])
def test_logits_and_gradients_of_every_parameter(name: ModelName, pixels: int, halvings: int) -> None:
    model = build_classifier(name, 4, halvings)
    logits = model(torch.rand(3, 1, pixels, pixels))
    assert logits.shape == (3, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all((p.grad != 0).any() for n, p in model.named_parameters() if "conv" in n and p.grad is not None)


def test_parameter_counts_are_those_of_the_paper() -> None:
    # Table 1 of arXiv 1806.07366: 0.60 M for the ResNet, 0.22 M for RK-Net and ODE-Net, on MNIST.
    counts = {name: build_classifier(name, 64, 2).parameter_count() for name in MODEL_NAMES}
    assert counts["resnet"] == pytest.approx(0.60e6, rel=0.06)
    assert counts["odenet"] == pytest.approx(0.22e6, rel=0.06)
    assert counts["rknet"] == counts["odenet"]


def test_the_field_sees_the_time() -> None:
    field, y = ConvField(4), torch.randn(2, 4, 3, 3)
    assert not torch.allclose(field(torch.tensor(0.0), y), field(torch.tensor(1.0), y))
    conv = TimeConv(4)
    torch.nn.init.zeros_(conv.conv.weight[:, 1:].detach())
    one, two = (conv(torch.tensor(t), y) - conv.conv.bias[:, None, None] for t in (1.0, 2.0))
    torch.testing.assert_close(two, 2 * one)


def test_rk_net_and_ode_net_differ_in_how_they_find_the_same_gradient() -> None:
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    models = [build_classifier(name, 4, 1, rtol=1e-5, atol=1e-5).double() for name in ("rknet", "odenet")]
    outputs = [model(x) for model in models]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    direct, adjoint = (torch.cat([p.grad.flatten() for p in model.parameters()]) for model in models)
    assert (direct - adjoint).norm() < 0.05 * direct.norm()
    assert models[1].body.stats.backward.evaluations > 0


def test_the_seed_decides_the_weights_and_nothing_else_changes() -> None:
    state = torch.get_rng_state()
    one, same, other = (build_classifier("resnet", 4, 1, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
