"""What calls that are made again and again leave behind."""

import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

STATM = Path("/proc/self/statm")
_LIBC = ctypes.CDLL(None)
needs_linux = pytest.mark.skipif(
    not (STATM.exists() and hasattr(_LIBC, "malloc_trim")),
    reason="reads the memory of the process from Linux, by glibc",
)


def left_by(call: Callable[[], object], calls: int, cycles: bool = True) -> tuple[int, int]:
    """Return how many Python objects more there are after so many calls, and how many bytes the process grew by.

    Without ``cycles`` they are collected after each call, so that never more than one call's are there, whatever else
    is in the process; else what hangs in one counts as left.
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
    _LIBC.malloc_trim(0)  # what is free inside the heap, too: how much there is depends on what ran before
    return len(gc.get_objects()), int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
