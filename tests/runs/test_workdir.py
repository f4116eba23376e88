import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import ml_collections
import numpy as np
import pytest

from gan_jax.runs import workdir as module
from gan_jax.runs.workdir import (
    Lock,
    Workdir,
    WorkdirError,
    check_config,
    differences,
    jsonable,
    read_config,
    read_metrics,
    reason,
    refuse_links,
    truncate_metrics,
    write_atomically,
    write_config,
)


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "run")


# ---------------------------------------------------------------------------------------------------------
# Configuration


def test_a_configuration_comes_back_with_versions(workdir):
    config = ml_collections.ConfigDict({"lr": 2e-4, "betas": (0.5, 0.9), "net": {"width": 64}, "y": None})
    write_config(workdir, config, experiment="experiments/ring.py")
    saved = read_config(workdir)
    assert saved.config == {"lr": 2e-4, "betas": [0.5, 0.9], "net": {"width": 64}, "y": None}
    assert saved.experiment == "experiments/ring.py"
    assert saved.versions["numpy"] == np.__version__
    assert saved.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert differences(saved.config, config) == []


def test_the_commit_is_gits_own(workdir, tmp_path):
    def git(*words):
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *who, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert write_config(workdir, {}, source="/").commit is None
    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert write_config(workdir, {}, source=tmp_path).commit == head
    (tmp_path / "file").write_text("two")
    assert write_config(workdir, {}, source=tmp_path).commit == head + "-dirty"


def test_what_json_cannot_hold_is_named():
    with pytest.raises(WorkdirError, match=r"config\.net\.act is a function"):
        jsonable({"net": {"act": lambda x: x}})
    assert jsonable({"a": np.float32(0.5), "b": np.int64(3), 4: float("inf")}) == {
        "a": 0.5,
        "b": 3,
        "4": "inf",
    }


def test_differences_by_name_and_what_may_always_change():
    saved = {
        "seed": 1,
        "rounds": 5,
        "log_every": 1,
        "net": {"width": 64, "save_every": 9},
        "flag": True,
        "x": 1,
    }
    new = {"seed": 2, "rounds": 9, "log_every": 7, "net": {"width": 32, "save_every": 1}, "flag": 1, "y": "z"}
    assert differences(saved, new) == [
        "flag: true in the work directory, 1 now",
        "net.width: 64 in the work directory, 32 now",
        "seed: 1 in the work directory, 2 now",
        "x: 1 in the work directory, absent now",
        'y: absent in the work directory, "z" now',
    ]
    assert len(differences(saved, new, may_change=("seed", "net.width"))) == 3
    assert differences({"a": 1.0, "b": (1, 2)}, {"a": 1, "b": [1, 2]}) == []


def test_a_changed_configuration_is_refused_unless_overridden(workdir):
    assert check_config(workdir, {"lr": 1}) == []  # a new directory
    write_config(workdir, {"lr": 1, "rounds": 10})
    assert check_config(workdir, {"lr": 1, "rounds": 20}) == []
    with pytest.raises(WorkdirError, match=r"lr: 1 in the work directory, 2 now.*--override"):
        check_config(workdir, {"lr": 2, "rounds": 20})
    assert check_config(workdir, {"lr": 2, "rounds": 20}, override=True) == [
        "lr: 1 in the work directory, 2 now"
    ]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'"x"', b"\xff\xfe", b"[" * 20000, b'{"config": 1, "versions": {}}']
)
def test_a_damaged_configuration_is_one_clear_line(workdir, content):
    workdir.root.mkdir(parents=True)
    workdir.config.write_bytes(content)
    with pytest.raises(WorkdirError, match=r"config\.json is damaged") as raised:
        read_config(workdir)
    assert "\n" not in str(raised.value)


