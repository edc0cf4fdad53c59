"""All contenders, in the order of the tables."""

from collections.abc import Iterable

from benchmarks.peers import bare, diffrax_, ours, scipy_, torchdiffeq_, torchode_
from benchmarks.peers.case import Case
from benchmarks.peers.contender import Contender

CONTENDERS = tuple(
    contender for module in (ours, torchdiffeq_, torchode_, diffrax_, scipy_, bare) for contender in module.CONTENDERS
)


def contenders_for(case: Case, device: str, choices: Iterable[str] = ()) -> list[Contender]:
    """Return who takes part in a case: all that can, or those of them that a choice means."""
    able = [contender for contender in CONTENDERS if contender.takes(case, device)]
    choices = list(choices)
    return [c for c in able if not choices or any(c.chosen(choice) for choice in choices)]


def contender_called(name: str) -> Contender:
    return next(contender for contender in CONTENDERS if contender.name == name)
