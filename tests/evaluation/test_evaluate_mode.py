"""`--mode=evaluate`: what is said of a run that `--override` changed, and where a disk is full."""

import errno
import json
from types import SimpleNamespace

import pytest

from gan_jax.cli import changes, errors, evaluating
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
    assert f"by --override from round 7 with {HELD_OUT}." in said
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
        patch.setattr(evaluating, "write_atomically", full)
        with pytest.raises(
            errors.UsageError, match=r"evaluation\.json could not be written: the disk is full"
        ):
            evaluating._written(Workdir(tmp_path), [found])
    assert "modes" in capsys.readouterr().out
    evaluating._written(Workdir(tmp_path), [found])
    assert json.loads((tmp_path / "evaluation.json").read_text())["checkpoints"] == [found]


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
