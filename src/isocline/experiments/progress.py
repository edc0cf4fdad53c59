"""How far a training has got, kept in its run folder: a line of metrics and a checkpoint, again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from isocline.experiments.run_folder import Record, RunFolder, RunFolderError


class Stateful(Protocol):
    """A module, an optimiser or a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """All that it has to remember."""

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Remembers it."""


@dataclass(frozen=True)
class Progress:
    """What a training leaves, so that a kill at any moment loses no more than what came after the last checkpoint.

    Attributes:
        folder: Where.
        name: Of the checkpoint, and the value of "model" in the lines of metrics.
        unit: What counts the lines, from 1: "epoch", say.
        parts: What is restored, by name.
    """

    folder: RunFolder
    name: str
    unit: str
    parts: Mapping[str, Stateful]

    def leave(self, record: Record, **more: Any) -> None:
        """Writes a line of metrics, then the checkpoint, with further values in it."""
        # In this order: a kill between the two leaves a line too many, which `forget` drops.
        self.folder.append_metrics(record)
        states = {name: part.state_dict() for name, part in self.parts.items()}
        self.folder.save_checkpoint(self.name, {self.unit: record[self.unit], **more, **states})

    def restore(self) -> Record | None:
        """Restores the parts from the checkpoint and returns it; None if there is none.

        Raises:
            RunFolderError: It is damaged, or of a training with other settings.
        """
        state = self.folder.load_checkpoint(self.name)
        if state is None:
            return None
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            state[self.unit]
        except (KeyError, RuntimeError, ValueError) as error:
            where = self.folder.path / f"{self.name}.pt"
            raise RunFolderError(f"{where}: does not fit the run's config.json") from error
        return state

    def forget(self, after: int) -> None:
        """Drops lines of metrics that no checkpoint goes with: those after this one."""
        self.folder.keep_metrics(lambda record: record["model"] != self.name or record[self.unit] <= after)
