"""Weights & Biases offline and MLflow in a local database: what they hold is what was written."""

import shutil
import time

import numpy as np
import pytest

from gan_jax.pictures.grids import to_png
from gan_jax.runs import loop, trackers
from gan_jax.runs.machine import Machine
from gan_jax.runs.trackers import Mlflow, TrackerError, Wandb, numbers_of, require
from gan_jax.runs.workdir import Workdir
from gan_jax.runs.writer import Writer
from tests.runs.test_loop import experiment, quiet

pytestmark = pytest.mark.filterwarnings("default")


class Recorded:
    """A tracker that keeps what it is given."""

    def __init__(self):
        self.lines, self.texts, self.pictures, self.closed = [], {}, [], False

    def scalars(self, step, numbers):
        self.lines.append((step, dict(numbers)))

    def text(self, name, text):
        self.texts[name] = text

    def picture(self, step, name, png):
        self.pictures.append((step, name, png[:4]))

    def close(self):
        self.closed = True


def test_everything_is_written_to_the_trackers_too(tmp_path):
    tracker = Recorded()
    with Writer(Workdir(tmp_path), trackers=[lambda: tracker]) as writer:
        writer.scalars(3, {"loss": 0.5, "evaluation/fingerprint/scores": "split digits"})
        writer.machine(3, {"run/rounds_per_second": 10.0})
        writer.picture(3, "samples", np.zeros((2, 2, 1), np.uint8))
    assert tracker.lines == [(3, {"loss": 0.5}), (3, {"run/rounds_per_second": 10.0})]
    assert tracker.texts == {"evaluation/fingerprint/scores": "split digits"}
    assert tracker.pictures == [(3, "samples", b"\x89PNG")]
    assert tracker.closed
    assert "rounds_per_second" not in (tmp_path / "metrics.jsonl").read_text()


def test_only_finite_numbers_are_numbers():
    metrics = {"loss": 1, "text": "x", "nan": np.nan, "pair": np.array([1.0, np.inf]), "matrix": np.eye(2)}
    assert numbers_of(metrics) == {"loss": 1.0, "pair/0": 1.0}


def test_the_speed_is_that_of_the_rounds_after_the_first_dispatch():
    machine = Machine(1000)
    machine.played(1, 100.0)
    assert set(machine.metrics(1)) == {"run/memory_bytes"}
    machine.played(30, 2.0)
    machine.played(10, 2.0)
    numbers = machine.metrics(41)
    assert numbers["run/rounds_per_second"] == 10.0
    assert numbers["run/seconds_left"] == 95.9
    assert numbers["run/memory_bytes"] > 1e6


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrackerError, match=r"pip install 'gan_jax\[wandb\]'"):
        require("wandb")


def test_a_run_on_an_object_store_is_one_run_from_any_folder(tmp_path, monkeypatch):
    """The folder where the command was given was a part of its identity; MLflow's database went into `gs:`."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackerError, match="gs://bucket/run is on an object store: name a server"):
        require("mlflow", "gs://bucket/run")
    require("wandb", "gs://bucket/run")
    require("mlflow", "runs/run")
    drawn = {}
    monkeypatch.setattr(trackers, "is_there", lambda path: str(path) in drawn)
    monkeypatch.setattr(trackers, "read_regular", lambda path: drawn[str(path)])
    monkeypatch.setattr(trackers, "write_atomically", lambda path, data: drawn.update({str(path): data}))
    found = []
    for place in (tmp_path / "a", tmp_path / "b"):
        place.mkdir()
        monkeypatch.chdir(place)
        found.append(trackers._identity(Workdir("gs://bucket/run"), "wandb", True))
    assert found[0] == found[1]
    assert found[0] != trackers._identity(Workdir("gs://bucket/other"), "wandb", True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    require("mlflow", "gs://bucket/run")


def test_runs_of_one_path_are_told_apart(tmp_path, monkeypatch):
    """Containers give every run the same path: the second wrote into the first one's run on the server."""
    identities = []

    class Told(Recorded):
        def __init__(self, workdir, config, *, resumed):
            super().__init__()
            identities.append(trackers._identity(workdir, "wandb", resumed))

    monkeypatch.setitem(trackers.TRACKERS, "wandb", Told)

    def launch(path):
        loop.train(experiment(), Workdir(path), config={}, track=("wandb",), log=quiet)

    run, copy = tmp_path / "run", tmp_path / "copy"
    launch(run)
    launch(run)
    shutil.copytree(run, copy)
    shutil.rmtree(run)
    launch(run)
    launch(copy)
    first, again, other, copied = identities
    assert first == again
    assert len({first, other, copied}) == 3


@pytest.mark.full
def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = Wandb(Workdir(tmp_path), {"learning_rate": 0.1})
    tracker.scalars(5, {"critic/loss": 0.25})
    tracker.text("fingerprint", "split digits")
    tracker.picture(5, "samples", to_png(np.zeros((2, 2, 1), np.uint8)))
    tracker.close()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    parts = ("critic/loss", "0.25", "learning_rate", "0.1", "fingerprint", "split digits")
    until = time.monotonic() + 60  # W&B's own process writes the file, on a busy machine later
    while not all(part.encode() in file.read_bytes() for part in parts) and time.monotonic() < until:
        time.sleep(0.5)
    content = file.read_bytes()
    for part in parts:
        assert part.encode() in content, part
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/samples*.png"))


@pytest.mark.full
def test_mlflow_in_the_work_directory(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for step in (5, 6):  # the second launch goes on with the first one's run
        tracker = Mlflow(Workdir(tmp_path), {"learning_rate": 0.1})
        tracker.scalars(step, {"critic/loss": step / 4})
        tracker.text("fingerprint", "split digits")
        tracker.picture(step, "samples", to_png(np.zeros((2, 2, 1), np.uint8)))
        tracker.close()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("gan_jax").experiment_id])
    assert run.data.params == {"learning_rate": "0.1"}
    assert run.data.tags["fingerprint"] == "split digits"
    history = client.get_metric_history(run.info.run_id, "critic/loss")
    assert [(metric.step, metric.value) for metric in history] == [(5, 1.25), (6, 1.5)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == [
        "samples_00000005.png",
        "samples_00000006.png",
    ]
