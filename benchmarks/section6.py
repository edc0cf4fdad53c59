"""docs/section6.md: the experiments on section 6 of the paper, in full, with their figures and results.

python benchmarks/section6.py             # all of them: about five minutes on one core
python benchmarks/section6.py drift nfe   # some, put in place of earlier ones
python benchmarks/section6.py --page      # only the page, from the results in docs/figures
"""

import json
import platform
import sys
from pathlib import Path

import torch

import isocline as iso
from isocline.experiments import registry
from isocline.experiments.processes import launched
from isocline.experiments.reproduction import content, drawn
from isocline.experiments.run_folder import RunFolder

DOCS = Path(__file__).parent.parent / "docs"
EXPERIMENTS = {name: kind for name, kind in registry.EXPERIMENTS.items() if "section6" in kind.__module__}

INTRODUCTION = """# Scope and limitations, by experiment

Section 6 of *Neural Ordinary Differential Equations* ([Chen et al. 2018](https://arxiv.org/abs/1806.07366)) says what
to be careful with, and its sections 1 to 3 say what its gradients are and cost. Here each of these claims is an
experiment: one command, one figure, one JSON file. They run in float64 (memory: float32), on one thread, seeded.
Nothing is timed: the numbers are errors, counts and bytes. `--quick` is a small form that takes seconds, `--out DIR`
says where results go, `--help` lists the settings. This page is made by `python benchmarks/section6.py`.

| command | the question |
|---|---|
| [`isocline reproduce drift`](#drift) | Does a trajectory come back when it is solved backwards? |
| [`isocline reproduce lanes`](#lanes) | What does a batch cost as one system? |
| [`isocline reproduce nfe`](#nfe) | Does the backward pass take half the evaluations of the forward pass? |
| [`isocline reproduce gradient-error`](#gradient-error) | How right is the gradient, and of what is it the gradient? |
| [`isocline reproduce memory`](#memory) | Is the adjoint's memory constant? |
| [`isocline reproduce picard`](#picard) | What if there is no unique solution? |

Crosses at the top of figures mark backward passes that failed.
"""

TEXTS = {
    "drift": """\
Forwards, and back from the end with the same tolerances, on intervals of growing length: y' = -8 (y - cos t), whose
solutions approach each other at the rate 8; a tanh net that has learnt a spiral; Lorenz's equations. Gradients at
tolerance 1e-6 beside a reference. "Pieces" are solves one from the end of the other, so that the state is stored at
the start of each: the paper's checkpointing.""",
    "lanes": """\
Five kinds of batches: one tanh net from random starts; oscillators of similar frequency; Kepler orbits (eccentricity
0.9), each hard at its own time; van der Pol's equation with mu over more than two decades; one fast oscillator among
slow ones. Solved as one system of K samples, and per sample (`batch_dims=1`).""",
    "nfe": """\
Four problems, the same method and tolerances for both passes. Panel (a) is the paper's Figure 3c. Each evaluation
backwards comes with a product with the Jacobian, so it costs two to three times one forwards.""",
    "gradient-error": """\
Every gradient method beside two gradients: that of the exact solution (a reference at tolerance 1e-13), and that of
the computed one (finite differences of the same steps, in random directions).""",
    "memory": """\
A training step of tanh(Linear(64, 64)) on 64 samples, `midpoint` with steps of a fixed size: the bytes of all tensors
that the step made and that were alive at one time.""",
    "picard": """\
Fields of one number that break the theorem's conditions, each in its own way, from 0 and from 1e-12 beside it, solved
by many methods; their derivatives by the start; and nets of the paper's kind.""",
}


def measure(name: str) -> None:
    results = EXPERIMENTS[name]().run(RunFolder(DOCS, {}), launched())
    versions = {"python": platform.python_version(), "torch": torch.__version__, "isocline": iso.__version__}
    about = {"command": f"isocline reproduce {name}", "versions": versions}
    text = json.dumps({**about, **content(results)}, indent=1, allow_nan=False)
    results_of(name).write_text(text + "\n")
    results_of(name).with_suffix(".png").write_bytes(drawn(results.plot(), "png"))


def results_of(name: str) -> Path:
    return DOCS / "figures" / f"section6-{name}.json"


def page() -> str:
    parts = [INTRODUCTION]
    for name, text in TEXTS.items():
        findings = json.loads(results_of(name).read_text())["findings"]
        rows = [
            " | ".join(finding[key].replace("|", "\\|") for key in ("claim", "holds", "found")) for finding in findings
        ]
        head = "| claim | holds here | what was found |\n|---|---|---|\n"
        link = f"figures/{results_of(name).name}"
        parts.append(
            f"## {name}\n\n`isocline reproduce {name}` ([results]({link}))\n\n{text}\n\n"
            f"![{name}]({link.replace('.json', '.png')})\n\n{head}" + "".join(f"| {row} |\n" for row in rows)
        )
    return "\n".join(parts)


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    if "--page" not in arguments:
        for name in arguments or EXPERIMENTS:
            measure(name)
            print(name, flush=True)
    (DOCS / "section6.md").write_text(page())


if __name__ == "__main__":
    main(sys.argv[1:])
