"""``torch.func`` and ``torch.vmap`` over a solve, and autograd's modes around it."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap
from torch.utils.checkpoint import checkpoint

import isocline as iso
from isocline.solvers import Splitting
from problems import ANY_STATE, ITERATING

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
"""Of torch's own: when forward mode is first used."""

TS = torch.tensor([0.0, 0.31, 0.7, 1.2], dtype=torch.float64)
FIVE = torch.tensor(5.0, dtype=torch.float64)
FIVE = torch.tensor(5.0, dtype=torch.float64)
TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
SOLVERS = {**iso.METHODS, "reversible": iso.Reversible("bosh3")}
OTHERS = {
    "checkpoint": iso.RecursiveCheckpointAdjoint(),
    "checkpoint-2": iso.RecursiveCheckpointAdjoint(2),
    "backsolve": iso.BacksolveAdjoint(),
    "forward": iso.ForwardMode(),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def controller(method: str) -> iso.Controller:
    """A controller for some tens of steps, with error control where the method has it."""
    order = SOLVERS[method].error_order
    if order is None:
        return iso.FixedStep(0.2)
    # At high order the estimated error of a very small first step is rounding errors, and so would the next step be.
    tolerance = {1: 1e-1, 2: 1e-2, 3: 1e-3}.get(order, 1e-5 if order < 6 else 1e-9)
    return iso.PID(rtol=tolerance, atol=tolerance, dt0=0.2 if order > 5 else None)


def swing(t: Tensor, y: Tensor, k: Tensor) -> Tensor:
    """A pendulum with friction."""
    """A pendulum with friction."""
    x, v = y.split(1, dim=-1)
    return torch.cat([v, -k.unsqueeze(-1) * x.sin() - 0.1 * t * v], dim=-1)


def logistic(y0: Tensor, r: Tensor, t1: "Tensor | float" = 0.9) -> Tensor:
    return y0 / (y0 + (1 - y0) * torch.exp(-r * t1))


def grown(y0: Tensor, r: Tensor, t1: "Tensor | float" = 0.9, **settings: Any) -> Tensor:
    settings = {**TIGHT, **settings}
    return iso.solve(lambda t, y: r * y * (1 - y), y0, (0.0, t1), **settings).ys[-1]


def y0_and_r() -> tuple[Tensor, Tensor]:
    return torch.tensor([0.2, 0.6], dtype=torch.float64), torch.tensor(1.4, dtype=torch.float64)


class Net(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(draw(*p.shape, seed=10 * seed + i))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y) - t


# Samples of vmap


def solve_swing(y0: Tensor, k: Tensor, ts: Tensor, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    sol = iso.solve(swing, y0, ts, args=(k,), **settings)
    return sol.ys, sol.stats.steps, sol.stats.rejected


def assert_one_by_one(
    function: Callable[..., Any], in_dims: tuple[int | None, ...], *inputs: Tensor, tol: float
) -> None:
    """What vmap gives are the results of calls one by one: the same steps, and the same numbers up to rounding."""
    together = vmap(function, in_dims)(*inputs)
    size = next(x.shape[dim] for x, dim in zip(inputs, in_dims, strict=True) if dim is not None)
    for i in range(size):
        own = (x if dim is None else x.select(dim, i) for x, dim in zip(inputs, in_dims, strict=True))
        for ours, theirs in zip(together, function(*own), strict=True):
            torch.testing.assert_close(ours[i], theirs, rtol=tol, atol=tol)


@pytest.mark.parametrize("method", ANY_STATE)
def test_samples_of_vmap_are_solved_as_if_alone(method: str) -> None:
    y0s, ks = draw(3, 2), torch.tensor([0.5, 3.0, 10.0], dtype=torch.float64)
    function = functools.partial(solve_swing, method=method, controller=controller(method))
    # Iterations stop somewhere below the tolerance, and where rounding decides they stop elsewhere.
    tol = 1e-7 if method in ITERATING else 1e-9
    assert_one_by_one(function, (0, 0, None), y0s, ks, TS, tol=tol)


@pytest.mark.parametrize("method", [name for name, solver in iso.METHODS.items() if isinstance(solver, Splitting)])
def test_pairs(method: str) -> None:
    def function(q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        sol = iso.solve(lambda t, y: (y[1], -y[0].sin()), (q, p), TS, method=method, controller=iso.FixedStep(0.07))
        return tuple(sol.ys)

    assert_one_by_one(function, (0, 1), draw(3, 2), draw(2, 3, seed=1), tol=1e-12)


@pytest.mark.parametrize(
    "in_dims", [(0, None, None), (None, 0, None), (None, None, 1), (1, 0, 1), (None, 0, 1)], ids=str
)
def test_whatever_is_mapped(in_dims: tuple[int | None, ...]) -> None:
    y0, k, ts = draw(2), torch.tensor(7.0, dtype=torch.float64), TS
    stacked = [torch.stack([c * x for c in (1.0, 1.3, 0.4)]) for x in (y0, k, ts)]
    inputs = [
        x if dim is None else many.movedim(0, dim) for x, many, dim in zip((y0, k, ts), stacked, in_dims, strict=True)
    ]
    assert_one_by_one(functools.partial(solve_swing, **TIGHT), in_dims, *inputs, tol=1e-11)


def test_what_f_closes_over() -> None:
    y0, ks = draw(2), torch.tensor([0.5, 3.0, 20.0], dtype=torch.float64)

    def function(k: Tensor) -> tuple[Tensor, Tensor]:
        sol = iso.solve(lambda t, y: swing(t, y, k), y0, (0.0, 1.0), method="rk4", controller=iso.FixedStep(0.1))
        return sol.ys, sol.stats.steps

    assert_one_by_one(function, (0,), ks, tol=1e-13)


def test_directions_of_time_differ() -> None:
    y0, k = draw(2), torch.tensor(3.0, dtype=torch.float64)
    ends = torch.tensor([[0.0, 1.0], [1.0, -0.5]], dtype=torch.float64)
    assert_one_by_one(lambda ts: (iso.solve(swing, y0, ts, args=(k,), **TIGHT).ys,), (0,), ends, tol=1e-11)


def test_lanes_in_samples() -> None:
    y0s, mu = draw(3, 4, 2), torch.tensor([0.1, 1.0, 8.0, 30.0], dtype=torch.float64)

    def function(y0: Tensor) -> tuple[Tensor, Tensor]:
        sol = iso.solve(swing, y0, TS, args=(iso.PerLane(mu),), batch_dims=1)
        return sol.ys, sol.stats.steps

    assert_one_by_one(function, (0,), y0s, tol=1e-11)


def test_samples_of_samples() -> None:
    y0s, ks = draw(3, 2), torch.tensor([0.5, 3.0, 20.0, 40.0], dtype=torch.float64)
    by_k = vmap(lambda k: vmap(lambda y0: solve_swing(y0, k, TS)[0])(y0s))(ks)
    expected = torch.stack([torch.stack([solve_swing(y0, k, TS)[0] for y0 in y0s]) for k in ks])
    torch.testing.assert_close(by_k, expected, rtol=1e-11, atol=1e-11)


def test_ensemble() -> None:
    nets = [Net(seed) for seed in range(3)]
    parameters, buffers = stack_module_state(nets)
    y0 = draw(5, 2)

    def end(params: Any, buffers: Any) -> Tensor:
        return iso.solve(lambda t, y: functional_call(nets[0], (params, buffers), (t, y)), y0, (0.0, 1.0), **TIGHT).ys[
            -1
        ]

    with torch.no_grad():
        expected = torch.stack([iso.solve(net, y0, (0.0, 1.0), **TIGHT).ys[-1] for net in nets])
    ends = vmap(end)(parameters, buffers)
    torch.testing.assert_close(ends, expected, rtol=1e-11, atol=1e-11)
    # Autograd around vmap.
    loss = ends.sin().sum()
    loss.backward()
    direct = sum(iso.solve(net, y0, (0.0, 1.0), **TIGHT).ys[-1].sin().sum() for net in nets)
    direct.backward()
    for name in parameters:
        each = torch.stack([dict(net.named_parameters())[name].grad for net in nets])
        torch.testing.assert_close(parameters[name].grad, each, rtol=1e-9, atol=1e-10)


def test_dense_output() -> None:
    def function(y0: Tensor) -> tuple[Tensor, Tensor]:
        sol = iso.solve(swing, y0, TS, args=(FIVE,), dense=True)
        return sol(0.4), sol(torch.tensor([0.1, 0.9]))

    assert_one_by_one(function, (0,), draw(3, 2), tol=1e-11)
    with pytest.raises(ValueError, match="before the start or after the end"):
        vmap(lambda y0: iso.solve(swing, y0, TS, args=(FIVE,), dense=True)(7.0))(draw(3, 2))


def test_step_ts_and_restart() -> None:
    def function(y0: Tensor) -> tuple[Tensor, ...]:
        first = iso.solve(swing, y0, (0.0, 0.8), args=(FIVE,), step_ts=(0.2, 0.5))
        second = iso.solve(swing, first.ys[-1], (0.8, 1.5), args=(FIVE,), state=first.state)
        return first.ys, second.ys, first.stats.steps, second.stats.steps

    with torch.no_grad():
        assert_one_by_one(function, (0,), draw(3, 2), tol=1e-11)


def test_a_sample_that_fails() -> None:
    y0s = torch.tensor([0.5, 4.0, 1.0], dtype=torch.float64).unsqueeze(1)

    def function(y0: Tensor, throw: bool) -> tuple[Tensor, Tensor]:
        sol = iso.solve(lambda t, y: y**2, y0, (0.0, 0.1, 0.5), throw=throw)
        return sol.ys, sol.status

    with pytest.raises(iso.SolveError, match=r"1 of 3 lanes \(1\) stopped at t=0\.25"):
        vmap(lambda y0: function(y0, True))(y0s)
    ys, status = vmap(lambda y0: function(y0, False))(y0s)
    assert status[0] == status[2] == iso.Status.SUCCESS
    assert status[1] in (iso.Status.STEP_TOO_SMALL, iso.Status.NON_FINITE)
    torch.testing.assert_close(ys[1, 1], y0s[1] / (1 - 0.1 * y0s[1]), rtol=1e-3, atol=0)
    assert ys[1, 2].isnan().all()
    assert ys[[0, 2]].isfinite().all()


def test_times_are_checked() -> None:
    y0 = draw(2)
    with pytest.raises(ValueError, match="increase or decrease"):
        vmap(lambda ts: iso.solve(swing, y0, ts, args=(FIVE,)).ys)(torch.tensor([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]]))


def test_randomness_is_refused_as_by_torch() -> None:
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(lambda y0: iso.solve(lambda t, y: torch.randn_like(y), y0, (0.0, 1.0)).ys)(draw(3, 2))


# Derivatives


@pytest.mark.parametrize("method", ["tsit5", "vern7", "rodas5p", "auto", "adams", "kvaerno5", "radau", "bdf"])
def test_transforms_against_the_closed_form(method: str) -> None:
    y0, r = y0_and_r()
    tolerance = 1e-3 if method in ("bdf", "radau") else 1e-5
    settings = {"method": method, "rtol": 1e-6, "atol": 1e-7}
    close = functools.partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)

    def ours(y0: Tensor, r: Tensor) -> Tensor:
        return grown(y0, r, **settings)

    both = {"argnums": (0, 1)}
    for transform in (functools.partial(jacrev, **both), functools.partial(jacfwd, **both)):
        for found, expected in zip(transform(ours)(y0, r), transform(logistic)(y0, r), strict=True):
            assert expected.abs().max() > 0.05
            close(found, expected)
    tangents = draw(2, seed=3), draw(1, seed=4)[0]
    close(jvp(ours, (y0, r), tangents)[1], jvp(logistic, (y0, r), tangents)[1])
    for found, expected in zip(vjp(ours, y0, r)[1](y0), vjp(logistic, y0, r)[1](y0), strict=True):
        close(found, expected)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "kvaerno5", "radau"])
