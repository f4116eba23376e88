"""A work directory on Google Cloud Storage, as a server has it that emulates it, against one on a disk."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

import pytest

from gan_jax.cli import errors, request
from gan_jax.cli.errors import UsageError
from tests.console import called
from tests.distributed.test_hosts import ROOT, free_port

TINY = [
    *("--config=ring", "--config.batch_size=32", "--config.latent=4"),
    *("--config.checkpoint_every=4", "--config.sample_every=4", "--config.log_every=2"),
]
SAME = """
import sys, numpy as np, gan_jax as gj
from etils import epath
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.workdir import Workdir

stored, local, exported = sys.argv[1:]
times = {"time", "seconds", "rounds_per_second", "examples_per_second"}
rows, expected = ([{k: v for k, v in row.items() if k not in times} for row in read_metrics(Workdir(path))]
                  for path in (stored, local))
assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20], rows
kept = sorted(int(path.name) for path in (epath.Path(stored) / "checkpoints").iterdir())
assert kept == [12, 16, 20], kept
losses = [[row[k] for k in sorted(row) if k.endswith("loss")] for row in rows]
assert losses[0] and losses == [[row[k] for k in sorted(row) if k.endswith("loss")] for row in expected]
samples = [np.asarray(gj.load_model(path).sample(5)) for path in (stored, local, exported)]
assert np.array_equal(samples[0], samples[1]) and np.array_equal(samples[0], samples[2])
written = [path.name for path in (epath.Path(stored) / "tensorboard").iterdir()]
assert len(written) == 2, written
"""


@pytest.fixture(scope="module")
def store():
    """The environment of processes that find the emulated store, which has a bucket `here`."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = os.path.join(os.path.dirname(sys.executable), "gcp-storage-emulator")
    options = ["--in-memory", "--quiet", "--host=127.0.0.1", f"--port={port}", "--default-bucket=here"]
    server = subprocess.Popen([command, "start", *options])
    try:
        _wait_for(f"{address}/storage/v1/b/here")
        yield {
            **os.environ,
            "STORAGE_EMULATOR_HOST": address,
            "TENSORSTORE_GCS_HTTP_URL": address,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
    finally:
        server.kill()
        server.wait()


def _wait_for(address):
    for _ in range(100):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(address)


@pytest.mark.full
def test_a_run_on_an_object_store_is_that_on_a_disk(store, tmp_path):
    """It trains, is gone on with, samples twice into one directory, and is exported and loaded."""

    def launch(*arguments, code=0):
        command = [sys.executable, str(ROOT / "launch.py"), *arguments]
        done = subprocess.run(command, env=store, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr
        return done.stderr

    stored, local = "gs://here/run", str(tmp_path / "run")
    for rounds in (8, 20):
        said = launch(*TINY, f"--config.rounds={rounds}", f"--workdir={stored}")
        assert "cannot be locked" in said
    launch(*TINY, "--config.rounds=20", f"--workdir={local}")
    for _ in range(2):
        launch("--mode=sample", f"--workdir={stored}", "--sample_seeds=0-3", "--out=gs://here/samples")
    launch("--mode=export", f"--workdir={stored}", "--out=gs://here/exported")
    command = [sys.executable, "-c", SAME, stored, local, "gs://here/exported"]
    compared = subprocess.run(command, env=store, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert compared.returncode == 0, compared.stderr
    said = launch(*TINY, "--config.rounds=4", "--workdir=gs://nowhere/run", code=2)
    assert "Cannot write gs://nowhere/run/config.json: nothing is there" in said
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--workdir=s3://bucket/run", r"--workdir=s3://bucket/run: the only object store is Google's"),
        ("--workdir=gs://bucket/run", r"the package gcsfs is not installed: pip install 'gan_jax\[gcs\]'"),
        ("--out=gs://bucket/run", r"the package gcsfs is not installed"),
        ("--real=gs://bucket/run", r"the package gcsfs is not installed"),
        ("--scores=gs://bucket/scores.json", r"--scores=.* a file or folder of this machine is needed"),
        ("--slurm=gs://bucket/job.sh", r"--slurm=.* only --workdir and --out may be on an object store"),
        ("--config=gs://bucket/my.py", r"--config=.* a file or folder of this machine is needed"),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_place_that_cannot_be_used_is_refused(argument, apart, expected, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=expected):
        request.expand_homes(["launch.py", *(argument.split("=", 1) if apart else [argument])])


def test_other_arguments_are_left_alone(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    given = [
        "--workdir",
        "gs://b/run",
        "--out=gs://b/x",
        "--config.data=gs://b/x",
        "--real=tfds:mnist",
        "--fake",
    ]
    assert request.expand_homes(given) == given


def test_a_sweep_is_on_a_disk(tmp_path, monkeypatch, capsys):
    """It made a folder called `gs:` where the command was given, and the runs failed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(request, "check_store", lambda flag, value: None)
    sweep = ["--config=ring", "--sweep=config.seed=1,2", "--workdir=gs://bucket/sweep"]
    code, _, said = called(monkeypatch, capsys, *sweep)
    assert (code, len(said.splitlines())) == (2, 1)
    assert "a sweep's directory is a folder of this machine or a shared disk" in said
    assert list(pathlib.Path().iterdir()) == []


def test_an_error_of_the_store_is_one_line():
    refused = type("HttpError", (Exception,), {"__module__": "gcsfs.retry"})
    said = "the object store refuses, or cannot be reached: Forbidden, 403"
    with pytest.raises(UsageError, match=said), errors.translated():
        raise refused("Forbidden, 403")
