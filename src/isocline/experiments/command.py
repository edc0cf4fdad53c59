"""What a subcommand of `isocline` is."""

from abc import ABC, abstractmethod


class Command(ABC):
    """A subcommand. Final subclasses are frozen dataclasses: the fields are its options, the docstring its help."""

    @abstractmethod
    def main(self) -> None:
        """Does what the command is for.

        Raises:
            DataError: Data are missing or damaged.
            RunFolderError: A run folder is missing, occupied or damaged.
        """
