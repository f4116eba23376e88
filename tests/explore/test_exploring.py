"""`--mode=explore` on the command line."""

import contextlib
import errno
import http.client
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from etils import epath

from gan_jax.cli import exploring
from gan_jax.cli.errors import UsageError
from gan_jax.runs import replacing
from tests.test_launch import LAUNCH, ROOT, launch_here


def test_a_full_disk_is_one_line(monkeypatch, tmp_path):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(replacing, "write_atomically", full)
    with pytest.raises(UsageError, match=r"--out=.*page cannot be written: the disk is full") as raised:
        exploring._write(epath.Path(tmp_path / "page"), {"index.html": b"", "explore.json": b"{}"})
    assert len(str(raised.value).splitlines()) == 1


def test_a_page_without_training_images_leaves_none_of_an_earlier_one(tmp_path):
    page = {"index.html": b"", "explore.json": b"{}", "generator.onnx": b"1"}
    exploring._write(epath.Path(tmp_path), {**page, "training.u8": b"faces"})
    (tmp_path / "notes.txt").write_text("mine")
    exploring._write(epath.Path(tmp_path), page)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*page, "notes.txt"])


def test_a_page_replaces_no_file_of_another_site(tmp_path):
    (tmp_path / "style.css").write_text("mine")
    with pytest.raises(UsageError, match=r"has style\.css, not as an earlier page has written it: move it"):
        exploring._write(epath.Path(tmp_path), {"index.html": b"", "style.css": b"", "explore.json": b"{}"})
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"has index\.html, style\.css, not as an earlier page"):
        exploring._check_out(epath.Path(tmp_path), None)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("style.css", "index.html"), "mine"
    )


@pytest.mark.parametrize("edited", ["style.css", "training.u8"])
def test_a_file_of_a_page_that_was_edited_is_not_replaced(tmp_path, edited):
    page = {"index.html": b"1", "style.css": b"1", "explore.json": b'{"size": 3}'}
    out = epath.Path(tmp_path)
    exploring._write(out, page)
    exploring._check_out(out, None)
    exploring._write(out, {**page, "style.css": b"2"})
    assert (tmp_path / "style.css").read_bytes() == b"2"
    assert json.loads((tmp_path / "explore.json").read_text())["size"] == 3
    (tmp_path / edited).write_text("mine")
    for write in (lambda: exploring._write(out, page), lambda: exploring._check_out(out, None)):
        with pytest.raises(UsageError, match=f"has {edited}, not as an earlier page has written it: move it"):
            write()
    assert (tmp_path / edited).read_text() == "mine"


@pytest.mark.parametrize("part", ["", "checkpoints", "model"])
def test_a_page_is_written_over_no_run_and_no_export(tmp_path, part):
    for name in ("checkpoints", "model", "export"):
        (tmp_path / name).mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "export" / "model.json").write_text("{}")
    with pytest.raises(UsageError, match="holds the files of a run: name a directory of its own"):
        exploring._check_out(epath.Path(tmp_path / part), str(tmp_path))
    with pytest.raises(UsageError, match="holds an export"):
        exploring._check_out(epath.Path(tmp_path / "export"), str(tmp_path))
    exploring._check_out(epath.Path(tmp_path / "page"), str(tmp_path))


@pytest.mark.parametrize("port", ["x", "-1", "65536", "1e3"])
def test_a_port_is_a_number(port):
    with pytest.raises(UsageError, match="--port is 0 to 65535"):
        exploring._port(port)


@pytest.mark.full
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name the run, --workdir=runs/..., or a game of points to play, --config=ring"),
        (["--config=digits"], "plays games of points of the plane"),
        (["--workdir={folder}/none"], "does not exist"),
    ],
)
def test_mistakes_are_one_line(flags, message, tmp_path, monkeypatch, capsys):
    flags = [flag.format(folder=tmp_path) for flag in flags]
    code, _, err = launch_here(monkeypatch, capsys, "--mode=explore", *flags)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


HEEDING_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""Starts Python again so that it heeds Ctrl-C, which a shell's background jobs ignore."""


@pytest.mark.full
def test_a_game_is_served_until_ctrl_c_and_a_taken_port_is_one_line(tmp_path):
    command = [sys.executable, LAUNCH, "--mode=explore", "--config=ring", "--config.batch_size=16"]
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDING_CTRL_C, *command[1:], "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    line = process.stdout.readline()
    port = int(re.fullmatch(r"Explore at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\.\n", line)[1])
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/explore.json")
        description = json.loads(connection.getresponse().read())
    assert [demo["name"] for demo in description["demos"]] == [
        "mode_collapse",
        "vanishing_gradient",
        "wgan_against_gan",
        "own",
    ]
    second = subprocess.run([*command, f"--port={port}"], capture_output=True, text=True, cwd=ROOT)
    assert second.returncode == 2
    assert second.stdout == ""
    assert re.fullmatch(
        rf"launch\.py: port {port} of 127\.0\.0\.1 cannot be had \(.*\): give another .*--port=0 for any\.\n",
        second.stderr,
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
