"""Formats: the old one is read, an unknown one is left as it is; what was due is completed after the seal."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.runs import loop, sealing
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.steps import MEASURED_BY
from gan_jax.runs.workdir import Workdir
from gan_jax.state import PlayerState, TrainState
from gan_jax.training.experiment import Best
from tests.runs.test_checkpoint import assert_same_bits, flip_a_bit, save_some, small_state
from tests.runs.test_loop import experiment, quiet

NEW_NAMES = {"model_state": "stats", "objective_state": "memory"}


def as_format_1(directory, step):
    """Rewrites a manifest as format 1 had it: the players' states under their old names, nothing due."""
    path = directory / str(step) / "manifest.json"
    content = json.loads(path.read_bytes())
    del content["sha256"], content["due"]
    content["format"] = 1

    def old(name):
        first, *rest = name.split(".")
        if first == "players" and rest[1] in NEW_NAMES:
            rest[1] = NEW_NAMES[rest[1]]
        return ".".join([first, *rest])

    content["leaves"] = {old(name): entry for name, entry in content["leaves"].items()}
    path.write_bytes(sealing.seal(content))


def players():
    """States whose trees use the renamed fields' names themselves, beside the fields."""
    player = PlayerState(
        params={"stats": jnp.arange(3.0)},
        model_state={"stats": jnp.arange(4.0), "memory": jnp.full((8, 8), 2.0)},
        opt_state=(jnp.zeros(2),),
        objective_state={"memory": jnp.ones(5)},
    )
    state = {"critic": player, "stats": player._replace(params=jnp.ones(1))}
    return TrainState(jnp.int32(7), jnp.int32(9), jax.random.key(1), state, {"critic": (jnp.ones(1), {})})


def test_checkpoints_of_format_1_are_read_with_the_players_fields_renamed(tmp_path):
    state = players()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state, metadata={"sums": {}}, metrics={"d": 1.0}, blocking=True)
    as_format_1(tmp_path, 7)
    leaves = json.loads((tmp_path / "7" / "manifest.json").read_bytes())["leaves"]
    assert {
        "players.critic.stats.stats",
        "players.stats.memory.memory",
        "players.critic.params.stats",
    } <= set(leaves)
    restored = Checkpoints(tmp_path).restore(state)
    assert_same_bits(restored.state, state)
    assert (restored.metadata, restored.due) == ({"sums": {}}, ())


def test_large_arrays_of_format_1_are_found_under_the_names_they_were_written_by(tmp_path):
    """Above 1 MiB orbax keeps an array by its name: here it is on disk under the old one."""
    big, small = jax.random.normal(jax.random.key(0), (600, 600)), jnp.arange(3.0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"players": {"critic": {"stats": big, "memory": small}}}, blocking=True)
    as_format_1(tmp_path, 1)
    state = {"players": {"critic": {"model_state": big, "objective_state": small}}}
    assert_same_bits(Checkpoints(tmp_path).restore(state).state, state)


def test_only_the_players_fields_are_renamed():
    entry = {"shape": [1], "dtype": "float32"}
    names = {
        "players.critic.stats.a": "players.critic.model_state.a",
        "players.critic.memory": "players.critic.objective_state",
        "players.stats.memory.stats": "players.stats.objective_state.stats",
        ".players['a.b'].stats['c.d']": ".players['a.b'].model_state['c.d']",
        "players.critic.params.stats.a": "players.critic.params.stats.a",
        "players.critic.statistics": "players.critic.statistics",
        "ema.critic.1.stats": "ema.critic.1.stats",
        "w": "w",
    }
    manifest = {"format": 1, "leaves": dict.fromkeys(names, entry)}
    found = sealing._migrated(manifest)["leaves"]
    assert {entry["stored"]: name for name, entry in found.items()} == names


