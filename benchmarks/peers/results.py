"""The results file: merged, never started afresh, so that a partial or killed run loses nothing.

{"runs": {number: command, versions, machine, ...},
 "cases": {case: {what, tolerances, ...,
                  "contenders": {name: {error, counts, "together": {times, run}, "alone": {times, run}}}}}}
"""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.case import Case
from benchmarks.peers.cases import NAMES
from benchmarks.peers.contenders import CONTENDERS
from benchmarks.peers.measure import Record, Settings

Results = dict[str, Any]
PACKAGES = ("isocline", "torch", "torchdiffeq", "torchode", "diffrax", "jax", "scipy", "numpy")


def load(path: Path) -> Results:
    results: Results = json.loads(path.read_text()) if path.exists() else {"runs": {}, "cases": {}}
    return results


def save(results: Results, path: Path) -> None:
    """Write at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    part.replace(path)


def begin_run(results: Results, settings: Settings, command: str) -> str:
    """Enter a run; return its number, which every time that it measures refers to."""
    number = str(max(map(int, results["runs"]), default=0) + 1)
    results["runs"][number] = {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "machine": machine(settings.device),
        "cores": os.cpu_count(),
        "threads": settings.threads or torch.get_num_threads(),
        "least_seconds_a_sample": settings.least,
    }
    return number


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine(device: str) -> str:
    """Return the model of the processor that does the work."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def merge(
    results: Results, case: Case, disagreement: float | None, mode: str, run: str, records: dict[str, Record]
) -> None:
    """Put what a run measured in place of what was known of the same contenders, case and mode; keep the rest."""
    entry = results["cases"].setdefault(case.name, {"contenders": {}})
    entry |= {
        "what": case.what,
        "rtol": case.rtol,
        "atol": case.atol,
        "bound": case.bound,
        "gradient_bound": case.gradient_bound if case.gradient else None,
        "reference_disagreement": disagreement,
    }
    for name, record in records.items():
        timing = {**record.pop("timing"), "run": run}
        before = entry["contenders"].get(name, {})
        kept = {other: before[other] for other in ("together", "alone") if other in before and other != mode}
        # What failed says nothing about errors and counts.
        known = record or {key: value for key, value in before.items() if key not in ("together", "alone")}
        entry["contenders"][name] = {**known, **kept, mode: timing}
    entry["contenders"] = in_order(entry["contenders"], [contender.name for contender in CONTENDERS])
    results["cases"] = in_order(results["cases"], NAMES)
    drop_unused_runs(results)


def in_order(entries: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return entries in the order of a full run, whatever the order of partial ones; others at the end."""
    return dict(sorted(entries.items(), key=lambda item: names.index(item[0]) if item[0] in names else len(names)))


def drop_unused_runs(results: Results) -> None:
    """Forget runs whose every measurement was replaced."""
    used = {
        contender[mode]["run"]
        for case in results["cases"].values()
        for contender in case["contenders"].values()
        for mode in ("together", "alone")
        if mode in contender
    }
    results["runs"] = {number: about for number, about in results["runs"].items() if number in used}
