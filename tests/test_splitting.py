"""Splitting methods: their coefficients, measured orders, and what they conserve."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.testing import assert_close

import isocline as iso
from isocline.solvers import Splitting
from isocline.tableaus import COMPOSITIONS, Composition
from orders import slope

F64 = torch.float64
Pair = tuple[Tensor, Tensor]

methods = pytest.mark.parametrize("method", COMPOSITIONS)


def pendulum(t: Tensor, state: Pair) -> Pair:
    q, p = state
    return p, -torch.sin(q)


def driven(t: Tensor, state: Pair) -> Pair:
    """Both halves depend on time, and on their own."""
    q, p = state
    return p * (1 + 0.3 * torch.sin(2 * t)), torch.cos(t) * q / 2 - torch.sin(q)


def coupled(t: Tensor, state: Pair) -> Pair:
    """The gradients of a kinetic energy that is no square and of a potential with three dimensions, at a time t."""
    q, p = state
    return torch.sinh(p) + 0.1 * p.roll(1, -1) + 0.1 * p.roll(-1, -1), -(q**3) - torch.cos(t) * (
        2 * q - q.roll(1, -1) - q.roll(-1, -1)
    )


def start(*shape: int) -> Pair:
    q, p = torch.linspace(0.2, 1.1, 2 * math.prod(shape), dtype=F64).reshape(2, *shape)
    return q, -p


@cache
def exact(f: Callable[..., Pair], end: float = 2.0) -> Callable[[Tensor], Tensor]:
    """The solution from ``start(2)`` at times (T,), as (T, 2, 2), by SciPy's DOP853 at 1e-13."""

    def flat(t: float, y: Any) -> Any:
        q, p = torch.from_numpy(y).reshape(2, 2)
        return torch.cat(f(torch.tensor(t, dtype=F64), (q, p))).numpy()

    def at(ts: Tensor) -> Tensor:
        y0 = torch.cat(start(2)).numpy()
        span = (float(ts[0]), float(ts[-1]))
        found = solve_ivp(flat, span, y0, "DOP853", t_eval=np.clip(ts.numpy(), *sorted(span)), rtol=1e-13, atol=1e-13)
        assert found.success
        return torch.from_numpy(found.y.T.copy()).reshape(-1, 2, 2)

    return at


def error(f: Callable[..., Pair], method: str, n: int, ts: Tensor, expected: Tensor) -> float:
    with torch.no_grad():
        fixed = iso.FixedStep(abs(float(ts[-1] - ts[0])) / n)
        sol = iso.solve(f, start(2), ts, method=method, controller=fixed)
    assert sol.stats.steps == n
    return float((torch.stack(sol.ys, dim=1) - expected).abs().max())


# Numbers of steps: the higher the order, the sooner rounding errors are reached.
STEPS = {2: (20, 40, 80), 4: (20, 40, 80), 6: (8, 12, 16, 24), 8: (8, 10, 12, 16)}


@methods
@pytest.mark.parametrize("f", [pendulum, driven])
@pytest.mark.parametrize("end", [2.0, -2.0], ids=["forward", "backward"])
def test_order(f: Callable[..., Pair], method: str, end: float) -> None:
    order = COMPOSITIONS[method].order
    ts = torch.tensor([0.0, end / 2, end], dtype=F64)
    expected = exact(f)(ts)
    errors = {n: error(f, method, n, ts, expected) for n in STEPS[order]}
    assert slope(errors) == pytest.approx(order, abs=0.1)


@methods
def test_order_between_the_steps(method: str) -> None:
    order = min(COMPOSITIONS[method].order, 4)
    ns = (20, 40, 80)
    ts = torch.linspace(0, 2, 6 * 80 + 1, dtype=F64)
    expected = exact(driven)(ts)
    errors = {n: error(driven, method, n, ts, expected) for n in ns}
    assert slope(errors) == pytest.approx(order, abs=0.2)


@methods
def test_composition(method: str) -> None:
    """The order conditions of single lengths: sums of their odd powers (Yoshida 1990), and times that fit."""
    table = COMPOSITIONS[method]
    assert sum(table.lengths) == pytest.approx(1.0, abs=1e-15)
    for power in range(3, table.order, 2):
        assert sum(w**power for w in table.lengths) == pytest.approx(0.0, abs=1e-11)
    assert sum(table.kicks) == pytest.approx(1.0, abs=1e-15)
    assert table.kick_nodes[0] == 0.0
    assert table.kick_nodes[-1] == 1.0
    # Symmetric in time.
    nodes = torch.tensor(table.kick_nodes), torch.tensor(table.drift_nodes)
    for node in nodes:
        assert_close(node + node.flip(0), torch.ones_like(node))
    assert table.citation


