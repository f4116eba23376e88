"""`python -m experiments.runs`: several seeds of a training, scored together."""

import json
import signal
import sys

import numpy as np
import psutil
import pytest

from experiments import runs
from experiments.runs import garments
from experiments.runs.garments import dyed
from gan_jax.data import load


def test_the_mean_over_seeds_has_students_interval_and_stands_beside_the_floor():
    """Of 1, 2 and 3: the mean 2, the standard error 1 / sqrt(3), Student's t of 2 degrees of freedom 4.3027."""
    fakes = {str(value): {"scores": {"frechet": [value, 0.0, 9.0]}} for value in (1.0, 2.0, 3.0)}
    floor = {"real against real": {"scores": {"frechet": [0.5, 0.4, 0.6]}}}
    (found,) = runs.summary({"fakes": fakes, "floors": floor}).values()
    assert found["mean"] == 2.0
    assert found["interval"] == pytest.approx([2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5], rel=1e-6)
    assert found["floor"] == [0.5, 0.4, 0.6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["no_such_run"], "no run 'no_such_run'"), (["all", "--seeds=1"], "--seeds is 2")],
)
def test_what_cannot_be_run_is_said(arguments, message, capsys):
    assert runs.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_training_is_stopped_by_its_processor_time_and_not_by_the_clock():
    busy, idle = ("while True: pass", "import time; time.sleep(1)")
    process = psutil.Popen([sys.executable, "-c", busy])
    used = runs._watch(process, 0.5)
    assert process.returncode == -signal.SIGTERM
    assert 0.5 <= used < 1.0
    process = psutil.Popen([sys.executable, "-c", idle])
    assert runs._watch(process, 0.5) < 0.5
    assert process.returncode == 0


def test_a_training_that_has_had_its_time_is_not_begun_again(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", {"timed": runs.RealRun("no_such_experiment", minutes=1.0)})
    monkeypatch.setattr(runs, "WORK", tmp_path)
    took = {"seconds": 70, "processor_seconds": 60, "rounds": 9}
    (tmp_path / "timed-0.json").write_text(json.dumps(took))
    assert runs.train("timed", 0) == took
    assert "--config.rounds=9" in runs.training("timed", 0, took["rounds"])


def test_time_that_is_not_recorded_is_not_given_a_second_time(tmp_path, monkeypatch):
    """A killed command left checkpoints: the training had its whole time once more, unsaid."""
    monkeypatch.setattr(runs, "RUNS", {"timed": runs.RealRun("no_such_experiment", minutes=1.0)})
    monkeypatch.setattr(runs, "WORK", tmp_path)
    monkeypatch.setattr(runs, "_rounds", lambda name, seed: 12)
    with pytest.raises(SystemExit, match="trained to round 12, and the time which that took is not recorded"):
        runs.train("timed", 0)
    took = {"seconds": 30, "processor_seconds": 20, "rounds": 9}
    (tmp_path / "timed-0.json").write_text(json.dumps(took))
    with pytest.raises(SystemExit, match="trained to round 12"):
        runs.train("timed", 0)


def test_the_time_of_a_training_that_fails_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RUNS", {"timed": runs.RealRun("no_such_experiment", minutes=1.0)})
    monkeypatch.setattr(runs, "WORK", tmp_path)
    with pytest.raises(SystemExit, match="ended with"):
        runs.train("timed", 0)
    took = json.loads((tmp_path / "timed-0.json").read_text())
    assert took["processor_seconds"] > 0
    assert took["rounds"] == 0


@pytest.mark.parametrize("name", ["garments/bag/0000.png", "garments/bag/mine.png", "garments.npz"])
def test_a_file_of_somebody_else_is_no_garment(tmp_path, monkeypatch, name):
    """It was replaced where one of the folder and the file was missing, and trained on where both were there."""
    grey = np.stack([np.full((28, 28, 1), level, np.uint8) for level in (40, 200)])
    monkeypatch.setattr(garments, "load", lambda spec: {"x": grey, "y": np.array([8, 1])})
    folder, held_back = tmp_path / "garments", tmp_path / "garments.npz"
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(SystemExit, match="is there, and not a garment"):
        garments.write(folder, held_back)
    assert path.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [path]
    path.unlink()
    garments.write(folder, held_back)
    (folder / "bag" / "0000.png").unlink()  # it was killed, say
    before = held_back.stat().st_mtime_ns
    garments.write(folder, held_back)
    assert sorted(path.name for path in folder.rglob("*.png")) == ["0000.png", "0001.png"]
    assert held_back.stat().st_mtime_ns == before


def test_garments_are_dyed_in_one_colour_before_two():
    """White is a hue of full value, its saturation .3 to .9; behind black the value falls from .95 to .75."""
    white, black = dyed(np.stack([np.full((28, 28, 1), level, np.uint8) for level in (255, 0)]), 3)
    assert white.shape == (64, 64, 3)
    (color,) = np.unique(white.reshape(-1, 3), axis=0)
    assert color.max() == 255
    assert 0.1 * 255 <= color.min() <= 0.7 * 255
    np.testing.assert_array_equal(black, np.broadcast_to(black[:, :1], black.shape))
    assert black[0, 0].max() == round(0.95 * 255)
    assert black[-1, 0].max() == round(0.75 * 255)
    assert black[0, 0].min() == round(0.95 * 0.7 * 255)


@pytest.mark.slow
def test_two_seeds_are_trained_scored_and_kept(tmp_path, monkeypatch):
    np.savez(tmp_path / "real.npz", load("digits")["x"][:200])
    flags = ("--config.data=digits", "--config.width=4", "--config.batch_size=16", "--config.rounds=4")
    compare = (f"--real={tmp_path / 'real.npz'}", "--extractor=classifier:digits", "--num_samples=100")
    tiny = runs.RealRun("images", flags, (*compare, "--metrics=frechet"))
    monkeypatch.setattr(runs, "RUNS", {"tiny": tiny})
    monkeypatch.setattr(runs, "WORK", tmp_path)
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    assert runs.main(["tiny", "--seeds=2", "--jobs=2"]) == 0
    kept = json.loads((tmp_path / "results" / "tiny.json").read_text())
    (score,) = kept["scores"].values()
    values = [next(iter(column["scores"].values()))[0] for column in kept["comparison"]["fakes"].values()]
    assert len(values) == 2
    assert values[0] != values[1], "another seed is another generator"
    assert score["mean"] == pytest.approx(np.mean(values))
    assert score["floor"][0] < min(values)
    assert all(seed["processor_seconds"] > 0 for seed in kept["seeds"])
    assert (tmp_path / "results" / "tiny.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_somebody_else_is_not_taken_for_the_digits(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    (tmp_path / runs.WORK).mkdir()
    path = tmp_path / runs.DIGITS
    path.write_text("mine")
    with pytest.raises(SystemExit, match=r"digits\.npz is there, and not the digits"):
        runs.write_digits()
    assert path.read_text() == "mine"
    path.unlink()
    runs.write_digits()
    before = path.stat().st_mtime_ns
    runs.write_digits()
    assert path.stat().st_mtime_ns == before
