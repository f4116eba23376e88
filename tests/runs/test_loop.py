"""The loop: cuts, means, phases, faults. Experiments here are tiny; launches are tested in test_launch.py."""

import contextlib
import dataclasses
import json
import shlex
import shutil
import threading

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from gan_jax.data import from_arrays, from_toy, toy
from gan_jax.data.errors import DataError, DataTimeoutError
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.network import Network
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.networks.layers import MinibatchStddev
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.pictures import grids
from gan_jax.runs import loop, portable_files, writer
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.config import read_config
from gan_jax.runs.finite import NonFiniteError, check_losses
from gan_jax.runs.interval import Interval
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.portable_files import write_model
from gan_jax.runs.rounds import rounds_until, schedule_at
from gan_jax.runs.workdir import Workdir, WorkdirError, WorkdirMovedError
from gan_jax.schedule import alternating, simultaneous
from gan_jax.training.experiment import Experiment, ExperimentError
from tests import helpers


def experiment(rounds=20, learning_rate=0.01, **changes):
    adam = optax.adam(learning_rate)
    game = Game(
        players={
            "critic": Player(from_linen(MLPCritic(widths=(8,)), jnp.zeros((2, 2))), adam),
            "generator": Player(
                from_linen(MLPGenerator(output_shape=(2,), widths=(8,), norm="batch"), jnp.zeros((2, 4))),
                adam,
                ema=0.9,
            ),
        },
        objective=non_saturating(gaussian(4)),
        schedule=changes.pop("schedule", alternating(1)),
        phases=changes.pop("phases", ()),
    )
    given = {
        "game": game,
        "source": from_toy(toy.ring(), 8),
        "seed": 3,
        "rounds": rounds,
        "log_every": 4,
        "checkpoint_every": 10,
        "sample_every": 0,
        "picture": lambda samples: np.zeros((4, 4, 1), np.uint8),
        "rounds_per_dispatch": 7,
    }
    return Experiment(**(given | changes))


def lines_of(workdir):
    return [{k: v for k, v in line.items() if k != "time"} for line in read_metrics(workdir)]


def quiet(text):
    pass


@pytest.mark.parametrize(
    ("step", "most", "expected"),
    [(0, 7, 4), (4, 7, 4), (8, 7, 2), (10, 7, 2), (19, 7, 1), (0, 3, 3), (16, 99, 4)],
)
def test_a_dispatch_ends_at_the_next_log_save_or_end(step, most, expected):
    assert rounds_until(experiment(rounds=20), step, most) == expected


@pytest.mark.full
def test_a_run_trains_at_the_precision_asked_for_and_is_evaluated_at_the_highest(tmp_path):
    """Seen at what the networks are traced with."""
    traced = set()

    def recording(network):
        def apply(*args, train, key=None):
            traced.add((train, jax.config.jax_default_matmul_precision))
            return network.apply(*args, train=train, key=key)

        return dataclasses.replace(network, apply=apply)

    asked = experiment(
        rounds=1, evaluate_every=1, evaluations={"mean": lambda samples: {"mean": float(samples.mean())}}
    )
    players = {
        name: dataclasses.replace(player, network=recording(player.network))
        for name, player in asked.game.players.items()
    }
    game = dataclasses.replace(asked.game, players=players)
    workdir = Workdir(tmp_path)
    loop.train(dataclasses.replace(asked, game=game, matmul_precision="high"), workdir, config={}, log=quiet)
    assert {found for train, found in traced if train} >= {"high", "highest"}, "the rounds; evaluated losses"
    assert {found for train, found in traced if not train} == {"highest"}
    assert read_config(workdir).computation["matmul_precision"] == "high"
    with pytest.raises(
        ExperimentError, match="matmul_precision is one of default, high, highest, got 'tf32'"
    ):
        experiment(matmul_precision="tf32")


