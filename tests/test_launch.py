"""The launcher, as its users call it."""

import json
import os
import pathlib
import re
import runpy
import shlex
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

import gan_jax as gj
from gan_jax.data import load
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
    environment = {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiled in half the time
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
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


@pytest.mark.full
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


@pytest.mark.full
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
    np.testing.assert_allclose(gj.load_model(workdir, round=150).sample(7), drawn, atol=1e-5)
    code, _, err = launch_here(monkeypatch, capsys, "--mode=evaluate", f"--workdir={workdir}")
    assert code == 0, err
    (said,) = json.loads((workdir / "evaluation.json").read_text())["checkpoints"]
    assert said["step"] == 200
    assert said["checkpoint"] == gj.load_model(workdir).checkpoint
    assert set(said["samples"]) == {"ema", "raw"}
    assert said["fingerprints"]["scores"]["extractor"] == "classifier of digits"
    assert {"critic/loss", "generator/loss", "critic/score_real_mean"} <= said["players"].keys()
    options = ["--metrics=path_length", "--extractor=pixels", "--num_samples=20", "--weights=raw"]
    code, _, err = launch_here(monkeypatch, capsys, "--mode=evaluate", f"--workdir={workdir}", *options)
    assert code == 0, err
    before, (earlier, said) = said, json.loads((workdir / "evaluation.json").read_text())["checkpoints"]
    assert earlier == before, "what was measured before is kept"
    assert said["samples"]["raw"]["path length (squared difference of pixels, epsilon 0.0001, 20 paths)"] > 0
    assert not said["fingerprints"]


@pytest.mark.full
def test_a_run_and_files_are_compared_without_a_work_directory(finished, tmp_path, monkeypatch, capsys):
    """The run's samples are those of its evaluation; a second set makes a figure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))
    digits = load("digits")["x"]
    np.savez(tmp_path / "real.npz", digits[:300])
    np.savez(tmp_path / "digits.npz", digits[300:400])
    arguments = ["--mode=compare", "--real=real.npz", f"--fake={finished[0]},{tmp_path / 'digits.npz'}"]
    arguments += ["--metrics=frechet", "--num_samples=60", "--extractor=classifier:digits"]
    code, out, err = launch_here(monkeypatch, capsys, *arguments, "--save_stats=stats.npz", "--scores=s.json")
    assert code == 0, err
    assert re.search(r"fake images\s+60\s+100\s+60\s+100\n", out), out
    assert re.search(r"frechet .*digits\.npz .* yes", out), out
    assert "Written to comparison.png" in out
    assert {"comparison.png", "stats.npz"} <= {path.name for path in tmp_path.iterdir()}
    stored = json.loads((tmp_path / "s.json").read_text())
    column = stored["fakes"][str(tmp_path / "digits.npz")]
    ((name, (distance, low, high)),) = column["scores"].items()
    printed = re.findall(r"[\d.]+", re.search(r"^ *frechet.*$", out, re.MULTILINE)[0])
    assert any(float(number) == pytest.approx(distance, rel=0.01) for number in printed)
    assert low < high
    assert column["fingerprint"]["fake"] == 100
    assert [set(floor["scores"]) for floor in stored["floors"].values()] == [{name}] * len(stored["floors"])
    assert stored["floors"]
    again = [a for a in arguments if "--real" not in a]
    code, second, err = launch_here(monkeypatch, capsys, "--real=stats.npz", "--plot=", *again)
    assert code == 0, err
    assert "statistics of 300 images by classifier of digits" in second
    value = re.compile(r"frechet\s+([\d.]+)")
    assert float(value.search(second)[1]) == pytest.approx(float(value.search(out)[1]), rel=1e-3)


@pytest.mark.full
def test_samples_are_of_the_average_or_of_the_weights_themselves(finished, monkeypatch, capsys):
    workdir = finished[0]
    drawn = []
    for options, name in (
        (["--weights=ema"], "_ema"),
        (["--weights=raw"], "_raw"),
        (["--weights=raw", "--standing_statistics=3"], "_raw_standing_3"),
    ):
        code, _, err = launch_here(
            monkeypatch,
            capsys,
            "--mode=sample",
            f"--workdir={workdir}",
            "--num_samples=4",
            "--checkpoint=200",
            *options,
        )
        assert code == 0, err
        assert ("is young" in err) == ("--weights=ema" in options)
        drawn.append(np.load(workdir / "samples" / f"sampled_00000200{name}.npz", allow_pickle=False)["x"])
    for one, other in ((0, 1), (1, 2)):
        assert np.abs(drawn[one] - drawn[other]).max() > 1e-3


MISTAKES = {
    "unknown flag": (["--wrkdir=x"], r"unknown flag --wrkdir \(did you mean 'workdir'\?\)"),
    "unknown field": (["--config.objectiv=gan"], r"--config.objectiv \(did you mean 'objective'\?\)"),
    "unknown field of a named experiment": (
        ["--config=experiments/ring.py", "--config.objectiv=gan"],
        r"unknown field --config.objectiv \(did you mean 'objective'\?\)",
    ),
    "a keyword for a field": (["--config=experiments/ring.py", "--config.class=3"], r"--config\.class"),
    "a field of a number": (["--config.width.x=3"], r"unknown field --config\.width\.x"),
    "a negative seed": (["--config.seed=-1"], r"seed is 0 to 4294967295; got -1"),
    "a seed that is too large": (["--mode=describe", "--config.seed=4294967296"], r"seed is 0 to 4294967295"),
    "a last seed that is too large": (
        ["--config.seed=4294967290", "--config.seeds=8"],
        r"the last of 8, seed \+ 7; got 4294967290",
    ),
    "microbatches that do not divide": (
        ["--config.microbatches=3", "--workdir={tmp}/new"],
        r"3 does not divide batch_size=64",
    ),
    "a negative width": (["--config.width=-2", "--workdir={tmp}/new"], r"width is 1 or more, got -2"),
    "no width": (["--config.width=0", "--workdir={tmp}/new"], r"width is 1 or more, got 0"),
    "a negative latent": (
        ["--config=ring", "--config.latent=-2", "--workdir={tmp}/new"],
        r"latent is 1 or more",
    ),
    "a negative number of turns": (["--config.n_critic=-1", "--workdir={tmp}/new"], r"n_critic is 0 or more"),
    "no batch": (
        ["--config=ring", "--config.batch_size=-3", "--workdir={tmp}/new"],
        r"batch_size is 1 or more",
    ),
    "the home of nobody": (["--mode=sample", "--workdir=~nobody-of-this-name/run"], r"~nobody"),
    "data in the home of nobody": (["--config.data=~nobody-of-this-name/x.npz"], r"~|nobody"),
    "wrong type": (["--config.rounds=abc"], r"--config.rounds=abc"),
    "wrong mode": (["--mode=trian"], r"train\|evaluate\|sample\|compare\|describe"),
    "stray word": (["ring"], r"unexpected argument 'ring'"),
    "unknown experiment": (["--config=experiments/rng.py"], r"did you mean 'ring'\?"),
    "unknown objective": (["--config.objective=wgann"], r"did you mean 'wgan'\?"),
    "unknown parallelism": (["--config.parallelism=tpu"], r"'jit', 'pmap'"),
    "no rounds": (["--config.rounds=0"], r"rounds must be 1 or more"),
    "an empty work directory": (["--workdir="], r"--workdir= has no value: give one, or leave the flag out"),
    "scores of no format": (
        ["--mode=compare", "--real=no", "--fake=none", "--scores=a.txt"],
        r"--scores is a \.json file, got 'a\.txt'",
    ),
    "a figure of no format": (
        ["--mode=compare", "--real=no", "--fake=none", "--plot=a.txt"],
        r"--plot=a\.txt: A figure can be saved as",
    ),
    "no seeds": (["--mode=sample", "--sample_seeds="], r"--sample_seeds= has no value"),
    "a profile before the first round": (["--profile=-1"], r"--profile is .* 0 or more, got -1"),
    "unknown weights": (
        ["--mode=sample", "--workdir={run}", "--weights=mean"],
        r"--weights is one of ema, raw, got 'mean'",
    ),
    "unknown weights to evaluate": (
        ["--mode=evaluate", "--workdir={run}", "--weights=both"],
        r"--weights is one of ema, raw, got 'both'",
    ),
    "no batches for statistics": (
        ["--mode=sample", "--workdir={run}", "--standing_statistics=0"],
        r"--standing_statistics is a number of batches, 1 or more, got '0'",
    ),
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
    "nothing to compare": (["--mode=compare", "--real={tmp}"], r"--real=A --fake=B"),
    "an empty folder to compare": (["--mode=compare", "--real=digits", "--fake={tmp}"], r"has no images"),
    "a bad number to compare": (
        ["--mode=compare", "--real=digits", "--fake=digits", "--neighbors=many"],
        r"--neighbors is 1 or more, got 'many'",
    ),
    "path lengths of files": (
        ["--mode=compare", "--real=digits", "--fake=digits", "--metrics=path_length"],
        r"--mode=evaluate --workdir=RUN --metrics=path_length",
    ),
    "intervals": (["--mode=evaluate", "--workdir={run}", "--intervals=some"], r"--intervals is yes or no"),
    "LPIPS without path lengths": (["--mode=evaluate", "--workdir={run}", "--lpips=a,b"], r"--lpips is for"),
    "a protocol of another extractor": (
        ["--mode=evaluate", "--workdir={run}", "--protocol=tf"],
        r"protocol 'tf' .* the extractor is 'classifier:digits'",
    ),
    "no such checkpoint": (["--mode=sample", "--workdir={run}", "--checkpoint=7"], r"7.*(150|200)"),
    "a run in the home of nobody": (
        ["--workdir=~nobody_here/run"],
        r"~nobody_here/run begins with ~ and a user",
    ),
    "samples into the home of nobody": (
        ["--mode=sample", "--workdir={run}", "--sample_seeds=0", "--out", "~nobody_here/samples"],
        r"~nobody_here/samples begins with ~ and a user",
    ),
    "changed configuration": (
        ["--workdir={run}", "--config.width=17"],
        r"width: 16 in .* 17 now.*--override",
    ),
}


def test_paths_of_flags_begin_at_home(tmp_path, monkeypatch, capsys):
    """No shell expands `--workdir=~/run`: it was a directory called `~` where the command was given."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert launch_here(monkeypatch, capsys, "new", "~/my.py")[0] == 0
    run = ["--config=~/my.py", "--config.rounds=1", "--config.sample_every=0", "--workdir", "~/run"]
    assert launch_here(monkeypatch, capsys, *run)[0] == 0
    sample = ["--mode=sample", "--workdir=~/run", "--sample_seeds=0", "--out=~/samples"]
    assert launch_here(monkeypatch, capsys, *sample)[0] == 0
    assert (home / "my.py").is_file()
    assert (home / "run" / "config.json").is_file()
    assert list((home / "samples").glob("*.png"))
    assert not list(here.iterdir())


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
    assert [path.name for path in tmp_path.iterdir()] == ["text.npz"], "nothing made"


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


@pytest.mark.full
def test_a_profile_is_written_on_request(tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "run"
    code, _, err = launch_here(
        monkeypatch, capsys, *TINY, "--config.rounds=20", "--profile=10", f"--workdir={workdir}"
    )
    assert code == 0, err
    assert [path for path in (workdir / "profile").rglob("*.xplane.pb") if path.stat().st_size]


@pytest.mark.full
def test_a_seed_beside_others_is_evaluated_as_it_is_alone(tmp_path, monkeypatch, capsys):
    """The second seed was scored against what the first one held out, and the second is trained on."""
    common = [
        "--config=experiments/images.py", "--config.data=digits", "--config.held_out=0.2", "--config.width=4",
        "--config.conditional=true", "--config.rounds=2", "--config.sample_every=0", "--config.checkpoint_every=2",
        "--config.log_every=2", "--config.evaluate_every=2",
    ]  # fmt: skip
    found = {}
    for name, seeds in (("beside", ("--config.seeds=2",)), ("alone", ("--config.seed=1",))):
        workdir = tmp_path / name
        code, _, err = launch_here(monkeypatch, capsys, *common, *seeds, f"--workdir={workdir}")
        assert code == 0, err
        flags = f"--workdir={workdir}", "--num_samples=40", "--intervals=no"
        code, _, err = launch_here(
            monkeypatch, capsys, "--mode=evaluate", *flags, "--metrics=frechet,neighbors"
        )
        assert code == 0, err
        (found[name],) = json.loads((workdir / "evaluation.json").read_text())["checkpoints"]
        lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        found[f"{name} in training"] = next(
            line for line in lines if "evaluation/samples/ema/frechet" in line
        )
    second = found["beside"]["each"][1]
    assert found["beside"]["seeds"] == [0, 1]
    assert second["fingerprints"] == found["alone"]["fingerprints"]
    for part in ("raw", "ema"):
        assert second["samples"][part] == pytest.approx(found["alone"]["samples"][part], rel=1e-4)
    assert second["players"] == pytest.approx(found["alone"]["players"], rel=1e-4)
    for metric in ("frechet", "coverage", "class_accuracy", "reverse_kl"):
        name = f"evaluation/samples/ema/{metric}"
        of_second = found["beside in training"][f"{name}/seeds"][1]
        assert of_second == pytest.approx(found["alone in training"][name], rel=1e-4)


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


# ---------------------------------------------------------------------------------------------------------
# A work directory of a stranger's


def stranger(folder, experiment, **fields):
    """A work directory whose experiment leaves a trace where it is run."""
    folder.mkdir(parents=True)
    (folder / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(folder / 'ran')!r}).touch()\n"
        "from experiments.digits import get_config, build\n"
    )
    content = {"config": {}, "experiment": experiment, "versions": {}, "commit": None}
    (folder / "config.json").write_text(json.dumps({**content, **fields}))
    return folder


