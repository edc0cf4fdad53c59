"""Where a data file is: in a folder of the user's, or downloaded."""

import os
from pathlib import Path

import pooch

from isocline.data.errors import DataError

_HOW = "give a folder with --data-dir or ISOCLINE_DATA"


def located(names: tuple[str, ...], kind: str, data_dir: str | Path | None, source: str | None) -> Path:
    """The first of these files that there is.

    Args:
        names: What the file may be called: it, and packed forms of it. The last is the one to download.
        kind: The subfolder of `data_dir` that is looked at as well, and that of the cache.
        data_dir: A folder. By default the environment variable ISOCLINE_DATA; without either the file is
            downloaded, once, to a cache.
        source: The address up to the name; None if the file is nowhere to be had in this form.

    Raises:
        DataError: It is not there, or cannot be downloaded.
    """
    if folder := data_dir or os.environ.get("ISOCLINE_DATA"):
        places = (Path(folder), Path(folder) / kind)
        for path in (place / name for place in places for name in names):
            if path.is_file():
                return path
        shown = " or ".join(names)
        how = _HOW if source is None else f"{_HOW}, or unset both to download"
        raise DataError(f"{shown}: expected one, found neither in {places[0]} nor in {places[1]}; {how}")
    if source is None:
        raise DataError(f"{names[-1]}: cannot be downloaded in this form; {_HOW}")
    try:
        # The hash of the content is checked when it is read; that of a packed file depends on who packed it.
        return Path(pooch.retrieve(source + names[-1], None, names[-1], pooch.os_cache("isocline") / kind))
    except OSError as error:
        raise DataError(f"{names[-1]}: could not be downloaded from {source} ({error}); {_HOW}") from error
