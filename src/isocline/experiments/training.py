"""Trainings in pieces that are each left in the run folder, and that resume to the same numbers."""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

import isocline as iso
from isocline.experiments.progress import Progress, Stateful
from isocline.experiments.run_folder import Record, RunFolder


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        losses: Mean losses of the pieces.
        scores: What was selected by after each piece; empty if nothing was.
        seconds: Time that the pieces took, in seconds, those before a resume included.
    """

    losses: tuple[float, ...]
    scores: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class Training:
    """A training of a model, piece by piece.

    Attributes:
        name: Of checkpoint and metrics.
        model: What is trained.
        unit: What a piece is called in the metrics: "epoch", say.
        pieces: How many.
        piece: Trains for one, by its number from 0, and returns the mean loss; it may draw random numbers.
        parts: What has a state besides the model: optimiser, schedule.
        seed: Of what is drawn.
        every: Pieces from one checkpoint to the next.
        score: Of the model on validation data, the larger the better: in the end the model is what it was after the
            best piece. None takes the last.
    """

    name: str
    model: nn.Module
    unit: str
    pieces: int
    piece: Callable[[int], float]
    parts: Mapping[str, Stateful] = field(default_factory=dict)
    seed: int = 0
    every: int = 1
    score: Callable[[], float] | None = None

    def run(self, folder: RunFolder) -> Course:
        """Trains from the folder's checkpoint, if there is one, to the end."""
        progress = Progress(folder, self.name, self.unit, {"model": self.model, **self.parts})
        state: Record = progress.restore() or {"losses": [], "scores": [], "seconds": 0.0, "best": None}
        losses, scores, seconds, best = (state[name] for name in ("losses", "scores", "seconds", "best"))
        progress.forget(after=len(losses))
        # disable=None: no bar where the output is not a terminal
        for piece in tqdm(range(len(losses), self.pieces), self.name, self.pieces, initial=len(losses), disable=None):
            start = time.perf_counter()
            record = self._piece(piece)
            losses.append(record["loss"])
            seconds += time.perf_counter() - start
            if self.score is not None:
                record["score"] = self.score()
                if record["score"] > max(scores, default=-inf):
                    best = deepcopy(self.model.state_dict())
                scores.append(record["score"])
            if len(losses) % self.every == 0 or len(losses) == self.pieces:
                progress.leave(record, losses=losses, scores=scores, seconds=seconds, best=best)
        if best is not None:
            self.model.load_state_dict(best)
        return Course(tuple(losses), tuple(scores), seconds)

    def _piece(self, piece: int) -> dict[str, Any]:
        """Trains for one; what there is to say about it."""
        with iso.track() as work, torch.random.fork_rng(devices=[]):
            # Seeded anew for each piece: a resumed run draws the same numbers without a generator's saved state.
            torch.manual_seed(1_000_003 * self.seed + piece)
            loss = self.piece(piece)
        evaluations = work.forward.evaluations / work.solves if work.solves else None
        return {"model": self.name, self.unit: piece + 1, "loss": loss, "nfe_forward": evaluations}
