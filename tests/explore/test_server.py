"""The server of the page: on loopback, for its own page only, and nothing but what its table names."""

import contextlib
import http.client
import json
import threading

import pytest

from gan_jax.explore.page_files import page_routes
from gan_jax.explore.server import HOST, MOST_BYTES, Answer, PortError, as_json, make_server


def fail(query, body):
    raise OSError(28, "No space left on device")


def refuse(query, body):
    raise ValueError("a mistake\nof the asker")


ROUTES = {
    **page_routes(),
    ("GET", "/echo.json"): lambda query, body: as_json(dict(query)),
    ("POST", "/length"): lambda query, body: Answer(str(len(body)).encode()),
    ("GET", "/fail"): fail,
    ("GET", "/refuse"): refuse,
}


@contextlib.contextmanager
def serving(routes):
    server = make_server(routes, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def port():
    with serving(ROUTES) as port:
        yield port


def ask(port, path, method="GET", body=None, **headers):
    """The status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    with contextlib.closing(connection):
        connection.request(
            method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
        )
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()


def test_the_page_and_its_answers(port):
    status, headers, body = ask(port, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body == ask(port, "/index.html")[2]
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert json.loads(ask(port, "/echo.json?a=1&b=x%20y")[2]) == {"a": "1", "b": "x y"}
    assert ask(port, "/length", "POST", b"12345")[2] == b"5"


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/..%2fserver.py",
        "//etc/passwd",
        "/page/index.html",
        "/%2e%2e/setup.cfg",
        "/index.html/",
        "/x",
    ],
)
def test_nothing_else_is_read(port, path):
    assert ask(port, path)[0] == 404
    assert ask(port, path, "POST")[0] == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.x:1"]
)
def test_another_host_is_refused(port, host):
    """What a name that leads here asks for: rebinding."""
    assert ask(port, "/", Host=host)[0] == 403


def test_another_page_is_refused(port):
    own = f"127.0.0.1:{port}"
    assert ask(port, "/length", "POST", b"", Host=own, Origin="http://evil.example")[0] == 403
    assert ask(port, "/length", "POST", b"", Host=own, Origin="null")[0] == 403
    assert ask(port, "/length", "POST", b"", Host=own, Origin=f"http://{own}")[0] == 200
    assert ask(port, "/", Host=f"localhost:{port}")[0] == 200


def test_errors_are_one_line_without_a_traceback(port, capfd):
    for path, status, text in (
        ("/refuse", 400, "a mistake of the asker"),
        ("/fail", 500, "OSError: the disk is full (No space left on device)"),
    ):
        found, _, body = ask(port, path)
        assert (found, json.loads(body)) == (status, {"error": text})
    assert ask(port, "/length", "POST", None, Content_Length=str(MOST_BYTES + 1))[0] == 413
    assert ask(port, "/length", "POST", None, Content_Length="-1")[0] == 413
    assert capfd.readouterr() == ("", "")


def test_a_port_is_only_had_once(port):
    with pytest.raises(PortError, match=f"port {port} of 127.0.0.1 cannot be had"):
        make_server(ROUTES, port)
