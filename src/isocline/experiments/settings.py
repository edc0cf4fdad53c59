"""Settings of a run, from the JSON that its folder keeps."""

from pathlib import Path
from typing import Any, TypeVar

import cattrs

from isocline.experiments.run_folder import RunFolderError

T = TypeVar("T")


def _format(error: BaseException, kind: type | None) -> str:
    return str(error) or cattrs.v.format_exception(error, kind)


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)
_CONVERTER.register_structure_hook(Path, lambda value, _: Path(value))


def restored(kind: type[T], settings: dict[str, Any], where: Path) -> T:
    """The dataclass that was written as `settings`; a field that is missing there takes its default.

    Raises:
        RunFolderError: Some setting is unknown, of another type, or cannot work; `where` is named.
    """
    try:
        return _CONVERTER.structure(settings, kind)
    except Exception as error:  # a group of whatever the dataclasses' own checks raise
        reasons = "; ".join(cattrs.transform_error(error, format_exception=_format))
        raise RunFolderError(f"{where / 'config.json'}: expected a run's settings, found: {reasons}") from error
