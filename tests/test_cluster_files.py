"""The files that one submits: their syntax, and two processes by Slurm's under a stand-in for `srun`."""

import os
import pathlib
import re
import socket
import stat
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLUSTER = ROOT / "experiments" / "cluster"


@pytest.mark.parametrize("path", sorted(CLUSTER.glob("*.sh")), ids=lambda path: path.name)
def test_the_scripts_are_shell_that_can_be_run(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in path.read_text()


def test_the_jobset_has_a_pod_for_every_host_of_its_topology():
    """A v5e host of a multi-host slice has four chips."""
    jobset = yaml.safe_load((CLUSTER / "gke.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    for replicated in jobset["spec"]["replicatedJobs"]:
        job = replicated["template"]["spec"]
        pod = job["template"]["spec"]
        (container,) = pod["containers"]
        rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
        chips = container["resources"]["limits"]["google.com/tpu"]
        assert job["parallelism"] == job["completions"] == rows * columns // chips
        batch = next(a for a in container["command"] if a.startswith("--config.batch_size="))
        assert int(batch.partition("=")[2]) % (replicated["replicas"] * rows * columns) == 0


SRUN = """#!/usr/bin/env bash
# Two tasks of this machine, as srun starts them on a node.
shift  # --kill-on-bad-exit=1
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" > "$OUT/task-$task.log" 2>&1 &
done
wait
"""


@pytest.mark.slow
def test_slurms_script_starts_a_run_of_two_processes(tmp_path):
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with socket.socket() as probe:  # the port is a function of the job's number
        probe.bind(("127.0.0.1", 0))
        job = probe.getsockname()[1] % 4096
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "OUT": str(tmp_path),
        "SLURM_JOB_NAME": "test",
        "SLURM_JOB_ID": str(job),
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "WORKDIR": str(tmp_path / "run"),
    }
    done = subprocess.run(
        [
            "bash",
            CLUSTER / "slurm.sh",
            "--config=tests/distributed/hosts_experiment.py",
            "--config.rounds=3",
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = [(tmp_path / f"task-{task}.log").read_text() for task in range(2)]
    assert done.returncode == 0, (done.stderr, said)
    assert re.search(r"Trained 3 rounds", said[0]), said
    assert "Trained" not in said[1]
    assert (tmp_path / "run" / "checkpoints" / "3" / "manifest.json").is_file()
