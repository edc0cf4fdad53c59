"""Malformed calls: each is refused at once, and the message says what is wrong and, mostly, what to write instead."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import isocline as iso

NAN, INF = float("nan"), float("inf")
Y, LANES = torch.ones(2), torch.ones(3, 2)
T = (0.0, 1.0)


def f(t: Tensor, y: Any) -> Any:
    return -y


def solve(field: Any = f, y0: Any = Y, ts: Any = T, **options: Any) -> Callable[[], object]:
    return lambda: iso.solve(field, y0, ts, **options)


def backsolve(**options: Any) -> Callable[[], object]:
    y0 = torch.ones(2, requires_grad=True)
    return lambda: iso.solve(f, y0, T, gradient=iso.BacksolveAdjoint(**options))


class Bad(NamedTuple):
    call: Callable[[], object]
    error: type[Exception]
    message: str


BAD = {
    # the field and what it returns
    "f is None": Bad(solve(None), TypeError, "f must be callable as f(t, y, *args), got a NoneType"),
    "f is a tensor": Bad(solve(Y), TypeError, "f must be callable"),
    "f of one argument": Bad(solve(lambda y: y), TypeError, "takes 1 positional argument but 2 were given"),
    "f returns None": Bad(
        solve(lambda t, y: None), TypeError, "f returned a NoneType (None), expected a tensor like y0"
    ),
    "f returns a number": Bad(solve(lambda t, y: 1.0), TypeError, "f returned a float (1.0), expected a tensor"),
    "f returns a tuple": Bad(solve(lambda t, y: (y,)), TypeError, "f returned a tuple of length 1, expected a tensor"),
    "f returns another shape": Bad(
        solve(lambda t, y: y[:1]), ValueError, "shape (1,) for a state of shape (2,); they must be equal"
    ),
    "f would broadcast": Bad(solve(lambda t, y: torch.ones(())), ValueError, "shape () for a state of shape (2,)"),
    "f returns another dtype": Bad(
        solve(lambda t, y: y.double()), TypeError, "convert y0 or f's result with .to(torch.float32)"
    ),
    "f returns too few": Bad(
        solve(lambda t, y: (y[0],), (Y, Y)), TypeError, "a tuple of length 1, expected a tuple of length 2"
    ),
    "f returns one for two": Bad(solve(lambda t, y: y[0], (Y, Y)), TypeError, "expected a tuple of length 2 like y0"),
    "f leaves a key out": Bad(
        solve(lambda t, y: {"a": y["a"]}, {"a": Y, "b": Y}),
        TypeError,
        "keys ['a'], expected a dict with keys ['a', 'b']",
    ),
    "f adds a key": Bad(
        solve(lambda t, y: {**y, "c": Y}, {"a": Y}), TypeError, "keys ['a', 'c'], expected a dict with keys ['a']"
    ),
    "a number deep in f's result": Bad(
        solve(lambda t, y: {"a": [y["a"][0], 3.0]}, {"a": [Y, Y]}), TypeError, "f returned a float (3.0) at ['a'][1]"
    ),
    # the initial state
    "y0 is a list of numbers": Bad(solve(y0=[1.0, 2.0]), TypeError, "y0 must hold tensors, got a float (1.0)"),
    "y0 is a number": Bad(solve(y0=1.0), TypeError, "write torch.as_tensor(y0) first"),
    "y0 is None": Bad(solve(y0=None), TypeError, "y0 must hold tensors, got a NoneType"),
    "y0 is whole numbers": Bad(
        solve(y0=torch.ones(2, dtype=torch.int64)), TypeError, "write y0.float() or y0.double()"
    ),
    "y0 is bool": Bad(
        solve(y0=torch.ones(2, dtype=torch.bool)), TypeError, "y0 must be floating point or complex, got torch.bool"
    ),
    "y0 of two precisions": Bad(
        solve(y0=(Y, torch.ones(2, dtype=torch.complex128))),
        TypeError,
        "(or one real and its complex), got torch.float32 and torch.complex128",
    ),
    "f returns complex numbers": Bad(
        solve(lambda t, y: 1j * y),
        TypeError,
        "for a torch.float32 state; solve for a complex y0, or return a real result",
    ),
    "f returns real parts": Bad(
        solve(lambda t, y: y.real, 1j * Y),
        TypeError,
        "for a torch.complex64 state; convert y0 or f's result with .to(torch.complex64)",
    ),
    "an event of complex numbers": Bad(
        solve(y0=1j * Y, event=lambda t, y: y[0]), TypeError, "an event function must return a floating point tensor"
    ),
    "complex tolerances": Bad(
        solve(y0=1j * Y, rtol=1j * Y), TypeError, "rtol must be real: it is for both parts of a complex number"
    ),
    "y0 of two dtypes": Bad(
        solve(y0=(Y, Y.double())), TypeError, "one dtype (or one real and its complex), got torch.float32 and"
    ),
    "y0 is empty": Bad(solve(y0=torch.ones(0)), ValueError, "y0 has an empty tensor of shape (0,)"),
    "y0 is an empty batch": Bad(solve(y0=torch.ones(0, 3), batch_dims=1), ValueError, "empty tensor of shape (0, 3)"),
    "y0 is an empty tuple": Bad(solve(y0=()), ValueError, "y0 holds no tensors"),
    # times
    "one time": Bad(solve(ts=(0.0,)), ValueError, "ts needs at least a start and an end"),
    "no times": Bad(solve(ts=()), ValueError, "write (t0, t1) or a 1-d tensor"),
    "a 0-d tensor of time": Bad(solve(ts=torch.tensor(1.0)), ValueError, "ts needs at least a start and an end"),
    "a number for ts": Bad(solve(ts=1.0), TypeError, "ts must be a tensor or a sequence of times, got a float (1.0)"),
    "ts is None": Bad(solve(ts=None), TypeError, "got a NoneType (None); write (t0, t1)"),
    "ts is a string": Bad(solve(ts="01"), TypeError, "ts must be a tensor or a sequence of times, got a str"),
    "ts of strings": Bad(solve(ts=("a", "b")), TypeError, "ts must be numbers, got ('a', 'b')"),
    "ts turns back": Bad(solve(ts=(0.0, 1.0, 0.5)), ValueError, "increase or decrease throughout, got [0, 1, 0.5]"),
    "ts turns forward": Bad(solve(ts=(1.0, 0.0, 0.5)), ValueError, "sort it, for example with ts.unique()"),
    "a lane turns back": Bad(
        solve(y0=LANES, ts=torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 0.5, 2]]), batch_dims=1),
        ValueError,
        "got [0, 1, 0.5] (lane 1)",
    ),
    "ts holds nan": Bad(solve(ts=(0.0, NAN)), ValueError, "ts must be finite, got [0, nan]"),
    "ts holds inf": Bad(solve(ts=(0.0, INF)), ValueError, "ts must be finite, got [0, inf]"),
    "ts goes nowhere": Bad(solve(ts=(1.0, 1.0)), ValueError, "ts starts and ends at 1"),
    "ts of lanes transposed": Bad(
        solve(y0=LANES, ts=torch.rand(3, 5), batch_dims=1), ValueError, "the time axis comes first: write ts.T"
    ),
    "ts of other lanes": Bad(
        solve(y0=LANES, ts=torch.rand(5, 4), batch_dims=1), ValueError, "ts has shape (5, 4), expected (T,) or (T, 3)"
    ),
    "ts of lanes, joint solve": Bad(solve(ts=torch.rand(5, 2)), ValueError, "ts has shape (5, 2), expected (T,)"),
    "ts of misfit tensors": Bad(
        solve(y0=LANES, ts=(torch.ones(3), torch.ones(2)), batch_dims=1),
        ValueError,
        "shapes [(3,), (2,)] that do not fit",
    ),
    "ts is bool": Bad(solve(ts=torch.tensor([False, True])), TypeError, "ts must be real numbers, got torch.bool"),
    "ts is complex": Bad(solve(ts=torch.tensor([0j, 1j])), TypeError, "ts must be real numbers, got torch.complex64"),
    # methods, controllers, tolerances
    "unknown method": Bad(solve(method="rk45"), ValueError, "unknown method 'rk45'; use one of euler, midpoint"),
    "method is a class": Bad(solve(method=iso.RungeKutta), ValueError, "or a solver such as RungeKutta(tableau)"),
    "adaptive euler": Bad(solve(method="euler"), ValueError, "pass controller=isocline.FixedStep(dt)"),
    "tolerances for rk4": Bad(solve(method="rk4", rtol=1e-3), ValueError, "method 'rk4' has no error estimate"),
    "a step of 0": Bad(lambda: iso.FixedStep(0.0), ValueError, "positive finite dt, got 0.0"),
    "a negative step": Bad(lambda: iso.FixedStep(-1.0), ValueError, "the direction comes from ts"),
    "a step of nan": Bad(lambda: iso.FixedStep(NAN), ValueError, "positive finite dt, got nan"),
    "an infinite step": Bad(lambda: iso.FixedStep(INF), ValueError, "positive finite dt, got inf"),
    "too many fixed steps": Bad(
        solve(controller=iso.FixedStep(1e-6)), ValueError, "needs 1000000 steps for this interval, but max_steps=16384"
    ),
    "negative rtol": Bad(solve(rtol=-1.0), ValueError, "must be >= 0, finite, and not both 0; got rtol=-1.0"),
    "no tolerance": Bad(solve(rtol=0, atol=0), ValueError, "not both 0; got rtol=0, atol=0"),
    "infinite rtol": Bad(solve(rtol=INF), ValueError, "finite, and not both 0; got rtol=inf"),
    "rtol is nan": Bad(solve(rtol=NAN), ValueError, "got rtol=nan"),
    "tolerances below float32": Bad(
        solve(rtol=1e-9, atol=1e-9),
        ValueError,
        "below what torch.float32 resolves (about 1.2e-07); loosen rtol, or solve",
    ),
    "tolerances below float64": Bad(
        solve(y0=Y.double(), rtol=1e-17, atol=1e-17), ValueError, "below what torch.float64 resolves"
    ),
    "controller and rtol": Bad(
        solve(controller=iso.PID(), rtol=1e-3), ValueError, "either a controller or rtol and atol"
    ),
    "controller is a number": Bad(
        solve(controller=0.1), TypeError, "controller must be FixedStep(dt) or PID(...), got a float"
    ),
    "controller is a class": Bad(solve(controller=iso.PID), TypeError, "controller must be FixedStep(dt) or PID(...)"),
    "unknown norm": Bad(lambda: iso.PID(norm="l2"), ValueError, "norm must be 'rms', 'max' or a function, got 'l2'"),  # type: ignore[arg-type]
    "safety above 1": Bad(lambda: iso.PID(safety=1.5), ValueError, "0 < safety < 1"),
    "factors that do not enclose 1": Bad(
        lambda: iso.PID(factor_min=2.0), ValueError, "0 < factor_min < 1 < factor_max"
    ),
    "negative dt0": Bad(lambda: iso.PID(dt0=-0.1), ValueError, "dt0 and dt_max must be positive"),
    "dt_max of 0": Bad(lambda: iso.PID(dt_max=0.0), ValueError, "dt0 and dt_max must be positive"),
    # gradients
    "gradient is a string": Bad(
        solve(gradient="direct"), TypeError, "gradient method such as DirectAdjoint(), got a str"
    ),
    "gradient is a class": Bad(solve(gradient=iso.DirectAdjoint), TypeError, "such as DirectAdjoint(), got"),
    "no checkpoints": Bad(
        lambda: iso.RecursiveCheckpointAdjoint(0), ValueError, "checkpoints must be a whole number >= 1"
    ),
    "backsolve with both": Bad(
        lambda: iso.BacksolveAdjoint(controller=iso.PID(), rtol=1e-3),
        ValueError,
        "either a controller or rtol and atol",
    ),
    "backsolve by unknown method": Bad(lambda: iso.BacksolveAdjoint(method="x"), ValueError, "unknown method 'x'"),
    "backsolve by adaptive euler": Bad(backsolve(method="euler"), ValueError, "method 'euler' has no error estimate"),
    "backsolve with negative rtol": Bad(backsolve(rtol=-1.0), ValueError, "rtol and atol must be >= 0"),
    # the other options
    "batch_dims below 0": Bad(solve(batch_dims=-1), ValueError, "batch_dims must be a whole number >= 0, got -1"),
    "batch_dims is bool": Bad(solve(batch_dims=True), ValueError, "batch_dims must be a whole number >= 0, got True"),
    "batch_dims is a float": Bad(solve(batch_dims=1.0), ValueError, "batch_dims must be a whole number >= 0, got 1.0"),
    "too many batch_dims": Bad(solve(batch_dims=2), ValueError, "batch_dims=2, but y0 has a tensor of shape (2,)"),
    "batches that differ": Bad(
        solve(y0=(torch.ones(2, 2), torch.ones(3, 2)), batch_dims=1),
        ValueError,
        "must agree, got shapes (2, 2) and (3, 2)",
    ),
    "max_steps of 0": Bad(solve(max_steps=0), ValueError, "max_steps must be a whole number >= 1, got 0"),
    "max_steps is a float": Bad(solve(max_steps=10.0), ValueError, "max_steps must be a whole number >= 1, got 10.0"),
    "args is a list": Bad(
        solve(args=[1.0]), TypeError, "args must be a tuple, got a list of length 1; write args=(value,)"
    ),
    "args is a tensor": Bad(solve(args=Y), TypeError, "args must be a tuple"),
    "params are names": Bad(solve(params=["a"]), TypeError, "params must be tensors, got a str"),
    "params are named": Bad(
        solve(params=nn.Linear(2, 2).named_parameters()), TypeError, "write params=list(net.parameters())"
    ),
    "unknown option": Bad(solve(tol=1e-3), TypeError, "unexpected keyword argument 'tol'"),
    # what comes back, and models
    "no dense output": Bad(lambda: iso.solve(f, Y, T)(0.5), ValueError, "call solve(..., dense=True)"),
    "dense output outside": Bad(lambda: iso.solve(f, Y, T, dense=True)(2.0), ValueError, "knows times from 0 to 1"),
    "dense output at misfit times": Bad(
        lambda: iso.solve(f, LANES, T, batch_dims=1, dense=True)(torch.rand(5, 2)), ValueError, "(S, *batch)"
    ),
    "no channels": Bad(
        lambda: iso.AugmentedNeuralODE(f, channels=0), ValueError, "channels must be a whole number >= 1, got 0"
    ),
    "a layer without a field": Bad(lambda: iso.NeuralODE(3)(Y), TypeError, "f must be callable"),  # type: ignore[arg-type]
    "complex tensor among times": Bad(solve(ts=(torch.tensor(0j), 1.0)), TypeError, "ts must be real numbers"),
    "bool tensor among times": Bad(solve(ts=(torch.tensor(False), 1.0)), TypeError, "ts must be real numbers"),
    "string among tensor times": Bad(solve(ts=(torch.tensor(0.0), "a")), TypeError, "ts must be numbers"),
    "FixedStep of a string": Bad(lambda: iso.FixedStep("0.1"), TypeError, "dt must be a number"),  # type: ignore[arg-type]
    "rtol is a string": Bad(solve(rtol="1e-3"), TypeError, "rtol must be a number, a tensor, or tensors in"),
    "rtol of too many": Bad(solve(rtol=torch.full((7,), 1e-3)), ValueError, "that does not broadcast against"),
    "params is a module": Bad(solve(params=nn.Linear(2, 2)), TypeError, "params must be tensors"),
    "norm of the wrong shape": Bad(
        solve(y0=LANES, batch_dims=1, controller=iso.PID(norm=lambda e: e)), ValueError, "norm must return"
    ),
    "checkpoints is a float": Bad(lambda: iso.RecursiveCheckpointAdjoint(2.5), ValueError, "checkpoints must be"),  # type: ignore[arg-type]
    "checkpoints is a string": Bad(lambda: iso.RecursiveCheckpointAdjoint("4"), ValueError, "checkpoints must be"),  # type: ignore[arg-type]
    "backsolve max_steps of 0": Bad(backsolve(max_steps=0), ValueError, "max_steps must be a whole number >= 1"),
    "backsolve controller is a number": Bad(backsolve(controller=0.1), TypeError, "controller must be"),
    "backsolve method is a number": Bad(backsolve(method=3), ValueError, "unknown method 3"),
    "RungeKutta of a name": Bad(
        lambda: iso.RungeKutta("heun"),
        TypeError,
        "RungeKutta needs a Tableau",  # type: ignore[arg-type]
    ),
    "channels is a float": Bad(lambda: iso.AugmentedNeuralODE(f, channels=1.5), ValueError, "channels must be"),  # type: ignore[arg-type]
    "dim beyond the input": Bad(lambda: iso.AugmentedNeuralODE(f, channels=1)(torch.ones(3)), ValueError, "dim=1"),
    "the place of a wrong shape": Bad(
        solve(lambda t, y: {"a": y["a"], "b": y["a"]}, {"a": Y, "b": torch.ones(3)}), ValueError, "at ['b']"
    ),
    "the lane outside its interval": Bad(
        lambda: iso.solve(f, LANES, (0.0, torch.tensor([2.0, 1.0, 2.0])), batch_dims=1, dense=True)(1.5),
        ValueError,
        "from 0 to 1 (lane 1)",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(bad: Bad) -> None:
    with pytest.raises(bad.error, match=re.escape(bad.message)):
        bad.call()


def test_settings_are_checked_before_f_is_called() -> None:
    def never(t: Tensor, y: Tensor) -> Tensor:
        raise AssertionError

    for options in (
        {"method": "euler"},
        {"rtol": 1e-12, "atol": 1e-12},
        {"gradient": "x"},
        {"params": ["a"]},
        {"ts": "01"},
    ):
        with pytest.raises((TypeError, ValueError)):
            solve(never, **options)()
