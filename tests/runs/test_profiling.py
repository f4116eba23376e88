"""A profiler trace has the rounds that were asked for, and changes nothing."""

import gzip
import json

import chex
import jax
import pytest

from gan_jax.runs import loop
from gan_jax.runs.profiling import ROUNDS, Profile
from gan_jax.runs.rounds import rounds_until
from gan_jax.runs.workdir import Workdir
from gan_jax.training.step import init_state, make_train_step
from tests import helpers
from tests.runs.test_loop import experiment, lines_of, quiet


@pytest.mark.full
def test_a_trace_of_three_rounds_is_written_and_the_run_is_the_same(tmp_path):
    plain = loop.train(experiment(), Workdir(tmp_path / "plain"), log=quiet)
    traced = loop.train(experiment(), Workdir(tmp_path / "traced"), profile=5, log=quiet)
    chex.assert_trees_all_equal(jax.device_get(plain.players), jax.device_get(traced.players))
    assert lines_of(Workdir(tmp_path / "plain")) == lines_of(Workdir(tmp_path / "traced"))
    assert not (tmp_path / "plain" / "profile").exists()
    files = [path for path in (tmp_path / "traced" / "profile").rglob("*") if path.is_file()]
    assert {"".join(path.suffixes[-2:]) for path in files} >= {".xplane.pb", ".json.gz"}
    assert all(path.stat().st_size for path in files)
    (trace,) = [path for path in files if path.name.endswith(".trace.json.gz")]
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = sorted(int(event["args"]["step_num"]) for event in events if event.get("name") == "rounds")
    assert steps[0] == 5
    assert steps[-1] < 5 + ROUNDS


def test_dispatches_are_cut_where_a_trace_begins_and_ends():
    profile = Profile("nowhere", 5)
    cuts = [rounds_until(experiment(log_every=100), step, 7, profile.cuts) for step in (0, 5, 6, 8)]
    assert cuts == [5, 3, 2, 2]  # the last ends at the save of round 10


@pytest.mark.full
def test_a_trace_ends_with_a_dispatch_that_fails(tmp_path):
    profile = Profile(tmp_path, 0)
    with pytest.raises(RuntimeError, match="broken"), profile.dispatch(0, 1):
        raise RuntimeError("broken")
    assert list(tmp_path.rglob("*.xplane.pb"))
    jax.profiler.start_trace(tmp_path / "another")  # refused if one were under way
    jax.profiler.stop_trace()


@pytest.mark.full
def test_a_trace_that_cannot_be_written_ends_no_run(tmp_path):
    """The rounds since the last checkpoint were lost with it."""
    plain = loop.train(experiment(), Workdir(tmp_path / "plain"), log=quiet)
    (tmp_path / "traced").mkdir()
    (tmp_path / "traced" / "profile").write_text("mine")
    with pytest.warns(UserWarning, match=r"No trace is written into .*profile: "):
        traced = loop.train(experiment(), Workdir(tmp_path / "traced"), profile=5, log=quiet)
    chex.assert_trees_all_equal(jax.device_get(plain.players), jax.device_get(traced.players))
    assert (tmp_path / "traced" / "profile").read_text() == "mine"
    jax.profiler.start_trace(tmp_path / "another")  # refused if one were under way
    jax.profiler.stop_trace()


@pytest.mark.full
def test_a_round_that_was_played_already_is_not_traced(tmp_path):
    loop.train(experiment(rounds=8), Workdir(tmp_path), log=quiet)
    messages = []
    loop.train(experiment(rounds=12), Workdir(tmp_path), profile=5, log=messages.append)
    assert "Nothing is traced: round 5 has been played already." in messages
    assert not (tmp_path / "profile").exists()


def test_turns_are_named_by_their_players():
    from gan_jax.objectives.non_saturating import non_saturating

    game = helpers.game(non_saturating(helpers.PRIOR))
    state = jax.eval_shape(lambda: init_state(game, jax.random.key(0)))
    batches = jax.eval_shape(lambda: helpers.batch(shape=(2,)))
    text = jax.jit(make_train_step(game)).lower(state, batches).as_text(debug_info=True)
    assert "turn/critic/" in text
    assert "turn/generator/" in text
