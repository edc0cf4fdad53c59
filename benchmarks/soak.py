"""A million short solves in one process: does its memory stay flat?

    python -m benchmarks.soak      # half an hour; prints a table, writes benchmarks/results/soak.json

What a service does in a day: single steps, adaptive solves, batches of lanes, gradients both ways, events, solves that
fail, and torchdiffeq's interface, each in its turn. The size of the process is read after each twentieth of them; after
the first it must not grow by more than 4 MiB, and Python must not hold more objects. Reads memory from Linux.
"""

import argparse
import gc
import os
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

import isocline as iso
from benchmarks.peers.results import machine, save, versions
from isocline.compat.torchdiffeq import odeint

RESULT = Path(__file__).parent / "results" / "soak.json"
STATM = Path("/proc/self/statm")
PARTS = 20
MOST = 4 * 2**20
"""Bytes by which the process may grow."""

RATE = torch.tensor(-1.0, requires_grad=True)
START = torch.ones(4)
STEP = iso.FixedStep(1.0)


def decay(t: Tensor, y: Tensor) -> Tensor:
    """Return the field of all these solves."""
    return RATE.detach() * y


def learned(t: Tensor, y: Tensor) -> Tensor:
    """Return the same, with a gradient."""
    return RATE * y


def step() -> None:
    iso.solve(decay, START, (0.0, 1.0), method="euler", controller=STEP)


def compat() -> None:
    odeint(decay, START, torch.tensor([0.0, 0.1]), method="rk4")


def adaptive() -> None:
    iso.solve(decay, START, (0.0, 0.1))


def lanes() -> None:
    iso.solve(decay, START.reshape(2, 2), (0.0, 0.1), batch_dims=1)


def gradient(adjoint: iso.Gradient) -> Callable[[], None]:
    def call() -> None:
        end = iso.solve(learned, START, (0.0, 1.0), method="midpoint", controller=STEP, gradient=adjoint).ys[-1]
        torch.autograd.grad(end.sum(), RATE)

    return call


def event() -> None:
    iso.solve(decay, START, (0.0, 1.0), event=lambda t, y: y[0] - 0.95)


def failed() -> None:
    iso.solve(decay, START, (0.0, 9.0), max_steps=1, throw=False)


TURN: tuple[Callable[[], None], ...] = (
    *(step, compat, adaptive, step, compat, lanes, step, compat),
    *(gradient(iso.DirectAdjoint()), step, compat, gradient(iso.BacksolveAdjoint()), step, compat, event, failed),
)


def held() -> tuple[int, int]:
    """Return bytes of the process, and Python's objects."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"), len(gc.get_objects())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solves", type=int, default=1_000_000)
    parser.add_argument("--results", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    calls, start = cycle(TURN), perf_counter()
    rows = []
    for part in range(PARTS):
        for call in islice(calls, options.solves // PARTS):
            call()
        size, objects = held()
        rows.append({"solves": (part + 1) * (options.solves // PARTS), "bytes": size, "objects": objects})
        print(f"{rows[-1]['solves']:9,} {size / 2**20:8.1f} MiB {objects:9,} objects {perf_counter() - start:6.0f} s")
    about = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "machine": machine("cpu")}
    save({**about, "versions": versions(), "seconds": round(perf_counter() - start), "rows": rows}, options.results)
    if rows[-1]["bytes"] - rows[0]["bytes"] > MOST or rows[-1]["objects"] - rows[0]["objects"] > 100:
        raise SystemExit("memory is not flat")


if __name__ == "__main__":
    main()
