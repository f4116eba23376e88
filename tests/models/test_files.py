"""`--mode=sample`, `interpolate`, `project` and `export`: what they write, and that it is what it says."""

import functools
import json
import os
import re
import shutil
import subprocess
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax import export as jax_export
from PIL import Image

import gan_jax as gj
from experiments import images
from gan_jax import metrics
from gan_jax.cli import evaluation_file, exploring, exporting, using
from gan_jax.cli.errors import UsageError
from gan_jax.explore.image_folder import onnx_programs
from gan_jax.models import projection
from gan_jax.models.card import model_card
from gan_jax.models.model import Model
from gan_jax.models.programs import Program, Programs
from gan_jax.models.projection import project
from gan_jax.pictures.animations import to_gif, to_mp4
from gan_jax.pictures.grids import to_uint8
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.workdir import Workdir, WorkdirError
from gan_jax.training.step import init_state
from tests.models.runs import written
from tests.test_launch import launch_here

FIELDS = {
    "data": "digits",
    "conditional": True,
    "objective": "hinge",
    "critic_norm": "none",
    "width": 4,
    "latent": 4,
    "batch_size": 16,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A conditional run of DCGANs at round 3."""
    config = images.get_config()
    config.update(FIELDS)
    experiment = images.build(config)
    state = init_state(experiment.game, jax.random.key(0))
    path = tmp_path_factory.mktemp("files") / "run"
    return written(path, experiment, config, {3: state}, name="experiments/images.py")


@pytest.fixture
def launched(monkeypatch, capsys, run):
    """`(mode, *flags) -> stdout` of the launcher for the run."""

    def call(mode, *arguments, workdir=run):
        code, out, err = launch_here(
            monkeypatch, capsys, f"--mode={mode}", f"--workdir={workdir}", *arguments
        )
        assert code == 0, err
        call.err = err
        return out

    call.refused = lambda mode, *arguments, workdir=run: launch_here(
        monkeypatch, capsys, f"--mode={mode}", f"--workdir={workdir}", *arguments
    )
    return call


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_sample_of_each_seed_is_a_file_that_its_seed_and_class_name(run, launched, tmp_path):
    launched(
        "sample",
        "--sample_seeds=8-10,3",
        "--label=7",
        "--truncation=.7",
        "--weights=raw",
        f"--out={tmp_path}",
    )
    names = {path.name for path in tmp_path.iterdir()}
    seeds = {f"seed_{seed:02d}_class_7.png" for seed in (3, 8, 9, 10)}
    assert names == seeds | {"grid.png", "samples.npz"}
    model = gj.load_model(run, weights="raw")
    with np.load(tmp_path / "samples.npz") as stored:
        assert stored["seed"].tolist() == [8, 9, 10, 3]
        assert stored["y"].tolist() == [7] * 4
        single = model.sample(1, seed=9, labels=7, truncation=0.7)
        np.testing.assert_allclose(stored["x"][1], single[0], atol=1e-5)
        np.testing.assert_array_equal(
            pixels(tmp_path / "seed_09_class_7.png"), to_uint8(stored["x"][1])[..., 0]
        )


def noisy(mapped):
    """A model of two classes whose layers draw noise for each sample, as StyleGAN2's do."""
    latent = jax.ShapeDtypeStruct((1, 2), jnp.float32)

    def draw(weights, key, z, *labels):
        noise = jax.random.normal(jax.random.wrap_key_data(key), z.shape)
        return z + noise + (labels[0][:, None] if labels else 0)

    def prior(key):
        return jax.random.normal(jax.random.wrap_key_data(key), (1000, 2))

    inputs = (latent, jax.ShapeDtypeStruct((1,), jnp.int32))
    programs = Programs(
        generators={"g": Program(draw, {}, inputs)},
        critics={},
        mappings={"g": Program(lambda weights, key, z, labels: z, {}, inputs)} if mapped else {},
        syntheses={"g": Program(draw, {}, (latent,))} if mapped else {},
        latent=prior,
        critic_of={},
        classes=("cat", "dog"),
    )
    return Model(programs, {"g": {}}, player="g", round=0, kind="raw", config={}, seed=0)


def test_a_translation_says_how_it_is_sampled_instead():
    condition = jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32)
    generator = Program(lambda weights, key, x: x, {}, (condition,))
    programs = Programs(
        generators={"g": generator},
        critics={},
        mappings={},
        syntheses={},
        latent=None,
        critic_of={},
        classes=(),
    )
    model = Model(programs, {"g": {}}, player="g", round=0, kind="raw", config={}, seed=0)
    with pytest.raises(
        UsageError, match=r"^--mode=project: g makes .* no latent\. --mode=sample with --num_samples"
    ):
        using._check_latent(model, "--mode=project")
    with pytest.raises(ValueError, match=r"no latent\. Call sample\(conditions="):
        model.latents(1)
    assert model.sample(conditions=[np.zeros((2, 4, 4, 1), np.float32)]).shape == (2, 4, 4, 1)


