"""Data as plain tensors: `digits` (of scikit-learn), `mnist`, `lynx_hare` (files or network), `spirals` (made here)."""

from isocline.data.errors import DataError
from isocline.data.idx import parse_idx
from isocline.data.images import ImageData, digits
from isocline.data.mnist_files import mnist
from isocline.data.pelts import lynx_hare
from isocline.data.spirals import Spirals, spirals

__all__ = ["DataError", "ImageData", "Spirals", "digits", "lynx_hare", "mnist", "parse_idx", "spirals"]
