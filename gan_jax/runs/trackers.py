"""Weights & Biases and MLflow as writers beside TensorBoard.

Each is imported when it first writes, on the writer's thread. Where they write is theirs to say, by their own
environment: `WANDB_MODE=offline` keeps a run of W&B in the work directory, `MLFLOW_TRACKING_URI` names MLflow's
server. Without it MLflow writes a database into the work directory. Neither writes to an object store by itself:
where the work directory lies on one, W&B keeps its files where it does by default, and MLflow needs a server.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from gan_jax.runs.files import is_local, is_there, read_regular, write_atomically
from gan_jax.runs.strict_json import to_json
from gan_jax.runs.workdir import Workdir

PROJECT = "gan_jax"
_MOST_TEXT = 5000
"""Characters of a text that MLflow keeps."""


class TrackerError(RuntimeError):
    """A tracker that cannot be used; the message is one line for the user."""


class Tracker(Protocol):
    """Where a run's numbers and pictures are written too."""

    def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes a round's numbers."""

    def text(self, name: str, text: str) -> None:
        """Writes what is true of the run: the fingerprint of a comparison, an alarm."""

    def picture(self, step: int, name: str, png: bytes) -> None:
        """Writes a picture."""

    def close(self) -> None:
        """Ends the run."""


class Wandb:
    """A run of Weights & Biases, named after the work directory; a launch that goes on goes on there too."""

    def __init__(self, workdir: Workdir, config: Mapping[str, Any], *, resumed: bool = True):
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=workdir.root.name,
            id=_identity(workdir, "wandb", resumed),
            resume="allow",
            dir=os.fspath(workdir.root) if is_local(workdir.root) else None,
            config=to_json(config, "config"),
            settings=wandb.Settings(silent=True, console="off"),
        )
        # The time of W&B's own axis cannot go back, as a resumed run's rounds do.
        self._run.define_metric("round")
        self._run.define_metric("*", step_metric="round")

    def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({"round": step, **numbers})

    def text(self, name: str, text: str) -> None:
        self._run.summary[name] = text

    def picture(self, step: int, name: str, png: bytes) -> None:
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._run.log({"round": step, name: self._image(image)})

    def close(self) -> None:
        self._run.finish()


class Mlflow:
    """A run of MLflow, named after the work directory; a launch that goes on goes on there too."""

    def __init__(self, workdir: Workdir, config: Mapping[str, Any], *, resumed: bool = True):
        import mlflow

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        root = os.path.abspath(os.fspath(workdir.root))
        self._client = mlflow.MlflowClient(uri or f"sqlite:///{root}/mlflow.db")
        self._metric = mlflow.entities.Metric
        experiment = self._client.get_experiment_by_name(PROJECT)
        if experiment is None:
            place = None if uri else f"file://{root}/mlflow"
            number = self._client.create_experiment(PROJECT, artifact_location=place)
        else:
            number = experiment.experiment_id
        mark = _identity(workdir, "mlflow", resumed)
        there = self._client.search_runs([number], filter_string=f"tags.gan_jax = '{mark}'", max_results=1)
        if there:
            self._run = there[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            created = self._client.create_run(number, run_name=workdir.root.name, tags={"gan_jax": mark})
            self._run = created.info.run_id
            for name, value in to_json(config, "config").items():
                self._client.log_param(self._run, name, str(value)[:_MOST_TEXT])

    def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(_plain(name), value, now, step) for name, value in numbers.items()]
        for start in range(0, len(metrics), 500):
            self._client.log_batch(self._run, metrics=metrics[start : start + 500])

    def text(self, name: str, text: str) -> None:
        self._client.set_tag(self._run, _plain(name), text[:_MOST_TEXT])

    def picture(self, step: int, name: str, png: bytes) -> None:
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._client.log_image(self._run, image, artifact_file=f"{name}_{step:08d}.png")

    def close(self) -> None:
        self._client.set_terminated(self._run)


TRACKERS: Mapping[str, Callable[..., Tracker]] = {"wandb": Wandb, "mlflow": Mlflow}


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among metrics, those of small vectors by their places.

    >>> numbers_of({"loss": 1.0, "rates": np.array([1.0, 2.0]), "why": "text", "bad": float("nan")})
    {'loss': 1.0, 'rates/0': 1.0, 'rates/1': 2.0}
    """
    found: dict[str, float] = {}
    for name, value in metrics.items():
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" or array.ndim > 1:
            continue
        for index, number in np.ndenumerate(array):
            if np.isfinite(number):
                found["/".join([name, *map(str, index)])] = float(number)
    return found


def _identity(workdir: Workdir, tracker: str, resumed: bool) -> str:
    """What identifies a run on a server: the path by itself is that of many, on other machines and in containers.

    A copy of a work directory is another run. What was drawn for the run is kept in `.tracked_by_NAME`.

    Args:
      workdir: the run's.
      tracker: its name.
      resumed: the launch goes on from a checkpoint; a training that begins is a run of its own.

    Raises:
      OSError: if what was drawn cannot be read or written.
    """
    path = workdir.root / f".tracked_by_{tracker}"
    if resumed and is_there(path):
        drawn = read_regular(path)
    else:
        drawn = secrets.token_hex(16).encode()
        write_atomically(path, drawn)
    place = os.fspath(workdir.root)
    place = os.path.abspath(place) if is_local(place) else place
    return hashlib.sha256(drawn + place.encode()).hexdigest()[:16]


def _plain(name: str) -> str:
    """A name as MLflow takes it."""
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)


def require(name: str, workdir: str = "") -> None:
    """Checks that a tracker's package is installed, and that it has where to write to.

    Raises:
      TrackerError: if it is not or has not: MLflow's database cannot lie on an object store.
    """
    if importlib.util.find_spec(name) is None:
        raise TrackerError(f"--track={name} needs its package: pip install 'gan_jax[{name}]'.")
    if name == "mlflow" and not is_local(workdir) and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise TrackerError(
            f"--track=mlflow writes a database into the work directory, and {workdir} is on an object store: name "
            "a server by MLFLOW_TRACKING_URI."
        )