@pytest.mark.parametrize("mapped", [False, True])
def test_the_noise_of_a_seeds_sample_is_the_seeds_own(mapped):
    """The noise of seed 9 does not depend on what is beside it."""
    model = noisy(mapped)
    for labels, label in ((None, 1), (["dog"] * 3, "dog")):
        beside, numbers = using._of_seeds(model, [8, 9, 10], labels, 1.5)
        alone, number = using._of_seeds(model, [9], labels and labels[:1], 1.5)
        assert numbers[1] == number[0] == 1
        expected = model.sample(1, seed=9, labels=label, truncation=1.5)
        np.testing.assert_allclose(beside[1], expected[0], atol=1e-6)
        np.testing.assert_allclose(alone, expected, atol=1e-6)


@pytest.mark.parametrize("mapped", [False, True])
def test_the_noise_of_a_walk_does_not_change_on_the_way(mapped):
    """A linear walk is linear where the network is, and one from a latent to itself stands still."""
    model = noisy(mapped)
    walk = model.interpolate(seeds=(9, 4), steps=5, walk="linear", label="dog", truncation=1.5)[0]
    np.testing.assert_allclose(walk[0], model.sample(1, seed=9, labels="dog", truncation=1.5)[0], atol=1e-6)
    np.testing.assert_allclose(np.diff(walk, 2, axis=0), 0, atol=1e-6)
    still = model.interpolate(seeds=(9, 9), steps=3, walk="linear", label="dog")[0]
    np.testing.assert_allclose(still, still[:1].repeat(3, 0), atol=1e-6)


def test_walks_are_a_grid_and_an_animation(run, launched, tmp_path):
    launched("interpolate", "--sample_seeds=0,5,2", "--walk_steps=4", "--label=1", f"--out={tmp_path}")
    frames = np.load(tmp_path / "walks.npz")["x"]
    assert frames.shape == (2, 4, 8, 8, 1)
    expected = gj.load_model(run).interpolate(seeds=(0, 5, 2), steps=4, label=1)
    np.testing.assert_allclose(frames, expected, atol=1e-5)
    with Image.open(tmp_path / "walks.gif") as animation:
        assert animation.n_frames <= 8  # equal neighbours are shown once, for longer
    assert pixels(tmp_path / "walks.png").shape == (2 * 9 - 1, 4 * 9 - 1)


def test_a_run_is_exported_without_its_data(run, launched, tmp_path):
    """Of a copy on another machine, say; what needs derivatives says what to do."""
    copy, out = tmp_path / "copy", tmp_path / "exported"
    shutil.copytree(run, copy)
    saved = json.loads((copy / "config.json").read_text())
    saved["config"]["data"] = "moved.npz"
    (copy / "config.json").write_text(json.dumps(saved))
    launched("export", f"--out={out}", workdir=copy)
    exported = gj.load_model(out)
    np.testing.assert_allclose(exported.sample(5, seed=2), gj.load_model(run).sample(5, seed=2), atol=1e-5)
    with pytest.raises(ValueError, match="nor has an export made without the run's data"):
        gj.project(exported, np.zeros((8, 8, 1), np.float32))
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    _, _, err = launched.refused("project", f"--image={tmp_path / 'image.png'}", workdir=out)
    assert (
        "was exported without the run's data, so its programs have no derivatives: export the run again"
        in err
    )
    for arguments in (["export", "--format=onnx"], ["project", f"--image={tmp_path / 'image.png'}"]):
        _, _, err = launched.refused(*arguments, f"--out={tmp_path / 'other'}", workdir=copy)
        assert "'moved.npz'" in err
        assert "put them, or a link to them, where they were" in err
    assert not (tmp_path / "other").exists()
    for mode in ("evaluate", "sample", "describe", "train"):
        code, _, err = launched.refused(mode, workdir=copy)
        assert (code, len(err.splitlines())) == (2, 1)
        assert "was trained on 'moved.npz': where it lies elsewhere now, name it by --config.data=..." in err


