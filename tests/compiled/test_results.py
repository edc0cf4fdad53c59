"""Compiled solves give what eager ones give."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isocline as iso
from isocline.compiled.run import LONGEST

from .problems import TIGHT, Net, assert_same, draw, solve_both

Y0 = draw(3, 2)
RISING = torch.tensor([0.1, 0.437, 0.5, 0.871, 1.231], dtype=torch.float64)
OWN = torch.stack([RISING, 0.7 * RISING - 0.35, 0.9 - 1.1 * RISING], dim=1)  # the last goes backwards
NAN = float("nan")


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def swing(t: Tensor, y: Tensor) -> Tensor:
    return torch.stack([y[..., 1], -torch.sin(y[..., 0])], dim=-1)


def forced(t: Tensor, y: Tensor) -> Tensor:
    return torch.sin(3 * t) * y - y**3


def stiff(t: Tensor, y: Tensor) -> Tensor:
    """Van der Pol's: steps are rejected at the edges."""
    return torch.stack([y[..., 1], 8 * (1 - y[..., 0] ** 2) * y[..., 1] - y[..., 0]], dim=-1)


@pytest.mark.usefixtures("graphs_only")
class TestSettings:
    @pytest.mark.parametrize("method", ["tsit5", "dopri5", "bosh3"])
    @pytest.mark.parametrize("batch_dims", [0, 1])
    def test_adaptive_methods(self, method: str, batch_dims: int) -> None:
        tolerance = {"rtol": 1e-5, "atol": 1e-5} if method == "bosh3" else TIGHT
        assert_same(*solve_both(swing, Y0, RISING, method=method, batch_dims=batch_dims, **tolerance))

    @pytest.mark.parametrize("method", ["euler", "rk4"])
    def test_fixed_steps(self, method: str) -> None:
        for dt in (0.1, 0.07):
            assert_same(*solve_both(forced, Y0, RISING, method=method, controller=iso.FixedStep(dt)))

    @pytest.mark.parametrize(
        "controller",
        [iso.PID(1e-6, 1e-6, pcoeff=0.3, icoeff=0.3, dcoeff=0.1), iso.PID(1e-6, 1e-6, norm="max", dt0=0.1, dt_max=0.2)],
        ids=["pid", "max-norm"],
    )
    def test_controllers(self, controller: iso.PID) -> None:
        assert_same(*solve_both(forced, Y0, (0.0, 1.0), controller=controller))

    @pytest.mark.parametrize("batch_dims", [0, 1])
    def test_times_beyond_start_and_end_make_no_difference(self, batch_dims: int) -> None:
        for ts in ((0.0, 1.0), (1.0, -0.5), torch.linspace(0, 1, 41), (0.0, 0.5, 0.5, 1.0, 1.0)):
            assert_same(*solve_both(forced, Y0, ts, batch_dims=batch_dims, **TIGHT))

    def test_times_of_each_lane(self) -> None:
        assert_same(*solve_both(forced, Y0, OWN, batch_dims=1, **TIGHT))
        ends = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)  # the second has nowhere to go
        assert_same(*solve_both(forced, Y0, (0.0, 0.25 * ends, 0.5 * ends), batch_dims=1, **TIGHT))

    @pytest.mark.parametrize("batch_dims", [0, 1])
    def test_rejected_steps(self, batch_dims: int) -> None:
        first, second = solve_both(stiff, Y0, (0.0, 10.0), batch_dims=batch_dims)
        assert_same(first, second)
        assert (first.stats.rejected > 0).all()

    @pytest.mark.parametrize("batch_dims", [0, 1])
    def test_max_steps(self, batch_dims: int) -> None:
        for ts in ((0.0, 10.0), torch.linspace(0, 10, 30)):
            first, second = solve_both(stiff, Y0, ts, batch_dims=batch_dims, max_steps=25, throw=False)
            assert_same(first, second)
            assert (first.status == iso.Status.MAX_STEPS).any()
            with pytest.raises(iso.SolveError, match="MAX_STEPS"):
                iso.solve(stiff, Y0, ts, batch_dims=batch_dims, max_steps=25, compile=True)

    def test_float32(self) -> None:
        first, second = solve_both(forced, Y0.float(), RISING, rtol=1e-3, atol=1e-3)
        assert first.ys.dtype == torch.float32
        torch.testing.assert_close(first.ys, second.ys, rtol=1e-3, atol=1e-3)

    def test_progress(self) -> None:
        pytest.importorskip("tqdm")
        first, second = solve_both(stiff, Y0, (0.0, 10.0), progress=True)
        assert first.stats.steps > 100
        assert_same(first, second)


