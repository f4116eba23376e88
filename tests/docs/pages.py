"""The code of the documentation's pages."""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROUNDS = re.compile(r"^ROUNDS = \d+$", re.MULTILINE)
FILE = re.compile(r"# file: (\S+)\n")


class Block(NamedTuple):
    """A fenced block: its language, its text, and the file that its first line names, if it does."""

    language: str
    text: str
    file: str | None


def blocks(page: pathlib.Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, of one language or of all."""
    found = []
    for kind, text in FENCE.findall(page.read_text()):
        named = FILE.match(text)
        found.append(Block(kind, text, named[1] if named else None))
    return [block for block in found if language in (None, block.language)]


def run(page: pathlib.Path, namespace: dict, rounds: int | None = None) -> dict:
    """Executes a page's Python blocks in their order; a traceback shows the page's own lines.

    Args:
      page: the page.
      namespace: what the code is given; what it defines is added.
      rounds: takes the place of the number of rounds that a tutorial sets.
    """
    text = page.read_text()
    for block in blocks(page, "python"):
        if block.file is None:
            above = text[: text.index(block.text)].count("\n")
            code = block.text if rounds is None else ROUNDS.sub(f"ROUNDS = {rounds}", block.text)
            exec(compile("\n" * above + code, str(page), "exec"), namespace)
    return namespace