@pytest.mark.full
def test_an_export_is_read_by_the_library_and_by_plain_jax(run, launched, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with Checkpoints(copy / "checkpoints") as checkpoints:
        scores = {"samples": {"ema": {"frechet": 12.5}}, "step": 3, "checkpoint": checkpoints.digest(3)}
    mark = {"key": "abc", "split": "digits", "metrics": ["frechet"]}
    evaluation = {**scores, "fingerprints": {"scores": mark}, "players": {}}
    (copy / "evaluation.json").write_text(json.dumps({"checkpoints": [evaluation]}))
    out = tmp_path / "exported"
    launched("export", "--format=stablehlo", "--license=cc0-1.0", f"--out={out}", workdir=copy)
    model, exported = gj.load_model(run), gj.load_model(out)
    assert (exported.round, exported.kind, exported.player) == (3, "ema", "generator")
    assert exported.classes == tuple(map(str, range(10)))
    drawn = model.sample(5, seed=2)
    np.testing.assert_allclose(exported.sample(5, seed=2), drawn, atol=1e-5)
    np.testing.assert_allclose(
        exported.scores(drawn, labels=range(5)), model.scores(drawn, labels=range(5)), atol=1e-5
    )
    program = jax_export.deserialize(bytearray((out / "sample.jaxexport").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    plain = program.call(model.latents(5, seed=2), np.arange(5, dtype=np.int32))
    np.testing.assert_allclose(plain, drawn, atol=1e-5)
    card = (out / "README.md").read_text()
    head = card.split("---\n")[1]
    assert 'license: "cc0-1.0"' in head
    assert 'fingerprint: "abc"' in head
    assert "value: 12.5" in head
    for text in (
        "| frechet | 12.5 |",
        "split digits",
        "samples.png",
        "--config.objective=hinge",
        f"jax {jax.__version__}",
    ):
        assert text in card, text
    assert pixels(out / "samples.png").ndim == 2
    said = launched("evaluate", "--metrics=path_length", "--num_samples=20", workdir=out)
    lengths = gj.path_length(exported, metrics.feature_distance(metrics.pixels()), samples=20)
    assert f"{lengths.value:.5g} [{lengths.interval()[0]:.4g}" in said
    (stored,) = json.loads((out / "evaluation.json").read_text())["checkpoints"]
    assert stored["samples"]["ema"][lengths.name] == pytest.approx(lengths.value)
    _, _, err = launched.refused("evaluate", workdir=out)
    assert "was exported, without data to evaluate it by: --metrics=path_length needs none" in err
    with pytest.raises(ValueError, match="the moving average only, got weights='raw'"):
        gj.load_model(out, weights="raw")
    described = json.loads((out / "model.json").read_text())
    for change, message in (
        ({"exported": None}, "was not written by --mode=export"),
        ({"exported": {**described["exported"], "player": "../critic"}}, r"weights of '\.\./critic'"),
        ({"exported": {**described["exported"], "round": "3"}}, r"exported\.round is '3'"),
        ({"exported": {"player": "generator"}}, r"exported\.round is None"),
    ):
        (out / "model.json").write_text(json.dumps({**described, **change}))
        with pytest.raises(WorkdirError, match=message):
            gj.load_model(out)
    (out / "model.json").write_text(json.dumps(described))
    for name in ("generator.jaxexport", "model.safetensors"):
        whole = (out / name).read_bytes()
        # One bit of a weight, or of the program.
        (out / name).write_bytes(whole[:-50] + bytes([whole[-50] ^ 1]) + whole[-49:])
        with pytest.raises(WorkdirError, match=rf"{name} (is damaged: it is not the file|is no program)"):
            gj.load_model(out)
        (out / name).write_bytes(whole)
    (out / "sample.jaxexport").unlink()
    np.testing.assert_array_equal(gj.load_model(out).sample(5, seed=2), exported.sample(5, seed=2))


def test_a_card_has_the_scores_of_its_own_weights_and_seed(tmp_path):
    def scored(**samples):
        mark = {"key": "abc", "metrics": ["frechet"], "protocol": "", "platform": "cpu"}
        return {"samples": samples, "fingerprints": {"scores": mark}, "players": {}}

    each = [scored(ema={"frechet": 3.0}), scored(ema={"frechet": 5.0})]
    each[1]["intervals"] = {"samples": {"ema": {"frechet": [4.0, 6.5]}}}
    several = {"step": 7, "checkpoint": "ab", **scored(ema={"frechet": 4.0}), "seeds": [2, 3], "each": each}
    several["overridden"] = [{"step": 5, "changed": ["held_out: 0.1 in the work directory, 0.2 now"]}]
    several["intervals"] = {"samples": {"ema": {"frechet": [-8.7, 16.7]}}}
    several["changed"] = ["the experiment's code: mine.py", "the data x"]
    (tmp_path / "evaluation.json").write_text(json.dumps({"checkpoints": [several]}))
    found = evaluation_file.of_checkpoint(Workdir(tmp_path), "ab", "ema", 3)
    assert found["samples"] == {"ema": {"frechet": 5.0}}
    assert evaluation_file.of_checkpoint(Workdir(tmp_path), "cd", "ema", 3) is None, (
        "other training to the same round"
    )
    facts = {"config": {}, "experiment": "ring", "player": "g", "round": 7, "classes": [], "data": {}}
    facts |= {"versions": {}, "commit": None, "command": "x"}
    options = {
        "inputs": [],
        "license": "unknown",
        "pictures": [],
        "stablehlo": False,
        "onnx": False,
        "noise": {},
    }
    card = model_card({**facts, "weights": "ema"}, evaluation=found, **options)
    assert "| frechet | 5 [4, 6.5] |" in card
    assert "Fingerprint: key abc, platform cpu\n" in card
    assert "From round 5 on the run was trained with held_out: 0.1 in the work directory, 0.2 now" in card
    assert "evaluated with what it was not trained with: the experiment's code: mine.py; the data x." in card
    before = model_card({**facts, "round": 5, "weights": "ema"}, evaluation=found, **options)
    assert "0.2 now: this round was trained before, and is scored with what the run has since." in before
    first = evaluation_file.of_checkpoint(Workdir(tmp_path), "ab", "ema", 2)
    assert "| frechet | 3 |" in model_card({**facts, "weights": "ema"}, evaluation=first, **options)
    of_raw = model_card({**facts, "weights": "raw"}, evaluation=found, **options)
    assert "| frechet |" not in of_raw
    assert "The raw weights were not evaluated at this round" in of_raw
    assert "Commit" not in of_raw
    assert "Commit: `1a2b`" in model_card(
        {**facts, "weights": "raw", "commit": "1a2b"}, evaluation=None, **options
    )
    assert "not trained again" not in of_raw
    changed = [(5, ["rate: 1 in the work directory, 2 now"])]
    otherwise = model_card({**facts, "weights": "raw"}, evaluation=None, overridden=changed, **options)
    assert "from round 5 on the run was trained with rate: 1 in the work directory, 2 now." in otherwise


@pytest.mark.parametrize(
    ("inputs", "task", "call"),
    [
        ([("z", (8,), "float32")], "unconditional-image-generation", "model.sample(16, seed=0)"),
        (
            [("z", (8,), "float32"), ("labels", (), "int32")],
            "unconditional-image-generation",
            "model.sample(16",
        ),
        ([("condition_0", (32, 32, 1), "float32")], "image-to-image", "model.sample(conditions=given)"),
    ],
)
def test_a_card_shows_how_its_generator_is_called(inputs, task, call):
    """A generator that translates images was shown as one of latents, whose call fails."""
    facts = {"config": {}, "experiment": "mine", "player": "g", "round": 7, "classes": [], "data": {}}
    facts |= {"versions": {}, "commit": None, "command": "x", "weights": "raw"}
    card = model_card(
        facts,
        evaluation=None,
        inputs=inputs,
        license="mit",
        pictures=[],
        stablehlo=False,
        onnx=False,
        noise={},
    )
    assert f'pipeline_tag: "{task}"' in card
    assert call in card


@pytest.mark.parametrize(
    "stored",
    [
        "[]",
        "{",
        '{"checkpoints": [5]}',
        '{"checkpoints": [{"checkpoint": "ab"}]}',
        '{"checkpoints": [{"checkpoint": "ab", "samples": {"ema": 3}, "fingerprints": {}}]}',
        '{"checkpoints": [{"checkpoint": "ab", "samples": {}, "fingerprints": {"a": {}}}]}',
        '{"checkpoints": [{"checkpoint": "ab", "samples": {}, "fingerprints": {}, "each": [], "seeds": []}]}',
        '{"checkpoints": [{"checkpoint": "ab", "samples": {}, "fingerprints": {}, "overridden": [5]}]}',
    ],
)
def test_an_evaluation_of_another_form_is_damaged(tmp_path, stored):
    (tmp_path / "evaluation.json").write_text(stored)
    with pytest.raises(UsageError, match=r"evaluation\.json is damaged: evaluate again"):
        evaluation_file.of_checkpoint(Workdir(tmp_path), "ab", "ema", 3)


def test_an_export_clears_what_an_earlier_one_wrote_and_nothing_else(tmp_path):
    earlier = ("generator.onnx", "sample.jaxexport", "critic.jaxexport", "samples.png")
    for name in (*earlier, "notes.txt", "mine.png"):
        (tmp_path / name).write_text(name)
    assert exporting._stale(epath.Path(tmp_path)) == []  # a folder that was not exported
    (tmp_path / "model.json").write_text("{}")
    stale = {*exporting._stale(epath.Path(tmp_path))}
    assert stale >= {*earlier}
    assert not stale & {"notes.txt", "mine.png"}


def test_an_export_replaces_no_file_of_somebody_else(launched, tmp_path):
    """The README of a repository to which a model was exported, and a card that was edited, were lost."""
    card, out = tmp_path / "README.md", f"--out={tmp_path}"

    def refused(text):
        card.write_text(text)
        code, _, err = launched.refused("export", out)
        assert code == 2, err
        assert "has README.md, not as an earlier export has written it: move it, or name another" in err
        assert card.read_text() == text

    refused("mine")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    card.unlink()
    launched("export", out)
    launched("export", "--license=mit", out)
    assert 'license: "mit"' in card.read_text()
    refused(card.read_text() + "My own words.")


def test_an_export_removes_no_file_of_somebody_else(launched, tmp_path):
    """A program of somebody's own, an edited one and an evaluation of the export went with the stale files."""
    out = f"--out={tmp_path}"
    launched("export", "--format=onnx", out)
    written = (tmp_path / "generator.onnx").read_bytes()
    for name, content in (
        ("mine.jaxexport", b"mine"),
        ("evaluation.json", b'{"checkpoints": []}'),
        ("generator.onnx", written + b"simplified"),
    ):
        (tmp_path / name).write_bytes(content)
        code, _, err = launched.refused("export", out)
        assert code == 2, err
        assert f"has {name}, not as an earlier export has written it: move it" in err
        assert (tmp_path / name).read_bytes() == content
        (tmp_path / name).unlink()
    (tmp_path / "generator.onnx").write_bytes(written)
    launched("export", out)
    assert not (tmp_path / "generator.onnx").exists()


def test_nothing_is_written_among_the_files_of_a_run_or_through_a_link(run, launched, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "walks_spherical_00000003").symlink_to(outside)
    for mode, flags, message in (
        ("export", [f"--out={copy}"], "holds the files of a run"),
        ("sample", ["--sample_seeds=0", f"--out={copy / 'model'}"], "holds the files of a run"),
        ("sample", ["--sample_seeds=0", f"--out={copy / 'checkpoints' / 'new'}"], "holds the files of a run"),
        (
            "interpolate",
            ["--sample_seeds=0,1", "--walk_steps=2"],
            "is a link, and nothing is written through",
        ),
    ):
        code, _, err = launched.refused(mode, *flags, workdir=copy)
        assert code == 2, err
        assert message in err
    assert list(outside.iterdir()) == []
    assert (copy / "model" / "model.json").read_bytes() == (run / "model" / "model.json").read_bytes()


def test_samples_of_as_many_of_each_class_say_so(launched, tmp_path):
    """Of data that are 9 : 1 a perfect generator's would be at a distance from them, for that alone."""
    out = tmp_path / "out"
    launched("sample", "--sample_seeds=0-49", f"--out={out}")
    assert "as many samples of each class" in launched.err
    launched("sample", "--sample_seeds=0-49", f"--out={tmp_path / 'one'}", "--label=3")
    assert "each class" not in launched.err
    launched("sample")  # digits are as frequent as one another
    assert "each class" not in launched.err
    rng = np.random.default_rng(0)
    data = {"x": rng.integers(0, 256, (200, 8, 8, 1), np.uint8), "y": np.repeat([0, 1], [180, 20])}
    np.savez(tmp_path / "rare.npz", **data)
    config = images.get_config()
    config.update({**FIELDS, "data": str(tmp_path / "rare.npz")})
    experiment = images.build(config)
    states = {3: init_state(experiment.game, jax.random.key(0))}
    rare = written(tmp_path / "rare", experiment, config, states, name="experiments/images.py")
    launched("sample", "--num_samples=20", workdir=rare)
    assert "as many samples of each class" in launched.err
    assert np.load(rare / "samples" / "sampled_00000000.npz")["y"].tolist() == [0, 1] * 10


def test_samples_of_an_earlier_command_are_named(launched, tmp_path):
    launched("sample", "--sample_seeds=7", f"--out={tmp_path}")
    assert launched.err == ""
    launched("sample", "--sample_seeds=0", f"--out={tmp_path}")
    assert len(list(tmp_path.glob("seed_7_*.png"))) == 1
    assert "1 samples of an earlier command" in launched.err


@pytest.mark.parametrize(
    ("mode", "flags", "names"),
    [
        ("sample", ["--sample_seeds=0-1"], ["grid.png", "seed_0_class_0.png"]),
        ("sample", ["--sample_seeds=0-1"], ["samples.npz"]),
        ("interpolate", ["--sample_seeds=0,1", "--walk_steps=2"], ["walks.gif"]),
        ("project", ["--project_steps=2"], ["projected.png", "projection.npz"]),
    ],
)
def test_samples_walks_and_projections_replace_no_file_of_somebody_else(
    launched, tmp_path, mode, flags, names
):
    image, out = tmp_path / "image.png", tmp_path / "out"
    Image.fromarray(np.full((8, 8), 80, np.uint8)).save(image)
    given = [*flags, f"--out={out}", *([f"--image={image}"] if mode == "project" else [])]
    out.mkdir()
    for name in names:
        np.savez(out / name, notes=1) if name.endswith("npz") else (out / name).write_text("mine")
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, _, err = launched.refused(mode, *given)
    assert (code, err.count("\n")) == (2, 1)
    assert f"has {', '.join(names)}, of no earlier command of the kind: name a directory" in err
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    shutil.rmtree(out)
    for _ in range(2):  # what the command wrote itself it replaces
        launched(mode, *given)


@pytest.mark.full
def test_an_exported_onnx_file_gives_the_same_samples(run, launched, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    launched("export", "--format=onnx", f"--out={tmp_path}")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "generator.onnx"), providers=["CPUExecutionProvider"]
    )
    model = gj.load_model(tmp_path)
    z, labels = model.latents(6, seed=1), np.arange(6, dtype=np.int32)
    (there,) = session.run(["samples"], {"z": z, "labels": labels})
    np.testing.assert_allclose(there, model.sample(z=z, labels=labels), atol=1e-5, rtol=0)
    # A browser runs this file: the folder of explore is made of it, without the run.
    programs = exploring._exported_programs(Workdir(tmp_path), model)
    assert programs == onnx_programs(gj.load_model(run, config="images"))
    (tmp_path / "generator.onnx").unlink()
    code, _, err = launched.refused("explore", f"--out={tmp_path / 'page'}", workdir=tmp_path)
    assert code == 2
    assert "lacks generator.onnx, which a browser runs: export the run with --format=onnx" in err


@pytest.mark.parametrize(
    ("mode", "flags", "message"),
    [
        ("sample", ["--sample_seeds=5-2"], "seeds as in 0-499"),
        ("sample", ["--sample_seeds=0", "--label=dress"], "no class 'dress'"),
        ("sample", ["--sample_seeds=0", "--truncation=x"], "--truncation is a number"),
        ("interpolate", ["--walk=random"], "spherical or linear"),
        ("interpolate", ["--sample_seeds=1"], "two ends"),
        ("interpolate", ["--walk_steps=-1"], "whole number"),
        ("project", [], "name the image"),
        ("project", ["--image={image}", "--distance=colours"], "Unknown extractor 'colours'"),
        ("export", ["--format=pickle"], "--format is one of safetensors"),
    ],
)
def test_mistakes_are_one_line(launched, tmp_path, mode, flags, message):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "image.png")
    code, _, err = launched.refused(mode, *(flag.format(image=tmp_path / "image.png") for flag in flags))
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def quadratic_model(critic=None):
    """A generator of 2 x 2 images that mixes its latent by a matrix and a nonlinearity that can be undone."""
    mix = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)

    def call(weights, key, z):
        return jnp.tanh(z @ weights["mix"] / 2).reshape(-1, 2, 2, 1)

    shape = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    programs = Programs(
        generators={"g": Program(call, {"mix": jax.ShapeDtypeStruct((4, 4), jnp.float32)}, (shape,))},
        critics={"c": critic} if critic else {},
        mappings={},
        syntheses={},
        latent=lambda key: jax.random.normal(jax.random.wrap_key_data(key), (1000, 4)),
        critic_of={"g": "c"} if critic else {},
        classes=(),
    )
    weights = {"g": {"mix": mix}, "c": {}}
    return Model(programs, weights, player="g", round=0, kind="raw", config={}, seed=0)