@pytest.mark.parametrize("mode", ["train", "evaluate", "sample", "describe", "replay", "help"])
@pytest.mark.parametrize("name", ["{folder}/evil.py", "evil.py", "./evil", "experiments/../evil.py", ""])
def test_the_code_of_a_work_directory_is_not_run(mode, name, tmp_path, monkeypatch, capsys):
    """From its own folder too."""
    folder = stranger(tmp_path / "dl", name.format(folder=tmp_path / "dl"))
    monkeypatch.chdir(folder)
    flag = "--help" if mode == "help" else f"--mode={mode}"
    code, _, err = launch_here(monkeypatch, capsys, flag, f"--workdir={folder}")
    assert not (folder / "ran").exists()
    if mode != "help":
        assert code == 2
        assert len(err.strip().splitlines()) == 1, err
        assert "If you trust that file, give it: --config=" in err
    assert {path.name for path in folder.iterdir()} == {"evil.py", "config.json"}


@pytest.mark.full
def test_an_experiment_of_ones_own_goes_on_by_the_command_that_the_stop_names(tmp_path, monkeypatch, capsys):
    """From another folder, with the configuration of the work directory."""
    mine = tmp_path / "of mine.py"
    mine.write_text("from experiments.digits import get_config, build\n")
    workdir = tmp_path / "a run"
    process = start(
        f"--config={mine}",
        *TINY,
        "--config.rounds=1000000",
        "--config.log_every=1000000",
        f"--workdir={workdir}",
    )
    deadline = time.monotonic() + 200
    while not (workdir / "checkpoints" / "50" / "manifest.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "SIGTERM: stopping after this dispatch" in err
    command = shlex.split(out.partition("Go on with: ")[2].splitlines()[0])
    assert command == ["python", LAUNCH, f"--config={mine}", f"--workdir={workdir}"]
    saved = Checkpoints(workdir / "checkpoints").latest_valid()
    monkeypatch.chdir(tmp_path)
    code, out, err = launch_here(monkeypatch, capsys, *command[2:], f"--config.rounds={saved + 10}")
    assert code == 0, err
    assert f"Resuming {workdir} at round {saved}" in out
    assert json.loads((workdir / "config.json").read_text())["config"]["width"] == 16
    mine.write_text("from experiments.digits import get_config, build\nPRIOR = 'another'\n")
    code, _, err = launch_here(monkeypatch, capsys, *command[2:])
    assert code == 2
    assert "the experiment's code" in err
    code, _, err = launch_here(monkeypatch, capsys, "--mode=sample", *command[2:], "--num_samples=3")
    assert code == 0, err


@pytest.mark.full
def test_an_installed_experiment_is_found_from_any_folder_and_no_other_is_taken_for_it(
    finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for given in ("ring", "experiments/ring.py"):
        code, _, err = launch_here(monkeypatch, capsys, "--mode=describe", f"--config={given}")
        assert code == 0, err
    code, _, err = launch_here(monkeypatch, capsys, "--mode=sample", f"--workdir={finished[0]}")
    assert code == 0, err
    other = tmp_path / "experiments" / "ring.py"
    other.parent.mkdir()
    other.write_text("raise SystemExit('the code of another checkout')")
    code, _, err = launch_here(monkeypatch, capsys, "--mode=describe", "--config=experiments/ring.py")
    assert code == 2
    assert "give --config=./experiments/ring.py or --config=/" in err


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("width", "wide", "width is 'wide', and the experiment has a int"),
        ("width", [16], "width is"),
        ("rounds", True, "rounds is True"),
        ("objective", 3, "objective is 3"),
        ("ema", "x", "ema is 'x'"),
        ("remat", 1, "remat is 1"),
    ],
)
def test_a_configuration_that_was_edited_by_hand(field, value, expected, tmp_path, monkeypatch, capsys):
    folder = stranger(tmp_path / "dl", "experiments/digits.py", config={field: value})
    for mode in ("train", "describe"):
        code, _, err = launch_here(monkeypatch, capsys, f"--mode={mode}", f"--workdir={folder}")
        assert code == 2
        assert len(err.strip().splitlines()) == 1, err
        assert expected in err


