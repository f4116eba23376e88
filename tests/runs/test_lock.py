import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from gan_jax.runs import lock as lock_module
from gan_jax.runs.lock import Lock
from gan_jax.runs.workdir import Workdir, WorkdirError, WorkdirMovedError


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "run")


def hold(path, after="time.sleep(60)"):
    """A process that takes the lock, says so, and goes on with `after`."""
    script = f"""
        import os, sys, time
        sys.path.insert(0, {os.getcwd()!r})
        from gan_jax.runs.lock import Lock
        from gan_jax.runs.workdir import Workdir
        lock = Lock(Workdir({str(path)!r}))
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


def test_a_directory_that_a_failed_launch_removes_meanwhile_is_made_and_locked_again(monkeypatch, workdir):
    """Two first launches at one moment: the first fails and removes its directory while the second locks it."""
    flock, others = fcntl.flock, []

    def after_the_other(descriptor, how):
        if not others:  # the other launch ends between this one's opening of the file and its locking
            others.append(workdir.root)
            shutil.rmtree(workdir.root)
        flock(descriptor, how)

    monkeypatch.setattr(lock_module.fcntl, "flock", after_the_other)
    with Lock(workdir):
        assert (workdir.root / ".lock").exists()
        with pytest.raises(WorkdirError, match=f"in use by process {os.getpid()} "):
            Lock(workdir)


def test_storage_without_locks_gets_a_warning(monkeypatch, workdir):
    with pytest.warns(UserWarning, match="cannot be locked"):
        Lock(Workdir("gs://bucket/run")).release()

    def unsupported(descriptor, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock_module.fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match="No locks available"):
        Lock(workdir).release()


def test_a_path_that_cannot_be_looked_up_just_now_is_no_moved_directory(monkeypatch, workdir):
    """A network file system that does not answer for a moment ended the run, with all since its checkpoint."""
    stat = os.stat

    def stale(path, **options):
        if os.fspath(path) == os.fspath(workdir.root):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return stat(path, **options)

    with Lock(workdir) as lock:
        with monkeypatch.context() as patched:
            patched.setattr(lock_module.os, "stat", stale)
            lock.check()
        lock.check()
        workdir.root.rename(workdir.root.parent / "elsewhere")
        with pytest.raises(WorkdirMovedError, match=r"was moved to .*elsewhere"):
            lock.check()
