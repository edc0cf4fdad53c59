"""Times of calls: samples long enough to mean something, taken in turns, and summed up by medians and quartiles."""

import gc
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

Call = Callable[[], Any]


def sample(call: Call, repeats: int) -> float:
    """Return seconds a call, over some calls in a row."""
    gc.collect()
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats


def repeats_for(call: Call, least: float) -> int:
    """Return how many calls in a row take at least so many seconds."""
    repeats = 1
    while (spent := repeats * sample(call, repeats)) < least:
        repeats = max(repeats + 1, min(10 * repeats, round(1.2 * repeats * least / spent)))
    return repeats


def in_turns(calls: Mapping[str, Call], rounds: int, least: float) -> dict[str, dict[str, float]]:
    """Time each call once a round. Each round starts with another one, so that none always follows the same one."""
    names = list(calls)
    repeats = {name: repeats_for(call, least) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % max(len(names), 1)
        for name in names[first:] + names[:first]:
            samples[name].append(sample(calls[name], repeats[name]))
    return {name: {**summary(samples[name]), "repeats": repeats[name]} for name in names}


def summary(samples: list[float]) -> dict[str, Any]:
    """Return median and quartiles, in seconds."""
    if len(samples) == 1:
        lower = upper = samples[0]
    else:
        lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return {"median": statistics.median(samples), "quartiles": [lower, upper], "rounds": len(samples)}
