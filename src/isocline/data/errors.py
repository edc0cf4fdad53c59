"""The one error that reading data raises."""


class DataError(ValueError):
    """A data file is missing, cut off or altered; the message names it, what was expected and found."""
