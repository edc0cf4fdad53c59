"""Any linear problem, of any shape, on any times: right within the tolerance, or refused with a documented error."""

from itertools import pairwise
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import isocline as iso

F64 = torch.float64
few = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

methods = st.sampled_from(["bosh3", "dopri5", "tsit5", "vern7", "dop853"])
dtypes = st.sampled_from([torch.float32, F64])
seeds = st.integers(0, 2**20)
times = st.floats(-3, 3, allow_nan=False, width=32)
batches = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@st.composite
def sorted_times(draw: st.DrawFn) -> list[float]:
    """Two to six times, with ties, up or down, that go somewhere."""
    values = sorted(draw(st.lists(times, min_size=2, max_size=6)))
    if values[-1] - values[0] < 1e-3:
        values[-1] = values[0] + 1.0
    return values[::-1] if draw(st.booleans()) else values


def linear(n: int, seed: int) -> Tensor:
    """A random matrix with entries of size one over the square root of n."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n, dtype=F64, generator=generator) / n**0.5


def exact(A: Tensor, ts: Tensor, y0: Tensor) -> Tensor:
    """exp((t - t0) A) y0 for times (T,) or (T, *batch), the first being t0."""
    elapsed = (ts - ts[:1]).reshape(len(ts), *([1] * (y0.ndim - ts.ndim)), *ts.shape[1:], 1, 1)
    return (torch.linalg.matrix_exp((elapsed * A).contiguous()) @ y0.unsqueeze(-1)).squeeze(-1)


def amplification(A: Tensor, ts: Tensor) -> float:
    """How much an error may grow on the way."""
    span = float((ts - ts[:1]).abs().max())
    return max(1.0, span) * float(torch.linalg.matrix_norm(A, 2).mul(span).exp())


@few
@given(methods, dtypes, seeds, batches, st.integers(1, 4), sorted_times(), st.integers(2, 6), st.data())
def test_linear_problems(
    method: str,
    dtype: torch.dtype,
    seed: int,
    batch: tuple[int, ...],
    n: int,
    ts: list[float],
    digits: int,
    data: st.DataObject,
) -> None:
    A = linear(n, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    y0 = torch.randn(*batch, n, dtype=F64, generator=generator)
    batch_dims = data.draw(st.integers(0, len(batch)), label="batch_dims")
    tolerance = 10.0**-digits
    grid = torch.tensor(ts, dtype=F64)
    sol = iso.solve(
        lambda t, y: y @ A.to(dtype).T,
        y0.to(dtype),
        grid,
        method=method,
        rtol=tolerance,
        atol=tolerance,
        batch_dims=batch_dims,
        dense=True,
    )
    assert sol.ys.shape == (len(ts), *batch, n)
    assert sol.ys.dtype == dtype
    assert sol.success.all()
    want = exact(A, grid, y0)
    # Per-step control at the tolerance, an interpolant an order below, rounding of float32.
    bound = (20 * tolerance + 100 * torch.finfo(dtype).eps) * amplification(A, grid) * max(1.0, float(y0.norm()))
    assert float((sol.ys.double() - want).abs().max()) <= bound
    assert_close(sol(grid), sol.ys, rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 1e-12)


@few
@given(seeds, st.integers(2, 4), st.data())
def test_lanes_on_their_own_times(seed: int, lanes: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 5))
    columns = []
    for _ in range(lanes):
        column = sorted(data.draw(st.lists(times, min_size=size, max_size=size)))
        columns.append(column[::-1] if data.draw(st.booleans()) else column)
    ts = torch.tensor(columns, dtype=F64).T
    A = linear(2, seed)
    y0 = torch.randn(lanes, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))
    sol = iso.solve(lambda t, y: y @ A.T, y0, ts, batch_dims=1, rtol=1e-7, atol=1e-7)
    assert sol.success.all()
    bound = 2e-6 * amplification(A, ts) * max(1.0, float(y0.norm()))
    assert float((sol.ys - exact(A, ts, y0)).abs().max()) <= bound
    # Ties get equal states.
    tied = ts[1:] == ts[:-1]
    assert_close(sol.ys[1:][tied], sol.ys[:-1][tied], rtol=1e-9, atol=1e-9)


@few
@given(methods, seeds, sorted_times())
def test_there_and_back(method: str, seed: int, ts: list[float]) -> None:
    A = linear(3, seed)
    y0 = torch.randn(3, dtype=F64, generator=torch.Generator().manual_seed(seed))

    def end(y: Tensor, grid: list[float]) -> Tensor:
        ys: Tensor = iso.solve(lambda t, y: A @ y, y, grid, method=method, rtol=1e-7, atol=1e-7).ys
        return ys[-1]

    grid = torch.tensor(ts, dtype=F64)
    bound = 2e-6 * amplification(A, grid) ** 2 * max(1.0, float(y0.norm()))
    assert float((end(end(y0, ts), ts[::-1]) - y0).abs().max()) <= bound


@few
@given(st.lists(st.floats(-2, 2), max_size=5), st.sampled_from([0, 1]))
def test_any_list_of_times_is_solved_or_refused(ts: list[float], batch_dims: int) -> None:
    rising = all(a <= b for a, b in pairwise(ts))
    falling = all(a >= b for a, b in pairwise(ts))
    good = len(ts) >= 2 and (rising or falling) and ts[0] != ts[-1]
    try:
        sol = iso.solve(lambda t, y: -y, torch.ones(2, 1, dtype=F64), ts, batch_dims=batch_dims, rtol=1e-7)
    except ValueError:
        assert not good
    else:
        assert good
        assert_close(sol.ys[:, 0, 0], (sol.ts[0] - sol.ts).exp(), rtol=1e-4, atol=1e-6)


structures: Any = st.recursive(
    st.lists(st.integers(1, 3), max_size=3).map(torch.ones),
    lambda children: st.one_of(
        st.lists(children, min_size=1, max_size=3),
        st.lists(children, min_size=1, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), children, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


def halve(tree: Any) -> Any:
    """Minus half of every tensor, in the same structure."""
    if isinstance(tree, dict):
        return {key: halve(child) for key, child in reversed(tree.items())}
    if isinstance(tree, (tuple, list)):
        return [halve(child) for child in tree]
    return -0.5 * tree


def check(tree: Any, ys: Any) -> None:
    """The structure is kept and every number has decayed."""
    assert type(ys) is type(tree)
    if isinstance(tree, dict):
        assert list(ys) == list(tree)
        for key, child in tree.items():
            check(child, ys[key])
    elif isinstance(tree, (tuple, list)):
        assert len(ys) == len(tree)
        for child, y in zip(tree, ys, strict=True):
            check(child, y)
    else:
        assert_close(ys[-1], tree * torch.tensor(-0.5).exp(), rtol=1e-4, atol=1e-5)
        assert torch.equal(ys[0], tree)


@few
@given(structures)
def test_any_structure(tree: Any) -> None:
    check(tree, iso.solve(lambda t, y: halve(y), tree, (0.0, 1.0)).ys)


NAN, INF = float("nan"), float("inf")


def mostly(good: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One in eight is odd, so that some calls have nothing odd, and some only one thing."""
    return st.integers(0, 7).flatmap(lambda k: odd if k == 7 else good)