def test_hessian(method: str) -> None:
    y0, r = y0_and_r()
    settings = {"method": method, "rtol": 1e-8, "atol": 1e-8}
    found = hessian(lambda y0, r: grown(y0, r, **settings).square().sum(), argnums=(0, 1))(y0, r)
    expected = hessian(lambda y0, r: logistic(y0, r).square().sum(), argnums=(0, 1))(y0, r)
    for row, expected_row in zip(found, expected, strict=True):
        for block, expected_block in zip(row, expected_row, strict=True):
            assert expected_block.abs().max() > 0.01
            torch.testing.assert_close(block, expected_block, rtol=1e-5, atol=1e-5)


def test_third_derivative_of_an_implicit_method() -> None:
    y0, r = y0_and_r()

    def third(function: Callable[..., Tensor]) -> Tensor:
        return grad(grad(grad(lambda r: function(y0, r).sum())))(r)

    found = third(functools.partial(grown, method="kvaerno5"))
    torch.testing.assert_close(found, third(logistic), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["kvaerno5", "radau"])
def test_autograd_around_a_transform_of_an_implicit_method(method: str) -> None:
    y0, r = y0_and_r()
    r.requires_grad_()

    def slope(function: Callable[..., Tensor], **settings: Any) -> Tensor:
        return jvp(lambda y0: function(y0, r, **settings).sum(), (y0,), (torch.ones_like(y0),))[1]

    ours, theirs = slope(grown, method=method), slope(logistic)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    (expected,) = torch.autograd.grad(theirs, r)
    torch.testing.assert_close(torch.autograd.grad(ours, r, retain_graph=True)[0], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match=r"create_graph=True.*rodas5p"):
        torch.autograd.grad(ours, r, create_graph=True)


