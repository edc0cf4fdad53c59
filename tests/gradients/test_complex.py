"""Complex states: against closed forms, finite differences, and the same problem in real numbers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import isocline as iso
from isocline.gradients import GRADIENTS
from isocline.layout import make_layout
from problems import fitting

from .problems import draw

TIGHT: Any = {"rtol": 1e-9, "atol": 1e-9}
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)


def complex_draw(*shape: int, seed: int) -> Tensor:
    return torch.complex(draw(*shape, seed=seed), draw(*shape, seed=seed + 100))


def leaf(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


def weighted(ys: Tensor) -> Tensor:
    """A real loss of all saved states, whose gradient is not real."""
    return (complex_draw(*ys.shape, seed=9) * ys).real.sum() + ys.abs().square().sum()


@every_gradient
@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("omega", [torch.tensor(1.3).double(), torch.tensor(1.3 + 0.4j).to(torch.complex128)], ids=str)
def test_oscillation(omega: Tensor, batch_dims: int, gradient: iso.Gradient) -> None:
    ends = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    ts = torch.linspace(0.1, 1, 4, dtype=torch.float64)
    inputs = leaf(complex_draw(3, 2, seed=1)), leaf(omega), leaf(ts.unsqueeze(1) * ends if batch_dims else ts)

    def solved(y0: Tensor, omega: Tensor, ts: Tensor) -> Tensor:
        f = lambda t, y: 1j * omega * y  # noqa: E731
        options: Any = {"batch_dims": batch_dims, "method": fitting(gradient), "gradient": gradient, **TIGHT}
        ys: Tensor = iso.solve(f, y0, ts, **options).ys
        return ys

    def exact(y0: Tensor, omega: Tensor, ts: Tensor) -> Tensor:
        t = (ts - ts[0]).reshape(4, -1, 1)
        return (1j * omega * t).exp() * y0

    ys, want = solved(*inputs), exact(*inputs)
    assert ys.dtype == torch.complex128
    assert_close(ys, want, rtol=1e-7, atol=1e-7)
    grads = [torch.autograd.grad(weighted(states), inputs) for states in (ys, want)]
    for found, right in zip(*grads, strict=True):
        assert found.dtype == right.dtype
        assert_close(found, right, rtol=1e-6, atol=1e-6)


HAMILTONIANS = torch.stack([x + x.mH for x in complex_draw(2, 3, 3, seed=3)])


def schroedinger(theta: Tensor) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    hamiltonian = torch.einsum("k,kij->ij", theta.to(torch.complex128), HAMILTONIANS)
    return (lambda t, y: -1j * (y @ hamiltonian.mT)), hamiltonian


@pytest.mark.parametrize("method", ["tsit5", "kvaerno5", "rodas5p", "radau", "bdf", "auto"])
def test_schroedinger_equation_with_real_parameters(method: str) -> None:
    theta, y0 = leaf(torch.tensor([0.4, -0.7]).double()), leaf(complex_draw(2, 3, seed=5))
    target = complex_draw(3, seed=6)

    def overlap(y: Tensor) -> Tensor:
        return (y @ target.conj()).abs().square().sum()

    exact = y0 @ torch.linalg.matrix_exp(-1.2j * schroedinger(theta)[1]).mT
    y1 = iso.solve(schroedinger(theta)[0], y0, (0.0, 1.2), method=method, rtol=1e-8, atol=1e-8, batch_dims=1).ys[-1]
    assert_close(y1, exact, rtol=1e-5, atol=1e-5)
    assert_close(y1.norm(dim=1), y0.norm(dim=1), rtol=1e-5, atol=1e-5)
    for found, right in zip(*(torch.autograd.grad(overlap(y), (theta, y0)) for y in (y1, exact)), strict=True):
        assert_close(found, right, rtol=1e-4, atol=1e-4)


def bent(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    """A field that is not holomorphic: its Jacobian is no complex matrix."""
    return -1j * y.abs().square() * y + k * y.conj() * torch.cos(t) - 0.3 * y


def test_gradcheck() -> None:
    settings: Any = {"method": "rk4", "controller": iso.FixedStep(0.4)}

    def states(y0: Tensor, k: Tensor) -> Tensor:
        ys: Tensor = iso.solve(bent, y0, (0.0, 0.3, 1.0), args=(k,), **settings).ys
        return ys

    inputs = leaf(complex_draw(2, seed=1)), leaf(complex_draw(2, seed=2))
    assert torch.autograd.gradcheck(states, inputs)
    assert torch.autograd.gradgradcheck(states, inputs)


@pytest.mark.parametrize("method", ["kvaerno5", "rodas5p", "radau", "bdf"])
def test_implicit_methods_solve_what_is_not_holomorphic(method: str) -> None:
    y0, k = complex_draw(2, seed=1), complex_draw(2, seed=2)
    found = []
    for name, tolerance in ((method, 1e-8), ("tsit5", 1e-11)):
        inputs = leaf(y0), leaf(k)
        sol = iso.solve(bent, inputs[0], (0.0, 1.0), args=(inputs[1],), method=name, rtol=tolerance, atol=tolerance)
        found.append([sol.ys[-1].detach(), *torch.autograd.grad(weighted(sol.ys), inputs)])
    for a, b in zip(*found, strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-5)


def as_real(psi: Tensor, n: Tensor) -> Tensor:
    return torch.cat([n.unsqueeze(-1), torch.view_as_real(psi).flatten(-2)], dim=-1)


@every_gradient
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_real_and_complex_tensors_side_by_side(batch_dims: int, gradient: iso.Gradient) -> None:
    """The same numbers as when the user writes the parts out: same steps, same states, same gradients."""
    dense = gradient in (GRADIENTS["direct"], GRADIENTS["checkpoint"])
    options: Any = {"batch_dims": batch_dims, "gradient": gradient, "method": fitting(gradient), "dense": dense}
    ts = torch.tensor([0.0, 0.4, 1.0]).double()

    def mixed(t: Tensor, y: dict[str, Tensor], k: Tensor) -> dict[str, Tensor]:
        psi, n = y["psi"], y["n"]
        return {"n": -n + psi.abs().square().sum(-1), "psi": 1j * n.unsqueeze(-1) * psi + k * psi.conj()}

    def parts(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
        d = mixed(t, {"n": y[..., 0], "psi": torch.view_as_complex(y[..., 1:].unflatten(-1, (2, 2)).contiguous())}, k)
        return as_real(d["psi"], d["n"])

    found = []
    for f in (mixed, parts):
        psi, n, k = leaf(complex_draw(3, 2, seed=1)), leaf(draw(3, seed=2)), leaf(complex_draw(2, seed=3))
        y0: Any = {"n": n, "psi": psi} if f is mixed else as_real(psi, n)
        sol = iso.solve(f, y0, ts, args=(k,), **options)
        ys = as_real(sol.ys["psi"], sol.ys["n"]) if f is mixed else sol.ys
        loss = (draw(*ys.shape, seed=7) * ys).sum()
        if dense:
            between = sol(0.7)
            between = as_real(between["psi"], between["n"]) if f is mixed else between
            loss = loss + (draw(*between.shape, seed=8) * between).sum()
        found.append([ys.detach(), *torch.autograd.grad(loss, (psi, n, k))])
    for a, b in zip(*found, strict=True):
        # A joint solve orders its numbers otherwise, so sums round otherwise; samples have the same order.
        assert_close(a, b, rtol=1e-9, atol=1e-9)


@every_gradient
def test_events(gradient: iso.Gradient) -> None:
    omega, y0 = leaf(torch.tensor(2.0).double()), leaf(torch.tensor(1.0 + 0.0j).to(torch.complex128))
    event = iso.Event(lambda t, y: y.real, direction=-1)
    settings: Any = {"gradient": gradient, "method": fitting(gradient), **TIGHT}
    sol = iso.solve(lambda t, y: 1j * omega * y, y0, (0.0, 3.0), event=event, **settings)
    assert_close(sol.event_t.item(), math.pi / 4)
    assert_close(sol.event_y.item(), 1j, rtol=1e-7, atol=1e-7)
    by_omega, by_y0 = torch.autograd.grad(sol.event_t, (omega, y0))
    assert_close(by_omega.item(), -math.pi / 8, rtol=1e-6, atol=1e-6)
    # A state that is turned by d at the start crosses d / omega earlier.
    assert_close(by_y0.item(), -0.5j, rtol=1e-6, atol=1e-6)


def test_a_jump_and_a_lane_that_leaves_early() -> None:
    y0 = leaf(torch.ones(3, 1, dtype=torch.complex128))
    turn = iso.Event(lambda t, y: y[:, 0].real, direction=-1, jump=lambda t, y: 2 * y.conj())
    ends = torch.tensor([1.0, 2.0, 3.0]).double()
    sol = iso.solve(lambda t, y: 1j * y, y0, (0.0, ends), event=turn, batch_dims=1, **TIGHT)
    late = -2j * torch.exp(1j * (ends[1:] - math.pi / 2))
    expected = torch.cat([torch.exp(1j * ends[:1]), late])
    assert_close(sol.ys[-1, :, 0], expected, rtol=1e-6, atol=1e-6)
    assert torch.autograd.grad(sol.ys[-1].abs().sum(), y0)[0].isfinite().all()


def test_the_adjoint_by_scipy_with_a_complex_parameter() -> None:
    pytest.importorskip("scipy")
    y0, omega = leaf(complex_draw(2, seed=1)), leaf(torch.tensor(1.3 + 0.4j).to(torch.complex128))
    sol = iso.solve(lambda t, y: 1j * omega * y, y0, (0.0, 1.0), method=iso.SciPy("DOP853"), rtol=1e-10, atol=1e-10)
    found, right = (torch.autograd.grad(weighted(y), (y0, omega)) for y in (sol.ys[-1], (1j * omega).exp() * y0))
    assert_close(found, right, rtol=1e-6, atol=1e-6)


def test_a_complex_parameter_of_a_real_state() -> None:
    """As in fields that go by Fourier transforms."""
    y0 = draw(8, seed=1)
    found = []
    for gradient in (iso.BacksolveAdjoint(), iso.RecursiveCheckpointAdjoint(), iso.DirectAdjoint()):
        symbol = leaf(complex_draw(5, seed=2))

        def f(t: Tensor, y: Tensor, symbol: Tensor = symbol) -> Tensor:
            return torch.fft.irfft(symbol * torch.fft.rfft(torch.sin(y)), n=8)

        ys = iso.solve(f, y0, (0.0, 1.0), gradient=gradient, **TIGHT).ys
        found.append(torch.autograd.grad(ys[-1].square().sum(), symbol)[0])
    assert_close(found[0], found[2], rtol=1e-6, atol=1e-6)
    assert_close(found[1], found[2])


@pytest.mark.parametrize("batch_dims", [0, 1])
def test_a_jacobian_by_hand(batch_dims: int) -> None:
    """Complex where f is holomorphic; a lane's numbers in one row."""
    matrix = complex_draw(2, 2, seed=1) - 3 * torch.eye(2)
    y0 = complex_draw(*[3] * batch_dims, 2, seed=2)

    def jacobian(t: Tensor, y: Tensor) -> Tensor:
        return matrix.expand(*y.shape[:-1], 2, 2)

    found = []
    for given in (jacobian, None):
        method = iso.Rosenbrock(iso.METHODS["rodas5p"].tableau, jacobian=given)
        sol = iso.solve(lambda t, y: y @ matrix.mT, y0, (0.0, 1.0), method=method, batch_dims=batch_dims)
        found.append((sol.ys, sol.stats.evaluations))
    assert_close(*(ys for ys, _ in found), rtol=1e-10, atol=1e-10)
    assert found[0][1] == found[1][1]