def test_phases_cut_dispatches_and_choose_the_schedule():
    warm = alternating(3)
    phased = experiment(phases=((lambda step: step < 2 or step % 5 == 0, warm),), log_every=100)
    turns = [len(schedule_at(phased.game, step)) for step in range(7)]
    assert turns == [4, 4, 2, 2, 2, 4, 2]
    assert [rounds_until(phased, step, 7) for step in (0, 2, 5, 6)] == [2, 3, 1, 4]


def test_interval_means_are_over_rounds_whatever_the_cuts():
    interval = Interval()
    interval.add({"a": np.array([1.0, 2.0], np.float32)})
    interval.add({"a": np.array([6.0], np.float32)})
    assert interval.means() == {"a": 3.0}
    interval.clear()
    assert interval.means() == {}


def test_vectors_have_means_too_and_their_sums_survive_json():
    """The save of a checkpoint falls between two dispatches."""
    rows = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
    whole, cut = Interval(), Interval()
    whole.add({"a": rows})
    cut.add({"a": rows[:3]})
    cut = Interval(json.loads(json.dumps(cut.sums)), cut.counts)
    cut.add({"a": rows[3:]})
    means = whole.means()["a"]
    np.testing.assert_array_equal(means, cut.means()["a"])
    np.testing.assert_allclose(means, rows.mean(axis=0, dtype=np.float64), rtol=1e-12)


def test_a_vector_with_one_entry_that_is_no_number_is_named():
    history = {"critic/norms": np.array([[1.0, 2.0], [1.0, np.inf]])}
    with pytest.raises(
        NonFiniteError, match=r"critic's norms was .* at round 8\. Saved\. What usually helps"
    ):
        check_losses(history, 7, lambda: "Saved.")


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    """State and log lines alike, though the save at round 10 falls between two logs, at 8 and 12."""
    whole = loop.train(experiment(), Workdir(tmp_path / "whole"), log=quiet)
    loop.train(experiment(rounds=10), Workdir(tmp_path / "cut"), log=quiet)
    resumed = loop.train(experiment(), Workdir(tmp_path / "cut"), log=quiet)
    chex.assert_trees_all_equal(
        jax.device_get((whole.players, whole.ema, whole.cursor)),
        jax.device_get((resumed.players, resumed.ema, resumed.cursor)),
    )
    assert lines_of(Workdir(tmp_path / "whole")) == lines_of(Workdir(tmp_path / "cut"))
    assert [line["step"] for line in lines_of(Workdir(tmp_path / "cut"))] == [4, 8, 12, 16, 20]


