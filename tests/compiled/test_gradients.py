"""Gradients of compiled solves are those of eager ones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import isocline as iso
from isocline.compiled.run import LONGEST
from isocline.tree import leaves

from .problems import TIGHT, Net, assert_same, assert_same_gradients, draw, gradients, solve_both

# Of torch's compiler about itself; it hides them, but not from a filter that makes errors of warnings.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]

RISING = torch.tensor([0.1, 0.437, 0.5, 0.871, 1.231], dtype=torch.float64)
OWN = torch.stack([RISING, 0.7 * RISING - 0.35, 0.9 - 1.1 * RISING], dim=1)  # the last goes backwards


def start(*shape: int) -> Tensor:
    return draw(*(shape or (3, 2))).requires_grad_()


def everything(weight: Tensor, computed: Tensor) -> Callable[..., Tensor]:
    """A field with a leaf and a computed tensor in its closure."""

    def f(t: Tensor, y: Tensor, k: dict[str, list[Tensor]]) -> Tensor:
        return computed * torch.tanh(y @ weight + torch.sin(2 * t)) + k["k"][0] * torch.cos(t) * y - 0.1 * y**2

    return f


@pytest.mark.usefixtures("graphs_only")
class TestInputs:
    @pytest.mark.parametrize("timed", [False, True], ids=["fixed-times", "times"])
    @pytest.mark.parametrize("layout", ["joint", "samples", "own-times"])
    def test_all_at_once(self, layout: str, timed: bool) -> None:
        ts = OWN.clone() if layout == "own-times" else RISING.clone()
        ts.requires_grad_(timed)
        y0, weight, arg, theta = start(), draw(2, 2, seed=3), draw(2, seed=2), draw(2, seed=6)
        wanted = [y0, *(x.requires_grad_() for x in (weight, arg, theta)), *([ts] if timed else [])]
        batch_dims = int(layout in ("samples", "own-times"))
        f, args = everything(weight, theta.exp()), ({"k": [0.5 * arg]},)
        with torch.no_grad():
            assert_same(*solve_both(f, y0, ts, args=args, batch_dims=batch_dims, **TIGHT))
        # With times to differentiate the eager solve evaluates steps again where some lanes were rejected.
        ours, theirs = solve_both(f, y0, ts, args=args, batch_dims=batch_dims, **TIGHT)
        for a, b in zip(gradients(ours.ys, wanted), gradients(theirs.ys, wanted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)

    def test_end_only(self) -> None:
        y0 = start()
        assert_same_gradients(lambda t, y: torch.sin(t) * y - y**3, y0, (0.0, 1.0), [y0], **TIGHT)

    def test_end_time_only(self) -> None:
        end = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        y0 = draw(3, 2)
        assert_same_gradients(lambda t, y: torch.sin(t) * y - y**3, y0, (0.0, end), [end], **TIGHT)

    def test_times_that_fall_together(self) -> None:
        y0, ts = start(), torch.tensor([0.0, 0.5, 0.5, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
        assert_same_gradients(lambda t, y: torch.cos(t) - y, y0, ts, [y0, ts], **TIGHT)

    def test_only_some_parameters(self) -> None:
        net, y0 = Net(20), draw(3, 2)
        net.linear.bias.requires_grad_(False)
        assert_same_gradients(net, y0, RISING, [net.linear.weight], **TIGHT)

    def test_frozen_module(self) -> None:
        net, y0 = Net(21).requires_grad_(False), start()
        assert_same_gradients(net, y0, RISING, [y0], **TIGHT)

    def test_nothing_to_differentiate(self) -> None:
        first, second = solve_both(Net(22).requires_grad_(False), draw(3, 2), RISING, **TIGHT)
        assert_same(first, second)
        assert not first.ys.requires_grad

    def test_tied_parameters(self) -> None:
        net = nn.ModuleList([nn.Linear(2, 2, dtype=torch.float64) for _ in range(2)])
        net[1].weight = net[0].weight
        y0 = start()
        f = Chain(net)
        assert_same_gradients(f, y0, (0.0, 1.0), [y0, *f.parameters()], **TIGHT)

    def test_unused_parameters(self) -> None:
        net = Net(23)
        net.unused = nn.Parameter(draw(2))
        ours, theirs = (gradients(s.ys, [net.unused], allow_unused=True) for s in solve_both(net, start(), (0.0, 1.0)))
        assert ours == theirs == [None]

    def test_y0_in_the_closure(self) -> None:
        y0 = start()
        assert_same_gradients(lambda t, y: y0 - y**2, y0, (0.0, 1.0), [y0], **TIGHT)

    def test_computed_y0_in_the_closure(self) -> None:
        leaf = start()
        y0 = 2 * leaf
        assert_same_gradients(lambda t, y: y0 * y.cos(), y0, (0.0, 1.0), [leaf], **TIGHT)

    def test_views_of_one_tensor(self) -> None:
        theta = draw(4, seed=9).requires_grad_()
        y0, (a, b, c, d) = start(), theta.unbind()
        args = (theta[:2], theta[2:])
        assert_same_gradients(
            lambda t, y, k, m: a * y.cos() + b * k * t - c * d * m, y0, (0.0, 1.0), [y0, theta], args=args, **TIGHT
        )

    def test_structures(self) -> None:
        y0 = {"a": start(3, 2, 1), "b": (start(3), start(3))}
        assert_same_gradients(structured, y0, RISING, list(leaves(y0)), **TIGHT)


def structured(t: Tensor, s: dict[str, Any]) -> dict[str, Any]:
    return {"b": (-s["a"].sum(dim=(-2, -1)) * s["b"][0], s["b"][0].sin()), "a": s["a"] * torch.cos(t)}


class Chain(nn.Module):
    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.layers[1](torch.tanh(self.layers[0](y)))


def uneven(t: Tensor, y: Tensor) -> Tensor:
    """Lanes take different numbers of steps, and are rejected."""
    rate = torch.tensor([[1.0], [4.0], [9.0]], dtype=torch.float64)
    return torch.stack([y[..., 1], 2 * (1 - y[..., 0] ** 2) * y[..., 1] - y[..., 0]], dim=-1) * rate


@pytest.mark.usefixtures("graphs_only")
class TestSteps:
    def test_another_method(self) -> None:
        y0 = start()
        assert_same_gradients(lambda t, y: torch.sin(t) * y - y**3, y0, RISING, [y0], method="dopri5", **TIGHT)

    def test_a_method_that_carries_nothing(self) -> None:
        y0, ts = start(), RISING.clone().requires_grad_()
        settings = {"method": "rk4", "controller": iso.FixedStep(0.1)}
        assert_same_gradients(lambda t, y: torch.sin(t) * y - y**3, y0, ts, [y0, ts], **settings)

    def test_lanes_of_different_step_counts(self) -> None:
        y0, ts = start(), torch.linspace(0, 3, 7, dtype=torch.float64).requires_grad_()
        ours, theirs = solve_both(uneven, y0, ts, batch_dims=1)
        assert len(ours.stats.accepted.unique()) == 3
        assert (ours.stats.rejected > 0).any()
        # Eager solves take a step again if a lane of it was rejected, which costs evaluations.
        assert ours.stats.evaluations <= theirs.stats.evaluations
        for a, b in zip(gradients(ours.ys, [y0, ts]), gradients(theirs.ys, [y0, ts]), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)

    @pytest.mark.parametrize("batch_dims", [pytest.param(0, marks=pytest.mark.long), 1])
    def test_several_records(self, batch_dims: int) -> None:
        rate = draw(2, seed=5).requires_grad_()
        y0, ts = start(), torch.linspace(0, 3, 9, dtype=torch.float64).requires_grad_()
        tight = {"rtol": 1e-9, "atol": 1e-9, "batch_dims": batch_dims, "method": "bosh3"}
        first, second = solve_both(lambda t, y: torch.cos(rate * t + y), y0, ts, **tight)
        assert (first.stats.accepted > 1.5 * LONGEST).all()
        wanted = [y0, ts, rate]
        for a, b in zip(gradients(first.ys, wanted), gradients(second.ys, wanted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)

    def test_a_lane_at_rest_stands_where_its_arguments_allow(self) -> None:
        limit = torch.linspace(0.3, 1.5, 9, dtype=torch.float64, requires_grad=True)
        y0 = draw(9, 1).requires_grad_()

        def f(t: Tensor, y: Tensor, limit: Tensor) -> Tensor:
            return -y * (limit.unsqueeze(-1) - t).sqrt()

        settings = {"args": (iso.PerLane(limit),), "batch_dims": 1, "controller": iso.FixedStep(0.02)}
        assert_same_gradients(f, y0, (0.0, 0.9 * limit.detach()), [y0, limit], **settings)

    def test_a_lane_that_fails_leaves_the_others_alone(self) -> None:
        y0 = torch.tensor([[0.1], [1.0], [float("nan")], [0.2]], dtype=torch.float64, requires_grad=True)
        first, second = solve_both(lambda t, y: y**2, y0, torch.linspace(0, 2, 5), batch_dims=1, throw=False)
        assert (first.status == second.status).all()
        ours, theirs = (torch.autograd.grad(s.ys[:, [0, 3]].square().sum(), y0)[0] for s in (first, second))
        torch.testing.assert_close(ours[[0, 3]], theirs[[0, 3]], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9, equal_nan=True)

    @pytest.mark.parametrize("gradient", [iso.RecursiveCheckpointAdjoint(), iso.RecursiveCheckpointAdjoint(3)], ids=str)
    def test_checkpoints(self, gradient: iso.Gradient) -> None:
        net, y0 = Net(24), start()
        compiled = iso.solve(net, y0, RISING, gradient=gradient, compile=True, **TIGHT)
        eager = iso.solve(net, y0, RISING, **TIGHT)
        wanted = [y0, *net.parameters()]
        for a, b in zip(gradients(compiled.ys, wanted), gradients(eager.ys, wanted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)

    def test_dense_output(self) -> None:
        y0 = start()
        at = torch.tensor([0.3, 0.9], dtype=torch.float64)
        ours, theirs = (
            gradients(s(at), [y0]) for s in solve_both(lambda t, y: -(y**3), y0, (0.0, 1.0), dense=True, **TIGHT)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("graphs_only")
class TestAutograd:
    def test_backward_twice(self) -> None:
        net, y0 = Net(25), start()
        sol = iso.solve(net, y0, RISING, compile=True)
        first = gradients(sol.ys, [y0, *net.parameters()], retain_graph=True)
        second = gradients(sol.ys, [y0, *net.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    def test_higher_derivatives_are_refused(self) -> None:
        y0 = start()
        sol = iso.solve(Net(26), y0, RISING, compile=True)
        with pytest.raises(RuntimeError, match=r"DirectAdjoint\(\), compile=False"):
            gradients(sol.ys, [y0], create_graph=True)

    def test_parameters_changed_in_place_in_between(self) -> None:
        net, y0 = Net(27), start()
        sol = iso.solve(net, y0, RISING, compile=True)
        with torch.no_grad():
            net.linear.weight.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            gradients(sol.ys, [y0])

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
    def test_without(self, mode: Any) -> None:
        net, y0 = Net(28), start()
        with mode():  # at a tolerance that no other test uses: nothing made here may be kept for later
            first, second = solve_both(net, y0, RISING, rtol=3e-6)
        assert_same(first, second)
        assert not first.ys.requires_grad
        ours, theirs = (gradients(s.ys, [y0]) for s in solve_both(net, y0, RISING, rtol=3e-6))
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)

    def test_detach_inside(self) -> None:
        y0 = start()
        assert_same_gradients(lambda t, y: -y.detach() * y + t, y0, (0.0, 1.0), [y0], **TIGHT)

    def test_no_grad_inside(self) -> None:
        def f(t: Tensor, y: Tensor) -> Tensor:
            with torch.no_grad():
                size = y.square().sum()
            return -size * y

        y0 = start()
        assert_same_gradients(f, y0, (0.0, 1.0), [y0], **TIGHT)

    def test_function_with_a_backward_of_its_own(self) -> None:
        y0, rate = start(), draw(2).requires_grad_()
        assert_same_gradients(lambda t, y: Cut.apply(y, rate), y0, (0.0, 1.0), [y0, rate], **TIGHT)

    def test_linear_by_names(self) -> None:
        net, y0 = Net(29).linear, start()
        f = lambda t, y: nn.functional.linear(y, weight=net.weight, bias=net.bias)  # noqa: E731
        assert_same_gradients(f, y0, (0.0, 1.0), [y0, *net.parameters()], **TIGHT)


class Cut(torch.autograd.Function):
    """Multiplies, but says that its derivative is half of what it is."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, rate: Tensor) -> Tensor:
        ctx.save_for_backward(y, rate)
        return rate * y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, bar: Tensor) -> tuple[Tensor, Tensor]:
        y, rate = ctx.saved_tensors
        return 0.5 * rate * bar, (0.5 * y * bar).sum(dim=0)


@pytest.mark.slow
class TestMachineCode:
    """The same once more, in few cases: a program takes ten seconds to compile."""

    @pytest.mark.parametrize(
        ("batch_dims", "end", "records"),
        [
            (0, 1.0, 1),
            pytest.param(0, 20.0, 2, marks=pytest.mark.long),  # several records have programs of their own
            pytest.param(1, 3.0, 1, marks=pytest.mark.long),
        ],
    )
    def test_everything(self, batch_dims: int, end: float, records: int) -> None:
        net = Machine(30)
        y0, ts = start(), torch.linspace(0, end, 5, dtype=torch.float64).requires_grad_()
        settings = {"method": "bosh3", "rtol": 1e-7, "atol": 1e-7, "batch_dims": batch_dims}
        first, second = solve_both(net, y0, ts, **settings)
        assert_same(first, second)
        wanted = [y0, ts, *net.parameters()]
        for a, b in zip(gradients(first.ys, wanted), gradients(second.ys, wanted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
        assert first.stats.accepted.max() > (records - 1) * LONGEST


class Machine(Net):
    """A class of its own, so that its programs are."""
