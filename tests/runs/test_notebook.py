"""Rollouts of several seeds with metrics, pictures of them, and states that users save themselves."""

import functools

import jax
import numpy as np
import optax
import pytest

import gan_jax as gj
from gan_jax.data.toy import from_toy, ring
from gan_jax.distributed.seeds import stacked
from gan_jax.evaluation.sampling import sample
from gan_jax.keys import named_key
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.runs.checkpoint import CheckpointError
from gan_jax.runs.workdir import WorkdirError
from gan_jax.training.step import init_state
from tests import helpers


@pytest.fixture(scope="module")
def game():
    return helpers.game(non_saturating(helpers.PRIOR), ema={"generator": 0.9})


@pytest.fixture(scope="module")
def source():
    return from_toy(ring(), 8)


same = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)


@pytest.mark.full
def test_each_seed_is_trained_as_if_alone(game, source):
    begin = init_state(game, jax.random.key(3))
    state, history = gj.rollout(game, source, begin, 4, seeds=2)
    second = init_state(game, jax.random.fold_in(begin.key, 1))
    for place, first in enumerate((begin, second)):
        alone, line = gj.rollout(game, source, first, 4)
        one = gj.state_of(state, place)
        assert int(one.step) == 4
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), one.players, alone.players
        )
        for name, values in line.items():
            assert history[name].shape == (2, 4)
            np.testing.assert_allclose(history[name][place], values, rtol=1e-4, atol=1e-6)
    further, _ = gj.rollout(game, source, state, 2)
    assert int(further.step) == 6
    assert further.key.shape == (2,)


@pytest.mark.full
def test_metrics_are_of_the_samples_at_every_interval_and_at_the_end(game, source):
    begin = init_state(game, jax.random.key(0))
    seen = []
    state, history = gj.rollout(
        game,
        source,
        begin,
        5,
        every=2,
        samples=7,
        metrics={"mean": np.mean, "both": lambda x: {"n": len(x), "dim": x.shape[1]}},
        callback=lambda state: seen.append(int(state.step)),
        per_dispatch=2,
    )
    assert seen == [2, 4, 5]
    assert np.isfinite(history["mean"]).tolist() == [False, True, False, True, True]
    assert history["both/n"][-1] == 7
    assert history["both/dim"][-1] == 2
    drawn = sample(game, state, named_key(state.key, "evaluation"), 7)
    assert history["mean"][-1] == pytest.approx(drawn.mean())
    _, plain = gj.rollout(game, source, begin, 5, per_dispatch=2)
    np.testing.assert_array_equal(plain["critic/loss"], history["critic/loss"])


@pytest.mark.full
def test_progress_is_shown_where_it_is_asked_for(game, source, capsys):
    begin = init_state(game, jax.random.key(0))
    gj.rollout(game, source, begin, 2, per_dispatch=2)
    assert capsys.readouterr().err == ""
    gj.rollout(game, source, begin, 2, per_dispatch=2, progress=True)
    assert "2/2 rounds (100%)" in capsys.readouterr().err


def test_wrong_arguments_are_named(game, source):
    begin = init_state(game, jax.random.key(0))
    later = begin._replace(step=begin.step + 1)
    several = stacked([begin, begin])
    for state, options, message in (
        (begin, {"seeds": 0}, "seeds is a whole number, 1 or more"),
        (begin, {"every": 0}, "every is a whole number, 1 or more"),
        (later, {"seeds": 2}, "before the first round, not that of 1"),
        (several, {"seeds": 3}, "of 2 seeds, got seeds=3"),
    ):
        with pytest.raises(ValueError, match=message):
            gj.rollout(game, source, state, 1, **options)
    with pytest.raises(ValueError, match="cannot be traced"):
        jax.jit(lambda state: gj.rollout(game, source, state, 1)[0])(begin)


def test_metrics_that_would_be_told_of_another_seed_or_replace_a_loss_are_refused(game, source):
    """Of two seeds the first has no number here: the second's would stand in its place."""
    begin, calls = init_state(game, jax.random.key(0)), []

    def of_the_second(x):
        calls.append(None)
        return {"covered": 1.0} if len(calls) % 2 == 0 else {}

    with pytest.raises(
        ValueError, match="m/covered is a number of some seeds only after round 2: return NaN"
    ):
        gj.rollout(game, source, begin, 2, seeds=2, metrics={"m": of_the_second})
    with pytest.raises(ValueError, match="a metric by the name of a loss: critic/loss"):
        gj.rollout(game, source, begin, 2, metrics={"critic/loss": np.mean})
    with pytest.raises(ValueError, match=r"means returns numbers \(2,\): return one, or several by name"):
        gj.rollout(game, source, begin, 2, metrics={"means": lambda x: x.mean(0)})