def test_no_escape_sequence_reaches_the_terminal(tmp_path, monkeypatch, capsys):
    folder = stranger(tmp_path / "dl\x1b[2J", "evil\x1b]0;owned\x07.py")
    code, out, err = launch_here(monkeypatch, capsys, "--mode=sample", f"--workdir={folder}")
    assert code == 2
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
    assert r"evil\x1b]0;owned\x07.py" in err
    code, out, err = launch_here(monkeypatch, capsys, "--config.objective=gan\x1b[2J")
    assert code == 2
    assert "\x1b" not in out + err


@pytest.mark.full
def test_a_device_that_is_not_here_and_64_bits_that_were_not_saved(finished):
    """One line each; the second names the variable."""
    for variables, expected in (
        ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS=cuda asks for a device that JAX does not find here"),
        ({"JAX_ENABLE_X64": "1"}, "saved without 64-bit numbers: launch with JAX_ENABLE_X64=0"),
    ):
        done = subprocess.run(
            [sys.executable, LAUNCH, "--mode=sample", f"--workdir={finished[0]}"],
            capture_output=True,
            text=True,
            env={**os.environ, "XLA_FLAGS": "", **variables},
            cwd=ROOT,
        )
        assert done.returncode == 2, done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr


def test_ctrl_c_while_a_model_is_used_is_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gan_jax.cli.command_line.run", interrupted)
    assert launch_here(monkeypatch, capsys, "--mode=describe") == (130, "", "launch.py: interrupted.\n")


