"""isocline beside torchdiffeq, torchode, diffrax and SciPy.

    python -m benchmarks.peers                    # all cases, contenders in turns in one process
    python -m benchmarks.peers --alone            # each contender in a process of its own: a second column
    python -m benchmarks.peers --cases vdp-256 mlp-4x2x8-grad --peers isocline:eager torchdiffeq diffrax
    python -m benchmarks.peers --device cuda      # the torch libraries on a GPU

Writes after each case: benchmarks/results/peers.json (peers_cuda.json), and the page made of them, docs/benchmarks.md.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="default: all; any size in the name")
    parser.add_argument(
        "--peers", nargs="+", default=[], metavar="WORDS", help="words of the names, joined by colons: isocline:eager"
    )
    parser.add_argument("--rounds", type=int, default=11, help="samples of each contender (default 11)")
    parser.add_argument("--alone", action="store_true", help="each contender in a process of its own")
    parser.add_argument("--quick", action="store_true", help="3 rounds of short samples: to see that it works")
    parser.add_argument("--threads", type=int, help="numerical threads (default: each library's own choice)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--results", type=Path, help="another results file; its page is written beside it")
    return parser.parse_args(arguments)


def set_environment(threads: int | None) -> None:
    """Set what libraries read when they are imported, here and in the processes of --alone."""
    # The first call is to be the first: nothing compiled may come from an earlier run.
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    if threads is None:
        return
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"):
        os.environ[name] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    set_environment(options.threads)
    from benchmarks.peers.measure import Settings
    from benchmarks.peers.run import run

    rounds, least = (3, 0.005) if options.quick else (options.rounds, 0.02)
    run(
        options.cases,
        options.peers,
        "alone" if options.alone else "together",
        Settings(options.device, rounds, least, options.threads),
        shlex.join(["python", "-m", "benchmarks.peers", *arguments]),
        options.results,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
