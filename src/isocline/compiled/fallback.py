"""What happens when something cannot be compiled: a warning that says where, and the eager path."""

import warnings
from typing import Any


class NotCapturedError(Exception):
    """The field was not captured; the message says why."""


def compiler_errors() -> tuple[type[Exception], ...]:
    """What compiling may raise; imported late, because it takes a second."""
    from torch._dynamo.exc import TorchDynamoException

    return TorchDynamoException, NotCapturedError


def warn(error: Exception) -> None:
    """Say that the solve runs eagerly, why, and which line of the user's is to blame."""
    warnings.warn(
        f"compile=True: f cannot be compiled as one graph, so this solve runs eagerly. {_reason(error)}{_place(error)}",
        RuntimeWarning,
        stacklevel=3,
    )


def _reason(error: Exception) -> str:
    """First lines of the compiler's explanation."""
    text = str(getattr(error, "msg", None) or error) or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])


def _place(error: Any) -> str:
    """The innermost line of the user's program that the compiler was at."""
    frames = [frame for frame in getattr(error, "real_stack", None) or [] if "isocline" not in frame.filename]
    if not frames:
        return ""
    frame = frames[-1]
    return f' (File "{frame.filename}", line {frame.lineno}, in {frame.name}: {frame.line})'