@pytest.mark.full
def test_projection_recovers_the_latent_of_a_generated_sample():
    model = quadratic_model()
    z = model.latents(1, seed=5)
    found = project(model, model.sample(z=z)[0], seed=1)
    np.testing.assert_allclose(found.latent, z, atol=0.01)
    np.testing.assert_allclose(found.image, model.sample(z=z)[0], atol=0.003)
    assert found.distance < 1e-5
    assert found.history.shape == (1000,)
    assert found.history[-1] < 0.01 * found.history[0]


def test_a_search_is_shown_and_has_as_many_steps_as_it_is_given(capsys):
    """In dispatches of twenty steps and a rest; without noise every distance is that of a latent on the way."""
    model = quadratic_model()
    target = model.sample(z=model.latents(1, seed=5))[0]
    found = project(model, target, seed=1, steps=25, noise=0.0, progress=True)
    assert found.history.shape == (25,)
    assert (found.history > 0).all()
    assert found.distance < found.history[-1] < found.history[0]
    said = capsys.readouterr().err
    assert "candidates" in said
    assert "25/25" in said


@pytest.mark.full
def test_projection_by_features_compares_features():
    halves = Program(
        lambda weights, key, x: {"score": x[:, 0, 0, 0], "features": x.reshape(-1, 4)[:, :2]},
        {},
        (jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32),),
    )
    model = quadratic_model(halves)
    target = model.sample(1, seed=5)[0]
    found = project(model, target, distance="features", steps=300)
    np.testing.assert_allclose(found.image.ravel()[:2], target.ravel()[:2], atol=0.01)
    with pytest.raises(ValueError, match="no head 'features'"):
        project(quadratic_model(), target, distance="features")
    with pytest.raises(ValueError, match="pixels, features, an extractor or a function"):
        project(quadratic_model(), target, distance="colours")
    of_critic = metrics.from_callable("two pixels", lambda x: x.reshape(-1, 4)[:, :2])
    same = project(model, target, distance=of_critic, steps=300)
    np.testing.assert_allclose(same.latent, found.latent, atol=1e-3)


