"""What happens when something cannot be compiled: a warning that says where, and the eager path."""

import importlib
import warnings
from functools import cache
from os import sep
from pathlib import Path
from typing import Any

import torch


class NotCapturedError(Exception):
    """The field was not captured; the message says why."""


def compiler_errors() -> tuple[type[Exception], ...]:
    """What compiling may raise; imported late, because it takes a second."""
    from torch._dynamo.exc import TorchDynamoException

    return TorchDynamoException, NotCapturedError


@cache
def load_compiler() -> None:
    """Import torch's inductor without the deprecation warnings of its own imports.

    Where warnings are errors they would read as "f cannot be compiled".
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("torch._inductor.compile_fx")


def warn(error: Exception) -> None:
    """Say that the solve runs eagerly, why, and which line of the user's is to blame."""
    warnings.warn(
        f"compile=True: f cannot be compiled as one graph, so this solve runs eagerly. {_reason(error)}{_place(error)}",
        RuntimeWarning,
        stacklevel=3,
    )


def warn_inside_transforms() -> None:
    """Say that the solve runs eagerly."""
    warnings.warn(
        "compile=True: inside torch.func transforms, vmap and forward-mode AD loops are not compiled, so this solve "
        "runs eagerly; with batch_dims=1 instead of vmap, and loss.backward() instead of grad, it is compiled",
        RuntimeWarning,
        stacklevel=4,
    )


def _reason(error: Exception) -> str:
    """First lines of the compiler's explanation."""
    error = getattr(error, "inner_exception", error)
    text = str(getattr(error, "msg", None) or error) or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2])


def _place(error: Any) -> str:
    """The innermost line of the user's program that the compiler was at."""
    frames = [frame for frame in getattr(error, "real_stack", None) or [] if is_users(frame.filename)]
    if not frames:
        return ""
    frame = frames[-1]
    return f' (File "{frame.filename}", line {frame.lineno}, in {frame.name}: {frame.line})'


def is_users(file: str) -> bool:
    """Whether a file is neither torch's nor ours."""
    return not file.startswith(_LIBRARIES)


_LIBRARIES = f"{Path(torch.__file__).parent}{sep}", f"{Path(__file__).parents[1]}{sep}"