@pytest.mark.parametrize("method", ["tsit5", "kvaerno5", "auto"])
def test_derivatives_by_times(method: str) -> None:
    y0, r = y0_and_r()

    def last(t1: Tensor) -> Tensor:
        return grown(y0, r, t1, method=method, rtol=1e-7, atol=1e-7).sum()

    t1 = torch.tensor(0.9, dtype=torch.float64)
    expected = grad(lambda t1: logistic(y0, r, t1).sum())(t1)
    for found in (grad(last)(t1), jvp(last, (t1,), (torch.ones_like(t1),))[1], jacfwd(last)(t1), jacrev(last)(t1)):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p", "adams", "auto", "kvaerno5"])
def test_gradients_of_samples(method: str) -> None:
    """``vmap(grad)`` are gradients one by one, ``grad(vmap)`` is their sum."""
    y0s, r = torch.tensor([[0.2], [0.6], [0.95]], dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
    settings = {"method": method, "rtol": 1e-7, "atol": 1e-7}

    def loss(y0: Tensor, r: Tensor) -> Tensor:
        ts = torch.tensor([0.0, 0.3, 0.9], dtype=torch.float64)
        return iso.solve(lambda t, y: r * y * (1 - y), y0, ts, **settings).ys[1:].square().sum()

    each = [grad(loss, argnums=(0, 1))(y0, r) for y0 in y0s]
    by_y0, by_r = vmap(grad(loss, argnums=(0, 1)), (0, None))(y0s, r)
    close = functools.partial(torch.testing.assert_close, rtol=1e-7, atol=1e-8)
    close(by_y0, torch.stack([x for x, _ in each]))
    close(by_r, torch.stack([x for _, x in each]))
    whole_y0, whole_r = grad(lambda y0s, r: vmap(loss, (0, None))(y0s, r).sum(), argnums=(0, 1))(y0s, r)
    close(whole_y0, by_y0)
    close(whole_r, by_r.sum())


def test_gradients_of_samples_by_parameters() -> None:
    net, y0s = Net(), draw(4, 2)
    parameters = dict(net.named_parameters())

    def loss(parameters: Any, y0: Tensor) -> Tensor:
        return (
            iso.solve(lambda t, y: functional_call(net, parameters, (t, y)), y0, (0.0, 1.0), **TIGHT).ys[-1].sin().sum()
        )

    each = vmap(grad(loss), (None, 0))({name: p.detach() for name, p in parameters.items()}, y0s)
    for i, y0 in enumerate(y0s):
        net.zero_grad()
        iso.solve(net, y0, (0.0, 1.0), **TIGHT).ys[-1].sin().sum().backward()
        for name, p in parameters.items():
            torch.testing.assert_close(each[name][i], p.grad, rtol=1e-9, atol=1e-10)


def test_rejected_attempts_leave_nothing_in_gradients_of_samples() -> None:
    """Beyond y = 1 there are nans, into which attempts of the first sample run and are rejected."""
    y0s = torch.tensor([[0.0], [0.2]], dtype=torch.float64)

    def loss(y0: Tensor) -> Tensor:
        settings = {"controller": iso.PID(rtol=1e-6, atol=1e-6, dt0=0.6)}
        sol = iso.solve(lambda t, y: (1 - y).sqrt() * torch.where(t < 0.3, 1.5, 0.1), y0, (0.0, 1.0), **settings)
        return sol.ys[-1].sum()

    alone = torch.stack([grad(loss)(y0) for y0 in y0s])
    together = vmap(grad(loss))(y0s)
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-10)