@pytest.mark.parametrize(("seeds", "said"), [(1, ""), (3, ", seed 6 of the run's 3 seeds")])
def test_what_is_made_of_one_of_several_seeds_says_so(seeds, said):
    model = types.SimpleNamespace(round=9, kind="raw", seed=6, config={"seed": 5, "seeds": seeds})
    assert using.origin(model) == f"round 9 (raw weights{said})"


def test_an_extractor_without_derivatives_is_no_distance():
    def outside(x):
        return jax.pure_callback(
            lambda y: np.reshape(y, (len(y), -1)), jax.ShapeDtypeStruct((len(x), 4), x.dtype), x
        )

    extractor = metrics.from_callable("outside", outside)
    with pytest.raises(ValueError, match="The features of 'outside' have no derivatives"):
        project(quadratic_model(), np.zeros((2, 2, 1), np.float32), distance=extractor, starts=2)


@pytest.mark.full
def test_projection_by_an_extractor_that_the_command_names(run, launched, tmp_path, monkeypatch):
    monkeypatch.setattr(projection, "project", functools.partial(project, steps=30))
    model = gj.load_model(run, config="images")
    Image.fromarray(to_uint8(model.sample(1, seed=4, labels=3)[0])[..., 0]).save(tmp_path / "three.png")
    flags = [f"--image={tmp_path / 'three.png'}", "--label=3", "--distance=classifier:digits"]
    said = launched("project", *flags, f"--out={tmp_path / 'out'}")
    with np.load(tmp_path / "out" / "projection.npz") as stored:
        levels = pixels(tmp_path / "three.png")[..., None].astype(np.float32) / 127.5 - 1
        both = metrics.extract(metrics.classifier_for("digits"), np.stack([levels, stored["x"]])).features
    distance = np.mean((both[0] - both[1]) ** 2)
    assert f"at a distance of {distance:.3g}"[:-1] in said


