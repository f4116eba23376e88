"""Many seeds in one program: each seed is the run of that seed, and logs hold means and single values."""

import dataclasses
import functools
import json
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gan_jax.data import from_arrays, from_toy, toy
from gan_jax.data.augment import augmented
from gan_jax.data.stream import from_iterator
from gan_jax.distributed.layout import make_layout
from gan_jax.distributed.mesh import LayoutError
from gan_jax.distributed.seeds import goes_side_by_side, make_seeds_layout, state_of
from gan_jax.evaluation.seed_statistics import combined, summary
from gan_jax.networks import DCGANCritic, DCGANGenerator, from_linen
from gan_jax.runs import loop
from gan_jax.runs.finite import NonFiniteError
from gan_jax.runs.interval import Interval
from gan_jax.runs.logging import Log
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import ExperimentError
from gan_jax.training.rollout import stack_rounds
from gan_jax.training.step import init_state
from tests import helpers
from tests.runs.test_loop import experiment, lines_of, quiet
from tests.test_launch import launch_here

SEEDS = 4


def single_seed(seed, **changes):
    return experiment(seed=seed, source=from_toy(toy.ring(), 8, seed=seed), **changes)


def several_seeds(**changes):
    extra_sources = tuple(from_toy(toy.ring(), 8, seed=3 + i) for i in range(1, SEEDS))
    return dataclasses.replace(single_seed(3, **changes), extra_sources=extra_sources)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Seeds 3 to 6, two at a time on two devices, by a launch that was cut at round 10; and seed 5 alone."""
    folder = tmp_path_factory.mktemp("seeds")
    devices = jax.devices()[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda: devices)
        messages = []
        loop.train(several_seeds(rounds=10), Workdir(folder / "all"), log=messages.append)
        state = loop.train(several_seeds(rounds=20), Workdir(folder / "all"), log=messages.append)
        patch.setattr(jax, "devices", lambda: devices[:1])
        single = loop.train(single_seed(5, rounds=20), Workdir(folder / "alone"), log=quiet)
    return folder, state, single, messages


@pytest.mark.full
def test_each_seed_equals_a_single_run_bit_for_bit(runs):
    _, state, single, messages = runs
    separate = state_of(state, 2)
    chex.assert_trees_all_equal(
        jax.device_get((separate.players, separate.ema, separate.step, separate.cursor)),
        jax.device_get((single.players, single.ema, single.step, single.cursor)),
    )
    np.testing.assert_array_equal(jax.random.key_data(separate.key), jax.random.key_data(single.key))
    kernel = state.players["critic"].params["trunk"]["Dense_0"]["kernel"]
    assert [shard.data.shape[0] for shard in kernel.addressable_shards] == [2, 2]
    assert "Training 4 seeds, 2 on each of 2 devices, one after the other" in messages[0]


@pytest.mark.full
def test_metrics_are_means_intervals_and_each_seeds_values(runs):
    folder, *_ = runs
    joint_lines, single = (read_metrics(Workdir(folder / name)) for name in ("all", "alone"))
    assert [line["step"] for line in joint_lines] == [line["step"] for line in single] == [4, 8, 12, 16, 20]
    for line, separate in zip(joint_lines, single, strict=True):
        for name in ("critic/loss", "generator/loss"):
            each = line[f"{name}/seeds"]
            assert len(each) == SEEDS
            assert each[2] == pytest.approx(separate[name], rel=1e-6)
            assert line[name] == pytest.approx(np.mean(each))
            low, high = stats.t.interval(0.95, SEEDS - 1, np.mean(each), stats.sem(each))
            assert line[f"{name}/interval"] == pytest.approx([low, high])


@pytest.mark.full
def test_every_seed_has_its_picture(runs):
    folder, *_ = runs
    names = {path.name for path in (folder / "all" / "samples").iterdir()}
    assert names >= {f"samples_seed_{seed}_00000020.png" for seed in range(3, 7)}


@pytest.mark.slow
def test_side_by_side_agrees_within_rounding():
    game = several_seeds().game
    sources = [from_toy(toy.ring(), 8, seed=seed) for seed in range(3)]
    layout = make_seeds_layout(sources, devices=jax.devices()[:1], side_by_side=True)
    source = layout.local_source(sources[0])
    make = lambda key: init_state(game, key)  # noqa: E731
    state = layout.begin(make, [jax.random.key(seed) for seed in range(3)])
    host_batches = stack_rounds(source, 0, 2, 5, 5)
    state, metrics = layout.compile(game, source)(state, layout.place(source.device_data), host_batches, 5)
    single_layout = make_layout("jit", jax.devices()[:1])
    for seed in range(3):
        single, separate = single_layout.compile(game, sources[seed])(
            single_layout.begin(make, jax.random.key(seed)),
            single_layout.place(sources[seed].device_data),
            stack_rounds(sources[seed], 0, 2, 5, 5),
            5,
        )
        chex.assert_trees_all_close(state_of(state, seed).players, single.players, atol=1e-5, rtol=1e-4)
        np.testing.assert_allclose(
            metrics["critic/loss"][:, seed], separate["critic/loss"], rtol=1e-4, atol=1e-5
        )


@pytest.mark.slow
def test_a_seed_on_convolutions_with_augmented_data_equals_a_single_run_bit_for_bit():
    """Indices, augmentation and latents all depend on the seed; the images are kept once."""
    images = {"x": np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), dtype=np.uint8)}
    sources = [augmented(from_arrays(images, 8, seed=s), "flip", seed=s) for s in range(2)]
    networks = {
        "critic": from_linen(DCGANCritic(width=4, norm="none"), jnp.zeros((2, 8, 8, 1))),
        "generator": from_linen(DCGANGenerator(size=8, channels=1, width=4), jnp.zeros((2, 4))),
    }
    game = several_seeds().game
    players = {
        name: dataclasses.replace(player, network=networks[name]) for name, player in game.players.items()
    }
    game = dataclasses.replace(game, players=players)
    make = lambda key: init_state(game, key)  # noqa: E731
    layout = make_seeds_layout(sources, devices=jax.devices()[:1])
    source = layout.local_source(sources[0])
    assert source.device_data["source"]["all"]["x"].shape == (32, 8 * 8 * 1)
    state = layout.begin(make, [jax.random.key(seed) for seed in range(2)])
    state, _ = layout.compile(game, source)(
        state, layout.place(source.device_data), stack_rounds(source, 0, 2, 2, 2), 2
    )
    single_layout = make_layout("jit", jax.devices()[:1])
    single, _ = single_layout.compile(game, sources[1])(
        single_layout.begin(make, jax.random.key(1)),
        single_layout.place(sources[1].device_data),
        stack_rounds(sources[1], 0, 2, 2, 2),
        2,
    )
    separate = state_of(state, 1)
    chex.assert_trees_all_equal(jax.device_get(separate.players), jax.device_get(single.players))


@pytest.mark.full
def test_what_is_not_finite_names_its_seed(tmp_path):
    """The critic's loss of the second seed is NaN from round 3 on; it is recognised by its key."""
    bad = several_seeds(rounds=8, log_every=4)
    base = bad.game.objective
    marked = jax.random.key_data(jax.random.key(4))

    def broken(context, output):
        marked_key = jax.random.key_data(
            jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(marked), context.step), 0)
        )
        hit = (context.step >= 3) & jnp.all(jax.random.key_data(context.turn_key) == marked_key)
        return helpers.valued(output, jnp.where(hit, jnp.nan, output.value))

    objective = helpers.changed_loss(base, "critic", broken)
    bad = dataclasses.replace(bad, game=dataclasses.replace(bad.game, objective=objective))
    with pytest.raises(NonFiniteError, match=r"critic's loss of seed 4 was nan at round 3\."):
        loop.train(bad, Workdir(tmp_path), log=quiet)


