"""`--mode=evaluate`: what is said of a run that `--override` changed, and where a disk is full."""

import concurrent.futures
import dataclasses
import errno
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from experiments import translation
from gan_jax.cli import changes, comparing, errors, evaluating, evaluation_file, using
from gan_jax.cli.opened_run import OpenedRun
from gan_jax.evaluation import scoring
from gan_jax.evaluation.batches import iterate_host_batches
from gan_jax.runs.config import write_config
from gan_jax.runs.workdir import Workdir

HELD_OUT = "held_out: 0.1 in the work directory, 0.2 now"


def test_what_an_override_changed_is_said(tmp_path, capsys):
    workdir = Workdir(tmp_path)
    run = SimpleNamespace(workdir=workdir, experiment=SimpleNamespace(held_out=[1]))
    write_config(workdir, {}, overridden=["seed: 0 in the work directory, 1 now"])  # before the first round
    write_config(workdir, {}, step=7, overridden=[HELD_OUT])
    assert evaluating._overridden(run) == [{"step": 7, "changed": [HELD_OUT]}]
    said = capsys.readouterr().err
    assert f"--override changed this run: from round 7 with {HELD_OUT}." in said
    assert "held out now may have been trained on before" in said
    run.experiment.held_out = None
    evaluating._overridden(run)
    assert "trained on before" not in capsys.readouterr().err


def test_a_round_from_before_an_override_is_marked(tmp_path):
    """A run is read by its last configuration, which its earlier checkpoints were not trained with."""
    workdir = Workdir(tmp_path)
    write_config(workdir, {}, overridden=["seed: 0 in the work directory, 1 now"])  # before the first round
    write_config(workdir, {}, step=20, overridden=[HELD_OUT])
    assert changes.later_message(workdir, 21) == ""
    for step in (10, 20):
        said = changes.later_message(workdir, step)
        assert said.startswith(f"Round {step} of ")
        assert f"(from round 20 with {HELD_OUT})" in said
        assert "seed" not in said


def test_nothing_is_said_of_a_run_that_was_not_changed(tmp_path, capsys):
    workdir = Workdir(tmp_path)
    write_config(workdir, {})
    assert evaluating._overridden(SimpleNamespace(workdir=workdir, experiment=None)) == []
    assert capsys.readouterr().err == ""


def test_an_evaluation_is_shown_where_it_cannot_be_written(tmp_path, monkeypatch, capsys):
    found = {"step": 5, "samples": {"raw": {"modes": 3.0}}, "fingerprints": {}, "players": {}}

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(evaluation_file, "write_atomically", full)
        with pytest.raises(
            errors.UsageError, match=r"evaluation\.json could not be written: the disk is full"
        ):
            evaluation_file.write(Workdir(tmp_path), [found])
    assert "modes" in capsys.readouterr().out
    evaluation_file.write(Workdir(tmp_path), [found])
    assert json.loads((tmp_path / "evaluation.json").read_text())["checkpoints"] == [found]


@dataclasses.dataclass(frozen=True, eq=False)
class Run(OpenedRun):
    """A run with the checkpoints of rounds 2, 4 and 6."""

    def weights(self, request):
        return "raw"

    def standing(self, request):
        return None

    def restored(self, steps, devices=None):
        return (SimpleNamespace(step=step, state=step, digest=f"of {step}") for step in (2, 4, 6))

    def per_seed(self, state, standing=None):
        return [(self.experiment, state)]


@pytest.mark.parametrize("error", [ValueError("NaN"), KeyboardInterrupt(), SystemExit(1)])
def test_the_evaluations_before_one_that_fails_are_kept_and_shown(error, tmp_path, monkeypatch, capsys):
    """The third of three checkpoints fails: what was measured of the first is on disk before, as for a kill."""
    path = tmp_path / "evaluation.json"
    experiment = SimpleNamespace(source=None, extractor="", evaluations={}, seeds=1)
    monkeypatch.setattr(evaluating, "open_run", lambda request: Run(Workdir(tmp_path), experiment))
    monkeypatch.setattr(evaluating, "_overridden", lambda run: [])
    monkeypatch.setattr(evaluating, "_scored", lambda *_: experiment)
    monkeypatch.setattr(evaluating, "_batch", lambda *_: None)
    monkeypatch.setattr(evaluating, "_wanted", lambda request, run: [2, 4, 6])
    monkeypatch.setattr("gan_jax.evaluation.batches.iterate_host_batches", lambda source: iter([0]))
    stored = lambda: [entry["step"] for entry in json.loads(path.read_text())["checkpoints"]]  # noqa: E731
    before = []

    def measured(experiment, state, batch, weights):
        before.append(stored() if path.exists() else [])
        if state == 6:
            raise error
        return {"step": state, "samples": {"raw": {"modes": float(state)}}, "fingerprints": {}, "players": {}}

    monkeypatch.setattr("gan_jax.evaluation.evaluate.evaluate", measured)
    names = ("workdir", "intervals", "metrics", "lpips", "checkpoint", "extractor", "protocol", "player")
    request = SimpleNamespace(**dict.fromkeys(names))
    with pytest.raises(type(error)):
        evaluating.evaluate(request)
    assert before == [[], [2], [2, 4]]
    assert stored() == [2, 4]
    assert "modes" in capsys.readouterr().out