def test_jacobians_of_samples() -> None:
    y0s, r = torch.tensor([[0.2, 0.7], [0.6, 0.1]], dtype=torch.float64), torch.tensor(1.4, dtype=torch.float64)
    expected = vmap(jacrev(logistic), (0, None))(y0s, r)
    for transform in (jacrev, jacfwd):
        found = vmap(transform(grown), (0, None))(y0s, r)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_jump_ts() -> None:
    """y' = 1 until c, then 2: y(1) = 2 - c."""

    def end(c: Tensor) -> Tensor:
        f = lambda t, y: torch.where(t < c, 1.0, 2.0) * torch.ones_like(y)  # noqa: E731
        return iso.solve(f, torch.zeros(1, dtype=torch.float64), (0.0, 1.0), jump_ts=c.reshape(1)).ys[-1].sum()

    c = torch.tensor(0.37, dtype=torch.float64)
    minus_one = torch.tensor(-1.0, dtype=torch.float64)
    torch.testing.assert_close(grad(end)(c), minus_one)
    torch.testing.assert_close(jvp(end, (c,), (torch.ones_like(c),))[1], minus_one)


# What cannot be had


@pytest.mark.parametrize("gradient", OTHERS.values(), ids=OTHERS)
def test_other_gradients_refuse_reverse_mode(gradient: iso.Gradient) -> None:
    y0, r = y0_and_r()
    with pytest.raises(RuntimeError, match="DirectAdjoint"):
        grad(lambda r: grown(y0, r, gradient=gradient).sum())(r)
    if not isinstance(gradient, iso.ForwardMode):
        with pytest.raises(RuntimeError, match="DirectAdjoint"):
            vmap(lambda y0: grown(y0, r, gradient=gradient))(y0.requires_grad_().unsqueeze(1))