def test_an_image_to_project_is_read_in_the_range_of_the_runs_images(run, launched, tmp_path, monkeypatch):
    """White is 100 in a run with value_range=0,100: as 100 of 255 it was looked for as dark grey."""
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    saved = json.loads((workdir / "config.json").read_text())
    saved["config"]["value_range"] = "0,100"
    (workdir / "config.json").write_text(json.dumps(saved))
    found = []

    def find(model, image, **options):
        found.append(image)
        return types.SimpleNamespace(
            image=np.zeros(image.shape), latent=np.zeros(4), history=[], distance=0.0
        )

    monkeypatch.setattr(projection, "project", find)
    monkeypatch.setattr(using, "rebuilt", lambda request, model: model)
    levels = np.random.default_rng(0).integers(101, size=(8, 8), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "image.png")
    launched("project", f"--image={tmp_path / 'image.png'}", f"--out={tmp_path / 'out'}", workdir=workdir)
    np.testing.assert_array_equal(found[0][..., 0], np.round(levels * 2.55))
    Image.fromarray(levels + 100).save(tmp_path / "other.png")
    flags = f"--image={tmp_path / 'other.png'}", f"--out={tmp_path / 'other'}"
    code, _, err = launched.refused("project", *flags, workdir=workdir)
    assert code != 0
    assert "which value_range=(0, 100) does not hold" in err


