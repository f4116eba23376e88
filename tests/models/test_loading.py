"""A trained generator read from a work directory: any folder, any devices, none of its Python."""

import dataclasses
import json
import os
import shutil
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import gan_jax as gj
from experiments import digits, images
from gan_jax.cli.building import build_seeds
from gan_jax.distributed.seeds import stacked, state_of
from gan_jax.evaluation.sampling import sample
from gan_jax.evaluation.standing import standing_of
from gan_jax.keys import named_key
from gan_jax.models.portable import PortableError, read_exported
from gan_jax.runs import loop
from gan_jax.runs.checkpoint import CheckpointError
from gan_jax.runs.workdir import Workdir, WorkdirError
from gan_jax.training.experiment import ExperimentError
from gan_jax.training.step import init_state
from tests.models.runs import written
from tests.tiers import full, slow

TINY = {
    "width": 16,
    "latent": 4,
    "batch_size": 16,
    "rounds": 12,
    "log_every": 6,
    "checkpoint_every": 6,
    "sample_every": 0,
}


def experiment_of(seeds=1, **fields):
    """The digits' experiment of one seed or several, and its configuration."""
    config = digits.get_config()
    config.update({**TINY, "seeds": seeds, **fields})
    built = []
    for place in range(seeds):
        single = config.copy_and_resolve_references()
        single.seed += place
        built.append(digits.build(single))
    extra = tuple(experiment.source for experiment in built[1:])
    return dataclasses.replace(built[0], extra_sources=extra), config


def scaled(state, factor):
    """The state with a generator whose weights are another's."""
    generator = state.players["generator"]
    changed = generator._replace(params=jax.tree.map(lambda p: factor * p, generator.params))
    return state._replace(players={**state.players, "generator": changed})


def trained(path, seeds=1, **fields):
    experiment, config = experiment_of(seeds, **fields)
    state = loop.train(
        experiment, Workdir(path), config=config, name="experiments/digits.py", log=lambda line: None
    )
    return experiment, state


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with checkpoints at rounds 6 and 12, its experiment and its last state, whose average is another."""
    experiment, config = experiment_of(ema=0.9)
    first = init_state(experiment.game, jax.random.key(0))
    last = scaled(first, 1.5)
    path = tmp_path_factory.mktemp("model") / "run"
    return written(path, experiment, config, {6: scaled(first, 0.5), 12: last}), experiment, last


def of_state(experiment, state, n, *, ema=True, seed=0):
    key = named_key(jax.random.key(seed), "picture")
    return sample(experiment.game, state, key, n, ema=ema, condition_batch=experiment.condition_batch)


def test_the_samples_are_the_runs_own(run, tmp_path, monkeypatch):
    path, experiment, state = run
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(path)
    for weights, ema in (("ema", True), ("raw", False)):
        model = gj.load_model(relative, weights=weights)
        assert (model.round, model.kind, model.seed, model.sample_shape) == (12, weights, 0, (8, 8, 1))
        drawn = model.sample(9)
        np.testing.assert_allclose(drawn, of_state(experiment, state, 9, ema=ema), atol=1e-5)
        np.testing.assert_array_equal(drawn, gj.load_model(path, weights=weights).sample(9))
    earlier = gj.load_model(path, round=6, weights="raw")
    assert earlier.round == 6
    assert np.abs(earlier.sample(9) - drawn).max() > 1e-3


def test_a_round_from_before_an_override_is_loaded_with_a_warning(run, tmp_path):
    """The programs are those of the last configuration, which may make other samples of the same weights."""
    path = shutil.copytree(run[0], tmp_path / "run")
    config = json.loads((path / "config.json").read_text())
    launch = {"step": 6, "time": "", "versions": {}, "commit": None}
    config["launches"] = [{**launch, "overridden": ["norm: 'none' in the work directory, 'layer' now"]}]
    (path / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match=r"Round 6 of .* before --override .*from round 6 with norm: 'none'"):
        gj.load_model(path, round=6)
    gj.load_model(path)


@pytest.mark.full
def test_running_statistics_are_computed_again_on_request(run, tmp_path):
    """As `standing_statistics` computes them of the state, for the average and for the weights themselves."""
    path, experiment, state = run
    expected = standing_of(experiment, state, 3)
    for weights, ema in (("ema", True), ("raw", False)):
        model = gj.load_model(path, weights=weights, standing_statistics=3)
        drawn = model.sample(9)
        np.testing.assert_allclose(drawn, of_state(experiment, expected, 9, ema=ema), atol=1e-5)
        assert np.abs(drawn - gj.load_model(path, weights=weights).sample(9)).max() > 1e-3
    with pytest.raises(ValueError, match=r"load_model\(standing_statistics=0\): .* whole number"):
        gj.load_model(path, standing_statistics=0)


@pytest.mark.full
def test_running_statistics_of_a_later_seed_are_for_the_labels_of_its_own_evaluations(tmp_path):
    """They were for those of the first seed's, in another order."""
    fields = {
        "conditional": True,
        "data": "digits",
        "held_out": 0.2,
        "width": 4,
        "latent": 4,
        "batch_size": 16,
    }
    config = images.get_config()
    config.update(
        {**fields, "seeds": 2, "rounds": 2, "sample_every": 0, "log_every": 2, "checkpoint_every": 2}
    )
    request = types.SimpleNamespace(experiment="experiments/images.py", prepare=False)
    experiment = build_seeds(request, images.resolve(config))
    workdir = Workdir(tmp_path / "run")
    state = loop.train(
        experiment,
        workdir,
        config=images.resolve(config),
        name="experiments/images.py",
        log=lambda line: None,
    )
    single = experiment.for_seed(1)
    expected = standing_of(single, state_of(state, 1), 2)
    model = gj.load_model(workdir.root, seed=1, weights="raw", standing_statistics=2)
    drawn = of_state(single, expected, 9, ema=False, seed=1)
    np.testing.assert_allclose(model.sample(9, seed=1), drawn, atol=1e-5)