odd_times = st.lists(st.one_of(times, st.sampled_from([1e-300, 1e-30, 1e30, 1e300, NAN, INF, -INF])), max_size=4)
odd_numbers = st.sampled_from([0.0, -1e-3, 1e-300, 1e-17, 1e-7, 1e3, 1e300, INF, NAN])
few_digits = st.one_of(st.none(), st.floats(1e-6, 1e-1))
precisions = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, F64, torch.complex64, torch.complex128])


@settings(few, max_examples=200)
@given(
    st.sampled_from(list(iso.METHODS)),
    mostly(precisions, st.sampled_from([torch.int64, torch.bool])),
    mostly(st.lists(st.integers(1, 3), max_size=3), st.lists(st.integers(0, 2), max_size=2)),
    mostly(sorted_times(), odd_times),
    mostly(few_digits, odd_numbers),
    mostly(few_digits, odd_numbers),
    mostly(st.none(), odd_numbers),
    st.integers(0, 2),
)
def test_any_call_is_right_or_refused(
    method: str,
    dtype: torch.dtype,
    shape: list[int],
    ts: list[float],
    rtol: float | None,
    atol: float | None,
    dt: float | None,
    batch_dims: int,
) -> None:
    """Or fails with a status. It is never wrong, and never goes on for long."""
    if iso.METHODS[method].error_order is None:
        rtol, atol, dt = None, None, dt or 0.1
    calls = 0

    def f(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        assert calls < 20_000
        return -y

    def solved() -> iso.Solution | Exception:
        try:
            controller = None if dt is None else iso.FixedStep(dt)
            settings = {"rtol": rtol, "atol": atol, "controller": controller, "batch_dims": batch_dims}
            return iso.solve(f, torch.ones(shape, dtype=dtype), ts, method=method, max_steps=100, **settings)
        except (TypeError, ValueError, iso.SolveError) as error:
            return error

    sol = solved()
    if isinstance(sol, iso.SolveError):
        assert "stopped at t=" in str(sol)
    elif isinstance(sol, Exception):
        assert len(str(sol)) > 30
    else:
        assert sol.ys.dtype == dtype and sol.ys.shape == (len(ts), *shape)
        assert sol.ys.isfinite().all()
        if dt is None:
            want = (sol.ts[0] - sol.ts).exp().reshape(-1, *([1] * len(shape)))
            tolerance = sum(default if x is None else x for x, default in ((rtol, 1e-5), (atol, 1e-6)))
            bound = (100 * tolerance + 100 * torch.finfo(dtype).eps) * max(1.0, float(want.max()))
            assert float((sol.ys.to(torch.complex128) - want).abs().max()) <= bound
