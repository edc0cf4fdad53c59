"""What programs rely on: exceptions, warnings, options, and what functions may do with what they get."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from isocline.compat import torchdiffeq
from isocline.compat.torchdiffeq import odeint, odeint_adjoint
from isocline.compat.torchdiffeq.methods import SOLVERS

F64 = torch.float64
FIXED = [name for name, method in SOLVERS.items() if method.fixed]


def decay(t: Tensor, y: Tensor) -> Tensor:
    return -y


def span(*times: float) -> Tensor:
    return torch.tensor(times or (0.0, 1.0), dtype=F64)


def ones(*shape: int) -> Tensor:
    return torch.ones(shape or (1,), dtype=F64)


def close(ys: Tensor, t: float = 1.0, bound: float = 1e-6) -> bool:
    return bool((ys - torch.tensor(-t).exp()).abs().max() < bound)


def test_importing_isocline_does_not_import_it() -> None:
    code = "import sys, isocline; print([m for m in sys.modules if m.startswith('isocline.compat')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_version_and_private_names() -> None:
    from isocline.compat.torchdiffeq._impl.adjoint import find_parameters
    from isocline.compat.torchdiffeq._impl.odeint import SOLVERS as THEIRS

    assert torchdiffeq.__version__ == "0.2.5"
    assert THEIRS is SOLVERS and "dopri5" in THEIRS
    assert find_parameters(nn.Linear(2, 3))[0].shape == (3, 2)


class TestWrongCalls:
    @pytest.mark.parametrize(
        ("t", "error", "match"),
        [
            ([0.0, 1.0], AssertionError, "must be a torch.Tensor"),
            (torch.tensor([0, 1]), TypeError, "must be a floating point Tensor"),
            (torch.tensor(0.0), AssertionError, "one dimensional"),
            (torch.tensor([0.0, 1.0, 1.0]), AssertionError, "strictly increasing or decreasing"),
            (torch.tensor([0.0, 1.0, 0.5]), AssertionError, "strictly increasing or decreasing"),
        ],
    )
    def test_times(self, t: Any, error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            odeint(decay, ones(), t)

    def test_state(self) -> None:
        with pytest.raises(AssertionError, match=r"must be either a torch.Tensor or a tuple"):
            odeint(decay, [ones()], span())

    def test_method(self) -> None:
        with pytest.raises(ValueError, match='Invalid method "magic"'):
            odeint(decay, ones(), span(), method="magic")

    def test_tolerances(self) -> None:
        with pytest.raises(AssertionError, match="rtol cannot require gradient"):
            odeint(decay, ones(), span(), rtol=ones().requires_grad_())
        with pytest.raises(AssertionError, match="same length as the tuple"):
            odeint(lambda t, y: y, (ones(), ones()), span(), atol=[1e-3])

    def test_grids(self) -> None:
        with pytest.raises(ValueError, match="mutually exclusive"):
            odeint(decay, ones(), span(), method="rk4", options={"step_size": 0.1, "grid_constructor": lambda *x: x[2]})
        with pytest.raises(AssertionError, match="begin and end"):
            odeint(decay, ones(), span(), method="rk4", options={"grid_constructor": lambda f, y, t: t + 1})
        with pytest.raises(ValueError, match="Unknown interpolation"):
            odeint(decay, ones(), span(), method="rk4", options={"interp": "magic"})
        same = {"step_t": torch.tensor([0.5]), "jump_t": torch.tensor([0.5])}
        with pytest.raises(ValueError, match="must not have any repeated"):
            odeint(decay, ones(), span(), options=same)

    def test_adjoint(self) -> None:
        with pytest.raises(ValueError, match=r"must be an instance of nn.Module"):
            odeint_adjoint(decay, ones(), span())
        with pytest.raises(ValueError, match="cannot infer `adjoint_options`"):
            odeint_adjoint(decay, ones(), span(), method="dopri5", options={}, adjoint_method="rk4", adjoint_params=())

    def test_solves_that_do_not_arrive(self) -> None:
        with pytest.raises(AssertionError, match=r"^max_num_steps exceeded \(3>=3\)"):
            odeint(lambda t, y: 50 * (t * 50).cos(), ones(), span(), options={"max_num_steps": 3})
        with pytest.raises(AssertionError, match=r"^underflow in dt"):
            odeint(lambda t, y: y**2, ones(), span(0.0, 2.0))
        with pytest.raises(AssertionError, match=r"^underflow in dt"):
            odeint(decay, ones() * float("nan"), span())

    def test_fixed_steps_go_on_with_nan(self) -> None:
        ys = odeint(lambda t, y: torch.where(t > 0.3, float("inf"), -y), ones(), span(0.0, 0.2, 0.4, 0.6), method="rk4")
        assert ys[:2].isfinite().all() and ys[3].isnan().all()


class TestWarnings:
    @pytest.mark.parametrize("method", SOLVERS)
    def test_of_unknown_options(self, method: str) -> None:
        options = {"nonsense": 1} if method == "scipy_solver" else {"nonsense": 1, "solver": "LSODA"}
        with pytest.warns(UserWarning, match="Unexpected arguments .*nonsense"):
            assert close(
                odeint(decay, ones(), torch.linspace(0, 1, 101).double(), method=method, options=options)[-1],
                bound=5e-3,
            )

    def test_fixed_and_adaptive_options_are_told_apart(self) -> None:
        with pytest.warns(UserWarning, match="step_size"):
            odeint(decay, ones(), span(), options={"step_size": 0.1})
        with pytest.warns(UserWarning, match="first_step"):
            odeint(decay, ones(), span(), method="rk4", options={"first_step": 0.1})

    def test_none_is_an_option_not_given(self) -> None:
        assert close(odeint(decay, ones(), span(), method="rk4", options={"step_size": None})[-1], bound=1e-2)

    @pytest.mark.parametrize("method", [*FIXED, "scipy_solver"])
    def test_of_callbacks_that_the_method_does_not_know(self, method: str) -> None:
        field = nn.Linear(1, 1).double()

        class Watched(nn.Module):
            def forward(self, t: Tensor, y: Tensor) -> Tensor:
                return field(y)

            def callback_reject_step(self, t0: Tensor, y0: Tensor, dt: Tensor) -> None:
                raise AssertionError

        with pytest.warns(UserWarning, match=f"'{method}' does not support callbacks"):
            odeint(Watched(), ones(), span(), method=method)


class TestOptions:
    def calls(self, **options: Any) -> list[float]:
        times: list[float] = []

        def f(t: Tensor, y: Tensor) -> Tensor:
            times.append(t.item())
            return -y * (3 * t).cos()

        odeint(f, ones(), span(0.0, 3.0), method="bosh3", options=options, rtol=1e-5, atol=1e-5)
        return times

    def test_first_step(self) -> None:
        first, second, *_ = self.calls(first_step=0.5)
        assert (first, second) == (0.0, 0.25)

    def test_max_step(self) -> None:
        times = torch.tensor(self.calls(max_step=0.01))
        assert len(times) > 900
        assert times.diff().max() < 0.01001

    def test_min_step_is_accepted_whatever_its_error(self) -> None:
        assert len(self.calls(min_step=0.5)) < 30 < len(self.calls())

    def test_safety_and_factors(self) -> None:
        assert len(self.calls(safety=0.5)) > 1.15 * len(self.calls())
        assert len(self.calls(ifactor=1.0, first_step=0.01)) >= 900
        assert len(self.calls(safety=1.0, ifactor=1e3)) > 50

    def test_step_t_and_jump_t(self) -> None:
        assert 1.2345 in self.calls(step_t=span(1.2345))
        times = self.calls(jump_t=span(1.2345))
        assert 1.2345 not in times
        assert torch.tensor(1.2345, dtype=F64).nextafter(span(9.0))[0].item() in times

    def test_jumps_backwards_in_time(self) -> None:
        f = lambda t, y: torch.where(t < 0.5, -y, 3 * y)  # noqa: E731
        options = {"jump_t": span(0.5, 7.0)}
        ys = odeint(f, ones(), span(1.0, 0.0), options=options)
        assert (ys[-1] - torch.tensor(-1.5 + 0.5).exp()).abs() < 1e-6

    def test_step_size_is_not_bound_to_the_times(self) -> None:
        """Between steps the method's own interpolant is used, whatever interp says."""
        t = torch.linspace(0, 1, 8, dtype=F64)
        for interp in ("linear", "cubic"):
            ys = odeint(decay, ones(), t, method="rk4", options={"step_size": 0.1, "interp": interp})
            assert (ys.squeeze(1) - (-t).exp()).abs().max() < 1e-5

    @pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
    @pytest.mark.parametrize("method", ["euler", "midpoint", "rk4", "explicit_adams", "implicit_adams"])
    @pytest.mark.parametrize("perturb", [False, True])
    def test_perturb(self, interface: Callable[..., Any], method: str, perturb: bool) -> None:
        seen: list[float] = []

        def f(t: Tensor, y: Tensor) -> Tensor:
            seen.append(t.item())
            return -y

        more = {"adjoint_params": ()} if interface is odeint_adjoint else {}
        y0 = ones(2).requires_grad_()
        ys = interface(f, y0, span(), method=method, options={"step_size": 0.5, "perturb": perturb}, **more)
        assert [x in seen for x in (0.0, 0.5)] == [not perturb] * 2
        if more:
            seen.clear()
            ys.sum().backward()
            assert [x in seen for x in (1.0, 0.5)] == [not perturb] * 2

    @pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
    def test_grid_constructor(self, interface: Callable[..., Any]) -> None:
        """Eulers's steps, in the adjoint on a grid of its own."""
        grids: list[list[float]] = []

        def make(f: object, y0: Tensor, t: Tensor) -> Tensor:
            grids.append(t.tolist())
            assert y0.shape == (1,)
            return torch.linspace(*t.tolist(), 11, dtype=F64)

        y0 = ones().requires_grad_()
        more = {"adjoint_params": ()} if interface is odeint_adjoint else {}
        ys = interface(lambda t, y: y, y0, span(), method="euler", options={"grid_constructor": make}, **more)
        (slope,) = torch.autograd.grad(ys[-1].sum(), y0)
        assert (ys[-1] - 1.1**10).abs() < 1e-12 and (slope - 1.1**10).abs() < 1e-12
        assert grids == [[0.0, 1.0], *[[1.0, 0.0]] * len(more)]

    def test_scipys_solvers(self) -> None:
        for name in ("RK45", "RK23", "DOP853", "Radau", "BDF", "LSODA"):
            ys = odeint(decay, ones(2), span(), method="scipy_solver", options={"solver": name, "min_step": 0.1})
            assert close(ys[-1], bound=1e-5)

    @pytest.mark.parametrize("norm", [None, lambda y: (y[0] if isinstance(y, tuple) else y).abs().max()])
    @pytest.mark.parametrize("tupled", [False, True])
    def test_norm_gets_what_the_user_sees(self, norm: Callable[..., Any] | None, tupled: bool) -> None:
        shapes: list[Any] = []

        def spy(y: Any) -> Any:
            shapes.append([part.shape for part in y] if tupled else y.shape)
            return 0.0 if norm is None else norm(y)

        y0: Any = (ones().squeeze(0), ones(2, 2)) if tupled else ones(2, 2)
        odeint(lambda t, y: y, y0, span(), options={"norm": spy})
        assert all(shape == ([(), (2, 2)] if tupled else (2, 2)) for shape in shapes) and shapes

    def test_a_tuple_has_the_largest_error_of_its_members(self) -> None:
        """A thousand numbers that stay as they are do not hide one that does not."""
        calls = [0, 0]
        for i, count in enumerate((1, 1000)):

            def f(t: Tensor, y: tuple[Tensor, Tensor], i: int = i) -> tuple[Tensor, Tensor]:
                calls[i] += 1
                return (5 * t).cos() * y[0], 0 * y[1]

            odeint(f, (ones(), ones(count)), span(0.0, 5.0))
        assert calls[0] == calls[1]