def test_compositions_that_are_none() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        Composition("mine", order=2, lengths=(0.5, 0.4), citation="")
    with pytest.raises(ValueError, match="same from both ends"):
        Composition("mine", order=2, lengths=(0.6, 0.4), citation="")
    with pytest.raises(TypeError, match="Composition"):
        Splitting("leapfrog")  # type: ignore[arg-type]


@methods
def test_a_step_is_symplectic(method: str) -> None:
    assert symplectic_defect(method) < 1e-13


def test_a_runge_kutta_step_is_not() -> None:
    assert symplectic_defect("rk4") > 1e-5


def symplectic_defect(method: str) -> float:
    """Largest entry of M^T J M - J, where M is the Jacobian of one long step."""

    def step(y: Tensor) -> Tensor:
        fixed = iso.FixedStep(0.3)
        return torch.cat(
            [x[-1] for x in iso.solve(coupled, (y[:3], y[3:]), (0.2, 0.5), method=method, controller=fixed).ys]
        )

    M = torch.autograd.functional.jacobian(step, torch.cat(start(3)))
    one, zero = torch.eye(3, dtype=F64), torch.zeros(3, 3, dtype=F64)
    J = torch.cat([torch.cat([zero, one], dim=1), torch.cat([-one, zero], dim=1)])
    assert (M - torch.eye(6)).abs().max() > 0.1
    return float((M.T @ J @ M - J).abs().max())


@methods
def test_reversible_in_time(method: str) -> None:
    fixed = iso.FixedStep(0.1)
    there = [x[-1] for x in iso.solve(driven, start(4), (0.0, 20.0), method=method, controller=fixed).ys]
    back = [x[-1] for x in iso.solve(driven, tuple(there), (20.0, 0.0), method=method, controller=fixed).ys]
    assert (there[0] - start(4)[0]).abs().max() > 0.1
    for x, y in zip(back, start(4), strict=True):
        assert_close(x, y, rtol=0.0, atol=1e-11)


def kepler(t: Tensor, state: Pair) -> Pair:
    q, p = state
    return p, -q * (q * q).sum(-1, keepdim=True) ** -1.5


def energy(q: Tensor, p: Tensor) -> Tensor:
    return (p * p).sum(-1) / 2 - 1 / (q * q).sum(-1).sqrt()


def drift(method: str, steps: int, periods: int) -> tuple[float, float]:
    """Largest error of the energy of a Kepler orbit of eccentricity 0.2 in the first and in the last tenth."""
    q, p = torch.tensor([0.8, 0.0], dtype=F64), torch.tensor([0.0, math.sqrt(1.2 / 0.8)], dtype=F64)
    ts = torch.linspace(0, periods, 151, dtype=F64) * 2 * math.pi
    with torch.no_grad():
        fixed = iso.FixedStep(2 * math.pi / steps)
        sol = iso.solve(kepler, (q, p), ts, method=method, controller=fixed, max_steps=10**6)
    errors = (energy(*sol.ys) - energy(q, p)).abs()
    return float(errors[:15].max()), float(errors[-15:].max())


def test_kepler_over_a_thousand_periods() -> None:
    first, last = drift("leapfrog", steps=12, periods=1000)
    assert first < 0.06
    assert last < 1.1 * first


@pytest.mark.parametrize(
    ("method", "steps", "bound"), [("yoshida4", 20, 5e-3), ("yoshida6", 20, 1e-4), ("yoshida8", 20, 5e-5)]
)
def test_kepler_with_higher_orders(method: str, steps: int, bound: float) -> None:
    first, last = drift(method, steps, periods=30)
    assert first < bound
    assert last < 1.2 * first


def test_kepler_drifts_with_a_runge_kutta_method() -> None:
    first, last = drift("rk4", steps=24, periods=60)
    assert last > 5 * first


