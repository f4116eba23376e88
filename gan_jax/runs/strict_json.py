"""JSON as the standard has it, for every file of a run: what is not finite is written as a string.

`NaN`, `Infinity` and `-Infinity` are no JSON numbers; `to_json` writes them as the strings `"NaN"`, `"Infinity"`
and `"-Infinity"`, and `from_json` makes numbers of these strings again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(value: Any, name: str = "value") -> Any:
    """`value` as JSON values: mappings (a `ConfigDict` too) to dicts, tuples and arrays to lists.

    Numbers of arrays have as few digits as give their precision back.

    >>> to_json({"betas": (0.5, np.float32(0.1)), "norms": np.array([1.0, np.inf])})
    {'betas': [0.5, 0.1], 'norms': [1.0, 'Infinity']}

    Raises:
      TypeError: naming the field, where a value has no JSON form.
    """
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): to_json(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _name(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _array(value, name)
    raise TypeError(f"{name} is a {type(value).__name__}, which JSON cannot hold.")


def _array(value: Any, name: str) -> Any:
    array = np.asarray(value)
    if array.ndim:
        return [_array(item, f"{name}[{i}]") for i, item in enumerate(array)]
    if array.dtype.kind in "biuU":
        return array.item()
    try:
        number = float(array)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is an array of {array.dtype}, which JSON cannot hold.") from None
    if not math.isfinite(number):
        return _name(number)
    return number if array.dtype == np.float64 else float(str(array))


def _name(number: float) -> str:
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def from_json(value: Any) -> Any:
    """JSON values with the names of non-finite numbers as numbers again, in lists and dicts too.

    >>> from_json(["-Infinity", 2, {"loss": "NaN"}, "text"])
    [-inf, 2, {'loss': nan}, 'text']
    """
    if isinstance(value, Mapping):
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value


def dumps(value: Any, *, indent: int | None = None, name: str = "value") -> str:
    """`value` as JSON text.

    >>> dumps({"loss": float("nan")})
    '{"loss": "NaN"}'

    Raises:
      TypeError: naming the field, where a value has no JSON form.
    """
    return json.dumps(to_json(value, name), indent=indent, allow_nan=False)
