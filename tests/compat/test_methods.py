"""All methods: against closed forms, in both directions, with tuples and tolerances of each member, differentiated."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from isocline.compat.torchdiffeq import odeint, odeint_adjoint
from isocline.compat.torchdiffeq.methods import SOLVERS

NAMES = [name for name in SOLVERS if name != "scipy_solver"]
ADAPTIVE = [name for name in NAMES if not SOLVERS[name].fixed]
IMPLICIT = [name for name in NAMES if not SOLVERS[name].choose({}).integrates]
# The error estimate of fehlberg2 is small beside its error, in torchdiffeq as well.
ERROR = {"euler": 2e-2, "implicit_euler": 2e-2, "fehlberg2": 2e-4, "adaptive_heun": 2e-5}
ORDERS = {
    **{"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4, "explicit_adams": 4, "implicit_adams": 4},
    **{"implicit_euler": 1, "implicit_midpoint": 2, "trapezoid": 2, "radauIIA3": 3, "gl4": 4, "radauIIA5": 5, "gl6": 6},
    **{"sdirk2": 2, "trbdf2": 2, "fixed_adams": 4},
}
F64 = torch.float64

every_method = pytest.mark.parametrize("method", [*NAMES, "scipy_solver"])


class Relaxation(nn.Module):
    """``y' = -k y + cos(t)``."""

    def __init__(self, k: float = 0.4) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k, dtype=F64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return t.cos() - self.k * y

    def exact(self, y0: Tensor, t: Tensor) -> Tensor:
        k, t = self.k, t.reshape(-1, *[1] * y0.ndim)

        def forced(t: Tensor) -> Tensor:
            return (k * t.cos() + t.sin()) / (1 + k**2)

        return forced(t) + (y0 - forced(t[0])) * (-k * (t - t[0])).exp()


def times(descending: bool = False) -> Tensor:
    t = torch.linspace(0.5, 2.0, 101, dtype=F64)
    return t.flip(0) if descending else t


def close(method: str) -> float:
    return ERROR.get(method, 2e-5 if method in (*ADAPTIVE, "scipy_solver") else 1e-3)


def test_all_names_are_there() -> None:
    assert len(SOLVERS) == 24
    assert set(NAMES) - set(ADAPTIVE) == set(ORDERS)


@every_method
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_closed_form(method: str, descending: bool, dtype: torch.dtype) -> None:
    """In both directions; t in another dtype than the state."""
    field, t = Relaxation(), times(descending)
    y0 = torch.tensor([[1.0, -0.5]], dtype=dtype)
    with torch.no_grad():
        ys = odeint(field, y0, t, method=method, rtol=1e-6, atol=1e-6)
        exact = field.exact(y0.double(), t)
    assert ys.shape == (101, 1, 2) and ys.dtype == dtype
    assert (ys - exact).abs().max() < close(method)


@pytest.mark.parametrize("method", ORDERS)
def test_the_order_of_fixed_steps(method: str) -> None:
    field, y0, t = Relaxation(), torch.ones(1, dtype=F64), torch.tensor([0.0, 2.0], dtype=F64)
    with torch.no_grad():
        exact = field.exact(y0, t)[-1]
        errors = [
            (odeint(field, y0, t, method=method, options={"step_size": 2.0 / n})[-1] - exact).abs().item()
            for n in (20, 40)
        ]
    assert abs(torch.log2(torch.tensor(errors[0] / errors[1])).item() - ORDERS[method]) < 0.45


@every_method
def test_tuples_and_their_tolerances(method: str) -> None:
    """A 0-d member, a field that returns a list, a tolerance for each member: the numbers of the flat solve."""
    field, t = Relaxation(), times()
    y0 = torch.tensor(1.0, dtype=F64), torch.tensor([[1.0, -0.5]], dtype=F64)
    atol = (torch.tensor([1e-6, 1e-7], dtype=F64), 1e-6) if method == "dopri5" else (1e-6, 1e-7)
    if method == "dopri5":
        atol = (1e-6, torch.tensor([1e-6, 1e-7], dtype=F64))
    with torch.no_grad():
        ys = odeint(lambda t, y: [field(t, part) for part in y], y0, t, method=method, rtol=(1e-6, 1e-6), atol=atol)
        exact = [field.exact(part, t) for part in y0]
    assert isinstance(ys, tuple)
    assert [part.shape for part in ys] == [(101,), (101, 1, 2)]
    for part, expected in zip(ys, exact, strict=True):
        assert (part - expected.reshape(part.shape)).abs().max() < close(method)