def test_a_figure_is_not_written_among_the_images_that_are_compared(monkeypatch, capsys, tmp_path):
    """The next comparison had `comparison.png` among the real images."""
    draw = np.random.default_rng(0)
    for name in ("real", "a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    monkeypatch.chdir(tmp_path / "real")
    flags = ["--mode=compare", "--real=.", f"--fake={tmp_path / 'a'},{tmp_path / 'b'}", "--metrics=frechet"]
    code, out, err = launch_here(monkeypatch, capsys, *flags, "--extractor=pixels")
    assert code == 0, err
    assert "No figure is written: comparison.png would be one of the images" in out
    code, _, err = launch_here(monkeypatch, capsys, *flags, f"--plot={tmp_path / 'b' / 'p.png'}")
    assert code == 2
    assert "p.png would be one of the images that are compared: name another folder" in err
    assert len(list(tmp_path.glob("*/*.png"))) == 12
    code, out, err = launch_here(
        monkeypatch, capsys, *flags, "--extractor=pixels", f"--plot={tmp_path / 'p.png'}"
    )
    assert code == 0, err
    assert (tmp_path / "p.png").exists()


def test_a_figure_that_nobody_has_named_replaces_no_picture_of_somebody_else(monkeypatch, capsys, tmp_path):
    for name in ("real", "a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = np.full((4, 4, 3), 50 * number + len(name), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    mine = (tmp_path / "real" / "0.png").read_bytes()
    (tmp_path / "comparison.png").write_bytes(mine)
    monkeypatch.chdir(tmp_path)
    flags = ["--mode=compare", "--real=real", "--fake=a,b", "--metrics=frechet", "--extractor=pixels"]
    for _ in range(2):
        code, out, err = launch_here(monkeypatch, capsys, *flags)
        assert code == 0, err
        assert "Written to comparison-2.png" in out
    assert (tmp_path / "comparison.png").read_bytes() == mine
    assert len(list(tmp_path.glob("*.png"))) == 2