@pytest.mark.usefixtures("graphs_only")
class TestChunks:
    """Many accepted steps: the loop hands over several records."""

    @pytest.mark.parametrize("batch_dims", [0, 1])
    def test_save_times(self, batch_dims: int) -> None:
        first, second = solve_both(stiff, Y0, torch.linspace(0, 20, 50), batch_dims=batch_dims)
        assert_same(first, second)
        assert (first.stats.accepted > LONGEST).all()

    @pytest.mark.parametrize("batch_dims", [0, 1])
    def test_dense(self, batch_dims: int) -> None:
        ts = (0.0, 20.0) if batch_dims == 0 else (0.0, torch.tensor([20.0, 1.0, 12.0], dtype=torch.float64))
        first, second = solve_both(stiff, Y0, ts, batch_dims=batch_dims, dense=True)
        assert_same(first, second)
        at = torch.rand(50, dtype=torch.float64) * (20.0 if batch_dims == 0 else 1.0)
        torch.testing.assert_close(first(at), second(at), rtol=1e-8, atol=1e-8)


@pytest.mark.usefixtures("graphs_only")
class TestFailures:
    @pytest.mark.parametrize("ts", [(0.0, 2.0), torch.linspace(0, 2, 9)], ids=["end", "saved"])
    def test_a_lane_that_leaves_the_numbers(self, ts: Any) -> None:
        y0 = torch.tensor([[0.1], [1.0], [NAN], [0.2]], dtype=torch.float64)
        first, second = solve_both(lambda t, y: y**2 + 0 * (0.9 - y).sqrt(), y0, ts, batch_dims=1, throw=False)
        assert_same(first, second)
        assert len(set(first.status.tolist())) > 1

    def test_a_joint_solve_that_does(self) -> None:
        first, second = solve_both(lambda t, y: y**2, torch.ones(1, dtype=torch.float64), (0.0, 2.0), throw=False)
        assert_same(first, second)
        assert first.status != iso.Status.SUCCESS