def test_a_movie_is_made_where_ffmpeg_is(monkeypatch, tmp_path):
    frames = [np.full((3, 4, 1), value, np.uint8) for value in (0, 255)]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert to_mp4(frames) is None
    fake = tmp_path / "ffmpeg"
    fake.write_text('#!/bin/sh\nfor last; do :; done\n/bin/cat > "$last"\n')
    fake.chmod(0o755)
    movie = to_mp4(frames)  # what ffmpeg is given: frames of even size, three channels
    assert len(movie) == 2 * 4 * 4 * 3
    assert movie[: 3 * 4 * 3] == bytes(36)
    assert movie[36:48] == b"\xff" * 12
    with pytest.raises(ValueError, match="of one shape"):
        to_gif([frames[0], frames[1][:2]])


@pytest.mark.full
def test_a_movie_of_ffmpegs_shows_the_frames(tmp_path):
    """Decoded again, every frame has its grey, and the padded column of an odd width is white."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed (apt-get install ffmpeg)")
    frames = [np.full((64, 47, 1), value, np.uint8) for value in (20, 120, 230)]
    path = tmp_path / "movie.mp4"
    path.write_bytes(to_mp4(frames, milliseconds=100))
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True).stdout
    shown = np.frombuffer(decoded, np.uint8).reshape(3, 64, 48)
    for image, frame in zip(shown, frames, strict=True):
        assert np.abs(image[:, :40].astype(int) - int(frame[0, 0, 0])).max() <= 6
        assert image[:, 47].mean() > 225


def test_without_ffmpeg_a_line_says_that_there_is_no_movie(run, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    flags = [
        "--mode=interpolate",
        f"--workdir={run}",
        "--sample_seeds=0,1",
        "--walk_steps=2",
        f"--out={tmp_path}",
    ]
    code, _, err = launch_here(monkeypatch, capsys, *flags)
    assert (code, err) == (0, "No MP4 beside the GIF: ffmpeg is not installed.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walks.gif", "walks.npz", "walks.png"]


def test_a_strangers_run_is_sampled_by_its_model(run, monkeypatch, capsys, tmp_path):
    """Its code is not run, and no flag asks for it."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    content = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**content, "experiment": str(copy / "evil.py")}))
    (copy / "evil.py").write_text("raise SystemExit('run')")
    flags = ["--mode=sample", f"--workdir={copy}", "--num_samples=3"]
    code, out, err = launch_here(monkeypatch, capsys, *flags)
    assert (code, err) == (0, "")
    assert f"3 samples of round 3 (ema weights): {copy / 'sampled_00000003'}" in out
    assert (copy / "sampled_00000003" / "seed_2_class_2.png").exists()
    code, _, err = launch_here(monkeypatch, capsys, *flags, "--standing_statistics=2")
    assert code == 2
    assert "config=" in err
    assert "Traceback" not in err


