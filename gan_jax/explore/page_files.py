"""The page's own files, which lie beside this module."""

from __future__ import annotations

import importlib.resources

from gan_jax.explore.server import Answer, Routes

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_files() -> dict[str, bytes]:
    """The page's files by name.

    >>> {"index.html", "style.css", "app.js"} <= set(page_files())
    True
    """
    folder = importlib.resources.files("gan_jax.explore") / "page"
    return {
        item.name: item.read_bytes()
        for item in folder.iterdir()
        if item.name[item.name.rfind(".") :] in KINDS and not item.name.startswith(".")
    }


def page_routes() -> Routes:
    """A route for each of the page's files."""
    routes = {}
    for name, content in page_files().items():
        answer = Answer(content, KINDS[name[name.rfind(".") :]])
        routes["GET", f"/{name}"] = lambda query, body, answer=answer: answer
    routes["GET", "/"] = routes["GET", "/index.html"]
    return routes