class TestFunctions:
    def test_state_may_require_grad(self) -> None:
        def f(t: Tensor, y: Tensor) -> Tensor:
            with torch.enable_grad():
                y.requires_grad_()
                (slope,) = torch.autograd.grad(0.5 * (y**2).sum(), y, create_graph=True)
            return -slope

        with torch.no_grad():
            assert close(odeint(f, ones(3), span())[-1])
        assert close(odeint(f, ones(3), span())[-1])
        y0 = ones(3).requires_grad_()
        for solve in (odeint, lambda *args: odeint_adjoint(*args, adjoint_params=())):
            (slope,) = torch.autograd.grad(solve(f, y0, span())[-1].sum(), y0)
            assert close(slope)

    def test_state_may_be_changed_in_place(self) -> None:
        y0 = ones(3)
        with torch.no_grad():
            assert close(odeint(lambda t, y: y.mul_(-1), y0, span())[-1])
            ys = odeint(
                lambda t, y: (y[0].mul_(-1), 0 * y[1]), (y0, y0), span(), method="rk4", options={"step_size": 0.1}
            )
        assert close(ys[0][-1], bound=1e-5) and close(ys[1][-1], t=0.0)
        assert (y0 == 1).all()

    def test_one_copy_finds_out_whether_it_is(self) -> None:
        pointers: set[int] = set()
        states: list[Tensor] = []

        def f(t: Tensor, y: Tensor) -> Tensor:
            states.append(y)
            pointers.add(y.data_ptr())
            return -y

        y0 = ones(1)
        odeint(f, y0, span(), method="euler", options={"step_size": 0.5})
        assert y0.data_ptr() not in pointers and len(states) == 2

    def test_results_may_be_written_to_a_buffer(self) -> None:
        buffer = ones(3)
        assert close(odeint(lambda t, y: torch.neg(y, out=buffer), ones(3), span())[-1])

    def test_results_of_other_shapes_and_dtypes(self) -> None:
        assert close(odeint(lambda t, y: -y.reshape(3, 1).float(), ones(3), span())[-1])
        assert odeint(lambda t, y: torch.ones(()), ones(3), span())[-1].tolist() == pytest.approx([2, 2, 2])
        ys = odeint(lambda t, y: [-y[0].reshape(1), -y[1].flatten()], (ones().squeeze(0), ones(2, 2)), span())
        assert close(ys[0][-1]) and ys[1].shape == (2, 2, 2)

    def test_members_of_several_dtypes(self) -> None:
        first, second = odeint(lambda t, y: (-y[0], -y[1]), (torch.ones(2), ones(3)), span())
        assert first.dtype == second.dtype == F64

    def test_float32_with_default_tolerances(self) -> None:
        """They are below its resolution."""
        ys = odeint(decay, torch.ones(3), torch.tensor([0.0, 1.0]))
        assert ys.dtype == torch.float32 and close(ys[-1])

    def test_one_time_only(self) -> None:
        y0 = ones(2, 3), ones(1).squeeze(0)
        ys = odeint(lambda t, y: y, y0, span(0.7))
        assert [part.shape for part in ys] == [(1, 2, 3), (1,)]
        for method in SOLVERS:
            assert odeint(decay, ones(4), span(0.7), method=method).tolist() == [[1.0] * 4]
            y0 = ones(4).requires_grad_()
            odeint_adjoint(decay, y0, span(0.7), method=method, adjoint_params=()).sum().backward()
            assert y0.grad is not None and y0.grad.tolist() == [1.0] * 4

    def test_higher_derivatives(self) -> None:
        y0 = ones().requires_grad_()
        (first,) = torch.autograd.grad(odeint(lambda t, y: -(y**2), y0, span())[-1], y0, create_graph=True)
        (second,) = torch.autograd.grad(first, y0)
        assert (second + 0.25).abs() < 1e-5  # y(1) = y0 / (1 + y0)

    def test_closed_over_tensors_get_gradients(self) -> None:
        k = torch.tensor(1.0, requires_grad=True, dtype=F64)
        odeint(lambda t, y: -k * y, ones(), span())[-1].sum().backward()
        assert k.grad is not None and (k.grad + torch.tensor(-1.0).exp()).abs() < 1e-6

    def test_nothing_is_warned_of(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            odeint(decay, ones(), torch.tensor([1.0, 0.5, 0.0]), rtol=torch.tensor(1e-3), atol=torch.tensor([1e-4]))

    def test_complex_states(self) -> None:
        rate = torch.tensor(-0.3 + 1j, dtype=torch.complex128)
        y0 = torch.tensor([1.0 + 0j, 0.5 - 1j], dtype=torch.complex128, requires_grad=True)
        exact = y0 * (rate * 1.0).exp()
        norm = {"norm": lambda y: y.abs().max()}
        for ys in (
            odeint(lambda t, y: rate * y, y0, span()),
            odeint(lambda t, y: rate * y, y0, span(), options=norm),
            odeint(lambda t, y: (rate * y[0], -y[1]), (y0, ones()), span())[0],
            odeint_adjoint(lambda t, y: rate * y, y0, span(), adjoint_params=()),
        ):
            assert (ys[-1] - exact).abs().max() < 1e-6
            got, expected = (torch.autograd.grad(x.abs().sum(), y0, retain_graph=True)[0] for x in (ys[-1], exact))
            assert (got - expected).abs().max() < 1e-6
