"""Lynx and hare pelts of the Hudson's Bay Company, from a JSON file that is checked byte for byte."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import torch

from isocline.data.errors import DataError
from isocline.data.located import located
from isocline.models.series.batch import Series

NAME = "hudson_lynx_hare.json"
SIZE = 470
SHA256 = "381934bf92c9f86e938da824fda8adcc0b5b43dd3c0eb62c0686006beea0893d"
SOURCE = "https://raw.githubusercontent.com/stan-dev/posteriordb/master/posterior_database/data/data/"


def lynx_hare(data_dir: str | Path | None = None) -> Series:
    """Thousands of pelts of hares and lynxes in the years 1900 to 1920: one series of 21 times, in years from 1900.

    Source: C. G. Hewitt, "The conservation of the wild life of Canada", 1921, by way of P. Howard, "Modeling basics",
    2009; as kept in posteriordb (BSD 3-clause licence).

    Args:
        data_dir: A folder with hudson_lynx_hare.json, or its zip, in itself or in its folder `hudson_lynx_hare`. By
            default the environment variable ISOCLINE_DATA; without either the file is downloaded, once, to a cache.

    Returns:
        Channels "hare" and "lynx", in float64.

    Raises:
        DataError: The file is missing, cannot be downloaded, is damaged, or not the original by its SHA-256.
    """
    path = located((NAME, f"{NAME}.zip"), "hudson_lynx_hare", data_dir, SOURCE)
    content = json.loads(_read(path))
    ts, values = [0, *content["ts"]], [content["y_init"], *content["y"]]
    return Series.of([ts], [values], names=["Hudson Bay"], channels=["hare", "lynx"], dtype=torch.float64)


def _read(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(io.BytesIO(raw)) as archive, archive.open(NAME) as file:
                raw = file.read(SIZE + 1)  # one more than expected shows a file that is too long
        except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
            raise DataError(f"{path}: expected a zip of {NAME}, found a damaged one ({error})") from error
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256:
        raise DataError(f"{path}: expected {SIZE} bytes of SHA-256 {SHA256}, found {len(raw)} of {found}")
    return raw
