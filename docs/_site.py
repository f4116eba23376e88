"""What mkdocs does beyond its own: pages of a folder in the menu, an API page a room, the studies' figures.

The pages in `docs/` are also read where they lie, by their relative links; links that lead out of `docs/` are
followed here: pictures become part of the site, other files are named without a link. Tutorials run, and each is
there as a notebook too.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import pathlib
import posixpath
import re
import sys
from typing import Any

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
TUTORIALS = "tutorials"
"""The folder whose pages' code runs when the site is built."""
sys.path.insert(0, str(ROOT))
from docs import _notebooks  # noqa: E402

ROOMS = {
    "gan_jax": "What `import gan_jax as gj` has: games, players, steps and rollouts, data, sampling.",
    "gan_jax.data": "Where batches come from.",
    "gan_jax.networks": "Flax modules, and the seams that make networks of them.",
    "gan_jax.objectives": "What objectives are made of: terms, transforms, unrolling.",
    "gan_jax.metrics": "Samples against samples, with intervals and p-values.",
    "gan_jax.diagnostics": "What the state says inside the step, and alarms.",
    "gan_jax.pictures": "Grids of images, and charts.",
    "gan_jax.game": "The records that a game is made of.",
    "gan_jax.outputs": "What losses hand back.",
    "gan_jax.schedule": "Turns and schedules.",
    "gan_jax.state": "The state of a game.",
    "gan_jax.network": "Two pure functions and the shapes of their inputs.",
    "gan_jax.field": "The gradient field and its modifiers.",
    "gan_jax.optim": "Optimisers' parts.",
    "gan_jax.keys": "Names of draws.",
    "gan_jax.training.experiment": "Everything that a run needs.",
}
"""The modules of the API reference, and what they are for."""
PICTURE = re.compile(r"(!\[[^\]]*\]\()((?:\.\./)+[^)\s]+)(\))")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)*[^)\s:#]+\.(?!md\b)\w+|(?:\.\./)+[^)\s:#]+)(?:#[^)]*)?\)")


def on_config(config: Any) -> Any:
    """Puts the pages of a folder in place of its name in the menu, by their titles."""
    config["nav"] = [_unfolded(entry) for entry in config["nav"]]
    return config


def _unfolded(entry: Any) -> Any:
    (title, value), *_ = entry.items()
    if value == "api":
        return {title: [{module: f"api/{module}.md"} for module in ROOMS]}
    if isinstance(value, str) and (DOCS / value).is_dir():
        pages = sorted((DOCS / value).glob("*.md"))
        return {title: [{page_title(page): f"{value}/{page.name}"} for page in pages]}
    return entry


def page_title(page: pathlib.Path) -> str:
    """The first heading of a page."""
    return page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def on_files(files: Any, config: Any) -> Any:
    """Adds a page for every module of the reference, and the pictures that pages show from outside of docs."""
    for module, purpose in ROOMS.items():
        text = f"# `{module}`\n\n{purpose}\n\n{_members(module)}\n"
        files.append(File.generated(config, f"api/{module}.md", content=text))
    for page in sorted((DOCS / TUTORIALS).glob("*.md")):
        made = json.dumps(_notebooks.notebook(page.read_text(encoding="utf-8")), indent=1)
        files.append(File.generated(config, f"{TUTORIALS}/{page.stem}.ipynb", content=made))
    pictures = {}
    for page in DOCS.rglob("*.md"):
        for found in PICTURE.finditer(page.read_text(encoding="utf-8")):
            path = (page.parent / found[2]).resolve()
            pictures[_place(path)] = path
    for place, path in sorted(pictures.items()):
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def _members(module: str) -> str:
    """The directives that document a module; what another page documents is listed with a link."""
    found = importlib.import_module(module)
    names = getattr(found, "__all__", None)
    if names is None:
        return f"::: {module}\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false"
    here, elsewhere = [], ["| name | |", "| --- | --- |"]
    for name in sorted(names, key=str.lower):
        value = getattr(found, name)
        full = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        if not callable(value) or not full.startswith("gan_jax."):
            about = (
                (value.__doc__ or "").strip().partition("\n")[0] if type(value).__name__ == "module" else ""
            )
            elsewhere.append(f"| `{module}.{name}` | {about or type(value).__name__} |")
        elif _owner(value) == module:
            here.append(f"::: {full}")
        else:
            about = (value.__doc__ or "").strip().partition("\n")[0].replace("|", "\\|")
            elsewhere.append(f"| [`{name}`][{full}] | {about} |")
    listed = ["\n".join(elsewhere)] if len(elsewhere) > 2 else []
    return "\n\n".join([*listed, *here])


@functools.cache
def _owners() -> dict[int, str]:
    """The page of everything that is public, by its identity: the most special module that has it."""
    owners: dict[int, str] = {}
    for module in ROOMS:
        found = importlib.import_module(module)
        public = getattr(found, "__all__", None)
        names = public if public is not None else [name for name in vars(found) if not name.startswith("_")]
        for name in names:
            value = getattr(found, name)
            is_its_own = getattr(value, "__module__", "") == module
            if (public is not None or is_its_own) and (
                owners.get(id(value), "gan_jax") == "gan_jax" or is_its_own
            ):
                owners[id(value)] = module
    return owners


def _owner(value: Any) -> str:
    return _owners()[id(value)]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leads links that leave docs to the pictures of the site, takes other such links away, and runs tutorials."""
    here = posixpath.dirname(page.file.src_uri)

    def picture(found: re.Match[str]) -> str:
        place = _place((DOCS / here / found[2]).resolve())
        return f"{found[1]}{posixpath.relpath(place, here or '.')}{found[3]}"

    def link(found: re.Match[str]) -> str:
        path = (DOCS / here / found[2]).resolve()
        return found[0] if path.is_relative_to(DOCS) else found[1]

    markdown = LINK.sub(link, PICTURE.sub(picture, markdown))
    if here != TUTORIALS:
        return markdown
    name = posixpath.basename(page.file.src_uri).removesuffix(".md")
    title, _, rest = markdown.partition("\n")
    return f"{title}\n\n[This page as a notebook]({name}.ipynb)\n{_notebooks.executed(rest, name)}"


def _place(path: pathlib.Path) -> str:
    """Where a picture from outside lies in the site."""
    return "pictures/" + os.path.relpath(path, ROOT).replace(os.sep, "/")