@pytest.mark.parametrize("gradient", OTHERS.values(), ids=OTHERS)
def test_other_gradients_go_forwards(gradient: iso.Gradient) -> None:
    y0, r = y0_and_r()
    expected = jvp(lambda r: logistic(y0, r), (r,), (torch.ones_like(r),))[1]
    found = jvp(lambda r: grown(y0, r, gradient=gradient), (r,), (torch.ones_like(r),))[1]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    ends = vmap(lambda y0: grown(y0, r, gradient=gradient))(y0.unsqueeze(1))
    torch.testing.assert_close(ends, logistic(y0, r).unsqueeze(1), rtol=1e-6, atol=1e-7)


def test_events_are_refused() -> None:
    for transform in (vmap, grad, lambda f: lambda y0: jvp(f, (y0,), (y0,))):
        with pytest.raises(ValueError, match=r"events cannot be had.*batch_dims=1"):
            transform(lambda y0: iso.solve(swing, y0, TS, args=(FIVE,), event=lambda t, y: y[..., 0]).ys.sum())(
                draw(2, 2)
            )


@pytest.mark.parametrize("setting", [{"jump_ts": (0.5,)}, {"progress": True}], ids=str)
def test_refused_inside_vmap(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(setting))} cannot be had inside torch.vmap.*batch_dims=1"):
        vmap(lambda y0: iso.solve(swing, y0, TS, args=(FIVE,), **setting).ys)(draw(2, 2))


