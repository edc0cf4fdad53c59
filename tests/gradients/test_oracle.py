"""The continuous adjoint written from the mathematics, with NumPy and SciPy alone: nothing is shared with isocline.

With ``a(t) = dL/dz(t)`` the augmented state [z, a, a_theta, a_t] follows backwards in time

    dz/dt = f,  da/dt = -a^T df/dz,  da_theta/dt = -a^T df/dtheta,  da_t/dt = -a^T df/dt

and jumps at each time t_i that the loss depends on: a by dL/dz(t_i), and the gradient for t_i itself is
``dL/dz(t_i) . f(z(t_i), t_i)``. (Chen, Rubanova, Bettencourt & Duvenaud 2018, arXiv:1806.07366, Algorithm 1,
Appendices B and C.)
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import isocline as iso
from isocline.gradients import GRADIENTS
from problems import fitting

from .problems import ALL_GRADIENTS

integrate = pytest.importorskip("scipy.integrate")

Array = np.ndarray
N, HIDDEN = 2, 3


@dataclass(frozen=True)
class Problem:
    """``dz/dt = W2 tanh(W1 z + b sin(t)) - c z`` with a loss that depends on all saved states, not linearly."""

    z0: Array
    ts: Array
    w1: Array
    b: Array
    w2: Array
    c: Array
    target: Array

    def f(self, t: float, z: Array) -> Array:
        return self.w2 @ np.tanh(self.w1 @ z + self.b * np.sin(t)) - self.c * z

    def products(self, t: float, z: Array, a: Array) -> tuple[Array, Array, float]:
        """Return ``a^T df/dz``, ``a^T df/dtheta`` and ``a^T df/dt``, by hand."""
        h = np.tanh(self.w1 @ z + self.b * np.sin(t))
        inner = (self.w2.T @ a) * (1 - h**2)
        by_theta = [np.outer(inner, z), inner * np.sin(t), np.outer(a, h), -a * z]
        by_time = inner @ self.b * np.cos(t)
        return self.w1.T @ inner - self.c * a, np.concatenate([x.ravel() for x in by_theta]), by_time

    def loss_gradient(self, zs: Array) -> Array:
        """Of ``sum over i of |z_i - target_i|^4 / 4``."""
        away = zs - self.target
        return away * (away**2).sum(axis=1, keepdims=True)


def solve_ivp(f: Any, t0: float, t1: float, y0: Array) -> Array:
    sol = integrate.solve_ivp(f, (t0, t1), y0, method="DOP853", rtol=1e-12, atol=1e-13)
    assert sol.success
    return sol.y[:, -1]


def adjoint(p: Problem) -> dict[str, Array]:
    """Return the gradients with respect to z0, all times, and the parameters."""
    zs = [p.z0]
    for t0, t1 in zip(p.ts, p.ts[1:], strict=False):
        zs.append(solve_ivp(p.f, t0, t1, zs[-1]))
    bars = p.loss_gradient(np.array(zs))
    count = p.w1.size + p.b.size + p.w2.size + p.c.size

    def backwards(t: float, state: Array) -> Array:
        z, a = state[:N], state[N : 2 * N]
        by_z, by_theta, by_time = p.products(t, z, a)
        return np.concatenate([p.f(t, z), -by_z, -by_theta, [-by_time]])

    by_times = np.array([bar @ p.f(t, z) for bar, t, z in zip(bars, p.ts, zs, strict=True)])
    # dL/dt0 = a_t(t0), if a_t starts at the end with -a(t1) . f there, and at each jump of a with that of -a . f.
    a, a_theta, a_t = np.zeros(N), np.zeros(count), 0.0
    for i in range(len(zs) - 1, 0, -1):
        a, a_t = a + bars[i], a_t - by_times[i]
        state = solve_ivp(backwards, p.ts[i], p.ts[i - 1], np.concatenate([zs[i], a, a_theta, [a_t]]))
        a, a_theta, a_t = state[N : 2 * N], state[2 * N : -1], state[-1]
    by_times[0] = a_t
    sizes = np.cumsum([p.w1.size, p.b.size, p.w2.size])
    w1, b, w2, c = np.split(a_theta, sizes)
    return {"z0": a + bars[0], "ts": by_times, "w1": w1.reshape(HIDDEN, N), "b": b, "w2": w2.reshape(N, HIDDEN), "c": c}


TIMES = {
    "forwards": [0.2, 0.5, 0.55, 1.3, 2.0],
    "backwards": [2.0, 1.3, 0.55, 0.5, 0.2],
    "two": [0.0, 1.5],
}


@cache
def problem(name: str) -> Problem:
    rng = np.random.default_rng(0)
    ts = np.array(TIMES[name])
    shapes = (N,), (HIDDEN, N), (HIDDEN,), (N, HIDDEN), (N,), (len(ts), N)
    z0, w1, b, w2, c, target = (rng.normal(size=shape) for shape in shapes)
    return Problem(z0, ts, w1, b, w2, 0.5 * c, target)


@cache
def oracle(name: str) -> dict[str, Array]:
    return adjoint(problem(name))


@pytest.mark.parametrize("name", TIMES)
def test_the_oracle_by_finite_differences(name: str) -> None:
    """Its own: of the times and of one parameter of each kind."""
    p, found, eps = problem(name), oracle(name), 1e-5

    def loss(**changed: Array) -> float:
        q = Problem(**{**vars(p), **changed})
        zs = [q.z0]
        for t0, t1 in zip(q.ts, q.ts[1:], strict=False):
            zs.append(solve_ivp(q.f, t0, t1, zs[-1]))
        return float((((np.array(zs) - q.target) ** 2).sum(axis=1) ** 2).sum() / 4)

    for key in found:
        direction = np.random.default_rng(1).normal(size=found[key].shape)
        up, down = (loss(**{key: getattr(p, key) + step * direction}) for step in (eps, -eps))
        assert abs((up - down) / (2 * eps) - (found[key] * direction).sum()) < 1e-7 * (1 + np.abs(found[key]).max()), (
            key
        )


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("gradient", [*GRADIENTS, "checkpoint-2"])
def test_isocline_agrees(gradient: str, name: str) -> None:
    p, how = problem(name), ALL_GRADIENTS[gradient]
    x = {key: torch.tensor(getattr(p, key), requires_grad=True) for key in oracle(name)}

    def f(t: Tensor, z: Tensor) -> Tensor:
        return x["w2"] @ torch.tanh(x["w1"] @ z + x["b"] * torch.sin(t)) - x["c"] * z

    zs = iso.solve(f, x["z0"], x["ts"], rtol=1e-10, atol=1e-11, gradient=how, method=fitting(how)).ys
    loss = (zs - torch.tensor(p.target)).square().sum(dim=1).square().sum() / 4
    for (key, right), found in zip(oracle(name).items(), torch.autograd.grad(loss, list(x.values())), strict=True):
        assert_close(found, torch.tensor(right), rtol=1e-7, atol=1e-7, msg=lambda m, key=key: f"{key}: {m}")
