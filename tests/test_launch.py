"""The launcher, as its users call it."""

import json
import os
import pathlib
import re
import runpy
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image

from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.workdir import Workdir
from gan_jax.training.step import init_state

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAUNCH = str(ROOT / "launch.py")
TINY = (
    "--config.width=16",
    "--config.latent=4",
    "--config.batch_size=16",
    "--config.log_every=10",
    "--config.checkpoint_every=50",
    "--config.sample_every=0",
)


def start(*arguments, devices=1):
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(
        [sys.executable, LAUNCH, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def launch(*arguments, devices=1):
    process = start(*arguments, devices=devices)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def launch_here(monkeypatch, capsys, *arguments):
    """`python launch.py ...` in this process: `(exit code, stdout, stderr)`; flags are as before afterwards."""
    monkeypatch.setattr(sys, "argv", [LAUNCH, *arguments])
    before = set(flags.FLAGS)
    code = 0
    try:
        runpy.run_path(LAUNCH, run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code or 0
    finally:
        flags.FLAGS.remove_flag_values(set(flags.FLAGS) - before)
        flags.FLAGS.unparse_flags()
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run of 200 rounds."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    out, err = launch(*TINY, "--config.rounds=200", f"--workdir={workdir}")
    return workdir, out, err


def width_of(picture):
    with Image.open(picture) as image:
        return image.size[0]


def state_of(workdir, step):
    sys.path.insert(0, str(ROOT))
    from experiments import digits

    config = digits.get_config()
    config.update(json.loads((workdir / "config.json").read_text())["config"])
    game = digits.build(config).game
    target = jax.eval_shape(lambda key: init_state(game, key), jax.random.key(0))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return jax.device_get(
            checkpoints.restore(
                target, step, shardings=jax.sharding.SingleDeviceSharding(jax.devices()[0])
            ).state._replace(key=None)
        )


def test_a_run_ends_by_naming_what_there_is_to_see(finished):
    workdir, out, err = finished
    picture = workdir / "samples" / "samples_00000200.png"
    assert str(workdir) in out
    assert str(picture) in out
    assert "rounds/s" in err
    assert "critic" in err
    assert "\r" not in err, "a progress bar in a file is plain lines"
    assert "Traceback" not in err
    assert width_of(picture) > 100
    assert {p.name for p in workdir.iterdir()} >= {"config.json", "checkpoints", "metrics.jsonl", "samples"}
    assert json.loads((workdir / "config.json").read_text())["versions"]["jax"] == jax.__version__


@pytest.mark.full
def test_kill_and_relaunch_equals_the_uninterrupted_run_bit_for_bit(finished, tmp_path):
    workdir = tmp_path / "killed"
    arguments = (*TINY, "--config.rounds=200", f"--workdir={workdir}")
    process = start(*arguments)
    deadline = time.monotonic() + 200
    while not (workdir / "checkpoints" / "50" / "manifest.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    out, _ = launch(*arguments)
    assert "Resuming" in out
    chex.assert_trees_all_equal(state_of(finished[0], 200), state_of(workdir, 200))
    whole, resumed = (
        [{k: v for k, v in line.items() if k != "time"} for line in read_metrics(Workdir(path))]
        for path in (finished[0], workdir)
    )
    assert whole == resumed


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number):
    workdir = tmp_path / "run"
    process = start(*TINY, "--config.rounds=1000000", "--config.log_every=1000000", f"--workdir={workdir}")
    deadline = time.monotonic() + 200
    while not (workdir / "checkpoints" / "50").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(number)
    sent = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 20, "a dispatch, a save and the interpreter's end"
    assert process.returncode == 0, err
    assert f"--workdir={workdir}" in out
    assert signal.Signals(number).name in out
    saved = Checkpoints(workdir / "checkpoints").latest_valid()
    assert f"at round {saved}" in out


def test_sample_and_evaluate_read_the_runs_own_configuration(finished, monkeypatch, capsys):
    workdir = finished[0]
    code, _, err = launch_here(
        monkeypatch, capsys, "--mode=sample", f"--workdir={workdir}", "--num_samples=7", "--checkpoint=150"
    )
    assert code == 0, err
    drawn = np.load(workdir / "samples" / "sampled_00000150.npz", allow_pickle=False)["x"]
    assert drawn.shape == (7, 8, 8, 1)
    assert abs(drawn).max() <= 1
    assert width_of(workdir / "samples" / "sampled_00000150.png") > 100
    code, _, err = launch_here(monkeypatch, capsys, "--mode=evaluate", f"--workdir={workdir}")
    assert code == 0, err
    (said,) = json.loads((workdir / "evaluation.json").read_text())["checkpoints"]
    assert said["step"] == 200
    assert set(said["samples"]) == {"ema", "raw"}
    assert said["fingerprints"]["scores"]["extractor"] == "classifier of digits"
    assert {"critic/loss", "generator/loss", "critic/score_real_mean"} <= said["players"].keys()


MISTAKES = {
    "unknown flag": (["--wrkdir=x"], r"unknown flag --wrkdir \(did you mean 'workdir'\?\)"),
    "unknown field": (["--config.objectiv=gan"], r"--config.objectiv \(did you mean 'objective'\?\)"),
    "wrong type": (["--config.rounds=abc"], r"--config.rounds=abc"),
    "wrong mode": (["--mode=trian"], r"train\|evaluate\|sample\|describe"),
    "stray word": (["ring"], r"unexpected argument 'ring'"),
    "unknown experiment": (["--config=experiments/rng.py"], r"did you mean 'ring'\?"),
    "unknown objective": (["--config.objective=wgann"], r"did you mean 'wgan'\?"),
    "unknown parallelism": (["--config.parallelism=tpu"], r"'jit', 'pmap'"),
    "no rounds": (["--config.rounds=0"], r"rounds must be 1 or more"),
    "a profile before the first round": (["--profile=-1"], r"--profile is .* 0 or more, got -1"),
    "no workdir": (["--mode=sample"], r"--workdir="),
    "missing workdir to describe": (["--mode=describe", "--workdir={tmp}/none"], r"does not exist"),
    "missing workdir": (["--mode=evaluate", "--workdir={tmp}/none"], r"does not exist"),
    "empty workdir": (["--mode=evaluate", "--workdir={tmp}"], r"holds no run"),
    "missing data": (["--config.data={tmp}/none.npz"], r"none\.npz"),
    "unreadable data": (["--config.data={tmp}/text.npz"], r"text\.npz"),
    "large batch": (["--config.batch_size=1798"], r"1798.*1797"),
    "undivided batch": (["--config.batch_size=63", "--workdir={tmp}/b"], r"63 examples.*8 devices"),
    "workdir is a file": (["--workdir={tmp}/text.npz"], r"text\.npz"),
    "no samples": (["--mode=sample", "--workdir={run}", "--num_samples=0"], r"--num_samples is 1 or more"),
    "no such checkpoint": (["--mode=sample", "--workdir={run}", "--checkpoint=7"], r"7.*(150|200)"),
    "changed configuration": (
        ["--workdir={run}", "--config.width=17"],
        r"width: 16 in .* 17 now.*--override",
    ),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_one_line_and_a_non_zero_exit(mistake, finished, tmp_path, monkeypatch, capsys):
    (tmp_path / "text.npz").write_text("no zip")
    arguments, expected = MISTAKES[mistake]
    arguments = [a.format(tmp=tmp_path, run=finished[0]) for a in arguments]
    before = sorted(finished[0].rglob("*"))
    code, _, err = launch_here(monkeypatch, capsys, *arguments)
    assert code != 0
    assert len(err.strip().splitlines()) == 1, err
    assert re.search(expected, err), err
    assert sorted(finished[0].rglob("*")) == before, "nothing lost, nothing added"


@pytest.mark.full
def test_eight_devices_train_the_same_launch(tmp_path):
    for parallelism in ("jit", "pmap"):
        workdir = tmp_path / parallelism
        launch(
            *TINY,
            "--config.rounds=20",
            f"--config.parallelism={parallelism}",
            f"--workdir={workdir}",
            devices=8,
        )
        assert Checkpoints(workdir / "checkpoints").steps() == [20]


def test_a_profile_is_written_on_request(tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "run"
    code, _, err = launch_here(
        monkeypatch, capsys, *TINY, "--config.rounds=20", "--profile=10", f"--workdir={workdir}"
    )
    assert code == 0, err
    assert [path for path in (workdir / "profile").rglob("*.xplane.pb") if path.stat().st_size]


CORES_KNOWN = hasattr(os, "sched_getaffinity")
DEVICES = """
import sys, types
import jax
from experiments import ring
from gan_jax.cli import building
config = ring.get_config()
config.seeds = int(sys.argv[1])
building.build_seeds(types.SimpleNamespace(experiment="experiments/ring.py", prepare=False), config)
print(jax.device_count())
"""


@pytest.mark.full
@pytest.mark.skipif(not CORES_KNOWN, reason="cores cannot be counted here")
@pytest.mark.parametrize(
    ("seeds", "flags_given", "devices"),
    [
        (4, "", max(n for n in (1, 2, 4) if n <= len(os.sched_getaffinity(0))) if CORES_KNOWN else 0),
        (4, "--xla_force_host_platform_device_count=1", 1),
        (1, "", 1),
    ],
)
def test_the_cpu_becomes_several_devices_for_several_seeds(seeds, flags_given, devices):
    """Unless somebody has said how many devices there are."""
    environment = {**os.environ, "XLA_FLAGS": flags_given}
    command = [sys.executable, "-c", DEVICES, str(seeds)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.stdout.split() == [str(devices)], done.stderr
