"""Stays in intensive care, from the files of the PhysioNet Challenge 2012, checked by their content."""

import hashlib
import lzma
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from isocline.data.errors import DataError
from isocline.data.located import located
from isocline.models.series.batch import Series
from isocline.models.series.long import Long, pad

SOURCE = "https://physionet.org/files/challenge-2012/1.0.0/"

DESCRIPTORS = ("Age", "Gender", "Height", "ICUType")
"""What is known of a patient once, at 00:00."""

CHANNELS = (
    *("Weight", "Albumin", "ALP", "ALT", "AST", "Bilirubin", "BUN", "Cholesterol", "Creatinine", "DiasABP", "FiO2"),
    *("GCS", "Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "Mg", "MAP", "MechVent", "Na", "NIDiasABP", "NIMAP"),
    *("NISysABP", "PaCO2", "PaO2", "pH", "Platelets", "RespRate", "SaO2", "SysABP", "Temp", "TroponinI", "TroponinT"),
    *("Urine", "WBC"),
)
"""What is measured again and again."""

_KINDS = {name: place for place, name in enumerate((*CHANNELS, *DESCRIPTORS, "RecordID"))}
_MINUTES = {f"{m // 60:02}:{m % 60:02}": m for m in range(48 * 60 + 1)}
_HEADER = "Time,Parameter,Value"


@dataclass(frozen=True)
class Part:
    """Half of the stays.

    Attributes:
        name: "a" or "b".
        stays: SHA-256 of the texts of all stays, one behind the other in the order of their names: archives differ from
            packer to packer, what is in them does not.
        outcomes: SHA-256 of the table of outcomes.
    """

    name: str
    stays: str
    outcomes: str


PARTS = (
    Part(
        "a",
        "998cdda0813ade746f87a52bf195dea3e045de92a008fe921db65578f6df2848",
        "2613ea60ccda29f87571a7d6b09ad130858a8ccd66325bd073365925026883c2",
    ),
    Part(
        "b",
        "e7f4e45555f1fe514799915a40f9f3feae0c7cc84bf57713cd582be88ae67fc8",
        "1305f29734da374a809483229a99f33a9230aa8d4fa74b1a2d6ad788136423d5",
    ),
)


@dataclass(frozen=True)
class Stays:
    """Stays in intensive care, B of them.

    Attributes:
        series: The 37 channels in the first 48 hours, times in hours; a stay without any reading has none.
        descriptors: Age, gender, height and type of unit (1 to 4), (B, 4), nan where they are not known.
        died: Whether the patient died in hospital, bool (B,).
    """

    series: Series
    descriptors: Tensor
    died: Tensor

    def __len__(self) -> int:
        """How many."""
        return len(self.died)

    def select(self, index: Tensor) -> "Stays":
        """Some of them, by their places (N,)."""
        return Stays(self.series.select(index), self.descriptors[index], self.died[index])


def physionet2012(data_dir: str | Path | None = None, *, rounding: float = 0.1) -> Stays:
    """The 8,000 stays of sets a and b of the challenge, with outcomes.

    What is done to them: times are rounded, and several readings of a channel at one time are averaged; -1, and any
    other value below 0, means that a value is not known, and is left out. Nothing else is: values are in their own
    units, and wrong ones (a pH of 735) are still there.

    Source: I. Silva, G. Moody, D. J. Scott, L. A. Celi, R. G. Mark, "Predicting in-hospital mortality of ICU patients:
    The PhysioNet/Computing in Cardiology Challenge 2012", version 1.0.0.

    Args:
        data_dir: A folder with set-a and set-b as .tar.xz or .tar.gz, and Outcomes-a.txt and Outcomes-b.txt, in itself
            or in its folder `physionet2012`. By default the environment variable ISOCLINE_DATA; without either the
            files are downloaded, once, to a cache.
        rounding: What times are multiples of, in hours. The paper of Rubanova et al. (2019) takes a minute, their
            program 0.1 hours if nothing else is said.

    Raises:
        DataError: A file is missing, cannot be downloaded, is damaged, or not the original by its SHA-256.
    """
    if not rounding > 0:
        raise ValueError(f"rounding must be positive, in hours, not {rounding}")
    texts: dict[str, str] = {}
    outcomes: dict[str, bool] = {}
    for part in PARTS:
        packed = tuple(f"set-{part.name}.tar.{form}" for form in ("xz", "gz"))
        texts |= _unpacked(located(packed, "physionet2012", data_dir, SOURCE), part.stays)
        outcomes |= _outcomes(located((f"Outcomes-{part.name}.txt",), "physionet2012", data_dir, SOURCE), part.outcomes)
    if texts.keys() != outcomes.keys():
        lacking = min(texts.keys() ^ outcomes.keys())
        raise DataError(f"stay {lacking}: expected its readings and its outcome, found only one of them")
    return stays_of(texts, outcomes, rounding)


def stays_of(texts: dict[str, str], outcomes: dict[str, bool], rounding: float) -> Stays:
    """Stays from the texts of their files, by record number.

    Raises:
        DataError: A line is not a reading; it is named.
    """
    readings = [_readings(name, text) for name, text in texts.items()]
    stay = torch.arange(len(readings)).repeat_interleave(torch.tensor([len(each) for each in readings]))
    minute, kind, value = torch.cat(readings).unbind(1)
    known = value >= 0
    stay, time, kind, value = (
        x[known] for x in (stay, (minute / (60 * rounding)).round() * rounding, kind.long(), value)
    )
    timed = kind < len(CHANNELS)
    long = Long(stay[timed], time[timed], kind[timed], value[timed].float())
    series = Series(*pad(long, tuple(texts), CHANNELS, "mean", 0.0), tuple(texts), CHANNELS)
    descriptors = torch.full((len(texts), len(DESCRIPTORS)), torch.nan)
    once = ~timed & (kind < len(CHANNELS) + len(DESCRIPTORS))
    descriptors[stay[once], kind[once] - len(CHANNELS)] = value[once].float()
    return Stays(series, descriptors, torch.tensor([outcomes[name] for name in texts]))


def _readings(name: str, text: str) -> Tensor:
    """Minute, place in `_KINDS` and value of each line, (N, 3) in float64."""
    header, _, body = text.partition("\n")
    fields = body.removesuffix("\n").replace("\n", ",").split(",") if body else []
    try:
        if header != _HEADER or len(fields) % 3:
            raise ValueError
        columns = (
            list(map(_MINUTES.__getitem__, fields[0::3])),
            list(map(_KINDS.__getitem__, fields[1::3])),
            list(map(float, fields[2::3])),
        )
    except (KeyError, ValueError):
        raise DataError(f"stay {name}: {_what_is_wrong(text)}") from None
    return torch.tensor(columns, dtype=torch.float64).T


def _what_is_wrong(text: str) -> str:
    header, *lines = text.removesuffix("\n").split("\n")
    if header != _HEADER:
        return f"expected the header {_HEADER}, found {header!r:.60}"
    for number, line in enumerate(lines, 2):
        fields = line.split(",")
        if len(fields) != 3 or fields[0] not in _MINUTES:
            return f"line {number}: expected hh:mm,Parameter,Value up to 48:00, found {line!r:.60}"
        if fields[1] not in _KINDS:
            return f"line {number}: expected one of {', '.join(_KINDS)}, found {fields[1]!r:.60}"
        try:
            float(fields[2])
        except ValueError:
            return f"line {number}: expected a number, found {fields[2]!r:.60}"
    raise AssertionError("every line is a reading")


def _unpacked(path: Path, sha256: str) -> dict[str, str]:
    try:
        with tarfile.open(path) as archive:
            files = {m.name: archive.extractfile(m) for m in archive if m.isfile() and m.name.endswith(".txt")}
            contents = {Path(name).stem: file.read() for name, file in files.items() if file is not None}
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: expected a packed tar archive of stays, found a damaged one ({error})") from error
    ordered = dict(sorted(contents.items()))
    _check(path, b"".join(ordered.values()), sha256)
    return {name: content.decode() for name, content in ordered.items()}


def _outcomes(path: Path, sha256: str) -> dict[str, bool]:
    content = path.read_bytes()
    _check(path, content, sha256)
    rows = [line.split(",") for line in content.decode().split()[1:]]
    return {row[0]: row[-1] == "1" for row in rows}


def _check(path: Path, content: bytes, sha256: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"{path}: expected content of SHA-256 {sha256}, found {len(content)} bytes of {found}")
