"""What is another now than when a run was trained: its experiment's code, its data, its configuration."""

from __future__ import annotations

import pathlib
from typing import Any

from gan_jax.data.errors import DataTimeoutError
from gan_jax.runs.config import check_config, overridden_after, read_config
from gan_jax.runs.files import reason
from gan_jax.runs.provenance import examples_fingerprint, features_fingerprint, modules_beside, source_digest
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import Experiment


def changes(
    workdir: Workdir, config: Any, experiment: Experiment, path: str | pathlib.Path
) -> tuple[str, ...]:
    """How what is here differs from what a run was trained with, a line for each difference.

    A run that is gone on with is held to what it was. One that is only read may be read by other code, with other
    data beside it, and then other numbers come out: that is for the reader to be told.

    Args:
      workdir: the run's work directory.
      config: the configuration that it is read with.
      experiment: made of that configuration; its data have not been closed.
      path: the experiment's file.

    Raises:
      DataTimeoutError: if the data do not answer in time.
    """
    from gan_jax.runs.loop import MAY_CHANGE

    unread: tuple[str, ...] = ()
    try:
        data = examples_fingerprint(experiment) | features_fingerprint(experiment.game)
    except DataTimeoutError:
        raise
    except Exception as error:  # samples need no data: whoever does will meet the error
        data, unread = {}, (f"the data cannot be read now ({reason(error)})",)
    changed = check_config(
        workdir,
        config,
        source=source_digest(path),
        modules=modules_beside(path),
        data=data,
        may_change=MAY_CHANGE,
        override=True,
    )
    return (*changed, *unread)


def later_message(workdir: Workdir, step: int) -> str:
    """A line about what `--override` changed in a run after this round was saved; empty where it changed nothing.

    A run is read by its last configuration, code and data, which an earlier checkpoint was not trained with.
    """
    later = overridden_after(read_config(workdir), step)
    if not later:
        return ""
    said = "; ".join(f"from round {launch.step} with {', '.join(launch.overridden)}" for launch in later)
    return (
        f"Round {step} of {workdir.root} was trained before --override changed the run ({said}): what is computed "
        "of it now is computed with what the run has since."
    )


def message(workdir: Workdir, changed: tuple[str, ...]) -> str:
    """A line about the changes for the user."""
    return (
        f"{workdir.root} was trained with another configuration, code or data ({'; '.join(changed)}): what is "
        "computed now is computed with those here."
    )
