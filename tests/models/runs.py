"""Work directories of runs that were not trained."""

import pytest

from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.config import jsonable, write_config
from gan_jax.runs.portable_files import PortableWriter
from gan_jax.runs.workdir import Workdir


def written(path, experiment, config, states, name="experiments/digits.py"):
    """A work directory with these states as checkpoints, by round."""
    workdir = Workdir(path)
    write_config(workdir, config, experiment=name)
    PortableWriter(workdir, experiment, {"config": jsonable(config)}).finish(pytest.fail)
    with Checkpoints(workdir.checkpoints) as checkpoints:
        for step, state in states.items():
            checkpoints.save(step, state)
    return path
