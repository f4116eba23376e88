"""Tables as aligned text and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def text_table(rows: Sequence[Sequence[str]], align: str = "l") -> str:
    """Formats rows of cells as a text table with two spaces between columns.

    >>> print(text_table([["game", "pairs", "ratio"], ["gan 1", "12", "3.1"]], align="lr"))
    game   pairs  ratio
    gan 1     12    3.1

    Args:
      rows: rows of equally many cells; the first row is the heading.
      align: `l` (left) or `r` (right) for every column; the last letter also applies to all later columns.

    Raises:
      ValueError: if rows differ in their number of cells.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = align + align[-1] * (len(widths) - len(align))
    lines = (
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=False)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def number_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats numbers by row and column with five significant digits; other values are left out.

    >>> print(number_table({"round 10": {"modes": 8, "entropy": 2.0794415}, "round 20": {"modes": 7}}))
              modes  entropy
    round 10      8   2.0794
    round 20      7        -
    """
    numbers = {
        label: {name: value for name, value in row.items() if isinstance(value, int | float)}
        for label, row in rows.items()
    }
    columns = list(dict.fromkeys(name for row in numbers.values() for name in row))
    cells = [
        [label, *(f"{row[name]:.5g}" if name in row else "-" for name in columns)]
        for label, row in numbers.items()
    ]
    return text_table([["", *columns], *cells], align="lr")


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Formats rows of cells as a Markdown table; the first row is the heading, and bars in cells are escaped.

    >>> print(markdown_table([["claim", "measured"], ["|a| is 1", "1.02"]]))
    | claim | measured |
    | --- | --- |
    | \\|a\\| is 1 | 1.02 |
    """
    heading, *body = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n".join([heading, f"|{' --- |' * len(rows[0])}", *body])