def test_the_scores_are_the_critics(run):
    path, experiment, state = run
    model = gj.load_model(path)
    x = model.sample(5)
    critic = state.players["critic"]
    network = experiment.game.players["critic"].network
    out, _ = network.apply(critic.params, critic.model_state, jnp.asarray(x), train=False, key=None)
    expected = out["score"] if isinstance(out, dict) else out
    np.testing.assert_allclose(model.scores(x), expected, atol=1e-5)


def test_no_python_of_the_directory_is_run(run, tmp_path, capsys):
    path, _, _ = run
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    evil = copy / "evil.py"
    evil.write_text("raise SystemExit('run')\n")
    content = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**content, "experiment": str(evil)}))
    before = set(sys.modules)
    np.testing.assert_array_equal(gj.load_model(copy).sample(3), gj.load_model(path).sample(3))
    assert not [name for name in set(sys.modules) - before if "experiment" in name]
    shutil.rmtree(copy / "model")
    with pytest.raises(ExperimentError, match="no work directory runs code by itself"):
        gj.load_model(copy)


@pytest.mark.full
def test_a_run_from_before_is_rebuilt_by_its_experiment(run, tmp_path):
    path, _, _ = run
    copy = tmp_path / "old"
    shutil.copytree(path, copy)
    shutil.rmtree(copy / "model")
    expected = gj.load_model(path).sample(3)
    for config in (None, "digits"):
        np.testing.assert_allclose(gj.load_model(copy, config=config).sample(3), expected, atol=1e-5)


@pytest.mark.full
def test_one_of_several_seeds_is_loaded(run, tmp_path):
    _, experiment, state = run
    several, config = experiment_of(2, ema=0.9)
    path = written(tmp_path / "seeds", several, config, {6: stacked([state, scaled(state, 2.0)])})
    for seed, single in ((0, state), (1, scaled(state, 2.0))):
        drawn = gj.load_model(path, seed=seed, weights="raw").sample(4)
        np.testing.assert_allclose(drawn, of_state(experiment, single, 4, ema=False), atol=1e-5)
    with pytest.raises(ValueError, match="has the seeds 0 to 1, got seed=2"):
        gj.load_model(path, seed=2)


@pytest.mark.parametrize("parallelism", [slow("fsdp"), slow("pmap"), full("data:2,fsdp:4")])
def test_runs_on_eight_devices_are_read_on_one(tmp_path, parallelism):
    width = 1024 if "fsdp" in parallelism else 16  # large enough to be sharded
    experiment, state = trained(tmp_path / "run", parallelism=parallelism, width=width, rounds=2, log_every=2)
    drawn = gj.load_model(tmp_path / "run").sample(4)
    one = jax.device_put(jax.device_get(state), jax.devices()[0])
    np.testing.assert_allclose(drawn, of_state(experiment, one, 4), atol=1e-4)