def test_the_last_kick_of_a_step_is_the_first_of_the_next() -> None:
    for method, table in COMPOSITIONS.items():
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                fixed = iso.FixedStep(0.1)
                stats = iso.solve(pendulum, start(2), (0.0, 1.0), method=method, controller=fixed).stats
            assert stats.evaluations == 1 + 10 * 2 * len(table.lengths)
        # Two more for each step with save times in it.
        ts = torch.tensor([0.0, 0.11, 0.12, 0.5, 0.55, 1.0])
        with torch.no_grad():
            stats = iso.solve(pendulum, start(2), ts, method=method, controller=fixed).stats
        assert stats.evaluations in {1 + 10 * 2 * len(table.lengths) + 2 * count for count in (2, 3)}


@methods
@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("end", [1.0, -1.0], ids=["forward", "backward"])
def test_dense_output_agrees_with_saved_states(method: str, batch_dims: int, end: float) -> None:
    ts = torch.linspace(0, end, 9, dtype=F64)
    settings: Any = {"method": method, "controller": iso.FixedStep(0.15), "batch_dims": batch_dims}
    with torch.no_grad():
        dense = iso.solve(pendulum, start(2, 3), ts, dense=True, **settings)
        plain = iso.solve(pendulum, start(2, 3), ts, **settings)
    for x, y, z in zip(dense(ts), dense.ys, plain.ys, strict=True):
        assert_close(x, y, rtol=1e-13, atol=1e-13)
        assert_close(z, y, rtol=1e-13, atol=1e-13)
        assert torch.equal(x[0], y[0])


@methods
def test_lanes_take_the_same_steps_as_a_joint_solve(method: str) -> None:
    ts = torch.linspace(0, 2, 7, dtype=F64)
    for shape in ((5,), (5, 2)):
        joint, lanes = (
            iso.solve(
                pendulum, start(*shape), ts, method=method, controller=iso.FixedStep(0.1), batch_dims=batch_dims
            ).ys
            for batch_dims in (0, 1)
        )
        for x, y in zip(lanes, joint, strict=True):
            assert_close(x, y, rtol=1e-13, atol=1e-13)


def test_structures() -> None:
    q, p = start(2)
    fixed = iso.FixedStep(0.1)
    pair = iso.solve(pendulum, (q, p), (0.0, 1.0), method="yoshida4", controller=fixed).ys
    listed = iso.solve(lambda t, y: list(pendulum(t, y)), [q, p], (0.0, 1.0), method="yoshida4", controller=fixed).ys

    def named(t: Tensor, y: dict[str, Tensor]) -> dict[str, Tensor]:
        dq, dp = pendulum(t, (y["q"], y["p"]))
        return {"p": dp, "q": dq}

    by_name = iso.solve(named, {"q": q, "p": p}, (0.0, 1.0), method="yoshida4", controller=fixed).ys
    for found in (listed, list(by_name.values())):
        assert all(torch.equal(x, y) for x, y in zip(found, pair, strict=True))


ONE = torch.ones(2)


@methods
@pytest.mark.parametrize(
    ("y0", "what"),
    [
        (ONE, r"got one tensor with shapes \(2,\)"),
        ((ONE,), "a tuple"),
        ((ONE, ONE, ONE), "a tuple"),
        ((ONE, torch.ones(3)), r"\(2,\), \(3,\)"),
        ((ONE, (ONE, ONE)), "a tuple"),
        ({"q": ONE}, "a dict"),
    ],
    ids=["tensor", "one", "three", "shapes", "nested", "dict"],
)
def test_other_states_are_refused(method: str, y0: Any, what: str) -> None:
    with pytest.raises(ValueError, match=f"{method!r} solves for a pair .*{what}.*Write y0=\\(q, p\\)"):
        iso.solve(lambda t, y: y, y0, (0.0, 1.0), method=method, controller=iso.FixedStep(0.1))


def test_error_control_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'leapfrog' has no error estimate; pass controller=isocline.FixedStep"):
        iso.solve(pendulum, start(2), (0.0, 1.0), method="leapfrog")


@methods
@pytest.mark.parametrize("batch_dims", [0, 1])
def test_events_are_found_between_the_steps(method: str, batch_dims: int) -> None:
    """A pendulum of small swings passes through the middle."""
    q = torch.tensor([1e-3], dtype=F64)
    sol = iso.solve(
        pendulum,
        (q, torch.zeros_like(q)),
        (0.0, 5.0),
        method=method,
        controller=iso.FixedStep(0.02),
        event=lambda t, y: y[0].squeeze(-1) if batch_dims == 0 else y[0],
        batch_dims=batch_dims,
    )
    assert sol.event_t.item() == pytest.approx(math.pi / 2, abs=1e-4)
