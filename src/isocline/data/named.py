"""Images by the name of their data set."""

from pathlib import Path
from typing import Literal

from isocline.data.images import ImageData, digits
from isocline.data.mnist_files import mnist

ImageName = Literal["mnist", "digits"]


def named(name: ImageName, data_dir: str | Path | None = None) -> ImageData:
    """MNIST or the embedded digits.

    Args:
        name: Which.
        data_dir: For MNIST, see there.

    Raises:
        DataError: See `mnist`.
    """
    return mnist(data_dir) if name == "mnist" else digits()
