"""Rounds played again from a checkpoint are those that were played, and say what was not finite first."""

import dataclasses
import json

import jax.numpy as jnp
import pytest

from gan_jax.runs import loop
from gan_jax.runs.config import write_config
from gan_jax.runs.finite import NonFiniteError
from gan_jax.runs.metrics_log import parse_line
from gan_jax.runs.replay import named_round, replay
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import ExperimentError
from tests import helpers
from tests.runs.test_loop import experiment, quiet


def exploding(at):
    """At round `at` the generator's loss has no derivative by one of its leaves: that of a root at zero."""
    good = experiment()
    base = good.game.objective

    def broken(context, output):
        bias = context.players["generator"].params["out"]["bias"]
        root = jnp.sqrt(jnp.where(context.step == at, bias - bias, 1.0 + 0.0 * bias))
        return output._replace(value=output.value + jnp.sum(root))

    objective = helpers.changed_loss(base, "generator", broken)
    return dataclasses.replace(good, game=dataclasses.replace(good.game, objective=objective))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stopped: its gradient was no number at round 13, its loss at round 14; round 10 is saved."""
    workdir = Workdir(tmp_path_factory.mktemp("run"))
    run = exploding(13)
    with pytest.raises(NonFiniteError, match=r"round 1[34]\..*--mode=replay --workdir="):
        loop.train(run, workdir, log=quiet)
    return run, workdir


@pytest.mark.slow
def test_the_round_the_player_and_the_leaf_are_named(stopped):
    run, workdir = stopped
    said = []
    found = replay(run, workdir, log=said.append)
    assert (found.start, found.step, found.player) == (10, 13, "generator")
    assert found.leaf == "params.out.bias"
    assert "At round 13" in said[1]
    assert "the generator's params.out.bias" in said[1]
    lines = [json.loads(line) for line in (workdir.root / "replay.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 11, 12, 13]
    assert lines[-1]["generator/gradient_norm/out"] == "NaN"
    assert isinstance(lines[-2]["generator/gradient_norm/out"], float)


@pytest.mark.full
def test_the_rounds_are_those_that_were_played(tmp_path):
    """Losses of a finished run, logged every round, and those of its rounds from 10 on played again."""
    run = experiment(log_every=1)
    workdir = Workdir(tmp_path)
    loop.train(dataclasses.replace(run, keep=9), workdir, log=quiet)
    found = replay(run, workdir, checkpoint=10, until=15, log=quiet)
    assert (found.player, found.step) == (None, 15)
    logged = {
        line["step"] - 1: line
        for line in map(parse_line, workdir.metrics.read_bytes().splitlines(keepends=True))
    }
    for line in map(json.loads, (tmp_path / "replay.jsonl").read_text().splitlines()):
        assert line["critic/loss"] == pytest.approx(logged[line["step"]]["critic/loss"], rel=1e-7)
    write_config(workdir, {}, step=12, overridden=["lr: 1 there, 2 now"])
    said = []
    replay(run, workdir, checkpoint=10, until=11, log=said.append)
    assert said[1].startswith(
        "From round 12 on the run was trained with lr: 1 there, 2 now: the rounds before"
    )


@pytest.mark.slow
def test_without_a_checkpoint_it_begins_where_the_run_did(tmp_path):
    run = exploding(2)
    with pytest.raises(NonFiniteError, match=r"No checkpoint had been saved.*--mode=replay"):
        loop.train(run, Workdir(tmp_path), log=quiet)
    found = replay(run, Workdir(tmp_path), log=quiet)
    assert (found.start, found.step, found.leaf) == (0, 2, "params.out.bias")


@pytest.mark.full
def test_without_a_named_round_it_asks_for_one(tmp_path):
    workdir = Workdir(tmp_path)
    run = experiment(rounds=4)
    loop.train(run, workdir, log=quiet)
    assert named_round(workdir) is None
    with pytest.raises(ExperimentError, match="--until=N"):
        replay(run, workdir, log=quiet)
    with pytest.raises(ExperimentError, match=r"round 4 lies after.*end at 3.*--checkpoint"):
        replay(run, workdir, until=3, log=quiet)
