"""Checks of numbers that a user gives to a function, so that what makes no sense is named at once."""

from __future__ import annotations

import math
import operator
from typing import Any

import jax
import numpy as np


def check_number(
    function: str,
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    hint: str = "",
) -> None:
    """Checks that an option is a finite number in a range; schedules and traced numbers are let through.

    Args:
      function: to which it was given.
      name: of the option.
      value: what was given.
      least, above: the smallest number, or what it has to exceed.
      most, below: the largest number, or what it must not reach.
      hint: what else to do, at the end of the message.

    Raises:
      ValueError: naming the function, the option, what was given and what is expected.

    >>> check_number("gradient_penalty", "weight", 10.0, least=0)
    >>> check_number("gradient_penalty", "weight", -1.0, least=0)
    Traceback (most recent call last):
    ValueError: gradient_penalty(weight=-1.0): weight is a finite number, 0 or more.
    """
    if callable(value) or isinstance(value, jax.core.Tracer):
        return
    if isinstance(value, str):  # of which some are numbers to `float`
        raise ValueError(
            f"{function}({name}={value!r}): {name} is a finite number"
            f"{_range(least, above, most, below)}, not a text."
        )
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and least <= number <= most and above < number < below):
        raise ValueError(
            f"{function}({name}={value!r}): {name} is a finite number"
            f"{_range(least, above, most, below)}{f'; {hint}' if hint else ''}."
        )


def check_count(function: str, name: str, value: Any, *, least: int = 1) -> None:
    """Checks that an option is a whole number of at least `least`.

    Raises:
      ValueError: naming the function, the option, what was given and what is expected.

    >>> check_count("gaussian", "dim", 0)
    Traceback (most recent call last):
    ValueError: gaussian(dim=0): dim is a whole number, 1 or more.
    """
    try:
        whole = not isinstance(value, bool) and operator.index(value) >= least
    except TypeError:
        whole = False
    if not whole:
        raise ValueError(f"{function}({name}={value!r}): {name} is a whole number, {least} or more.")


def check_unmasked(name: str, array: Any) -> None:
    """Checks that no numbers of an array are masked: what lies under a mask would be taken for numbers.

    Raises:
      ValueError: naming the array and how many there are.

    >>> check_unmasked("x", np.ma.masked_array([1.0, 9.0], mask=[False, True]))
    Traceback (most recent call last):
    ValueError: x: 1 of 2 numbers are masked: remove their rows, or fill them, x.filled(...).
    """
    if np.ma.is_masked(array):
        masked = np.ma.getmaskarray(array)
        raise ValueError(
            f"{name}: {int(masked.sum())} of {masked.size} numbers are masked: remove their rows, or fill them, "
            f"{name}.filled(...)."
        )


def check_on_host(function: str, instead: str, *trees: Any) -> None:
    """Checks that a function which runs on the host is not called while another is traced.

    Args:
      function: its name.
      instead: what there is to call there.
      *trees: its arguments.

    Raises:
      ValueError: if a leaf is a traced array.

    >>> check_on_host("rollout", "call it outside", 1.0)
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees)):
        raise ValueError(
            f"{function} runs on the host and cannot be traced (under jit, vmap, scan or grad): {instead}."
        )


def check_key(function: str, key: Any) -> None:
    """Checks that a PRNG key is one, and no seed.

    Raises:
      ValueError: naming the function, what was given and what to give.

    >>> check_key("sample", 0)
    Traceback (most recent call last):
    ValueError: sample(key=0): key is a PRNG key, as jax.random.key(0) returns it.
    """
    if not hasattr(key, "dtype") or not hasattr(key, "shape"):
        raise ValueError(f"{function}(key={key!r}): key is a PRNG key, as jax.random.key(0) returns it.")


def _range(least: float, above: float, most: float, below: float) -> str:
    low = f"{least:g} or more" if math.isfinite(least) else f"above {above:g}" if math.isfinite(above) else ""
    if math.isinf(most) and math.isinf(below):
        return f", {low}" if low else ""
    opening = f"[{least:g}" if math.isfinite(least) else f"({above:g}"
    return f" in {opening}, {f'{most:g}]' if math.isfinite(most) else f'{below:g})'}"