def test_a_misfit_jacobian() -> None:
    method = iso.Rosenbrock(iso.METHODS["rodas5p"].tableau, jacobian=lambda t, y: torch.eye(3, dtype=y.dtype))
    with pytest.raises(ValueError, match=r"4 x 4 numbers.*complex numbers, if f is holomorphic"):
        iso.solve(lambda t, y: 1j * y, torch.ones(2, dtype=torch.complex64), (0.0, 1.0), method=method)


def test_single_precision_and_lazy_conjugates() -> None:
    seen = set()

    def f(t: Tensor, y: Tensor) -> Tensor:
        seen.add((t.dtype, y.dtype))
        return (1j * y).conj().conj()

    y0 = torch.tensor([1.0 + 1.0j]).conj()
    ys = iso.solve(f, y0, (0.0, 1.0)).ys
    assert seen == {(torch.float32, torch.complex64)}
    assert ys.dtype == torch.complex64
    assert_close(ys[-1], (1 - 1j) * torch.exp(torch.tensor([1j])), rtol=1e-4, atol=1e-4)


def test_tolerances_hold_for_both_parts() -> None:
    layout = make_layout((torch.zeros(2, dtype=torch.complex128), torch.zeros(1).double()), 0)
    atol = layout.of_components("atol", (torch.tensor([1.0, 2.0]), torch.tensor(3.0)))
    assert atol.tolist() == [1, 1, 2, 2, 3]


def test_a_pair_of_complex_momenta() -> None:
    """Methods for (q, p) take them; but not one real and one complex."""
    q, p = complex_draw(2, seed=1), complex_draw(2, seed=2)
    settings: Any = {"method": "yoshida8", "controller": iso.FixedStep(0.02)}
    ys = iso.solve(lambda t, y: (y[1], -y[0]), (q, p), (0.0, 1.0), **settings).ys
    assert_close(ys[0][-1], q * math.cos(1) + p * math.sin(1))
    with pytest.raises(ValueError, match="two tensors of one shape and dtype"):
        iso.solve(lambda t, y: (y[1], -y[0]), (q, p.real), (0.0, 1.0), **settings)
