"""Runs that are read by other code, or beside other data, than they were trained with."""

import dataclasses
import json

import numpy as np
import pytest

import gan_jax as gj
from gan_jax.cli.changes import changes
from gan_jax.runs.config import write_config
from gan_jax.runs.provenance import data_fingerprint, modules_beside, source_digest
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import load_module
from tests.console import called

EXPERIMENT = """
import pathlib
import jax, ml_collections, numpy as np, optax
import gan_jax as gj
from gan_jax.training.experiment import Experiment

def get_config():
    return ml_collections.ConfigDict({"rounds": 2, "seed": 0, "keep_best": ""})

def build(config):
    points = np.load(pathlib.Path(__file__).parent / "points.npy")
    critic = gj.from_linen(gj.MLPCritic(widths=(4,)), jax.numpy.zeros((1, 2)))
    generator = gj.from_linen(gj.MLPGenerator(output_shape=(2,), widths=(4,)), jax.numpy.zeros((1, 3)))
    game = gj.Game(
        players={"critic": gj.Player(critic, optax.sgd(0.1)), "generator": gj.Player(generator, optax.sgd(0.1))},
        objective=gj.non_saturating(gj.gaussian(3)),
        schedule=gj.alternating(),
    )
    return Experiment(
        game=game, source=gj.from_arrays({"x": points}, 8), seed=config.seed, rounds=config.rounds, log_every=1,
        checkpoint_every=1, sample_every=0, picture=lambda x: np.zeros((8, 8, 3), np.uint8),
        evaluations={"spread": lambda x: {"spread": float(np.std(x))}}, evaluation_samples=16,
    )
"""


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32))
    (tmp_path / "mine.py").write_text(EXPERIMENT)
    return tmp_path / "mine.py"


def test_changes_are_those_of_code_data_and_configuration(path, tmp_path):
    module = load_module(path)
    config = module.get_config()
    workdir = Workdir(tmp_path / "run")
    experiment = module.build(config)
    write_config(
        workdir,
        config,
        source=source_digest(path),
        modules=modules_beside(path),
        data=data_fingerprint(experiment.source),
    )
    config.rounds, config.keep_best = 7, "min:spread"  # which change nothing of the rounds behind
    assert changes(workdir, config, experiment, path) == ()
    config.seed = 5
    np.save(tmp_path / "points.npy", np.zeros((16, 2), np.float32))
    path.write_text(EXPERIMENT.replace("optax.sgd(0.1)", "optax.sgd(0.2)"))
    found = sorted(changes(workdir, config, module.build(config), path))
    assert [line.split(":")[0] for line in found] == ["seed", "the data all.x", "the experiment's code"]
    assert found[0] == "seed: 0 in the work directory, 5 now"


def test_data_that_cannot_be_read_do_not_keep_a_run_from_being_read(path, tmp_path):
    module = load_module(path)
    config = module.get_config()
    experiment = module.build(config)
    workdir = Workdir(tmp_path / "run")
    write_config(workdir, config, source=source_digest(path), data=data_fingerprint(experiment.source))

    def gone():
        raise OSError("the disk is away")

    source = dataclasses.replace(experiment.source, fingerprint=gone)
    unread = dataclasses.replace(experiment, source=source)
    assert changes(workdir, config, unread, path) == ("the data cannot be read now (the disk is away)",)


@pytest.mark.full
def test_who_reads_a_run_is_told_what_is_another_now(path, tmp_path, monkeypatch, capsys):
    def call(*arguments):
        own = (f"--config={path}", f"--workdir={tmp_path / 'run'}")
        code, _, err = called(monkeypatch, capsys, *arguments, *own)
        return code, err

    def evaluation():
        return json.loads((tmp_path / "run" / "evaluation.json").read_text())["checkpoints"][0]

    code, err = call("--mode=train")
    assert code == 0, err
    code, err = call("--mode=evaluate")
    assert (code, "was trained with another" in err) == (0, False)
    first = evaluation()
    assert "changed" not in first
    assert call("--mode=replay", "--until=3", "--checkpoint=1")[0] == 0
    path.write_text(EXPERIMENT.replace("MLPGenerator(", 'MLPGenerator(output_activation="tanh", '))
    code, err = call("--mode=evaluate")
    assert code == 0
    assert "run was trained with another configuration, code or data (the experiment's code" in err
    assert evaluation()["samples"] != first["samples"], "other numbers, of the same checkpoint"
    assert evaluation()["changed"][0].startswith("the experiment's code")
    assert "was trained with another" in call("--mode=sample")[1]
    code, err = call("--mode=replay", "--until=3", "--checkpoint=1")
    assert code == 2
    assert "the rounds would not be those that were played" in err
    with pytest.warns(UserWarning, match="was trained with another configuration, code or data"):
        gj.load_model(tmp_path / "run", config=path)


RESOLVED = (
    EXPERIMENT.replace('"keep_best": ""', '"keep_best": "", "width": -1')
    .replace(
        "MLPGenerator(output_shape=(2,), widths=(4,)",
        "MLPGenerator(output_shape=(2,), widths=(config.width,)",
    )
    .replace(
        "def build(",
        """
def resolve(config):
    config = config.copy_and_resolve_references()
    if config.width < 0:
        config.width = int((pathlib.Path(__file__).parent / "device.txt").read_text())
    return config

def build(""",
    )
)


@pytest.mark.full
def test_a_run_keeps_what_its_experiment_chose_for_the_device(path, tmp_path, monkeypatch, capsys):
    """A width that is chosen on one machine is the width of the run on any other."""
    path.write_text(RESOLVED)
    (tmp_path / "device.txt").write_text("4")
    own = (f"--config={path}", f"--workdir={tmp_path / 'run'}")
    code, _, err = called(monkeypatch, capsys, *own)
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["width"] == 4
    (tmp_path / "device.txt").write_text("6")
    for mode in (
        ("--mode=sample", "--num_samples=4"),
        ("--mode=train", "--config.rounds=3"),
        ("--mode=describe",),
    ):
        code, out, err = called(monkeypatch, capsys, *mode, *own)
        assert (code, "another" in err) == (0, False), err
    assert "(4, 2)" in out