def test_black_boxes_are_refused() -> None:
    pytest.importorskip("scipy")
    for transform in (vmap, grad, lambda f: lambda y0: jvp(f, (y0,), (y0,))):
        with pytest.raises(ValueError, match="runs outside of torch"):
            transform(lambda y0: iso.solve(swing, y0, TS, args=(FIVE,), method=iso.SciPy("LSODA")).ys.sum())(draw(2, 2))


def test_gmres_is_refused() -> None:
    method = iso.ESDIRK(iso.METHODS["kvaerno3"].tableau, linear_solver="gmres")
    with pytest.raises(ValueError, match="use linear_solver='lu' there"):
        vmap(lambda y0: iso.solve(swing, y0, TS, args=(FIVE,), method=method).ys)(draw(2, 2))


def test_compiling_is_for_outside() -> None:
    y0, r = y0_and_r()
    with pytest.warns(RuntimeWarning, match="loops are not compiled, so this solve runs eagerly"):
        found = grad(lambda r: grown(y0, r, compile=True).sum())(r)
    torch.testing.assert_close(found, grad(lambda r: grown(y0, r).sum())(r))


# Autograd's modes


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("gradient", [None, *OTHERS.values()], ids=["direct", *OTHERS])
def test_inside_a_checkpoint(gradient: iso.Gradient | None, reentrant: bool) -> None:
    y0, r = y0_and_r()
    inputs = y0.requires_grad_(), r.requires_grad_()

    def end(y0: Tensor, r: Tensor) -> Tensor:
        return iso.solve(lambda t, y, r: r * y * (1 - y), y0, TS, args=(r,), gradient=gradient, **TIGHT).ys[-1].sin()

    expected = torch.autograd.grad(end(*inputs).sum(), inputs)
    checkpoint(end, *inputs, use_reentrant=reentrant).sum().backward()
    for x, bar in zip(inputs, expected, strict=True):
        torch.testing.assert_close(x.grad, bar, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("gradient", [None, *OTHERS.values()], ids=["direct", *OTHERS])
def test_without_gradients(gradient: iso.Gradient | None, mode: Callable[[], Any]) -> None:
    y0, r = y0_and_r()
    with mode():
        end = grown(y0, r.requires_grad_(), gradient=gradient)
    assert not end.requires_grad
    assert end.is_inference() == (mode is torch.inference_mode)
    torch.testing.assert_close(end.clone(), logistic(y0, r.detach()), rtol=1e-7, atol=1e-8)


def test_nothing_stays_behind() -> None:
    """Constants that are made once serve a plain solve after a transformed one."""
    y0, r = y0_and_r()
    before = grown(y0, r, method="vern8", rtol=1e-10)
    iso.solvers.runge_kutta._matrix.cache_clear()
    grad(lambda r: iso.solve(lambda t, y: r * y, y0, TS, method="vern8").ys.sum())(r)
    torch.testing.assert_close(grown(y0, r, method="vern8", rtol=1e-10), before, rtol=0, atol=0)
    (bar,) = torch.autograd.grad(grown(y0, r.requires_grad_(), method="vern8").sum(), r)
    assert bar.isfinite()
