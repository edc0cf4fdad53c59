"""Whose time is compared with whose."""

from typing import Any

MODES = ("together", "alone")
PEERS = ("torchdiffeq", "torchode", "diffrax", "scipy")
HOW = ("eager", "compiled")
DEFAULTS = {"isocline": "direct", "torchdiffeq": "direct", "torchode": "direct", "diffrax": "checkpoint"}
"""The gradient that a library takes if it is not told which."""

Entries = dict[str, Any]


def timed(timing: dict[str, Any] | None) -> bool:
    return timing is not None and "median" in timing


def ratio(ours: Any, theirs: Any, mode: str) -> str:
    """Return the ratio of two medians of one run; a dash where there is none."""
    first, second = ((entry or {}).get(mode) for entry in (ours, theirs))
    if not timed(first) or not timed(second) or first["run"] != second["run"]:
        return "–"
    return f"{first['median'] / second['median']:.2f}"


def ratio_to_same_kind(entries: Entries, name: str, how: str, mode: str) -> str:
    """Return isocline over a contender, with the same kind of gradient."""
    library, *words = name.split(":")
    if library not in PEERS:
        return ""
    kind = [word for word in words if word not in HOW]
    return ratio(entries.get(":".join(["isocline", *kind, how])), entries[name], mode)


def ratio_to_default(entries: Entries, peer: str, how: str, mode: str) -> str:
    """Return isocline over a peer, each with its default gradient, the peer run in its quickest way."""
    ours, theirs = default_name(entries, "isocline"), default_name(entries, peer)
    ways = [entries[name] for name in (theirs, *(f"{theirs}:{way}" for way in HOW)) if name in entries]
    quickest = min((way for way in ways if timed(way.get(mode))), key=lambda way: way[mode]["median"], default=None)
    return ratio(entries.get(f"{ours}:{how}"), quickest, mode)


def default_name(entries: Entries, library: str) -> str:
    gradient = any(set(name.split(":")) & {*DEFAULTS.values(), "backsolve"} for name in entries)
    return f"{library}:{DEFAULTS[library]}" if gradient and library in DEFAULTS else library


def overhead(entries: Entries, how: str, mode: str) -> str:
    """Return the time of a solve an evaluation, over that of a bare call of the field."""
    solve, bare = entries.get(f"isocline:{how}", {}), entries.get(f"bare:{how}", {})
    if ratio(solve, bare, mode) == "–":
        return "–"
    per_call = [entry[mode]["median"] / entry["evaluations"] for entry in (solve, bare)]
    return f"{per_call[0] / per_call[1]:.2f}"
