"""``odeint_adjoint``: what is differentiated, by which norm, and what can be read on the autograd node."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint, odeint_adjoint

F64 = torch.float64


class Field(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=F64))
        self.unused = nn.Linear(2, 5).double()
        self.calls = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        return y**3 @ self.A


def start() -> Tensor:
    return torch.tensor([[1.5, 0.0]], dtype=F64, requires_grad=True)


@pytest.mark.parametrize("method", ["dopri5", "dopri8", "bosh3", "scipy_solver"])
@pytest.mark.parametrize("adjoint_method", [None, "tsit5", "rk4"])
def test_gradients_are_those_of_odeint(method: str, adjoint_method: str | None) -> None:
    """Of y0, times and parameters; parameters that are not used get zeros."""
    field, y0 = Field(), start()
    t = torch.linspace(0.0, 2.0, 7, dtype=F64, requires_grad=True)
    solves, bound = {"rtol": 1e-9, "atol": 1e-9}, 2e-5
    weights = torch.randn(7, 1, 2, dtype=F64)
    expected = torch.autograd.grad((weights * odeint(field, y0, t, **solves)).sum(), [y0, t, field.A])
    options = {"adjoint_options": {"step_size": 0.01}} if adjoint_method == "rk4" else {}
    if method == "bosh3":
        solves, bound = {"rtol": 1e-7, "atol": 1e-7}, 2e-3
    ys = odeint_adjoint(field, y0, t, method=method, adjoint_method=adjoint_method, **options, **solves)
    (weights * ys).sum().backward()
    for got, wanted in zip((y0.grad, t.grad, field.A.grad), expected, strict=True):
        assert got is not None and (got - wanted).abs().max() < bound
    assert all(p.grad is not None and not p.grad.any() for p in field.unused.parameters())


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun2", "heun3", "rk4"])
@pytest.mark.parametrize("options", [{}, {"step_size": 0.03}])
@pytest.mark.parametrize("at", [-1, 0, slice(None)])
def test_fixed_steps_are_those_of_torchdiffeq(method: str, options: dict[str, float], at: Any) -> None:
    """Backwards on the same grid, begun anew at each time from the saved state, whatever the loss depends on."""
    peer = pytest.importorskip("torchdiffeq")
    t = 0.5 * torch.linspace(0.0, 1.0, 21, dtype=F64) ** 2
    found = []
    for solve in (odeint_adjoint, peer.odeint_adjoint):
        field, y0 = Field(), start()
        ys = solve(field, y0, t, method=method, options={**options, **({"interp": "cubic"} if options else {})})
        ys[20 if at == -1 else at].square().sum().backward()
        found.append((y0.grad, field.A.grad))
    close = 1e-9 if not options or at == 0 else 5e-3
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() < close * (1 + theirs.abs().max())


@pytest.mark.parametrize("method", ["explicit_adams", "implicit_adams"])
def test_adams_methods_backwards(method: str) -> None:
    t = torch.linspace(0.0, 1.0, 81, dtype=F64)
    found = []
    for solve, name in ((odeint, "dopri5"), (odeint_adjoint, method)):
        field, y0 = Field(), start()
        solve(field, y0, t, method=name)[-1].sum().backward()
        found.append((y0.grad, field.A.grad))
    for wanted, got in zip(*found, strict=True):
        assert (got - wanted).abs().max() < 5e-3


def test_params_that_are_not_leaves() -> None:
    w = torch.tensor(0.5, dtype=F64, requires_grad=True)
    k = w.exp()
    y0 = torch.ones(1, dtype=F64)
    for params in ([k], (x for x in [k, torch.ones(3)])):
        ys = odeint_adjoint(lambda t, y: -k * y, y0, torch.tensor([0.0, 1.0]), adjoint_params=params)
        (slope,) = torch.autograd.grad(ys[-1].sum(), w, retain_graph=True)
        assert (slope + k * (-k).exp()).abs() < 1e-6


def test_no_params() -> None:
    field, y0 = Field(), start()
    odeint_adjoint(field, y0, torch.tensor([0.0, 1.0]), adjoint_params=()).sum().backward()
    assert y0.grad is not None and field.A.grad is None


def test_warning_of_params_without_gradient_beside_a_norm() -> None:
    params = (torch.ones(2), torch.ones(2, requires_grad=True))
    options = {"norm": lambda parts: parts[1].abs().max()}
    with pytest.warns(UserWarning, match="without requiring gradient"):
        odeint_adjoint(
            lambda t, y: y, start(), torch.tensor([0.0, 1.0]), adjoint_params=params, adjoint_options=options
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        odeint_adjoint(lambda t, y: y, start(), torch.tensor([0.0, 1.0]), adjoint_params=params)


def sizes(*parts: Tensor) -> Tensor:
    return torch.stack([part.square().mean().sqrt() for part in parts]).max()


class TestNorms:
    params = (torch.rand(7, requires_grad=True), torch.rand((), requires_grad=True))
    t = torch.tensor([0.0, 1.0])

    @pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
    @pytest.mark.parametrize("options", [{}, {"adjoint_options": {}}, {"adjoint_options": {"norm": "seminorm"}}])
    def test_on_the_node_of_a_tensor(self, shape: tuple[int, ...], options: dict[str, Any]) -> None:
        """It can be read and called there, and replaced."""
        ys = odeint_adjoint(lambda t, y: y, torch.ones(shape), self.t, adjoint_params=self.params, **options)
        own = ys.grad_fn.adjoint_options["norm"]
        parts = torch.rand(()), torch.rand(shape), torch.rand(shape), 5 * torch.rand(7), 5 * torch.rand(())
        counted = parts[:3] if "norm" in options.get("adjoint_options", {}) else parts
        assert own(parts).shape == () and (own(parts) - sizes(*counted)).abs() < 1e-6
        seen: list[Any] = []

        def spy(parts: tuple[Tensor, ...]) -> Tensor:
            seen.append([part.shape for part in parts])
            return own(parts)

        ys.grad_fn.adjoint_options["norm"] = spy
        ys.sum().backward()
        assert seen and all(s == [(), shape, shape, (7,), ()] for s in seen)

    def test_on_the_node_of_a_tuple(self) -> None:
        """Behind the views that the members are; the state is flat there."""
        y0 = torch.tensor(1.0), torch.ones(2, 2)
        ys = odeint_adjoint(lambda t, y: y, y0, self.t, adjoint_params=self.params)
        options = ys[0].grad_fn.next_functions[0][0].next_functions[0][0].adjoint_options
        y, a = torch.rand(5), torch.rand(5)
        parts = (torch.zeros(()), y, a, torch.zeros(7), torch.zeros(()))
        assert (options["norm"](parts) - sizes(y[0], y[1:], a[0], a[1:])).abs() < 1e-6
        ys[0].sum().backward()

    @pytest.mark.parametrize("tupled", [False, True])
    def test_of_the_user(self, tupled: bool) -> None:
        y0: Any = (torch.tensor(1.0), torch.ones(2, 2)) if tupled else torch.tensor(1.0)
        shapes = [(), (2, 2)] if tupled else [()]
        seen: list[Any] = []

        def norm(parts: tuple[Tensor, ...]) -> Tensor:
            assert isinstance(parts, tuple)
            seen.append([part.shape for part in parts])
            return sizes(*parts)

        ys = odeint_adjoint(lambda t, y: y, y0, self.t, adjoint_params=self.params, adjoint_options={"norm": norm})
        (ys[0] if tupled else ys).sum().backward()
        assert seen and all(s == [(), *shapes, *shapes, (7,), ()] for s in seen)

    def test_it_decides(self) -> None:
        """A norm ten times as large asks for more steps."""

        def calls(norm: Callable[..., Any] | str) -> int:
            field, y0 = Field(), start()
            ys = odeint_adjoint(field, y0, self.t.double(), rtol=1e-4, atol=1e-4, adjoint_options={"norm": norm})
            field.calls = 0
            ys.sum().backward()
            return field.calls

        assert calls("seminorm") < calls(lambda parts: 1000 * sizes(*parts))


def test_tolerances_of_the_backward_solve() -> None:
    def calls(**tolerances: float) -> int:
        field, y0 = Field(), start()
        ys = odeint_adjoint(field, y0, torch.tensor([0.0, 1.0]), **tolerances)
        field.calls = 0
        ys.sum().backward()
        return field.calls

    assert calls(adjoint_rtol=1e-3, adjoint_atol=1e-3) < calls() / 2


def test_adjoint_jumps() -> None:
    """Both ways of a field with a known jump cost less than finding it."""

    def calls(**options: Any) -> tuple[int, int]:
        count = [0]

        def f(t: Tensor, y: Tensor) -> Tensor:
            count[0] += 1
            return -0.5 * y if t < 0.5 else y**2

        y0 = torch.tensor([0.5, 0.8], dtype=F64, requires_grad=True)
        ys = odeint_adjoint(f, y0, torch.tensor([0.0, 1.0]), rtol=1e-6, atol=1e-6, adjoint_params=(), options=options)
        forward, count[0] = count[0], 0
        ys.sum().backward()
        return forward, count[0]

    with_jump, without = calls(jump_t=torch.tensor([0.5])), calls()
    assert with_jump[0] < without[0] and with_jump[1] < without[1]


def test_under_no_grad() -> None:
    with torch.no_grad():
        ys = odeint_adjoint(Field(), start(), torch.tensor([0.0, 1.0]))
    assert not ys.requires_grad