def test_a_generator_of_another_entry_is_not_compared_with_what_was_held_out_of_x(tmp_path):
    """The samples of CycleGAN's second generator, edges, were compared with digits that were held out."""
    config = translation.get_config()
    config.update({"data": "edges:digits", "width": 4, "batch_size": 16, "objective": "cycle_gan"})
    held_out = np.random.default_rng(0).uniform(-1, 1, (50, 8, 8, 1)).astype(np.float32)
    experiment = dataclasses.replace(translation.build(config), held_out=held_out)
    workdir = Workdir(tmp_path)
    write_config(workdir, {})
    request = SimpleNamespace(num_samples=20, player=None, data="", metrics="frechet", extractor="pixels")
    request.protocol, request.intervals = None, "no"
    batches = iterate_host_batches(experiment.source)
    found = evaluating._scored(request, OpenedRun(workdir, experiment, ()), experiment, batches).evaluations
    samples = held_out[:20]
    splits = {
        player: found[f"generator_{player}/scores"](samples).fingerprint.split for player in ("ab", "ba")
    }
    assert splits == {"ab": "the run's held-out data", "ba": "the run's own data"}


MARKS = ("key", "extractor", "weights", "resize", "value_range", "split")
SIZES = {"real": 100, "fake": 100, "seed": 0}


def evaluated(step=10, samples=500, key="a", intervals=False, **numbers):
    return {
        "step": step,
        "checkpoint": f"digest of {step}",
        "evaluation_samples": samples,
        "samples": {"ema": numbers},
        "fingerprints": {"scores": {**dict.fromkeys(MARKS, key), **SIZES, "metrics": list(numbers)}},
        "players": {},
        **({"intervals": {"samples": {"ema": {name: [0, 1] for name in numbers}}}} if intervals else {}),
    }


def test_earlier_evaluations_are_kept_but_for_what_is_measured_again(tmp_path, capsys):
    """An evaluation takes up to hours; another round, fewer metrics or fewer samples say nothing of it."""
    full = evaluated(intervals=True, frechet=3.0, precision=0.5)
    others = [
        evaluated(step=5, frechet=9.0),
        evaluated(frechet=3.5),
        evaluated(samples=50, intervals=True, frechet=4.0, precision=0.4),
        evaluated(key="b", intervals=True, frechet=4.0, precision=0.4),
        evaluated(path_length=7.0),
    ]
    stored = lambda: json.loads((tmp_path / "evaluation.json").read_text())["checkpoints"]  # noqa: E731
    for given in [full, *others]:
        evaluation_file.write(Workdir(tmp_path), [given])
    assert stored() == [full, *others]
    assert "beside 5 earlier evaluations" in capsys.readouterr().out
    again = evaluated(intervals=True, frechet=3.0, precision=0.5, recall=0.25)
    evaluation_file.write(Workdir(tmp_path), [again])
    assert stored() == [others[0], *others[2:], again], "the whole one and a part of it are measured again"
    assert evaluation_file.of_checkpoint(Workdir(tmp_path), "digest of 10", "ema", 0) == again
    assert evaluation_file.of_checkpoint(Workdir(tmp_path), "digest of 5", "ema", 0) == others[0]


def test_evaluations_that_end_at_one_time_are_all_kept(tmp_path, monkeypatch):
    """Each reads what is there and writes it again: the one in between would be lost."""
    read = evaluation_file._stored

    def slowly(path):
        found = read(path)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(evaluation_file, "_stored", slowly)
    steps = range(1, 5)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ends = [
            pool.submit(evaluation_file.store, Workdir(tmp_path), [{"step": step, "samples": {}}])
            for step in steps
        ]
    assert sorted(end.result() for end in ends) == [0, 1, 2, 3]
    stored = json.loads((tmp_path / "evaluation.json").read_text())["checkpoints"]
    assert sorted(entry["step"] for entry in stored) == [*steps]