@pytest.mark.full
def test_a_run_of_format_1_goes_on(tmp_path):
    """Its first launch saved round 10 as format 1 had it."""
    whole = loop.train(experiment(), Workdir(tmp_path / "whole"), log=quiet)
    loop.train(experiment(rounds=10), Workdir(tmp_path / "old"), log=quiet)
    as_format_1(tmp_path / "old" / "checkpoints", 10)
    state = loop.train(experiment(), Workdir(tmp_path / "old"), log=quiet)
    for a, b in zip(jax.tree.leaves(state.players), jax.tree.leaves(whole.players), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("unknown", [{"format": 3}, {"format": "next"}, {}])
def test_a_checkpoint_of_another_version_is_neither_passed_over_nor_deleted(unknown, tmp_path):
    checkpoints = save_some(tmp_path, 1, 2, 3)
    path = tmp_path / "3" / "manifest.json"
    path.write_bytes(sealing.seal({**unknown, "step": 3}))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    expected = (
        rf"Checkpoint 3 in .* is of format {unknown.get('format')}, and this version reads 1 and 2\. Nothing"
    )
    for refused in (
        lambda: checkpoints.restore(small_state()),
        lambda: checkpoints.restore(small_state(), step=3),
        lambda: checkpoints.latest_valid(),
        lambda: checkpoints.manifest(3),
        lambda: checkpoints.discard_after(1),
        lambda: Checkpoints(tmp_path).save(3, small_state()),
    ):
        with pytest.raises(CheckpointError, match=expected):
            refused()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert checkpoints.restore(small_state(), step=2).step == 2  # what was asked for by its round is read
    with Checkpoints(tmp_path, keep=1) as others:
        others.save(4, small_state(), blocking=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"], "retention leaves it too"


@pytest.mark.full
def test_a_run_stops_at_a_checkpoint_of_another_version(tmp_path):
    loop.train(experiment(), Workdir(tmp_path), log=quiet)
    (tmp_path / "checkpoints" / "20" / "manifest.json").write_bytes(sealing.seal({"format": 3, "step": 20}))
    with pytest.raises(CheckpointError, match=r"Checkpoint 20 .* is of format 3"):
        loop.train(experiment(rounds=30), Workdir(tmp_path), log=quiet)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "20"]


# ---------------------------------------------------------------------------------------------------------
# Amendments


def test_on_an_object_store_nothing_is_read_back_and_sizes_are_checked(tmp_path, monkeypatch):
    """A checkpoint of gigabytes would be downloaded again to be sealed, and once more to be verified."""
    with monkeypatch.context() as patch:
        patch.setattr(sealing, "is_local", lambda path: False)
        patch.setattr(sealing, "hash_file", lambda path: pytest.fail(f"{path} is read"))
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(7, small_state(), blocking=True)
            assert checkpoints.latest_valid() == 7
            entries = checkpoints.manifest(7)["files"]
        assert {entry["sha256"] for entry in entries.values()} == {""}
        name, entry = max(entries.items(), key=lambda item: item[1]["bytes"])
        file = tmp_path / "7" / name
        assert file.stat().st_size == entry["bytes"]
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(CheckpointError, match=f"has {entry['bytes'] - 1} bytes in"):
            Checkpoints(tmp_path).restore(small_state(), 7)


def test_a_sealed_step_is_completed(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small_state(), metadata={"lines": 1, "sums": {}}, due=["evaluate", "draw"])
        assert checkpoints.restore(small_state()).due == ("evaluate", "draw")
        checkpoints.amend(1, due=["draw"], metrics={"d": float("nan"), "e": 2.0}, metadata={"lines": 2})
        restored = checkpoints.restore(small_state())
        assert (restored.due, restored.metadata) == (("draw",), {"lines": 2, "sums": {}})
        metrics = checkpoints.manifest(1)["metrics"]
        assert np.isnan(metrics["d"])
        assert metrics["e"] == 2.0
        checkpoints.amend(1)
        restored = checkpoints.restore(small_state())
        assert (restored.due, restored.metadata) == ((), {"lines": 2, "sums": {}})
        assert checkpoints.manifest(1)["metrics"]["e"] == 2.0
        assert checkpoints.latest_valid() == 1


def test_a_damaged_amendment_leaves_what_was_due_due(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small_state(), due=["draw"])
        checkpoints.amend(1)
    path = tmp_path / "1" / "amendment.json"
    whole = path.read_bytes()
    for position in (0.0, 0.5, 1.0):
        flip_a_bit(path, position)
        assert Checkpoints(tmp_path).restore(small_state()).due == ("draw",)
        path.write_bytes(whole)
    assert Checkpoints(tmp_path).restore(small_state()).due == ()
    path.write_bytes(sealing.seal({"due": 3}))
    assert Checkpoints(tmp_path).restore(small_state()).due == ("draw",)


def test_the_best_is_chosen_by_a_number_that_comes_after_the_save(tmp_path):
    scores = {1: 5.0, 2: 1.0, 3: 3.0, 4: 4.0}
    with Checkpoints(tmp_path, keep=1, best=Best("d")) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, small_state(step), due=["evaluate"])
            checkpoints.amend(step, metrics={"d": score})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 4]
        assert checkpoints.best() == 2


def test_the_best_is_still_the_best_once_another_launch_has_drawn_its_picture(tmp_path):
    """A launch that ended between the evaluation and the picture: the next one knows no number of that round."""
    rule = Best("d")
    with Checkpoints(tmp_path, keep=1, best=rule) as checkpoints:
        checkpoints.save(1, small_state(1), due=["evaluate", "draw"])
        checkpoints.amend(1, due=["draw"], metrics={"d": 1.0}, metadata={MEASURED_BY: "pixels"})
    with Checkpoints(tmp_path, keep=1, best=rule) as checkpoints:
        assert checkpoints.restore(small_state()).due == ("draw",)
        checkpoints.amend(1, metadata={"lines": 3})
        for step, score in ((2, 5.0), (3, 4.0)):
            checkpoints.save(step, small_state(step))
            checkpoints.amend(step, metrics={"d": score}, metadata={MEASURED_BY: "pixels"})
        checkpoints.wait()
        assert checkpoints.steps() == [1, 3]
        assert checkpoints.best() == 1


def test_a_save_that_failed_is_not_completed(tmp_path, monkeypatch):
    from gan_jax.runs import checkpoint

    def full(path, data):
        raise OSError(28, "No space left on device")

    with Checkpoints(tmp_path) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "write_atomically", full)
            checkpoints.save(1, small_state(), due=["draw"])
            checkpoints.amend(1)
            with pytest.raises(CheckpointError, match="Cannot save checkpoint 1"):
                checkpoints.wait()
        assert checkpoints.steps() == []
        assert checkpoints.save(1, small_state(), blocking=True)
        with monkeypatch.context() as patch:
            checkpoints.save(2, small_state(), due=["draw"], blocking=True)
            patch.setattr(sealing, "write_atomically", full)
            checkpoints.amend(2)
            with pytest.raises(
                CheckpointError, match=r"Cannot complete checkpoint 2 in .*: the disk is full"
            ):
                checkpoints.wait()
        assert checkpoints.restore(small_state()).due == ("draw",)