@pytest.mark.full
def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path):
    workdir = Workdir(tmp_path)
    whole = loop.train(experiment(), workdir, log=quiet)
    victim = next(p for p in (tmp_path / "checkpoints" / "20").rglob("*") if p.is_file() and p.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    said = []
    with pytest.warns(UserWarning, match="20"):
        again = loop.train(experiment(), workdir, log=said.append)
    assert "at round 10" in said[0]
    chex.assert_trees_all_equal(jax.device_get(whole.players), jax.device_get(again.players))


@pytest.mark.full
def test_a_loss_that_is_not_a_number_names_player_round_and_checkpoint(tmp_path):
    """The critic's loss is made NaN from round 13 on; round 10 is saved."""
    good = experiment()
    base = good.game.objective

    def broken(context, output):
        return helpers.valued(output, jnp.where(context.step >= 13, jnp.nan, output.value))

    objective = helpers.changed_loss(base, "critic", broken)
    bad = dataclasses.replace(good, game=dataclasses.replace(good.game, objective=objective))
    with pytest.raises(NonFiniteError, match=r"critic's loss was nan at round 13\..*round 10"):
        loop.train(bad, Workdir(tmp_path), log=quiet)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [10]


@pytest.mark.full
def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
    """A step of infinite length: the loss of the last round is still finite, the parameters are not."""
    with pytest.raises(NonFiniteError, match=r"critic's params\.scores.* was not finite after round 0"):
        loop.train(
            experiment(rounds=1, learning_rate=float("inf"), schedule=simultaneous()),
            Workdir(tmp_path),
            log=quiet,
        )
    assert Checkpoints(tmp_path / "checkpoints").steps() == []


@pytest.mark.parametrize("ending", ["at its end", "by an error", "by data that hang"])
def test_the_source_is_closed_unless_it_hangs(tmp_path, ending):
    closed = []
    toy_source = from_toy(toy.ring(), 8)

    def host_batches(cursor, count):
        if cursor >= 4 and ending == "by an error":
            raise DataError("no more")
        if cursor >= 4 and ending == "by data that hang":
            raise DataTimeoutError("nothing came")
        return toy_source.host_batches(cursor, count)

    source = dataclasses.replace(toy_source, host_batches=host_batches, close=lambda: closed.append(True))
    given = experiment(rounds=8, source=source)
    with contextlib.nullcontext() if ending == "at its end" else pytest.raises(DataError):
        loop.train(given, Workdir(tmp_path), log=quiet)
    assert closed == ([] if ending == "by data that hang" else [True])


@pytest.mark.parametrize(
    "error", [DataError("no more"), DataTimeoutError("nothing came"), OSError("no disk")]
)
def test_data_that_cannot_be_read_lose_no_round(error, tmp_path):
    """Of 10 batches 5 rounds of two turns are played; nothing is due at round 5, which is saved: the run goes on to
    the same bits."""
    toy_source = from_toy(toy.ring(), 8)

    def host_batches(cursor, count):
        if cursor + count > 10:
            raise error
        return toy_source.host_batches(cursor, count)

    ending = dataclasses.replace(toy_source, host_batches=host_batches)
    given = {"rounds": 8, "checkpoint_every": 0, "rounds_per_dispatch": 1}
    said = []
    with pytest.raises(type(error)):
        loop.train(experiment(source=ending, **given), Workdir(tmp_path / "cut"), log=said.append)
    assert Checkpoints(tmp_path / "cut" / "checkpoints").steps() == [5]
    assert said[-1].startswith("Round 5 is saved")
    state = loop.train(experiment(**given), Workdir(tmp_path / "cut"), log=quiet)
    whole = loop.train(experiment(**given), Workdir(tmp_path / "whole"), log=quiet)
    for found, expected in zip(jax.tree.leaves(state.players), jax.tree.leaves(whole.players), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert lines_of(Workdir(tmp_path / "cut")) == lines_of(Workdir(tmp_path / "whole"))


def test_a_finished_run_says_so_and_changes_nothing(tmp_path):
    first = loop.train(experiment(rounds=4), Workdir(tmp_path), log=quiet)
    again = loop.train(experiment(rounds=4), Workdir(tmp_path), log=quiet)
    chex.assert_trees_all_equal(jax.device_get(first.players), jax.device_get(again.players))


def test_metrics_hold_every_players_loss(tmp_path):
    loop.train(experiment(rounds=4), Workdir(tmp_path), log=quiet)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert {"step", "time", "critic/loss", "generator/loss"} <= json.loads(line).keys()


@pytest.mark.parametrize("field", ["rounds", "log_every", "rounds_per_dispatch", "keep"])
def test_an_experiment_without_rounds_is_refused(field):
    with pytest.raises(ExperimentError, match=f"{field} must be 1 or more, got 0"):
        experiment(**{field: 0})


def test_pictures_are_drawn_and_encoded_off_the_training_thread(tmp_path, monkeypatch):
    drawn, encoded = [], []

    def picture(samples):
        drawn.append(threading.current_thread().name)
        return np.zeros((4, 4, 1), np.uint8)

    def to_png(picture):
        encoded.append(threading.current_thread().name)
        return grids.to_png(picture)

    monkeypatch.setattr(writer, "to_png", to_png)
    loop.train(experiment(sample_every=10, picture=picture), Workdir(tmp_path))
    assert len(drawn) == 4, "the moving average's and the weights', twice"
    assert len(encoded) == 2
    assert all(name.startswith("writer") for name in drawn + encoded)


def with_critic(made, **changes):
    """The experiment with another network of its critic."""
    critic = made.game.players["critic"]
    network = changes.get("network") or dataclasses.replace(critic.network, **changes)
    players = {**made.game.players, "critic": dataclasses.replace(critic, network=network)}
    return dataclasses.replace(made, game=dataclasses.replace(made.game, players=players))


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.full
def test_other_pretrained_features_of_a_critic_are_refused(tmp_path):
    """The state has those that a run began with, and scores would be marked by those that are read now."""
    first, other = (with_critic(experiment(10), frozen_features=(digest,)) for digest in ("ab", "cd"))
    loop.train(first, Workdir(tmp_path), config={}, log=quiet)
    said = "the data pretrained features of critic: sha256:ab in the work directory, sha256:cd now"
    with pytest.raises(WorkdirError, match=said):
        loop.train(other, Workdir(tmp_path), config={}, log=quiet)


@pytest.mark.full
def test_a_refused_override_leaves_the_run_as_it_was(tmp_path):
    """Another network cannot be restored, whatever is overridden; then config.json has not changed."""
    workdir = Workdir(tmp_path)
    loop.train(experiment(rounds=10), workdir, config={"width": 8}, log=quiet)
    before = files_of(tmp_path)
    other = with_critic(experiment(), network=from_linen(MLPCritic(widths=(9,)), jnp.zeros((2, 2))))
    with pytest.raises(CheckpointError, match="another structure"):
        loop.train(other, workdir, config={"width": 9}, override=True, log=quiet)
    assert files_of(tmp_path) == before
    assert int(loop.train(experiment(), workdir, config={"width": 8}, log=quiet).step) == 20


def test_a_run_that_cannot_begin_leaves_no_record(tmp_path):
    """Its first state fails: there is no run, and so no config.json."""

    def broken(*arguments):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.train(with_critic(experiment(), init=broken), Workdir(tmp_path / "run"), config={}, log=quiet)
    assert not (tmp_path / "run").exists()


def grouped_critic(group):
    """A critic that the game's checks accept, for two examples, and that refuses a batch of 8."""

    class Grouped(nn.Module):
        @nn.compact
        def __call__(self, x):
            return MinibatchStddev(group=group)(x)[:, 0] * self.param("scale", nn.initializers.ones, ())

    return from_linen(Grouped(), jnp.zeros((2, 2)))


def unmatched_critic():
    """A critic whose own code fails for a batch of 8."""

    def apply(params, model_state, x, train, key):
        if len(x) != 2:
            raise ValueError("two examples,\nplease")
        return x[:, 0] * params, model_state

    return Network(
        init=lambda key: (jnp.ones(()), ()), apply=apply, inputs=(jax.ShapeDtypeStruct((2, 2), jnp.float32),)
    )


@pytest.mark.parametrize(
    ("critic", "message"),
    [
        (
            lambda: grouped_critic(3),
            r"MinibatchStddev\(group=3\) needs a multiple of that, got a batch of 8\.$",
        ),
        (
            unmatched_critic,
            r"^two examples, please \(raised in apply, .*test_loop\.py:\d+, when the first round",
        ),
    ],
    ids=["a check of ours", "the experiment's own code"],
)
def test_what_is_found_when_the_first_round_is_traced_is_one_line_and_nothing_is_made(
    critic, message, tmp_path
):
    run = with_critic(experiment(), network=critic())
    with pytest.raises(ExperimentError, match=message) as raised:
        loop.train(run, Workdir(tmp_path / "run"), config={}, log=quiet)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.full
def test_an_override_that_cannot_be_traced_leaves_the_run_as_it_was(tmp_path):
    def run(group, rounds, **options):
        made = with_critic(experiment(rounds=rounds), network=grouped_critic(group))
        return loop.train(made, Workdir(tmp_path), config={"group": group}, log=quiet, **options)

    run(4, 10)
    before = files_of(tmp_path)
    with pytest.raises(ExperimentError, match="MinibatchStddev"):
        run(3, 20, override=True)
    assert files_of(tmp_path) == before
    assert int(run(4, 20).step) == 20


@pytest.mark.full
def test_other_data_are_refused_on_resume_before_anything_is_changed(tmp_path):
    def run(value, rounds=8, log=quiet, **options):
        source = from_arrays({"x": np.full((32, 2), value, np.float32)}, 8)
        made = experiment(rounds=rounds, source=source)
        return loop.train(made, Workdir(tmp_path), config={}, log=log, **options)

    run(0.0, rounds=4)
    before = files_of(tmp_path)
    with pytest.raises(WorkdirError, match=r"the data all\.x: float32\[32, 2\] sha256:.* now.*--override"):
        run(1.0)
    assert files_of(tmp_path) == before
    lines = []
    run(1.0, override=True, log=lines.append)
    assert any("Going on with what differs from before: the data all.x" in line for line in lines)
    run(1.0)


@pytest.mark.full
def test_going_on_from_before_an_override_says_that_the_change_applies_earlier(tmp_path):
    def run(rate, rounds, log=quiet, **options):
        made = experiment(rounds=rounds, checkpoint_every=4)
        return loop.train(made, Workdir(tmp_path), config={"rate": rate}, log=log, **options)

    run(1, rounds=8)
    run(2, rounds=12, override=True)
    for step in (8, 12):
        shutil.rmtree(Workdir(tmp_path).checkpoints / str(step))
    lines = []
    run(2, rounds=12, log=lines.append)
    changed = "rate: 1 in the work directory, 2 now"
    expected = (
        f"before --override changed the run at round 8 ({changed}): the change now applies from round 4 on."
    )
    assert any(line == f"Round 4 is from {expected}" for line in lines)
    assert [launch.step for launch in read_config(Workdir(tmp_path)).launches if launch.overridden] == [4]


@pytest.mark.full
def test_an_average_that_is_not_finite_is_never_saved(tmp_path):
    """Only the average is broken: parameters and losses are finite in every round."""
    run = experiment(rounds=20)
    generator = dataclasses.replace(
        run.game.players["generator"], ema=lambda step: jnp.where(step >= 12, jnp.nan, 0.5)
    )
    game = dataclasses.replace(run.game, players={**run.game.players, "generator": generator})
    with pytest.raises(NonFiniteError, match=r"generator's ema.* not finite after round 19"):
        loop.train(dataclasses.replace(run, game=game), Workdir(tmp_path), log=quiet)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [10]


@pytest.mark.full
def test_the_stored_model_names_the_classes_of_the_data_that_it_goes_on_with(tmp_path):
    """Folders have been renamed: the labels' numbers are the same, and what they are called is not."""
    for rounds, classes in ((1, ("cat", "dog")), (2, ("dog", "cat"))):
        made = dataclasses.replace(experiment(rounds=rounds), classes=classes)
        loop.train(made, Workdir(tmp_path), config={}, override=True, log=quiet)
        described = json.loads((tmp_path / "model" / "model.json").read_text())
        assert described["classes"] == list(classes)


@pytest.mark.parametrize("killed_at", [0, 1, 2])
def test_programs_are_never_read_by_the_description_of_others(tmp_path, monkeypatch, killed_at):
    """A launch that is killed while it writes other programs leaves no description, or the new one."""
    folder = epath.Path(tmp_path)
    write_model(folder, {"of": "first"}, {"a": b"1", "b": b"1"})
    write, count = portable_files.write_atomically, iter(range(9))

    def cut(path, data):
        if next(count) == killed_at:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(portable_files, "write_atomically", cut)
    with pytest.raises(KeyboardInterrupt):
        write_model(folder, {"of": "second"}, {"a": b"2", "b": b"2"})
    assert not (tmp_path / "model.json").exists()


def test_the_commands_that_the_end_of_a_run_prints_can_be_copied(tmp_path):
    """A shell splits them into words as they are meant, whatever the directory is called."""
    said, workdir = [], tmp_path / "my runs; first"
    loop.train(experiment(rounds=2), Workdir(workdir), log=said.append)
    (line,) = [line for line in said if line.startswith("Curves: ")]
    assert shlex.split(line.removeprefix("Curves: "))[:3] == ["tensorboard", "--logdir", str(workdir)]


# ---------------------------------------------------------------------------------------------------------
# A work directory that is moved or removed while a run trains there


def doing(action, at=8):
    """An experiment that does something at an evaluation in the middle."""
    done = []

    def measure(samples):
        done.append(None)
        if len(done) == 1:
            action()
        return {"mean": float(samples.mean())}

    return experiment(evaluate_every=at, evaluations={"mean": measure}, sample_every=4)


def test_a_run_whose_directory_is_moved_is_saved_where_it_is_and_goes_on_there(tmp_path):
    """The path is not made again: another launch may train there by now, and nothing there is its own."""
    was, now = tmp_path / "was", tmp_path / "now"
    whole = loop.train(doing(nothing), Workdir(tmp_path / "whole"), config={}, log=quiet)
    saved = rf"was was moved to {now} while .* Round 8 is saved there. Go on with: train --workdir={now}$"
    with pytest.raises(WorkdirMovedError, match=saved):
        loop.train(doing(lambda: was.rename(now)), Workdir(was), config={}, command="train", log=quiet)
    assert not was.exists()
    assert Checkpoints(now / "checkpoints").steps()[-1] == 8
    there = loop.train(doing(nothing), Workdir(now), config={}, log=quiet)
    chex.assert_trees_all_equal(jax.device_get(there.players), jax.device_get(whole.players))
    assert [line["step"] for line in lines_of(Workdir(now))] == [4, 8, 8, 12, 16, 16, 20]


def test_a_run_whose_directory_is_removed_ends_and_makes_nothing(tmp_path):
    was = tmp_path / "was"
    lost = r"was moved or removed while .* lost\.$"
    with pytest.raises(WorkdirMovedError, match=lost):
        loop.train(doing(lambda: shutil.rmtree(was)), Workdir(was), config={}, log=quiet)
    assert not was.exists()


def test_a_run_writes_nothing_into_a_directory_that_took_the_place_of_its_own(tmp_path):
    was, now = tmp_path / "was", tmp_path / "now"

    def exchanged():
        was.rename(now)
        was.mkdir()

    with pytest.raises(WorkdirMovedError, match="is saved there"):
        loop.train(doing(exchanged), Workdir(was), config={}, log=quiet)
    assert not list(was.iterdir())


def nothing():
    pass


def test_the_log_of_a_run_whose_checkpoints_are_gone_is_kept(tmp_path):
    workdir, said = Workdir(tmp_path / "run"), []
    loop.train(experiment(), workdir, config={}, log=quiet)
    before = workdir.metrics.read_bytes()
    shutil.rmtree(workdir.checkpoints)
    loop.train(experiment(rounds=4), workdir, config={}, log=said.append)
    (kept,) = (tmp_path / "run").glob("metrics_before_*.jsonl")
    assert kept.read_bytes() == before
    assert any(kept.name in line for line in said)
    assert {line["step"] for line in read_metrics(workdir)} == {4}


@pytest.mark.parametrize(
    "name", ["model.json", "metrics.jsonl", "model/model.json", "samples/samples_00000004.png"]
)
def test_a_run_does_not_begin_among_files_of_others(tmp_path, name):
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(WorkdirError, match=f"mine has .*{name}.*choose another --workdir"):
        loop.train(experiment(), Workdir(tmp_path / "mine"), config={}, log=quiet)
    assert path.read_text() == "mine"
    assert not (tmp_path / "mine" / "config.json").exists()


def test_a_run_begins_where_one_was_killed_before_its_first_round(tmp_path):
    workdir = Workdir(tmp_path / "run")
    for folder in (workdir.checkpoints, workdir.events, workdir.samples):
        folder.mkdir(parents=True)
    workdir.metrics.touch()
    (workdir.samples / "reference.png").write_text("a picture of the user's")
    assert int(loop.train(experiment(rounds=4), workdir, config={}, log=quiet).step) == 4