def test_an_export_has_the_evaluation_of_its_own_weights_and_statistics(tmp_path):
    averaged = evaluated(frechet=1.0, precision=0.5)
    raw = {**evaluated(frechet=9.0), "samples": {"raw": {"frechet": 9.0}}}
    standing = {**evaluated(frechet=2.0, precision=0.5, recall=0.5), "standing_statistics": 16}
    for given in (averaged, raw, standing):
        evaluation_file.write(Workdir(tmp_path), [given])
    stored = json.loads((tmp_path / "evaluation.json").read_text())["checkpoints"]
    assert stored == [averaged, raw, standing], "standing statistics make other samples"
    assert evaluation_file.of_checkpoint(Workdir(tmp_path), "digest of 10", "ema", 0) == averaged
    assert evaluation_file.of_checkpoint(Workdir(tmp_path), "digest of 10", "raw", 0) == raw
    assert evaluation_file.of_checkpoint(Workdir(tmp_path), "digest of 10", "ema", 0, 16) == standing
    assert evaluation_file.of_checkpoint(Workdir(tmp_path), "digest of 10", "ema", 0, 8) is None


@pytest.mark.parametrize(
    "damaged", ["{", '{"checkpoints": [{"samples": 3}]}', '{"checkpoints": 7}', "of EIO"]
)
def test_a_file_of_evaluations_that_cannot_be_read_is_kept_and_said(damaged, tmp_path, monkeypatch, capsys):
    """Its evaluations may have taken hours: they may be mended, or written by a newer version."""
    (tmp_path / "evaluation.json").write_text(damaged)

    def unreadable(path):
        raise OSError(errno.EIO, "Input/output error")

    if damaged == "of EIO":
        monkeypatch.setattr(evaluation_file, "read_regular", unreadable)
    evaluation_file.write(Workdir(tmp_path), [evaluated(frechet=1.0)])
    (aside,) = tmp_path.glob("evaluation_unread_*.json")
    assert aside.read_text() == damaged
    assert f"could not be read: it is {aside.name} now" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "evaluation.json").read_text())["checkpoints"]) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "a file cannot be written: the disk is full"),
        (
            OSError(errno.EROFS, "Read-only file system", "a/b"),
            "a/b cannot be opened or written: the file system",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            "a/b cannot be opened or written: no permission",
        ),
    ],
)
def test_what_a_disk_refuses_is_one_line(error, message):
    with pytest.raises(errors.UsageError, match=message), errors.translated():
        raise error


def test_other_errors_of_files_keep_their_traceback():
    with pytest.raises(FileNotFoundError), errors.translated():
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")


def test_files_of_images_are_read_in_the_range_of_a_run_that_was_trained_on_such(tmp_path):
    """A folder of grey levels up to 100, white in training, was compared as dark grey."""
    folder = {"data": "masks/train", "value_range": "0,100"}
    assert using.range_of(folder, "masks/test") == (0.0, 100.0)
    assert using.range_of({**folder, "data": "train.npz"}, "test.npz") == (0.0, 100.0)
    assert using.range_of({**folder, "data": "train.npz"}, "masks/test") is None
    assert using.range_of({"value_range": "0,100"}, "masks/test") is None
    assert using.range_of({"data": "masks/train", "value_range": ""}, "masks/test") is None
    levels = np.random.default_rng(0).integers(101, size=(9, 4, 4, 1), dtype=np.uint8)
    for place, image in enumerate(levels):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{place}.png")
    real, _ = scoring.reference(str(tmp_path), (4, 4, 1), None, 9, value_range=(0.0, 100.0))
    np.testing.assert_array_equal(real, np.round(levels * 2.55).astype(np.uint8))


def test_a_comparison_with_a_run_of_another_range_says_so(tmp_path):
    """The other set is not read in that range: nothing says that it has it."""

    def run(name, **config):
        workdir = Workdir(tmp_path / name)
        write_config(workdir, config)
        workdir.checkpoints.mkdir()
        return str(workdir.root)

    of_its_own, usual = run("film", value_range="0,1000"), run("usual", value_range="0,1")
    said = comparing._of_another_range(("real.npz", of_its_own, usual, ""))
    assert f"a value_range of their own: {of_its_own} (0,1000). Other sets are read in [0, 255]" in said
    assert "--mode=evaluate --workdir=RUN --data=SET reads it in that" in said
    assert comparing._of_another_range((of_its_own, usual)) == ""
    assert comparing._of_another_range(("real.npz", usual)) == ""