def test_an_alarm_is_of_the_seed_that_gave_it():
    """Seeds 3 to 6, the critic of seed 5 alone saturated: one line on the terminal, one text in the log."""
    log = Log(several_seeds(), Interval(), None, None, None)
    shares, messages = np.array([0.1, 0.1, 0.99, 0.1]), []
    line = log.alarms(summary({"critic/saturation": shares}), 40, messages.append)
    text = "Seed 5: For 99% of the examples the critic gives D(x) within .01 of 0 or 1."
    assert line == {"alarm/saturated_critic": text}
    assert len(messages) == 1
    assert messages[0].startswith(f"Alarm at round 40: saturated_critic. {text}")


@pytest.mark.full
def test_probes_are_compiled_once_for_each_seed(tmp_path):
    traced = []

    def probe(context):
        traced.append(True)
        return {"critic/probe": jnp.mean(context.batch["x"])}

    loop.train(several_seeds(rounds=12, probes=[probe]), Workdir(tmp_path), log=quiet)
    lines = read_metrics(Workdir(tmp_path))
    assert [len(line["critic/probe/seeds"]) for line in lines] == [SEEDS] * 3
    assert len(traced) == SEEDS


@pytest.mark.full
def test_a_launch_of_several_seeds_is_evaluated_and_sampled_seed_by_seed(tmp_path, monkeypatch, capsys):
    def launched(*arguments):
        code, out, err = launch_here(monkeypatch, capsys, f"--workdir={tmp_path}", *arguments)
        assert code == 0, err
        return out

    out = launched("--config=tests/stress/experiment.py", "--config.seeds=2", "--config.rounds=20")
    assert "Training 2 seeds, one on each device" in out
    grid = tmp_path / "samples" / "samples_seed_0_00000020.png"
    assert f"Sample grid: {grid} " in out
    assert grid.exists()
    out = launched(
        "--config=tests/stress/experiment.py", "--mode=evaluate", "--num_samples=64", "--metrics=sliced"
    )
    (found,) = json.loads((tmp_path / "evaluation.json").read_text())["checkpoints"]
    assert "round 20, raw, mean of 2 seeds" in out
    assert found["seeds"] == [0, 1]
    separate = [result["samples"]["raw"]["mean"] for result in found["each"]]
    assert separate[0] != separate[1]
    assert found["samples"]["raw"]["mean"] == pytest.approx(np.mean(separate))
    launched("--config=tests/stress/experiment.py", "--mode=sample", "--num_samples=5")
    drawn = [np.load(tmp_path / "samples" / f"sampled_00000020_seed_{seed}.npz")["x"] for seed in (0, 1)]
    assert drawn[0].shape == drawn[1].shape == (5, 2)
    assert not np.array_equal(*drawn)