@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
@every_method
def test_gradients(interface: object, method: str) -> None:
    """Of y0, the times and a parameter, by both interfaces."""
    field, t = Relaxation(), times()[::10].clone().requires_grad_()
    y0 = torch.tensor([1.0, -0.5], dtype=F64, requires_grad=True)
    inputs = [y0, t, field.k]
    solve = partial(interface, rtol=1e-6, atol=1e-6)  # type: ignore[arg-type]
    options = {} if method in (*ADAPTIVE, "scipy_solver") else {"step_size": 0.05}
    weights = torch.tensor([1.0, 2.0], dtype=F64)
    got = torch.autograd.grad((solve(field, y0, t, method=method, options=options)[::3] @ weights).sum(), inputs)
    expected = torch.autograd.grad((field.exact(y0, t)[::3] @ weights).sum(), inputs)
    for a, b in zip(got, expected, strict=True):
        # The collocation polynomial of one node is linear: its slope, by which times are differentiated, is of order 1.
        assert (a - b).abs().max() < (0.1 if method == "implicit_midpoint" else 20 * close(method))


@pytest.mark.parametrize("method", ["dopri5", "rk4", "gl4", "trapezoid", "radauIIA5"])
def test_gradients_against_finite_differences(method: str) -> None:
    field, t = Relaxation(), torch.tensor([0.0, 0.3, 1.0], dtype=F64)
    options = {} if method == "dopri5" else {"step_size": 0.1}

    def solve(y0: Tensor, k: Tensor) -> Tensor:
        f = lambda t, y: t.cos() * y - k * y**3  # noqa: E731
        return odeint(f, y0, t, method=method, rtol=1e-9, atol=1e-9, options=options)

    y0 = torch.tensor([0.7], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(solve, (y0, field.k.detach().requires_grad_()), rtol=1e-4)


@pytest.mark.parametrize("method", ["implicit_euler", "radauIIA3", "radauIIA5", "trbdf2", "sdirk2"])
def test_stiff_components_are_damped(method: str) -> None:
    """Theirs iterate to one tolerance whatever the problem; here the fast component is gone after some steps."""
    y0, t = torch.tensor([2.0], dtype=F64), torch.linspace(0, 1, 11, dtype=F64)
    ys = odeint(lambda t, y: -1e6 * (y - t.cos()), y0, t, method=method)
    assert (ys[-1] - t[-1].cos()).abs() < 1e-5


def test_implicit_methods_solve_nonlinear_equations() -> None:
    y0, t = torch.tensor([0.2, 0.9], dtype=F64), torch.linspace(0, 5, 11, dtype=F64)
    exact = 1 / (1 + (1 / y0 - 1) * (-t.unsqueeze(1)).exp())
    for method, bound in {"gl6": 1e-6, "radauIIA5": 2e-5, "gl4": 2e-4, "implicit_midpoint": 2e-2}.items():
        assert (odeint(lambda t, y: y * (1 - y), y0, t, method=method) - exact).abs().max() < bound


def test_adams_of_a_given_order() -> None:
    field, y0, t = Relaxation(), torch.ones(1, dtype=F64), torch.linspace(0, 2, 41, dtype=F64)
    with torch.no_grad():
        exact = field.exact(y0, t)
        error = [
            (odeint(field, y0, t, method="implicit_adams", options={"max_order": k}) - exact).abs().max()
            for k in (2, 4, 6)
        ]
    assert error[0] > 20 * error[1] > 20 * error[2]
    with pytest.raises(AssertionError, match="max_order must be at most 12"):
        odeint(field, y0, t, method="implicit_adams", options={"max_order": 13})


@pytest.mark.parametrize("method", IMPLICIT)
def test_the_adjoint_of_implicit_methods_is_that_of_their_steps(method: str) -> None:
    field, y0, t = Relaxation(), torch.ones(1, dtype=F64, requires_grad=True), times()[::30]
    got, expected = (
        torch.autograd.grad(solve(field, y0, t, method=method)[-1].sum(), [y0, field.k])
        for solve in (odeint_adjoint, odeint)
    )
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)
