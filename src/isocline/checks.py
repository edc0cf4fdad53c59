"""Checks that several parts share: each raises at once and says what was expected."""

from numbers import Real


def check_numbers(expected: str, *values: object) -> None:
    """Raise TypeError with what was ``expected`` unless every value is a real number."""
    for value in values:
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{expected}, got {value!r:.60}")


def check_whole(name: str, value: object, least: int) -> None:
    """Raise ValueError unless the value is an int of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r:.60}")