def test_what_the_run_does_not_have_is_refused(run):
    path, _, _ = run
    for options, message in (
        ({"player": "critic"}, "The generators are generator: pass player=, got 'critic'"),
        ({"seed": 1}, "has the seeds 0 to 0, got seed=1"),
        ({"weights": "mean"}, "ema or raw"),
    ):
        with pytest.raises(ValueError, match=message):
            gj.load_model(path, **options)
    with pytest.raises(CheckpointError, match="There is no checkpoint 7"):
        gj.load_model(path, round=7)
    with pytest.raises(WorkdirError, match="does not exist"):
        gj.load_model(path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=9), "format 9, and this version reads 1"),
        (lambda m: m.pop("generators"), "is damaged"),
        (lambda m: m.update(weights=[]), "is damaged"),
        (lambda m: m["weights"]["generator"]["ema"].popitem(), "does not fit the program"),
        (lambda m: m["generators"]["generator"].update(program="../checkpoints/x"), "no name of a file"),
        (lambda m: m["generators"]["generator"].update(program="model.json"), "no program of jax.export"),
    ],
)
def test_damaged_descriptions_are_refused(run, tmp_path, change, message):
    path, _, _ = run
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    content = json.loads((copy / "model" / "model.json").read_text())
    change(content)
    (copy / "model" / "model.json").write_text(json.dumps(content))
    with pytest.raises(WorkdirError, match=message):
        gj.load_model(copy)


@pytest.mark.parametrize(("field", "value"), [("seed", []), ("seed", "0"), ("seeds", 1.5), ("seeds", None)])
def test_seeds_of_another_type_are_damage(run, tmp_path, field, value):
    path, _, _ = run
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    content = json.loads((copy / "config.json").read_text())
    content["config"][field] = value
    (copy / "config.json").write_text(json.dumps(content))
    with pytest.raises(WorkdirError, match=rf"config\.json is damaged \({field} is"):
        gj.load_model(copy)


def test_a_link_in_the_model_is_refused(run, tmp_path):
    path, _, _ = run
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    (copy / "model" / "generator.jaxexport").unlink()
    (copy / "model" / "generator.jaxexport").symlink_to(path / "model" / "generator.jaxexport")
    with pytest.raises(WorkdirError, match="is a link"):
        gj.load_model(copy)


def test_a_program_that_calls_out_is_refused():
    def escape(x):
        return jax.ffi.ffi_call("reach_out", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

    exporting = export.export(
        jax.jit(escape), disabled_checks=[export.DisabledSafetyCheck.custom_call("reach_out")]
    )
    data = exporting(jax.ShapeDtypeStruct((2,), jnp.float32)).serialize()
    with pytest.raises(PortableError, match="calls reach_out"):
        read_exported("evil.jaxexport", lambda name: data)


def test_a_program_whose_derivative_calls_out_is_refused():
    @jax.custom_vjp
    def double(x):
        return 2 * x

    def escape(_, cotangent):
        return (
            jax.ffi.ffi_call("reach_out", jax.ShapeDtypeStruct(cotangent.shape, cotangent.dtype))(cotangent),
        )

    double.defvjp(lambda x: (double(x), None), escape)
    exporting = export.export(
        jax.jit(lambda x: double(x)), disabled_checks=[export.DisabledSafetyCheck.custom_call("reach_out")]
    )
    data = exporting(jax.ShapeDtypeStruct((2,), jnp.float32)).serialize(vjp_order=1)
    with pytest.raises(PortableError, match="calls reach_out"):
        read_exported("evil.jaxexport", lambda name: data)


@pytest.mark.slow
def test_a_launch_again_writes_the_programs_only_if_they_are_others(tmp_path):
    path = tmp_path / "run"
    program = path / "model" / "generator.jaxexport"
    experiment, state = trained(path)
    np.testing.assert_allclose(gj.load_model(path).sample(4), of_state(experiment, state, 4), atol=1e-5)
    os.utime(program, ns=(0, 0))
    trained(path)
    assert program.stat().st_mtime_ns == 0
    trained(path, rounds=18)
    assert program.stat().st_mtime_ns > 0
    assert gj.load_model(path).round == 18


def test_load_reads_data_by_its_former_name_and_says_so():
    with pytest.warns(DeprecationWarning, match="load_data"):
        assert gj.load is gj.load_data


def test_a_program_of_64_bits_says_what_it_needs():
    """JAX's own error named a weight and two dtypes, at the first sample."""
    with jax.enable_x64(True):
        program = export.export(jax.jit(lambda x: 2 * x))(jax.ShapeDtypeStruct((2,), np.float64))
        data = program.serialize()
        assert read_exported("a.jaxexport", lambda _: data).in_avals[0].dtype == np.float64
    with pytest.raises(PortableError, match="64-bit numbers: launch with JAX_ENABLE_X64=1"):
        read_exported("a.jaxexport", lambda _: data)


def test_a_directory_of_an_export_and_of_a_run_is_neither(tmp_path):
    """Which of the two generators is meant nobody knows."""
    (tmp_path / "checkpoints").mkdir()
    for name in ("config.json", "model.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(WorkdirError, match=r"holds an export \(model\.json\) and a run \(config\.json\)"):
        gj.load_model(tmp_path)
