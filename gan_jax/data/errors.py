"""The one exception that says what is wrong with somebody's data."""

from __future__ import annotations


class DataError(ValueError):
    """Data cannot be used as given. The message says what was given, what was expected and what to do."""


class DataTimeoutError(DataError):
    """Data did not come in time; what was asked for them may still hang in a thread."""
