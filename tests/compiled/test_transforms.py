"""Fields that differentiate or vmap themselves are compiled like all others, and differentiated through."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isocline as iso

from .problems import TIGHT, assert_same, assert_same_gradients, draw, solve_both

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch._prims_common.check:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
]


class Flow(nn.Module):
    """A continuous normalizing flow with the exact trace of its Jacobian."""

    def __init__(self, trace: Callable[..., Tensor]) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2)).double()
        self.trace = trace
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(draw(*p.shape, seed=i))

    def forward(self, t: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        def f(z: Tensor) -> Tensor:
            return self.net(z) * torch.cos(t)

        return f(y[0]), -self.trace(f, y[0])


def by_jacrev(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    jacobians = torch.vmap(torch.func.jacrev(f))(z)
    return jacobians.diagonal(dim1=1, dim2=2).sum(1)


def by_jvp(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    def along(v: Tensor) -> Tensor:
        return torch.func.jvp(f, (z,), (v.expand_as(z),))[1]

    columns = torch.vmap(along)(torch.eye(2, dtype=z.dtype))
    return sum(columns[i, :, i] for i in range(2))


def by_vjp(f: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    _, pull = torch.func.vjp(f, z)
    return sum(pull(torch.eye(2, dtype=z.dtype)[i].expand_as(z))[0][:, i] for i in range(2))


@pytest.mark.usefixtures("graphs_only")
@pytest.mark.parametrize(("trace", "batch_dims"), [(by_jacrev, 0), (by_vjp, 1)])
def test_exact_trace(trace: Callable[..., Tensor], batch_dims: int) -> None:
    flow, z = Flow(trace), draw(4, 2).requires_grad_()
    y0 = z, torch.zeros(4, dtype=z.dtype)
    with torch.no_grad():
        assert_same(*solve_both(flow, y0, (0.0, 1.0), batch_dims=batch_dims, **TIGHT))
    assert_same_gradients(flow, y0, (0.0, 1.0), [z, *flow.parameters()], batch_dims=batch_dims, **TIGHT)


class Machine(Flow):
    """A class of its own, so that its programs are."""


@pytest.mark.long
def test_in_machine_code() -> None:
    flow, z = Machine(by_jacrev), draw(4, 2).requires_grad_()
    y0, settings = (z, torch.zeros(4, dtype=z.dtype)), {"method": "heun", "controller": iso.FixedStep(0.1)}
    assert_same_gradients(flow, y0, (0.0, 1.0), [z, *flow.parameters()], **settings)


@pytest.mark.usefixtures("graphs_only")
def test_backsolve() -> None:
    flow, z = Flow(by_jacrev), draw(4, 2).requires_grad_()
    y0 = z, torch.zeros(4, dtype=z.dtype)
    wanted = [z, *flow.parameters()]
    settings: dict[str, Any] = {"gradient": iso.BacksolveAdjoint(), "rtol": 1e-9, "atol": 1e-9}
    first, second = solve_both(flow, y0, (0.0, 1.0), **settings)
    losses = [s.ys[0][-1].sin().sum() + s.ys[1][-1].square().sum() for s in (first, second)]
    for a, b in zip(*(torch.autograd.grad(loss, wanted) for loss in losses), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.long
def test_backsolve_in_machine_code_is_the_eager_one() -> None:
    k, y0 = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), draw(3, 2).requires_grad_()
    ts = torch.tensor([0.0, 0.3, 1.1, 2.0], dtype=torch.float64, requires_grad=True)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return torch.sin(t) * y.flip(1) - k * y**3

    results = []
    for compiled in (True, False):
        sol = iso.solve(f, y0, ts, gradient=iso.BacksolveAdjoint(), compile=compiled, **TIGHT)
        results.append((torch.autograd.grad(sol.ys.square().sum(), [y0, ts, k]), sol.stats.backward))
    (ours, counts), (theirs, expected) = results
    assert counts == expected
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("graphs_only")
def test_no_grad_inside_cuts() -> None:
    w, y0 = draw(2, seed=4).requires_grad_(), draw(3, 2).requires_grad_()

    def f(t: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            scale = (w * y).sum(dim=1, keepdim=True).tanh()
        return scale * torch.sin(w * y) - y.detach() ** 3

    assert_same_gradients(f, y0, (0.0, 1.0), [y0, w], **TIGHT)


@pytest.mark.usefixtures("graphs_only")
def test_change_in_place_of_its_own() -> None:
    w, y0 = draw(2, seed=4).requires_grad_(), draw(3, 2).requires_grad_()

    def f(t: Tensor, y: Tensor) -> Tensor:
        out = torch.zeros_like(y)
        out[:, 0] = torch.sin(w[0] * y[:, 1])
        out[:, 1].add_(y[:, 0] * w[1])
        return out.mul_(1.5)

    assert_same_gradients(f, y0, (0.0, 1.0), [y0, w], **TIGHT)


@pytest.mark.usefixtures("graphs_only")
def test_constants() -> None:
    y0 = draw(3, 2).requires_grad_()

    def f(t: Tensor, y: Tensor) -> Tensor:
        return -torch.tensor([1.0, 2.0], dtype=y.dtype) * y.abs().clamp(min=0.1) ** 1.5

    assert_same_gradients(f, y0, (0.0, 1.0), [y0], **TIGHT)


@pytest.mark.parametrize("batch", [4, 7])
def test_forward_mode_is_refused(batch: int) -> None:
    """With sizes that vary the front end itself fails on it, with a reason of its own."""
    flow, z = Flow(by_jvp), draw(batch, 2)
    reason = r"f cannot be compiled as one graph, .*(torch\.func\.jvp|test_transforms\.py)"
    with pytest.warns(RuntimeWarning, match=reason):
        assert_same(*solve_both(flow, (z, torch.zeros(batch, dtype=z.dtype)), (0.0, 1.0), **TIGHT))


def test_running_statistics_are_refused() -> None:
    net, y0 = nn.BatchNorm1d(2).double(), draw(5, 2).requires_grad_()
    with pytest.warns(RuntimeWarning, match="in place"):
        iso.solve(lambda t, y: net(y), y0, (0.0, 1.0), compile=True)
