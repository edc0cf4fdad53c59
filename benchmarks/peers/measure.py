"""Measure a case: check every contender's answer first, then time those that are right."""

import importlib.util
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import torch

from benchmarks.peers.case import Case
from benchmarks.peers.cases import make_case
from benchmarks.peers.contender import Answer, Contender, Counts, Job
from benchmarks.peers.contenders import contender_called
from benchmarks.peers.timing import in_turns
from benchmarks.peers.truth import errors

Record = dict[str, Any]
"""Of one contender: errors and counts, and under "timing" its status, its times, or why there are none."""


@dataclass(frozen=True)
class Settings:
    device: str = "cpu"
    rounds: int = 11
    least: float = 0.02
    """Seconds that a sample takes at least."""
    threads: int | None = None


def together(case: Case, contenders: list[Contender], truth: Answer, settings: Settings) -> dict[str, Record]:
    """Measure all contenders in this process, in turns."""
    torch.compiler.reset()
    records, calls = {}, {}
    for contender in contenders:
        job, answer, record = prepare(contender, case, settings.device)
        records[contender.name] = judge(case, record, answer, truth)
        if job is not None and record["timing"]["status"] == "ok":
            calls[contender.name] = job.call
    for name, times in in_turns(calls, settings.rounds, settings.least).items():
        records[name]["timing"] |= times
    return records


def alone(case: Case, contenders: list[Contender], truth: Answer, settings: Settings) -> dict[str, Record]:
    """Measure each contender in a process of its own, so that no other library's threads are about."""
    records = {}
    for contender in contenders:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                answer, record = pool.submit(measure_one, case.name, contender.name, settings).result()
            except BrokenProcessPool:
                answer, record = None, {"timing": {"status": "failed", "message": "its process died"}}
        records[contender.name] = judge(case, record, answer, truth)
    return records


def measure_one(case_name: str, contender_name: str, settings: Settings) -> tuple[Answer | None, Record]:
    """Run in its own process: prepare and time; the caller has the truth and judges."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    job, answer, record = prepare(contender_called(contender_name), make_case(case_name), settings.device)
    if job is not None:
        record["timing"] |= in_turns({contender_name: job.call}, settings.rounds, settings.least)[contender_name]
    return answer, record


def prepare(contender: Contender, case: Case, device: str) -> tuple[Job | None, Answer | None, Record]:
    """Build and warm up. What a library raises is reported, and stops nobody else."""
    if importlib.util.find_spec(contender.package) is None:
        return None, None, {"timing": {"status": "not installed"}}
    try:
        job = contender.build(case, device)
        start = perf_counter()
        job.call()
        first_call = perf_counter() - start
        answer = job.answer(job.call())
        counts: Counts = job.count()
    except Exception as error:
        message = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return None, None, {"timing": {"status": "failed", "message": message}}
    return job, answer, {**counts, "timing": {"status": "ok", "first_call": first_call}}


def judge(case: Case, record: Record, answer: Answer | None, truth: Answer) -> Record:
    """Write the errors beside the times; a wrong answer has no times."""
    found, right = errors(case, answer, truth)
    record |= found
    if not right:
        record["timing"] = {"status": "wrong"}
    return record
