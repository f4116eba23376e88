"""Files that a user names, on a disk that is full: what was there stays, and the message is one line."""

import contextlib
import errno
import json
import os

import numpy as np
import pytest

from gan_jax import metrics
from gan_jax.cli import new_experiment, sweep_files, sweep_grid, sweep_report, sweeping
from gan_jax.cli.comparing import compare as compare_command
from gan_jax.cli.errors import UsageError
from gan_jax.cli.request import COMPARISON, Request
from gan_jax.data import check
from gan_jax.data.errors import DataError
from gan_jax.evaluation.compare import compare
from gan_jax.files import replace_file, write_atomically
from gan_jax.metrics.statistics import refuse_others, write_statistics
from gan_jax.pictures import Row, curves, figure, save
from gan_jax.training.experiment import ExperimentError

OLD = b"\x89PNG\r\n\x1a\nwhat a user has, by its beginning a picture"
FULL = r"the disk is full \(No space left on device\)"


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that has no space for what is written next."""

    @contextlib.contextmanager
    def full():
        def fsync(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            yield

    return full


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)


def row(lr, distance):
    return sweep_report.Row({"lr": lr}, {"step": 8, "samples": {"ema": {"frechet": distance}}})


def statistics(path):
    rows = np.random.default_rng(0).normal(size=(9, 2))
    made = metrics.extract(metrics.pixels(), images(9))
    write_statistics(path, metrics.moments(rows), made)


def classifier(path):
    digits = metrics.classifier_for("digits")
    metrics.save_classifier(digits, path)


def sheet(path):
    check._write_sheet(path, check.load_dataset("digits"))


def duplicates(path):
    real, held_out, fake = (images(100, seed) for seed in range(3))
    options = {"extractor": "pixels", "held_out": held_out, "duplicates": path}
    compare(real, {"fake": fake}, metrics=("memorization",), **options)


def plot(path):
    save(figure(Row((curves({"a": ([1.0, 2.0], [3.0, 4.0])}, x_label="x", y_label="y"),))), path)


@pytest.mark.parametrize(
    ("write", "name", "error"),
    [
        (plot, "chart.png", OSError),
        (plot, "chart.svg", OSError),
        (statistics, "s.npz", DataError),
        (classifier, "c.npz", OSError),
        (sheet, "sheet.png", DataError),
        (duplicates, "pairs.png", ExperimentError),
    ],
)
def test_a_full_disk_leaves_what_was_there(write, name, error, tmp_path, full_disk):
    path = tmp_path / name
    path.write_bytes(OLD)
    with full_disk(), pytest.raises(error, match=r"No space left on device") as raised:
        write(path)
    assert path.read_bytes() == OLD
    assert [each.name for each in tmp_path.iterdir()] == [name]
    if error is not OSError or write is classifier:
        assert "the disk is full" in str(raised.value)
        assert "Errno" not in str(raised.value)
    write(path)
    assert path.read_bytes() != OLD


def test_scores_of_a_comparison_stay_where_the_disk_is_full(tmp_path, full_disk, monkeypatch):
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "scores.json"
    path.write_bytes(OLD)
    for name, seed in {"real": 0, "fake": 1}.items():
        np.savez(tmp_path / f"{name}.npz", images(20, seed))
    given = {"real": str(tmp_path / "real.npz"), "fake": str(tmp_path / "fake.npz"), "scores": str(path)}
    request = Request(
        experiment="ring",
        config=None,
        overrides=(),
        config_given=False,
        workdir=None,
        override=False,
        checkpoint=None,
        num_samples=None,
        metrics="frechet",
        extractor="pixels",
        comparison={**dict.fromkeys(COMPARISON), **given},
    )
    with (
        full_disk(),
        pytest.raises(UsageError, match=rf"--scores=.*scores\.json cannot be written: {FULL}\.$"),
    ):
        compare_command(request)
    assert path.read_bytes() == OLD
    compare_command(request)
    assert "fakes" in json.loads(path.read_text())


def test_the_table_of_a_sweep_stays_and_is_shown(tmp_path, full_disk, monkeypatch):
    old, new = [row("1", 2.0)], [row("1", 2.0), row("2", 1.0)]
    sweep_files.write_report(tmp_path, sweep_report.files(old))
    before, files = (tmp_path / "table.md").read_bytes(), sweep_report.files(new)
    with monkeypatch.context() as patched:
        patched.setattr(sweep_files, "record_written", lambda *_: None)
        with full_disk(), pytest.raises(OSError, match="No space"):
            sweep_files.write_report(tmp_path, files)
    with full_disk(), pytest.raises(UsageError, match=FULL):
        sweep_files.write_report(tmp_path, files)
    assert (tmp_path / "table.md").read_bytes() == before
    assert "1 *" in sweep_report.shown(new)
    sweep_files.write_report(tmp_path, files)
    assert "| 2 |" in (tmp_path / "table.md").read_text()


def test_an_array_job_stays_where_the_disk_is_full(tmp_path, full_disk):
    path = tmp_path / "job.sh"
    sweeping._write_slurm(path, tmp_path / "sweep", [])
    before, (point,) = path.read_bytes(), sweep_grid.grid(["x"], {"lr": ("1",)})
    with full_disk(), pytest.raises(UsageError, match=rf"cannot write .*: {FULL}"):
        sweeping._write_slurm(path, tmp_path / "sweep", [point])
    assert path.read_bytes() == before


@pytest.mark.parametrize("names", [("x",), ("arr_0", "mu", "sigma"), ("mu", "sigma")])
def test_statistics_of_a_comparison_replace_no_images_and_no_files_of_others(tmp_path, names):
    """`--real=set.npz --save_stats=set.npz`, ADM's reference batch, the statistics of another tool."""
    arrays = {"x": images(9), "arr_0": images(9), "mu": np.zeros(16), "sigma": np.eye(16)}
    path = tmp_path / "set.npz"
    np.savez(path, **{name: arrays[name] for name in names})
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"set\.npz' is there, and no statistics that were saved"):
        compare(images(9), images(9, 1), extractor=metrics.pixels(), save_stats=path)
    assert path.read_bytes() == before
    statistics(tmp_path / "ours.npz")
    refuse_others(tmp_path / "ours.npz")


