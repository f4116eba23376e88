"""The gallery: a page with every study's figure, claims and measured values, made from the stored JSON."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

from experiments import studies
from experiments.studies.framework import running
from experiments.studies.framework.study import Study, Verdict
from gan_jax.tables import markdown_table

PAGE = studies.HERE.parent.parent / "docs" / "gallery.md"
HEAD = """# Gallery

What the literature's figures and claims show, shown again by the studies in `experiments/studies/`. This page is
written by `python -m experiments.studies --gallery` from the stored results. Intervals are 95 % intervals of the
mean over seeds (Student's t); where a claim is made of every seed, the seeds' range stands instead. In the figures
a band is the range of the seeds, and a bar is their mean with its 95 % interval.
"""

EARLIER = [
    "These numbers, the figure and the claims are those of an earlier version of the study, which is to be run "
    "again; the text below is of the present one.",
    "",
]


def write(folder: pathlib.Path, page: pathlib.Path = PAGE) -> pathlib.Path:
    """Writes the page; returns where it is."""
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text(folder, page))
    return page


def text(folder: pathlib.Path, page: pathlib.Path = PAGE) -> str:
    """The page for the results in `folder`."""
    parts = [HEAD]
    for name in studies.names():
        study = studies.load(name)
        found = running.stored_verdicts(study, folder)
        path = folder / f"{name}.json"
        if found is None and path.is_file():
            found, earlier = running.verdicts_then(running.read(path)), EARLIER
        else:
            earlier = []
        if found is not None:
            parts.append(section(study, found, folder, page, earlier))
    return "\n".join(parts)


def section(
    study: Study, found: list[Verdict], folder: pathlib.Path, page: pathlib.Path, remark: Sequence[str] = ()
) -> str:
    """One study: title, figure, a remark, its claims as measured, what its docstring says."""
    image = os.path.relpath(folder / f"{study.name}.png", page.parent).replace(os.sep, "/")
    rows = [["claim", "measured", ""]]
    for verdict in found:
        word = "holds" if verdict.holds else f"**does not hold**: missed by {-verdict.margin:.3g}"
        rows.append([verdict.text, verdict.measured(), word])
    shown = f"![{study.title}]({image})"
    return "\n".join([f"## {study.title}", "", shown, "", *remark, markdown_table(rows), "", *about(study)])


def about(study: Study) -> list[str]:
    """The docstring's paragraphs after the title and the claims."""
    paragraphs = (study.doc or "").strip().split("\n\n")[1:]
    kept = (_unwrapped(paragraph) for paragraph in paragraphs if not paragraph.startswith("Claims:"))
    return [part for paragraph in kept for part in (paragraph, "")]


def _unwrapped(paragraph: str) -> str:
    lines = paragraph.splitlines()
    if lines[0].startswith("    "):
        return "\n".join(["```", *(line[4:] for line in lines), "```"])
    return " ".join(line.strip() for line in lines)
