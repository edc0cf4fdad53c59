"""A run: case after case, writing the results and the page after each."""

from pathlib import Path

import torch

from benchmarks.peers.cases import NAMES, make_case
from benchmarks.peers.contenders import contenders_for
from benchmarks.peers.measure import Record, Settings, alone, together
from benchmarks.peers.page import render
from benchmarks.peers.results import begin_run, load, merge, save
from benchmarks.peers.truth import disagreement, truth_of

ROOT = Path(__file__).parents[2]
FILES = {"cpu": "peers.json", "cuda": "peers_cuda.json"}
FOLDER = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"


def run(
    cases: list[str], choices: list[str], mode: str, settings: Settings, command: str, results_file: Path | None
) -> None:
    """Measure the named cases, or all."""
    path = results_file or FOLDER / FILES[settings.device]
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    results = load(path)
    number = begin_run(results, settings, command)
    measure = alone if mode == "alone" else together
    for name in cases or NAMES:
        case = make_case(name)
        contenders = contenders_for(case, settings.device, choices)
        if not contenders:
            continue
        print(f"\n{name}: {case.what}", flush=True)
        truth = truth_of(case)
        records = measure(case, contenders, truth, settings)
        print("\n".join(line(contender, record) for contender, record in records.items()), flush=True)
        merge(results, case, disagreement(case, truth), mode, number, records)
        save(results, path)
        write_page(results_file)


def line(name: str, record: Record) -> str:
    """Return what the terminal shows of a contender."""
    timing = record["timing"]
    time = f"{1e3 * timing['median']:10.2f} ms" if "median" in timing else f"{timing['status']:>13}"
    error = max(record.get("error", 0.0), record.get("gradient_error", 0.0))
    return (
        f"  {name:32}{time}  error {error:.1e}  evaluations {record.get('evaluations', '')} {timing.get('message', '')}"
    )


def write_page(results_file: Path | None = None) -> None:
    """Render the results of all devices; those of a file of its own beside it."""
    if results_file is not None:
        results_file.with_suffix(".md").write_text(render({"cpu": load(results_file)}))
        return
    files = {device: FOLDER / name for device, name in FILES.items()}
    PAGE.write_text(render({device: load(file) for device, file in files.items() if file.exists()}))
