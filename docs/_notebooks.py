"""Tutorials are Markdown pages whose Python runs when the site is built, and notebooks that are made of them.

A block's output is what it prints and, as in a notebook, the value of its last line. The plugin markdown-exec runs
the blocks; one that fails ends the build.
"""

from __future__ import annotations

import ast
import base64
import html
import io
import re
from typing import Any

BLOCK = re.compile(r"^```python\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
RELATIVE = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:)[^)]*\)")


def cells(text: str) -> list[tuple[str, str]]:
    """The page's parts in order: `("markdown", text)` and `("code", program)`."""
    parts, end = [], 0
    for found in BLOCK.finditer(text):
        parts += [("markdown", text[end : found.start()]), ("code", found[1])]
        end = found.end()
    parts.append(("markdown", text[end:]))
    return [(kind, part.strip("\n")) for kind, part in parts if part.strip()]


def notebook(text: str) -> dict[str, Any]:
    """The page as a notebook of Jupyter's format 4.5; links to other pages become plain text."""
    made = []
    for number, (kind, part) in enumerate(cells(text)):
        source = RELATIVE.sub(r"\1", part) if kind == "markdown" else part
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        made.append({**cell, "source": source.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def executed(text: str, session: str) -> str:
    """The page with the output of every block below it, for markdown-exec.

    Args:
      text: the page.
      session: its name; the blocks of a page share their names.
    """

    def block(found: re.Match[str]) -> str:
        code, last = _without_last(found[1])
        shown = f'{found[0].rstrip()}\n\n```python exec="on" result="text" session="{session}"\n{code}\n```\n'
        if last is None:
            return shown
        display = f"from docs._notebooks import displayed\nprint(displayed({last}))"
        return f'{shown}\n```python exec="on" html="on" session="{session}"\n{display}\n```\n'

    return BLOCK.sub(block, text)


def _without_last(code: str) -> tuple[str, str | None]:
    """A program without the expression that is its last line, and that expression; `None` without one."""
    last = ast.parse(code).body[-1]
    if not isinstance(last, ast.Expr) or (isinstance(last.value, ast.Call) and _prints(last.value)):
        return code.rstrip(), None
    lines = code.splitlines()
    return "\n".join(lines[: last.lineno - 1]) or "pass", ast.unparse(last.value)


def _prints(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "print"


def displayed(value: Any) -> str:
    """HTML that shows a value as a notebook does: a picture of Pillow, or its representation."""
    if value is None:
        return ""
    if hasattr(value, "_repr_png_"):
        file = io.BytesIO()
        value.save(file, "png")
        data = base64.b64encode(file.getvalue()).decode()
        return f'<p><img alt="The output of the code above" src="data:image/png;base64,{data}"></p>'
    return f"<pre><code>{html.escape(repr(value))}</code></pre>"