@pytest.mark.parametrize(
    ("shape", "platform", "expected"),
    [((2,), "cpu", False), ((2,), "gpu", True), ((4, 4, 1), "gpu", False), ((4, 4, 1), "cpu", False)],
)
def test_seeds_of_images_go_in_turn_and_of_points_side_by_side(shape, platform, expected):
    """By vmap over its kernels a convolution becomes a grouped one."""
    source = from_arrays({"x": np.zeros((4, *shape)), "y": np.arange(4)}, 2)
    assert goes_side_by_side(source, platform) is expected


def test_no_batch_of_a_stream_is_read_to_see_what_it_is_like(monkeypatch):
    """It would be missing in training, as a stream cannot go back."""
    on_gpu = functools.partial(goes_side_by_side, platform="gpu")
    monkeypatch.setattr("gan_jax.distributed.seeds.goes_side_by_side", lambda source, _: on_gpu(source))
    batches = [{"x": np.full((2, 3), value, np.float32)} for value in (0, 0.5, 1)]
    streams = [from_iterator(iter(batches), 2) for _ in range(2)]
    layout = make_seeds_layout(streams, devices=jax.devices()[:1])
    assert "one after the other" in layout.message
    joined = layout.local_source(streams[0])
    assert np.asarray(joined.host_batches(0, 1)["x"]).tolist() == np.zeros((1, 2, 2, 3)).tolist()


def test_evaluations_are_combined():
    each = [
        {
            "step": 5,
            "seed": s,
            "samples": {"raw": {"frechet": f}},
            "players": {"critic/loss": f},
            "fingerprints": {"scores": {"key": f"held out {s}"}},
        }
        for s, f in ((0, 1.0), (1, 2.0))
    ]
    both = combined(each)
    assert both["samples"]["raw"]["frechet"] == both["players"]["critic/loss"] == 1.5
    assert both["seeds"] == [0, 1]
    assert [single_layout["samples"]["raw"]["frechet"] for single_layout in both["each"]] == [1.0, 2.0]
    assert [own["fingerprints"]["scores"]["key"] for own in both["each"]] == ["held out 0", "held out 1"]
    expected = stats.t.interval(0.95, 1, 1.5, stats.sem([1.0, 2.0]))
    assert both["intervals"]["samples"]["raw"]["frechet"] == pytest.approx(expected)
    json.dumps(both)


def test_a_metric_that_some_seed_lacks_is_nan_and_the_others_stay():
    """An evaluation of one's own that names its metrics by what it finds ended every launch with a KeyError."""
    parts = [{"f": 1.0, "mode_3": 5.0, "note": "a"}, {"f": 3.0, "mode_4": 2.0, "bad": None, "note": "b"}]
    each = [
        {"step": 5, "seed": s, "samples": {"raw": part}, "players": {}, "fingerprints": {}}
        for s, part in enumerate(parts)
    ]
    both = combined(each)
    assert both["samples"]["raw"] == pytest.approx(
        {"f": 2.0, "mode_3": math.nan, "mode_4": math.nan, "bad": None, "note": "a"}, nan_ok=True
    )
    assert [entry["samples"]["raw"] for entry in both["each"]] == parts
    assert np.isnan(both["intervals"]["samples"]["raw"]["mode_4"]).all()


def test_summary_of_vectors_is_element_by_element():
    line = summary({"share": np.array([[0.0, 1.0], [1.0, 1.0]])})
    assert line["share"] == [0.5, 1.0]
    assert line["share/seeds"] == [[0.0, 1.0], [1.0, 1.0]]
    np.testing.assert_allclose(np.array(line["share/interval"])[:, 1], 1.0)


def test_seeds_that_cannot_be_stacked_are_refused():
    class Iterator:
        def __next__(self):
            return {"x": np.zeros((2, 1))}

        def get_state(self):
            return 0

        def set_state(self, state):
            pass

    with pytest.raises(LayoutError, match="read by index"):
        make_seeds_layout([from_iterator(Iterator(), 2), from_iterator(Iterator(), 2)])
    a, b = (from_arrays({"x": np.zeros((n, 2), np.uint8)}, 2) for n in (4, 5))
    with pytest.raises(LayoutError, match="same shapes"):
        make_seeds_layout([a, b])
    with pytest.raises(ExperimentError, match="parallelism=jit, got 'pmap'"):
        several_seeds(parallelism="pmap")


@pytest.mark.full
def test_one_line_of_the_log_has_no_seeds_of_a_single_run(runs):
    folder, *_ = runs
    assert not any("/seeds" in name for line in lines_of(Workdir(folder / "alone")) for name in line)
