"""The IDX format: a magic number with type and rank, big-endian sizes, then the values."""

import math
import struct

import numpy as np
import torch
from torch import Tensor

from isocline.data.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def parse_idx(raw: bytes, name: str = "IDX data") -> Tensor:
    """Reads one IDX array.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", part "File formats".
    Bytes 0 and 1 are zero, byte 2 is the type, byte 3 the rank; then come the sizes, each in 32 bits, then
    the values in C order, all big-endian.

    Args:
        raw: The whole file, decompressed.
        name: What to call it in an error.

    Returns:
        A tensor of the shape and type that the file states, in memory of its own.

    Raises:
        DataError: The magic number is not IDX, or the length is not exactly what the header announces.
    """
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _DTYPES:
        raise DataError(f"{name}: expected an IDX magic number 0000TTRR, found {raw[:4].hex() or 'an empty file'}")
    dtype, rank = np.dtype(_DTYPES[raw[2]]), raw[3]
    start = 4 + 4 * rank
    if len(raw) < start:
        raise DataError(f"{name}: expected a header of {start} bytes (rank {rank}), found {len(raw)} bytes in all")
    shape = struct.unpack(f">{rank}I", raw[4:start])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise DataError(f"{name}: expected {expected} bytes for shape {shape}, found {len(raw)}")
    try:
        values = np.frombuffer(raw, dtype, offset=start).reshape(shape)
    except ValueError as error:  # of too many dimensions, or too large ones beside an empty one
        raise DataError(f"{name}: expected an array, found rank {rank} and shape {shape} ({error})") from error
    return torch.from_numpy(values.astype(dtype.newbyteorder("=")))
