"""Real data as plain tensors: `digits` (embedded in scikit-learn), `mnist` (from files or the network)."""

from isocline.data.errors import DataError
from isocline.data.idx import parse_idx
from isocline.data.images import ImageData, digits
from isocline.data.mnist_files import mnist

__all__ = ["DataError", "ImageData", "digits", "mnist", "parse_idx"]
