"""MNIST from its four IDX files, wherever they are, checked byte for byte."""

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from isocline.data.errors import DataError
from isocline.data.idx import parse_idx
from isocline.data.images import ImageData
from isocline.data.located import located

MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"


@dataclass(frozen=True)
class RawFile:
    """A file by its decompressed content: gz files differ from packer to packer, what is in them does not."""

    name: str
    size: int
    sha256: str


# In the order of the fields of ImageData.
FILES = (
    RawFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    RawFile(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    RawFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    RawFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


def mnist(data_dir: str | Path | None = None) -> ImageData:
    """The 70,000 handwritten digits of 28 × 28 pixels of Y. LeCun, C. Cortes and C. Burges.

    Args:
        data_dir: A folder with the four IDX files, raw or gz, in itself or in its folder `mnist`. By default
            the environment variable ISOCLINE_DATA; without either the files are downloaded, once, to a cache.

    Returns:
        60,000 training and 10,000 test images, the original split.

    Raises:
        DataError: A file is missing, cannot be downloaded, is truncated, or not the original by its SHA-256.
    """
    paths = [located((file.name, f"{file.name}.gz"), "mnist", data_dir, MIRROR) for file in FILES]
    arrays = [parse_idx(_read(file, path), str(path)) for file, path in zip(FILES, paths, strict=True)]
    train_x, train_y, test_x, test_y = arrays
    return ImageData(_pixels(train_x), train_y.long(), _pixels(test_x), test_y.long())


def _pixels(images: Tensor) -> Tensor:
    return images.to(torch.float32).div_(255.0).unsqueeze(1)


def _read(file: RawFile, path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = _decompress(raw, path, file.size)
    if len(raw) != file.size:
        raise DataError(f"{path}: expected {file.size} bytes of content, found {len(raw)}")
    found = hashlib.sha256(raw).hexdigest()
    if found != file.sha256:
        raise DataError(f"{path}: expected content of SHA-256 {file.sha256}, found {found}")
    return raw


def _decompress(packed: bytes, path: Path, size: int) -> bytes:
    stream = zlib.decompressobj(wbits=31)  # 31: a gzip stream, its checksum verified
    try:
        raw = stream.decompress(packed, size + 1)  # one more than expected shows a file that is too long
    except zlib.error as error:
        raise DataError(f"{path}: expected a gzip stream of {size} bytes, found a damaged one ({error})") from error
    if not stream.eof and len(raw) <= size:
        raise DataError(f"{path}: expected a gzip stream of {size} bytes, found one cut off after {len(raw)}")
    return raw
