"""Comparisons of many images of a run in bounded memory, measured of a process of its own."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.distributed.test_hosts import ROOT
from tests.evaluation import images_experiment

EXPERIMENT = str(pathlib.Path(images_experiment.__file__).relative_to(ROOT))
SIZE = 64


def launch(*arguments):
    """The largest memory of a launch, in GiB."""
    command = [sys.executable, "launch.py", f"--config={EXPERIMENT}", *arguments]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1", "GAN_JAX_CACHE": ""}
    with subprocess.Popen(command, env=environment, cwd=ROOT) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss / 2**20


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """40,000 images of 64 x 64 would be 625 MiB as floats and 156 MiB as bytes."""
    run = tmp_path / "run"
    launch(f"--config.size={SIZE}", f"--workdir={run}")
    np.save(tmp_path / "real.npy", images_experiment.images(40_000, size=SIZE)[0])
    used = [
        launch(
            "--mode=compare",
            f"--real={tmp_path / 'real.npy'}",
            f"--fake={run}",
            f"--num_samples={number}",
            "--extractor=function:tests.evaluation.images_experiment.means",
            "--metrics=frechet,kernel",
        )
        for number in (1_000, 40_000)
    ]
    assert used[1] < 4
    assert used[1] - used[0] < 0.1


@pytest.mark.slow
def test_inception_takes_no_more_memory_for_more_images():
    """Four times the images, whose kept features are as many; and the network at the size of published scores."""

    def used(*arguments):
        command = [sys.executable, "-m", "tests.evaluation.inception_memory", *arguments]
        environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        return int(done.stdout)

    few, many = used("3000"), used("12000")
    assert many - few < 100, (few, many)
    assert used("128", "--size=299") < 4096
