"""Data as plain tensors.

``digits`` and ``table_split`` (embedded in scikit-learn); ``mnist``, ``physionet2012`` and ``lynx_hare`` (from files or
the network); in ``events`` sequences of events; made here and seeded, ``spirals``, and ``POINTS`` in two dimensions;
``POTENTIALS``, densities in two dimensions up to a factor.
"""

from isocline.data.errors import DataError
from isocline.data.idx import parse_idx
from isocline.data.images import ImageData, digits
from isocline.data.mnist_files import mnist
from isocline.data.pelts import lynx_hare
from isocline.data.physionet import Stays, physionet2012
from isocline.data.points import POINTS
from isocline.data.potentials import POTENTIALS, log_normaliser
from isocline.data.spirals import Spirals, spirals
from isocline.data.tables import TableName, TableSplit, table_split

__all__ = [
    "POINTS",
    "POTENTIALS",
    "DataError",
    "ImageData",
    "Spirals",
    "Stays",
    "TableName",
    "TableSplit",
    "digits",
    "log_normaliser",
    "lynx_hare",
    "mnist",
    "parse_idx",
    "physionet2012",
    "spirals",
    "table_split",
]
