"""A small HTTP server on loopback: the page's files, and answers that are computed.

It binds 127.0.0.1 only and serves what its table of routes names, so that no path is ever opened. A request must
name this machine as its host, and one that comes from a page must come from this one: another site that a browser
has open can neither read an answer nor ask for work.
"""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gan_jax.runs.files import reason
from gan_jax.runs.strict_json import dumps

HOST = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost")
MOST_BYTES = 64 << 20
"""The largest body of a request."""
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data: blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Answer(NamedTuple):
    """The body of an answer and its media type."""

    body: bytes
    kind: str = "application/octet-stream"


Query = Mapping[str, str]
Route = Callable[[Query, bytes], Answer]
Routes = Mapping[tuple[str, str], Route]
"""By method and path: `(query, body) -> answer`; a `ValueError` is the asker's mistake."""


class PortError(OSError):
    """A port that cannot be had."""


def as_json(value: Any) -> Answer:
    """A JSON answer."""
    return Answer(dumps(value, name="answer").encode(), "application/json")


def whole(query: Query, name: str, default: int, most: int) -> int:
    """A whole number of a query.

    Raises:
      ValueError: if it is none, or not of 0 to `most`.

    >>> whole({"n": "3"}, "n", 1, 10), whole({}, "n", 1, 10)
    (3, 1)
    """
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 10 or int(text) > most:
        raise ValueError(f"{name} is a whole number up to {most}, got {text[:40]!r}.")
    return int(text)


def make_server(routes: Routes, port: int) -> http.server.ThreadingHTTPServer:
    """A server of these routes on loopback, bound and not yet serving; port 0 is any that is free.

    Answers that are computed are computed one after the other.

    Raises:
      PortError: if the port cannot be had.
    """
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 30  # a connection that says nothing holds no thread for ever
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "gan_jax", ""

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            status, answer = self._answered(method)
            try:
                self.send_response(status)
                for name, value in _HEADERS.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(answer.body)))
                if status != 200:  # what was not read of the request would be taken for the next one
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:  # the browser has gone
                self.close_connection = True

        def _answered(self, method: str) -> tuple[int, Answer]:
            host = self.headers.get("Host", "")
            origin = self.headers.get("Origin")
            if host.rpartition(":")[0] not in _NAMES and host not in _NAMES:
                return 403, _error("This server answers to 127.0.0.1 and localhost only.")
            if origin is not None and origin != f"http://{host}":
                return 403, _error("This server answers to its own page only.")
            address = urllib.parse.urlsplit(self.path)
            route = routes.get((method, address.path))
            if route is None:
                return 404, _error("There is no such page.")
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or len(length) > 9 or int(length) > MOST_BYTES:
                return 413, _error(f"A request has up to {MOST_BYTES} bytes.")
            try:
                body = self.rfile.read(int(length))
                query = dict(urllib.parse.parse_qsl(address.query, max_num_fields=20))
                with lock:
                    return 200, route(query, body)
            except ValueError as error:
                return 400, _error(str(error))
            except Exception as error:  # the page shows it, and goes on
                return 500, _error(f"{type(error).__name__}: {reason(error)}")

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing is logged."""

    try:
        server = http.server.ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        raise PortError(f"port {port} of {HOST} cannot be had ({reason(error)})") from error
    server.daemon_threads = True
    return server


def _error(text: str) -> Answer:
    return Answer(json.dumps({"error": " ".join(text.split())[:500]}).encode(), "application/json")
