"""What calls that are made again and again leave behind."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

EVERY = 20
STATM = Path("/proc/self/statm")
needs_linux = pytest.mark.skipif(not STATM.exists(), reason="reads the memory of the process from Linux")


def left_by(call: Callable[[], object], calls: int, cycles: bool = True) -> tuple[int, int]:
    """Return how many Python objects more there are after so many calls, and how many bytes the process grew by.

    Without ``cycles`` they are collected after every 20 calls, so that at most as many are there at one time whatever
    else is in the process; else what hangs in one counts as left.
    """
    gc.collect()
    if cycles:
        gc.disable()
    try:
        (objects, size), (objects_later, size_later) = (_after(call, count) for count in (EVERY, calls))
    finally:
        gc.enable()
    return objects_later - objects, size_later - size


def _after(call: Callable[[], object], calls: int) -> tuple[int, int]:
    for done in range(1, calls + 1):
        call()
        if gc.isenabled() and done % EVERY == 0:
            gc.collect()
    return len(gc.get_objects()), int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
