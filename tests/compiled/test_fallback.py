"""Fields that cannot be captured are solved eagerly, after one warning that says why."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import isocline as iso

from .problems import TIGHT, Net, assert_same, draw, gradients, solve_both


def reads_a_value(t: Tensor, y: Tensor) -> Tensor:
    return -y * y.sum().item()  # the line to blame


def branches(t: Tensor, y: Tensor) -> Tensor:
    if y.sum() > 0:  # the line to blame
        return -y
    return -2 * y


def prints(t: Tensor, y: Tensor) -> Tensor:
    print(f"{y.sum().item():.3f}")  # the line to blame
    return -y


def uses_scipy(t: Tensor, y: Tensor) -> Tensor:
    return torch.from_numpy(np.interp(y.numpy(force=True), [-1.0, 1.0], [1.0, -1.0]))  # the line to blame


BLAMED = {f.__name__: f for f in (reads_a_value, branches, prints)}


def line_to_blame(f: Callable[..., Any]) -> int:
    code = f.__code__
    with open(code.co_filename) as file:
        lines = file.read().splitlines()
    return next(i for i in range(code.co_firstlineno, len(lines)) if "the line to blame" in lines[i]) + 1


@pytest.mark.usefixtures("graphs_only")
class TestFields:
    @pytest.mark.parametrize("name", BLAMED)
    def test_warns_once_with_the_line(self, name: str) -> None:
        f = BLAMED[name]
        where = rf'File ".*test_fallback\.py", line {line_to_blame(f)}, in {name}'
        with pytest.warns(RuntimeWarning, match=where) as caught:
            first, second = solve_both(f, draw(3, 2), (0.0, 1.0), **TIGHT)
        assert_same(first, second)
        assert len(caught) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_same(*solve_both(f, draw(3, 2), (0.0, 1.0), **TIGHT))

    def test_gradients_are_the_eager_ones(self) -> None:
        weight = draw(2, seed=3).requires_grad_()

        def f(t: Tensor, y: Tensor) -> Tensor:
            return -weight * y * float(y.detach().abs().max() < 1e9)

        with pytest.warns(RuntimeWarning, match="runs eagerly"):
            first, second = solve_both(f, draw(3, 2), (0.0, 1.0), **TIGHT)
        assert torch.equal(gradients(first.ys, [weight])[0], gradients(second.ys, [weight])[0])

    def test_one_module_does_not_speak_for_its_class(self) -> None:
        bad, good = Switch(True), Switch(False)
        with pytest.warns(RuntimeWarning, match="runs eagerly"):
            iso.solve(bad, draw(3, 2), (0.0, 1.0), compile=True)
        assert_same(*solve_both(good, draw(3, 2), (0.0, 1.0), **TIGHT))

    def test_numpy(self) -> None:
        """Torch's compiler knows numpy: captured or not, the result is right."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_same(*solve_both(uses_scipy, draw(3, 2), (0.0, 1.0), **TIGHT))


class Switch(nn.Module):
    def __init__(self, bad: bool) -> None:
        super().__init__()
        self.bad = bad

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return -y * y.sum().item() if self.bad else -y


@pytest.mark.usefixtures("graphs_only")
class TestErrors:
    """What is wrong with f is said as in an eager solve."""

    @pytest.mark.parametrize(
        ("f", "error"),
        [
            (lambda t, y: y.sum(dim=0), ValueError),
            (lambda t, y: y.float(), TypeError),
            (lambda t, y: (y, y), TypeError),
            (lambda t, y: y @ torch.ones(5, 5, dtype=torch.float64), RuntimeError),
            (lambda t, y, k: y, TypeError),
        ],
        ids=["shape", "dtype", "structure", "inside", "arguments"],
    )
    @pytest.mark.filterwarnings("ignore:compile=True:RuntimeWarning")
    def test_same_message(self, f: Callable[..., Any], error: type[Exception]) -> None:
        messages = []
        for compiled in (False, True):
            with pytest.raises(error) as caught:
                iso.solve(f, draw(3, 2), (0.0, 1.0), compile=compiled)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]

    def test_an_exception_of_the_user_s(self) -> None:
        def f(t: Tensor, y: Tensor) -> Tensor:
            raise KeyError("mine")

        with pytest.warns(RuntimeWarning, match="runs eagerly"), pytest.raises(KeyError, match="mine"):
            iso.solve(f, draw(3, 2), (0.0, 1.0), compile=True)


class TestLoopsAsTheyStand:
    """What runs if compiling a loop fails: the loops' functions, uncompiled."""

    @pytest.mark.parametrize("batch_dims", [0, 1])
    def test_the_same(self, batch_dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
        real = torch.compile

        def no_loops(function: Any, **settings: Any) -> Callable[..., Any]:
            return function if "options" in settings else real(function, **settings)

        monkeypatch.setattr(torch, "compile", no_loops)
        net = Standing(batch_dims)
        for end in (1.0, 20.0):  # the second takes several records
            y0, ts = draw(3, 2).requires_grad_(), torch.linspace(0, end, 5, dtype=torch.float64).requires_grad_()
            with torch.no_grad():
                assert_same(*solve_both(net, y0, ts, batch_dims=batch_dims, **TIGHT))
            first, second = solve_both(net, y0, ts, batch_dims=batch_dims, **TIGHT)
            wanted = [y0, ts, *net.parameters()]
            for a, b in zip(gradients(first.ys, wanted), gradients(second.ys, wanted), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)

    def test_after_a_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from torch._dynamo.exc import BackendCompilerFailed

        real = torch.compile

        def broken(function: Any, **settings: Any) -> Callable[..., Any]:
            def fail(*args: Any) -> Any:
                raise BackendCompilerFailed(fail, OSError("no compiler"), None)

            return fail if "options" in settings else real(function, **settings)

        monkeypatch.setattr(torch, "compile", broken)
        y0 = draw(3, 2).requires_grad_()
        with pytest.warns(RuntimeWarning, match="no compiler"):
            first, second = solve_both(Broken(5), y0, (0.0, 1.0), **TIGHT)
        assert_same(first, second)
        with pytest.warns(RuntimeWarning, match="no compiler"):
            ours = gradients(first.ys, [y0])
        torch.testing.assert_close(ours, gradients(second.ys, [y0]), rtol=1e-9, atol=1e-9)


class Standing(Net):
    """A class of its own, so that its programs are."""


class Broken(Net):
    """Another."""