def tuples(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, v = state
    return v.unsqueeze(-1) * x, -x.sum(dim=-1) * t


def dicts(t: Tensor, state: dict[str, Any]) -> dict[str, Any]:
    # The order of the keys is f's own.
    return {"b": (-state["a"].sum(dim=(-2, -1)) * state["b"][0], torch.cos(t) + 0 * state["b"][1]), "a": state["a"] * t}


@pytest.mark.usefixtures("graphs_only")
class TestStructures:
    def test_tuple(self) -> None:
        assert_same(*solve_both(tuples, (Y0, Y0.flip(0)[:, 0]), RISING, **TIGHT))

    def test_dict_of_tuples(self) -> None:
        y0 = {"a": draw(3, 2, 1), "b": (draw(3), draw(3, seed=4))}
        assert_same(*solve_both(dicts, y0, RISING, **TIGHT))

    def test_dict_of_tuples_in_lanes(self) -> None:
        def f(t: Tensor, state: dict[str, Any]) -> dict[str, Any]:
            return {**dicts(t, state), "b": (state["b"][0] * t.reshape(3), -state["b"][1])}

        y0 = {"a": draw(3, 2, 1), "b": (draw(3), draw(3, seed=4))}
        assert_same(*solve_both(f, y0, OWN, batch_dims=1, **TIGHT))

    def test_two_batch_dimensions_and_a_scalar(self) -> None:
        assert_same(*solve_both(forced, draw(2, 3, 4), RISING, batch_dims=2, **TIGHT))
        assert_same(*solve_both(lambda t, y: -y, draw(1)[0], RISING, **TIGHT))


CONSTANT = draw(3, 2, seed=3)


class Odd:
    """An object of the user's that can be called."""

    def __init__(self) -> None:
        self.rates = [draw(2, seed=i) for i in range(2)]

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        return self.rates[0] * y + self.rates[1]

    def method(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.rates[0] * y


def closes_over_y0() -> Callable[..., Tensor]:
    return lambda t, y: Y0 - y


FIELDS: dict[str, Callable[..., Any]] = {
    "y-itself": lambda t, y: y,
    "a-view-of-y": lambda t, y: y.flip(0).flip(0)[:],
    "the-constant": lambda t, y: CONSTANT,
    "a-new-constant": lambda t, y: torch.ones_like(y),
    "only-of-t": lambda t, y: torch.cos(t) + torch.zeros(3, 2, dtype=torch.float64),
    "ignores-t": lambda t, y: -y.abs(),
    "closes-over-y0": closes_over_y0(),
    "closes-over-tensors": lambda t, y: CONSTANT * y - t * CONSTANT.sum(),
    "module": Net(),
    "callable-object": Odd(),
    "method": Odd().method,
    "linear": nn.Sequential(),
    "in-place-inside": lambda t, y: y.clone().mul_(-1).add_(t),
    "loops-and-branches": lambda t, y: sum((y * 0.1**i for i in range(3)), start=y if y.ndim == 2 else -y),
}
FIELDS["linear"].forward = lambda t, y: y @ CONSTANT[:2].T  # type: ignore[method-assign]


@pytest.mark.usefixtures("graphs_only")
class TestFields:
    @pytest.mark.parametrize("name", FIELDS)
    def test_field(self, name: str) -> None:
        assert_same(*solve_both(FIELDS[name], Y0, (0.0, 1.0), **TIGHT))

    def test_args(self) -> None:
        def f(t: Tensor, y: Tensor, k: dict[str, Tensor], power: int) -> Tensor:
            return -k["rate"] * y**power

        for power in (1, 3):
            args = ({"rate": draw(2).abs() + power},), power
            assert_same(*solve_both(f, Y0, (0.0, 1.0), args=(*args[0], power), **TIGHT))

    def test_buffers_that_change(self) -> None:
        net = Net(3)
        for _ in range(2):
            assert_same(*solve_both(net, Y0, (0.0, 1.0), **TIGHT))
            net.shift += 1.0

    def test_inference_mode(self) -> None:
        with torch.inference_mode():
            assert_same(*solve_both(Net(4), draw(3, 2), RISING, **TIGHT))

    def test_many_networks_of_one_class(self) -> None:
        # Each is a graph of its own, kept by its class.
        for depth in range(10):
            net = nn.Sequential(*[nn.Linear(2, 2, dtype=torch.float64) for _ in range(depth)])
            settings = {"method": "euler", "controller": iso.FixedStep(0.5)}
            assert_same(*solve_both(WithoutTime(net), Y0, (0.0, 1.0), **settings))

    def test_many_kinds_of_solve_over_one_field(self) -> None:
        fixed: dict[str, Any] = {"method": "euler", "controller": iso.FixedStep(0.5)}
        for y0 in (draw(3, 2), draw(1, 2), draw(2, 2, 2)):
            for batch_dims in (0, 1):
                for with_grad in (False, True):
                    with torch.set_grad_enabled(with_grad):
                        both = solve_both(lambda t, y: 0.1 * t - y, y0, (0.0, 1.0), batch_dims=batch_dims, **fixed)
                assert_same(*both)


class WithoutTime(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y)


@pytest.mark.slow
class TestMachineCode:
    """Once more without the fixture; with saved states and gradients in the other file."""

    @pytest.mark.long
    def test_end_state(self) -> None:
        for end in (1.0, -2.0, 40.0):
            assert_same(*solve_both(Machine(), Y0, (0.0, end), batch_dims=1, **TIGHT))


class Machine(Net):
    """A class of its own, so that its programs are."""


@pytest.mark.usefixtures("graphs_only")
def test_a_norm_that_reads_a_flag_that_changes() -> None:
    flags = {"strict": False}

    def norm(scaled: Tensor) -> Tensor:
        largest = scaled.abs().amax(dim=1)
        return 1e3 * largest if flags["strict"] else largest

    controller = iso.PID(rtol=1e-5, atol=1e-5, norm=norm)
    steps = []
    for flags["strict"] in (False, True):
        both = solve_both(forced, Y0, (0.0, 2.0), controller=controller)
        assert_same(*both)
        steps.append(int(both[0].stats.steps))
    assert steps[0] < steps[1]