def test_a_history_is_drawn(tmp_path):
    history = {
        "critic/loss": np.array([[1.0, 2.0], [1.0, 3.0]]),
        "critic/score": np.array([[1.0, 2.0], [1.0, 3.0]]),
        "modes": np.array([[np.nan, 8.0], [np.nan, 7.0]]),
    }
    picture, single = gj.plot(history), gj.plot(history, ["modes"])
    assert picture.size[0] == 2 * single.size[0], "losses and the metric, side by side"
    picture.save(tmp_path / "history.png")
    with pytest.raises(ValueError, match="no mode; it has critic/loss"):
        gj.plot(history, ["mode"])


def test_samples_are_shown_as_what_they_are():
    assert gj.show(np.zeros((4, 28, 28, 1))).mode == "L"
    assert gj.show(np.zeros((4, 28, 28, 3))).mode == "RGB"
    assert gj.show(np.random.default_rng(0).normal(size=(9, 2)), np.eye(2)).mode == "RGB"
    with pytest.raises(ValueError, match=r"images \[N, H, W, C\] or points"):
        gj.show(np.zeros((4, 3)))


def test_a_state_is_saved_and_restored_bit_for_bit(game, source, tmp_path):
    begin = init_state(game, jax.random.key(0))
    later = begin._replace(step=begin.step + 2)
    for seeds, state in ((None, later), (2, stacked([later, later]))):
        path = tmp_path / str(seeds)
        gj.save(path, game, begin if seeds is None else state)
        gj.save(path, game, state)
        back = gj.restore(path, game)
        jax.tree.map(np.testing.assert_array_equal, back._replace(key=0), state._replace(key=0))
        assert (jax.random.key_data(back.key) == jax.random.key_data(state.key)).all()
    assert int(gj.restore(tmp_path / "None", game, round=0).step) == 0
    with pytest.raises(CheckpointError, match="no saved state of round 9"):
        gj.restore(tmp_path / "None", game, round=9)
    with pytest.raises(CheckpointError, match="There is no saved state"):
        gj.restore(tmp_path / "nothing", game)
    other = helpers.game(non_saturating(helpers.PRIOR), optimizer=optax.adam)
    with pytest.raises(CheckpointError, match="of another structure"):
        gj.restore(tmp_path / "None", other)
    with pytest.raises(ValueError, match="not one of this game"):
        gj.save(tmp_path / "other", other, begin)


def test_a_state_does_not_displace_those_of_another_game(game, tmp_path):
    """Of the rounds in a directory the newest three are kept: those of the first game went, one by one."""
    other = helpers.game(non_saturating(helpers.PRIOR), optimizer=optax.adam)
    gj.save(tmp_path, game, init_state(game, jax.random.key(0)))
    states = init_state(other, jax.random.key(1))
    for step in range(1, 4):
        with pytest.raises(CheckpointError, match="of another structure"):
            gj.save(tmp_path, other, states._replace(step=states.step + step))
    assert int(gj.restore(tmp_path, game).step) == 0


def test_a_path_that_begins_at_home_is_there(game, tmp_path, monkeypatch):
    """It was a folder called ~ where one stood, and another one elsewhere."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    state = init_state(game, jax.random.key(0))
    gj.save("~/states", game, state)
    assert (tmp_path / "home" / "states" / "0").is_dir()
    assert not (tmp_path / "~").exists()
    assert int(gj.restore("~/states", game).step) == 0
    with pytest.raises(WorkdirError, match=f"{tmp_path / 'home' / 'run'} does not exist"):
        gj.load_model("~/run")


def test_a_state_is_saved_over_a_damaged_one(game, tmp_path):
    """`restore` passes a damaged round over, and what is trained from there is saved."""
    begin = init_state(game, jax.random.key(0))
    for step in (1, 2):
        gj.save(tmp_path, game, begin._replace(step=begin.step + step))
    (tmp_path / "2" / "manifest.json").write_text("{}")
    gj.save(tmp_path, game, begin._replace(step=begin.step + 3))
    assert int(gj.restore(tmp_path, game).step) == 3


def test_a_state_is_not_saved_under_a_later_one_of_another_run(game, tmp_path):
    """`restore` gives the round with the largest number: that of the earlier run."""
    begin = init_state(game, jax.random.key(0))
    later = begin._replace(step=begin.step + 20)
    gj.save(tmp_path, game, later)
    with pytest.raises(
        CheckpointError, match=r"holds round 20, and this state is of round 0: .*directory of its own"
    ):
        gj.save(tmp_path, game, init_state(game, jax.random.key(7)))
    gj.save(tmp_path, game, later)
    assert int(gj.restore(tmp_path, game).step) == 20


def test_a_seed_that_is_not_there_is_named(game):
    """An index out of bounds would be clamped to the last seed."""
    begin = init_state(game, jax.random.key(0))
    several = stacked([begin, begin])
    for seed in (2, -1, 1.5):
        with pytest.raises(ValueError, match=rf"state_of\(seed={seed}\): seed is"):
            gj.state_of(several, seed)
    with pytest.raises(ValueError, match="of a single seed already"):
        gj.state_of(begin, 0)