def test_the_error_of_a_full_disk_names_the_file(tmp_path, full_disk):
    """The system's names none: a launch said that a file could not be written."""
    with full_disk(), pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / 'a.png'}'"):
        write_atomically(tmp_path / "a.png", b"new")
    assert not list(tmp_path.iterdir())


def test_a_sheet_replaces_no_data(tmp_path, capsys):
    path = tmp_path / "set.npz"
    np.savez(path, x=images(9))
    before = path.read_bytes()
    assert check.main([str(path), f"--sheet={path}"]) == 2
    assert "is there and no PNG" in capsys.readouterr().err
    assert path.read_bytes() == before
    sheet = tmp_path / "sheet.png"
    assert [check.main([str(path), f"--sheet={sheet}"]) for _ in range(2)] == [0, 0]


def test_a_new_experiment_is_complete_or_not_there(tmp_path, full_disk):
    path = tmp_path / "my.py"
    with full_disk(), pytest.raises(UsageError, match=rf"cannot write .*my\.py: {FULL}"):
        new_experiment.new([str(path)])
    assert not path.exists()
    new_experiment.new([str(path)])
    with pytest.raises(UsageError, match="nothing is overwritten"):
        new_experiment.new([str(path)])


def test_what_a_link_points_to_is_replaced_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_bytes(OLD)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    replace_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_bytes() == b"new"
    reader, writer = os.pipe()
    replace_file(f"/dev/fd/{writer}", b"piped")
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"piped"
