"""For the reference: griffe renders doctests as code in a section ``Examples:``; our docstrings have ``Example:``."""

from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Renames the section."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Is told of each object that was found in the sources."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
