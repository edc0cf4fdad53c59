"""What calls that are made again and again leave behind."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

STATM = Path("/proc/self/statm")
needs_linux = pytest.mark.skipif(not STATM.exists(), reason="reads the memory of the process from Linux")


def left_by(call: Callable[[], object], calls: int, cycles: bool = True) -> tuple[int, int]:
    """Return how many Python objects more there are after so many calls, and how many bytes the process grew by.

    Without ``cycles`` the collector is on; else what hangs in one counts as left.
    """
    gc.collect()
    if cycles:
        gc.disable()
    try:
        (objects, size), (objects_later, size_later) = (_after(call, count) for count in (20, calls))
    finally:
        gc.enable()
    return objects_later - objects, size_later - size


def _after(call: Callable[[], object], calls: int) -> tuple[int, int]:
    for _ in range(calls):
        call()
    if gc.isenabled():
        gc.collect()
    return len(gc.get_objects()), int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