@pytest.mark.full
def test_an_average_that_is_not_kept_is_not_given(tmp_path, monkeypatch, capsys):
    config = images.get_config()
    config.update({**FIELDS, "ema": 0.0})
    experiment = images.build(config)
    state = init_state(experiment.game, jax.random.key(0))
    workdir = written(tmp_path / "run", experiment, config, {3: state}, name="experiments/images.py")
    for flags in (["--sample_seeds=0"], []):
        code, _, err = launch_here(
            monkeypatch, capsys, "--mode=sample", f"--workdir={workdir}", "--weights=ema", *flags
        )
        assert code == 2
        assert "keeps a moving average" in err


def test_no_name_acts_as_markup_in_a_card():
    """A class, a metric and a configuration from anywhere make no HTML, link, line, end of code or escape."""
    evil = "</p><script>x</script>\x1b[2J\n# big\r![a](//b/c.png) | \u202eb` ```\n```\n<img src=x>"
    evaluation = {
        "samples": {"raw": {evil: 1.5}},
        "fingerprints": {"a": {"key": evil, "metrics": []}},
        "overridden": [{"step": 1, "changed": [evil]}],
        "changed": [evil],
    }
    facts = {"player": evil, "round": 7, "weights": "raw", "experiment": evil, "commit": evil}
    facts |= {"config": {"data": evil, "objective": evil}, "data": {evil: evil}, "classes": [evil, "b"]}
    facts |= {"versions": {"jax": evil}, "command": f"gan-jax --config={evil}"}
    card = model_card(
        facts,
        evaluation=evaluation,
        inputs=[],
        license=evil,
        pictures=[],
        stablehlo=False,
        onnx=False,
        noise={},
    )
    assert all(character.isprintable() or character == "\n" for character in card)
    head, body = card.split("---\n")[1:]
    assert json.loads(head.splitlines()[0].removeprefix("license: ")) == evil
    outside, fence = [], None
    for line in body.splitlines():
        ticks = line[: len(line) - len(line.lstrip("`"))]
        if fence is None and len(ticks) >= 3:
            fence = ticks
        elif line == fence:
            fence = None
        elif fence is None:
            outside.append(line)
    assert fence is None
    assert [line for line in outside if line.startswith("#")] == [
        next(line for line in outside if line.startswith("# ")),
        "## Use",
        "## Data",
        "## Evaluation",
        "## Training",
    ]
    for line in outside:
        spans = re.sub(r"(?<!\\)(`+)(?!`).+?(?<!`)\1(?!`)", "", line)
        assert not re.search(
            r"[<>]|(?<!\\)[\[`|]", spans.removeprefix("| ").removesuffix(" |").replace(" | ", "")
        )


@pytest.mark.parametrize("how", ["pipe", "link"])
def test_what_an_export_is_loaded_from_is_a_regular_file(launched, tmp_path, how):
    """A pipe in place of the weights made a reader wait for ever."""
    out = tmp_path / "exported"
    launched("export", f"--out={out}")
    for name in ("model.safetensors", "generator.jaxexport"):
        (out / name).rename(tmp_path / name)
        os.mkfifo(out / name) if how == "pipe" else (out / name).symlink_to(tmp_path / name)
        with pytest.raises(WorkdirError, match=r"it is (a link|not a regular file)"):
            gj.load_model(out)
        (out / name).unlink()
        (tmp_path / name).rename(out / name)
    assert gj.load_model(out).round == 3