def test_no_run_there(workdir):
    with pytest.raises(WorkdirError, match="does not exist"):
        read_config(workdir)
    workdir.root.mkdir(parents=True)
    with pytest.raises(WorkdirError, match="holds no run"):
        read_config(workdir)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    blocked = Workdir(tmp_path / "file" / "run")
    with pytest.raises(WorkdirError, match="Cannot write"):
        write_config(blocked, {})
    with pytest.raises(WorkdirError, match="Cannot write"):
        Lock(blocked)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = module.epath.Path(tmp_path / "file")
    write_atomically(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as raised:
        write_atomically(path, b"new and longer")
    assert reason(raised.value) == "the disk is full (No space left on device)"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_files_obey_the_umask(workdir):
    before = os.umask(0o027)
    try:
        write_config(workdir, {})
        Lock(workdir).release()
    finally:
        os.umask(before)
    assert os.stat(workdir.config).st_mode & 0o777 == 0o640
    assert os.stat(workdir.root / ".lock").st_mode & 0o777 == 0o640
    assert os.stat(workdir.root).st_mode & 0o777 == 0o750


# ---------------------------------------------------------------------------------------------------------
# The lock


def hold(path, after="time.sleep(60)"):
    """A process that takes the lock, says so, and goes on as told; it imports this one module alone."""
    script = f"""
        import importlib.util, os, sys, time
        sys.path.insert(0, {os.getcwd()!r})
        spec = importlib.util.spec_from_file_location("workdir", {module.__file__!r})
        workdir = importlib.util.module_from_spec(spec)
        sys.modules["workdir"] = workdir
        spec.loader.exec_module(workdir)
        lock = workdir.Lock(workdir.Workdir({str(path)!r}))
        print("held", flush=True)
        {after}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_launch_is_told_who_trains_and_death_gives_the_lock_back(workdir):
    holder = hold(workdir.root)
    try:
        with pytest.raises(WorkdirError, match=rf"in use by process {holder.pid} on .* since "):
            Lock(workdir)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with Lock(workdir), pytest.raises(WorkdirError, match=f"process {os.getpid()} "):
        Lock(workdir)
    Lock(workdir).release()


def test_a_forked_worker_does_not_hold_a_dead_parents_lock(workdir):
    fork = "child = os.fork(); child and print(child, flush=True); time.sleep(60)"
    parent = hold(workdir.root, after=fork)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with pytest.raises(WorkdirError, match="in use"):
            Lock(workdir)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 20  # the child closes its copy of the lock when it first runs
        while True:
            os.kill(child, 0)  # still there, with the parent's open files, for 60 s
            try:
                Lock(workdir).release()
                break
            except WorkdirError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    finally:
        parent.kill()
        os.kill(child, signal.SIGKILL)
        parent.communicate()


def test_a_lock_file_that_is_a_link_is_not_followed(workdir, tmp_path):
    workdir.root.mkdir(parents=True)
    (tmp_path / "target").write_text("precious")
    os.symlink(tmp_path / "target", workdir.root / ".lock")
    with pytest.raises(WorkdirError, match="Cannot write"):
        Lock(workdir)
    assert (tmp_path / "target").read_text() == "precious"


def test_storage_without_locks_gets_a_warning(monkeypatch, workdir):
    with pytest.warns(UserWarning, match="cannot be locked"):
        Lock(Workdir("gs://bucket/run")).release()

    def unsupported(descriptor, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match="No locks available"):
        Lock(workdir).release()


@pytest.mark.parametrize("part", ["samples", "checkpoints", "tensorboard", "metrics.jsonl", "config.json"])
def test_a_part_that_leads_out_of_the_directory_is_refused(workdir, tmp_path, part):
    """A link to elsewhere, or to nothing; the directory itself may be one, and a link may stay inside."""
    workdir.root.mkdir(parents=True)
    (workdir.root / "here").mkdir()
    (tmp_path / "link").symlink_to(workdir.root, target_is_directory=True)
    link = pathlib.Path(workdir.root / part)
    link.symlink_to("here")
    refuse_links(workdir)
    refuse_links(Workdir(tmp_path / "link"))
    for elsewhere in (tmp_path, "../run-2", "/nowhere"):
        link.unlink()
        link.symlink_to(elsewhere)
        with pytest.raises(
            WorkdirError, match=f"{part} is a link that leads out of the work directory, to /"
        ):
            refuse_links(workdir)
        with pytest.raises(WorkdirError, match="leads out"):
            refuse_links(Workdir(tmp_path / "link"))


# ---------------------------------------------------------------------------------------------------------
# The log


def lines(*steps):
    return b"".join(json.dumps({"step": step, "loss": step / 2}).encode() + b"\n" for step in steps)


@pytest.mark.parametrize("cut", [b"", b'{"step": 40, "lo', b"\x00\xff\n", b"[1]\n", b'{"loss": 1}\n'])
def test_a_resumed_log_has_every_round_once(workdir, cut):
    workdir.root.mkdir(parents=True)
    workdir.metrics.write_bytes(lines(10, 20, 20, 30, 40) + cut)
    assert truncate_metrics(workdir, 20) == 2 + bool(cut)
    assert workdir.metrics.read_bytes() == lines(10, 20, 20)
    with open(workdir.metrics, "ab") as file:
        file.write(lines(30, 40))
    assert workdir.metrics.read_bytes() == lines(10, 20, 20, 30, 40)


def test_an_intact_log_is_not_touched(workdir):
    assert truncate_metrics(workdir, 5) == 0  # none there
    workdir.root.mkdir(parents=True)
    workdir.metrics.write_bytes(lines(1, 2))
    before = os.stat(workdir.metrics).st_ino
    assert truncate_metrics(workdir, 2) == 0
    assert os.stat(workdir.metrics).st_ino == before


def test_non_finite_numbers_are_numbers_again(workdir):
    workdir.root.mkdir(parents=True)
    workdir.metrics.write_text('{"step": 1, "a": "NaN", "b": ["-Infinity", 2], "c": "text", "d": {"e": 1}}\n')
    (record,) = read_metrics(workdir)
    assert np.isnan(record["a"])
    assert record["b"] == [-np.inf, 2]
    assert (record["c"], record["d"]) == ("text", {"e": 1})
    with pytest.raises(WorkdirError, match="Cannot read"):
        read_metrics(Workdir(workdir.root / "nowhere"))
