"""Data as plain tensors.

``digits`` (embedded in scikit-learn) and ``mnist`` (from files or the network); made here and seeded, ``POINTS`` in two
dimensions; ``POTENTIALS``, densities in two dimensions up to a factor.
"""

from isocline.data.errors import DataError
from isocline.data.idx import parse_idx
from isocline.data.images import ImageData, digits
from isocline.data.mnist_files import mnist
from isocline.data.points import POINTS
from isocline.data.potentials import POTENTIALS, log_normaliser

__all__ = ["POINTS", "POTENTIALS", "DataError", "ImageData", "digits", "log_normaliser", "mnist", "parse_idx"]
