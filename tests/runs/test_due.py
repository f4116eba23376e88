"""What is due at a round and fails: the state is safe, and the next launch does it as if nothing had happened."""

import dataclasses
import errno
import os
import re
import shutil
import subprocess
import sys
import textwrap

import chex
import jax
import numpy as np
import pytest

from gan_jax.cli.errors import user_errors
from gan_jax.data import from_toy, toy
from gan_jax.data.stream import from_iterator
from gan_jax.diagnostics import health_of_state
from gan_jax.runs import loop
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.files import Appended
from gan_jax.runs.interrupts import Interrupt
from gan_jax.runs.saving import Due
from gan_jax.runs.workdir import Workdir
from gan_jax.runs.writer import WriterError
from gan_jax.training.experiment import Best, ExperimentError
from tests.evaluation.test_evaluate import Counted, Endless
from tests.runs.test_loop import experiment, lines_of, quiet
from tests.tiers import full


class BrokenError(Exception):
    """What the experiments here raise."""


def draw(samples):
    """A picture of the samples themselves, so that another state is another picture."""
    return np.clip(127 * (samples[:16].reshape(4, 8, 1) + 1), 0, 255).astype(np.uint8)


def mean(samples):
    return {"mean": float(samples.mean())}


def failing(function, calls):
    """`function`, which raises at these calls, counted from 0."""
    count = iter(range(1000))

    def call(samples):
        if next(count) in calls:
            raise BrokenError
        return function(samples)

    return call


def made(**changes):
    """20 rounds: logs every 4, saves at 10 and 20, evaluations every 5, pictures every 6 and at the end."""
    given = {
        "picture": draw,
        "sample_every": 6,
        "evaluate_every": 5,
        "evaluations": {"mean": mean},
        "evaluation_samples": 20,
    }
    return experiment(**(given | changes))


def evaluation_failing_at(*evaluations):
    """An evaluation that fails at some of its rounds (two calls each: averaged, raw)."""
    return {"mean": failing(mean, {2 * number for number in evaluations})}


def picture_failing_at(*pictures):
    """A picture that fails at some of its rounds (two calls each: averaged, raw)."""
    return failing(draw, {2 * number for number in pictures})


def pictures_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}


def arrays_of(state):
    return jax.device_get((state.players, state.ema, state.step, state.cursor))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    state = loop.train(made(), Workdir(folder), log=quiet)
    assert sorted(pictures_of(folder)) == [f"samples_{step:08d}.png" for step in (6, 12, 18, 20)]
    assert len(set(pictures_of(folder).values())) == 4
    return folder, arrays_of(state)


FAILURES = {
    "the last picture": ({"picture": picture_failing_at(3)}, 20, ["draw"]),
    "an evaluation at a round that is not saved": (
        {"evaluations": evaluation_failing_at(2)},
        15,
        ["evaluate"],
    ),
    "an evaluation at a round that is saved": ({"evaluations": evaluation_failing_at(1)}, 10, ["evaluate"]),
    "the last evaluation, before the last picture": (
        {"evaluations": evaluation_failing_at(3)},
        20,
        ["evaluate", "draw"],
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_loses_no_state_and_what_is_due_is_done_by_the_next_launch(
    failure, uninterrupted, tmp_path
):
    changes, step, due = FAILURES[failure]
    messages = []
    with pytest.raises(BrokenError):
        loop.train(made(**changes), Workdir(tmp_path), log=messages.append)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_valid() == step
        assert checkpoints.manifest(step)["due"] == due
    if step not in (10, 20):
        assert f"Round {step} is saved" in messages[-1]
    state = loop.train(made(), Workdir(tmp_path), log=messages.append)
    assert any(f"at round {step}" in message for message in messages)
    folder, expected = uninterrupted
    chex.assert_trees_all_equal(arrays_of(state), expected)
    assert lines_of(Workdir(tmp_path)) == lines_of(Workdir(folder))
    assert pictures_of(tmp_path) == pictures_of(folder)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.manifest(20)["due"] == []


@pytest.mark.full
@pytest.mark.parametrize("seeds", [1, full(2)])
def test_a_picture_that_fails_while_training_goes_on_is_drawn_by_the_next_launch(seeds, tmp_path):
    """The second, of round 12, where nothing is saved; the rounds go on until the failure is noticed."""
    if seeds == 1:
        names, options = ["samples"], {}
    else:
        names = ["samples_seed_3", "samples_seed_4"]
        options = {"extra_sources": (from_toy(toy.ring(), 8, seed=4),)}
    messages = []
    picture = failing(draw, range(2 * seeds, 3 * seeds))
    with pytest.raises(BrokenError):
        loop.train(made(picture=picture, **options), Workdir(tmp_path / "cut"), log=messages.append)
    with Checkpoints(tmp_path / "cut" / "checkpoints") as checkpoints:
        step = checkpoints.latest_valid()
        assert step >= 12
    assert f"Round {step} is saved, and the picture of round 12" in messages[-1]
    undrawn = {f"undrawn_{name}_00000012.npy" for name in names}
    assert undrawn <= pictures_of(tmp_path / "cut").keys()
    state = loop.train(made(**options), Workdir(tmp_path / "cut"), log=quiet)
    expected = loop.train(made(**options), Workdir(tmp_path / "whole"), log=quiet)
    chex.assert_trees_all_equal(arrays_of(state), arrays_of(expected))
    assert pictures_of(tmp_path / "cut") == pictures_of(tmp_path / "whole")
    assert len(pictures_of(tmp_path / "cut")) == 4 * seeds
    assert lines_of(Workdir(tmp_path / "cut")) == lines_of(Workdir(tmp_path / "whole"))


@pytest.mark.full
def test_samples_of_rounds_that_are_played_again_are_not_drawn(tmp_path):
    """Round 18's picture failed, and its state was lost: the samples are drawn by round 18, played again."""
    (tmp_path / "samples").mkdir()
    loop.train(made(rounds=10), Workdir(tmp_path), log=quiet)
    np.save(tmp_path / "samples" / "undrawn_samples_00000018.npy", np.zeros((4, 2)))
    # Of rounds before, what somebody put there: no array, a pipe, a link.
    (tmp_path / "samples" / "undrawn_samples_00000003.npy").write_bytes(b"\x80\x04}.")
    os.mkfifo(tmp_path / "samples" / "undrawn_samples_00000004.npy")
    (tmp_path / "samples" / "undrawn_samples_00000005.npy").symlink_to("/dev/zero")
    # Of later rounds: pictures of other training, which went further; a user's; a folder.
    for name in ("samples_00000018.png", "mine_00000018.png", "sampled_00000018.png"):
        (tmp_path / "samples" / name).write_bytes(b"x")
    (tmp_path / "samples" / "samples_00000019.png" / "kept").mkdir(parents=True)
    loop.train(made(rounds=11), Workdir(tmp_path), log=quiet)
    there = sorted(path.name for path in (tmp_path / "samples").iterdir())
    drawn = [f"samples_{step:08d}.png" for step in (6, 10, 11, 19)]
    assert there == ["mine_00000018.png", "sampled_00000018.png", *drawn]


@pytest.mark.full
def test_what_still_fails_fails_again_and_still_loses_nothing(uninterrupted, tmp_path):
    for number in (3, 0, 0):
        with pytest.raises(BrokenError):
            loop.train(made(picture=picture_failing_at(number)), Workdir(tmp_path), log=quiet)
    state = loop.train(made(), Workdir(tmp_path), log=quiet)
    chex.assert_trees_all_equal(arrays_of(state), uninterrupted[1])
    assert lines_of(Workdir(tmp_path)) == lines_of(Workdir(uninterrupted[0]))
    assert pictures_of(tmp_path) == pictures_of(uninterrupted[0])


@pytest.mark.full
def test_a_log_that_fails_is_written_by_the_next_launch(uninterrupted, tmp_path, monkeypatch):
    """The sums since the log before are saved with the state: the means are those of all their rounds."""
    run = loop.Log.run

    def broken(self, played):
        if played.step == 8:
            self._interval.means()
            raise BrokenError
        run(self, played)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Log, "run", broken)
        with pytest.raises(BrokenError):
            loop.train(made(), Workdir(tmp_path), log=quiet)
    assert Checkpoints(tmp_path / "checkpoints").manifest(8)["due"] == ["log"]
    loop.train(made(rounds=9, evaluate_every=0, checkpoint_every=0), Workdir(tmp_path), log=quiet)
    manifest = Checkpoints(tmp_path / "checkpoints").manifest(8)
    assert (manifest["due"], manifest["metadata"]["sums"], manifest["metadata"]["lines"]) == ([], {}, 1)
    for path in (tmp_path / "checkpoints" / "9", tmp_path / "samples"):
        shutil.rmtree(path)
    loop.train(made(), Workdir(tmp_path), log=quiet)
    assert lines_of(Workdir(tmp_path)) == lines_of(Workdir(uninterrupted[0]))


def full_disk(monkeypatch, from_record):
    """From this record on, `metrics.jsonl` finds the disk full."""
    append, records = Appended.append, iter(range(1000))

    def fails(self, record):
        if str(self._path).endswith("metrics.jsonl") and next(records) >= from_record:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, record)

    monkeypatch.setattr(Appended, "append", fails)


@pytest.mark.full
def test_a_full_disk_loses_lines_of_the_log_and_no_round(uninterrupted, tmp_path, monkeypatch):
    """The third line, of round 8, cannot be written; the next launch goes on from where that was noticed."""
    folder, expected = uninterrupted
    with monkeypatch.context() as patch:
        full_disk(patch, 2)
        with pytest.raises(WriterError) as raised:
            loop.train(made(checkpoint_every=0), Workdir(tmp_path), log=quiet)
    found = re.fullmatch(
        r"Cannot write .*metrics\.jsonl: the disk is full \(No space left on device\)\. Round (\d+) is saved; what "
        r"could not be written is lost: make room or mend the directory, and launch again\.",
        str(raised.value),
    )
    assert found, raised.value
    assert 8 <= int(found[1]) <= 12
    assert isinstance(raised.value, user_errors())
    messages = []
    state = loop.train(made(checkpoint_every=0), Workdir(tmp_path), log=messages.append)
    assert f"at round {found[1]}" in messages[0]
    chex.assert_trees_all_equal(arrays_of(state), expected)
    lines, whole = (lines_of(Workdir(run)) for run in (tmp_path, folder))
    assert [line for line in lines if line["step"] > 12] == [line for line in whole if line["step"] > 12]
    assert len({(line["step"], *line) for line in lines}) == len(lines), "no line twice"


@pytest.mark.full
def test_a_full_disk_that_does_not_take_the_state_either_says_what_is_lost(tmp_path, monkeypatch):
    full_disk(monkeypatch, 2)
    save, saved = Checkpoints.save, []

    def fails(self, step, *arguments, **options):
        if saved:
            raise CheckpointError(f"Cannot save checkpoint {step}.")
        saved.append(step)
        save(self, step, *arguments, **options)

    monkeypatch.setattr(Checkpoints, "save", fails)
    lost = r"disk is full .* The state of round \d+ could not be saved either and is lost, "
    with pytest.raises(WriterError, match=f"{lost}the last checkpoint is round 5: make room"):
        loop.train(made(checkpoint_every=5), Workdir(tmp_path), log=quiet)
    with pytest.raises(WriterError, match=f"{lost}no checkpoint had been saved: make room"):
        loop.train(made(checkpoint_every=0), Workdir(tmp_path / "other"), log=quiet)


@pytest.mark.full
@pytest.mark.parametrize("iterator", [Counted, Endless])
def test_the_batch_before_a_checkpoint_is_read_again_from_a_stream(iterator, tmp_path, monkeypatch):
    """At round 20 the log with its probe fails, and with it the evaluation: both read its last batch."""

    def streamed(rounds=20):
        return made(rounds=rounds, source=from_iterator(iterator(), 8), probes=[health_of_state])

    whole = arrays_of(loop.train(streamed(rounds=24), Workdir(tmp_path / "whole"), log=quiet))
    run = loop.Log.run

    def broken(self, played):
        if played.step == 20:
            raise BrokenError
        run(self, played)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Log, "run", broken)
        with pytest.raises(BrokenError):
            loop.train(streamed(rounds=24), Workdir(tmp_path / "cut"), log=quiet)
    assert Checkpoints(tmp_path / "cut" / "checkpoints").manifest(20)["due"] == ["log", "evaluate"]
    state = loop.train(streamed(rounds=24), Workdir(tmp_path / "cut"), log=quiet)
    chex.assert_trees_all_equal(arrays_of(state), whole)
    assert lines_of(Workdir(tmp_path / "cut")) == lines_of(Workdir(tmp_path / "whole"))


@pytest.mark.parametrize("fails_at", [1, full(2)])
@pytest.mark.full
def test_the_best_checkpoint_is_known_after_its_evaluation_has_failed(fails_at, tmp_path):
    """Evaluations at 5, 10, 15, 20 with the distances 3, 1, 2, 4; the next launch evaluates what had failed."""
    distances = {5: 3.0, 10: 1.0, 15: 2.0, 20: 4.0}
    options = {"evaluate_every": 5, "keep": 1, "best": Best("distance")}

    def launch(rounds, fails=False):
        left = iter([distances[step] for step in rounds for _ in range(2)])
        count = iter(range(100))

        def evaluation(samples):
            if fails and next(count) == 2 * fails_at:
                raise BrokenError
            return {"distance": next(left)}

        loop.train(made(evaluations={"scripted": evaluation}, **options), Workdir(tmp_path), log=quiet)

    with pytest.raises(BrokenError):
        launch(distances, fails=True)
    step = list(distances)[fails_at]
    assert Checkpoints(tmp_path / "checkpoints").manifest(step)["metrics"] == {}
    launch([other for other in distances if other >= step])
    with Checkpoints(tmp_path / "checkpoints", keep=1, best=options["best"]) as checkpoints:
        assert checkpoints.steps() == [10, 20]
        assert checkpoints.best() == 10
        assert checkpoints.manifest(10)["metrics"]["samples/raw/distance"] == 1.0


@pytest.mark.full
def test_an_evaluation_that_fails_after_its_line_is_logged_has_one_line(uninterrupted, tmp_path):
    """`keep_best` names a number that the evaluations do not give; the next launch has it corrected."""
    with pytest.raises(ExperimentError, match="keep_best names men"):
        loop.train(made(best=Best("men")), Workdir(tmp_path), log=quiet)
    assert [line["step"] for line in lines_of(Workdir(tmp_path))] == [4, 5]
    loop.train(made(best=Best("mean")), Workdir(tmp_path), log=quiet)
    assert lines_of(Workdir(tmp_path)) == lines_of(Workdir(uninterrupted[0]))
    assert "mean" in Checkpoints(tmp_path / "checkpoints").manifest(20)["metrics"]


KILLED = """
    import os
    from gan_jax.runs import loop
    from gan_jax.runs.workdir import Workdir
    from tests.runs.test_due import draw, made, mean
    calls = iter(range(100))
    def fatal(samples):
        if next(calls) == {call}:
            checkpoints = {folder!r} + "/checkpoints/20/manifest.json"
            while not os.path.exists(checkpoints):  # the save before goes on in the background
                pass
            os._exit(9)
        return {function}(samples)
    loop.train(made({changes}), Workdir({folder!r}), log=lambda line: None)
"""


@pytest.mark.parametrize(
    ("call", "function", "changes"),
    [full(6, "draw", "picture=fatal"), (7, "mean", "evaluations={'mean': fatal}")],
)
@pytest.mark.full
def test_a_kill_between_the_save_and_what_is_due(call, function, changes, uninterrupted, tmp_path):
    """While the last picture is drawn, or in the middle of the last evaluation."""
    script = textwrap.dedent(
        KILLED.format(folder=str(tmp_path), call=call, function=function, changes=changes)
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=300, check=False, env=os.environ)
    assert done.returncode == 9
    assert Checkpoints(tmp_path / "checkpoints").latest_valid() == 20
    messages = []
    state = loop.train(made(), Workdir(tmp_path), log=messages.append)
    assert "at round 20" in messages[0]
    chex.assert_trees_all_equal(arrays_of(state), uninterrupted[1])
    assert lines_of(Workdir(tmp_path)) == lines_of(Workdir(uninterrupted[0]))
    assert pictures_of(tmp_path) == pictures_of(uninterrupted[0])


@pytest.mark.full
def test_a_run_that_is_asked_to_stop_leaves_what_can_wait_to_the_next_launch(
    uninterrupted, tmp_path, monkeypatch
):
    """The signal comes during the rounds before round 10, at which an evaluation and a save are due."""
    run = loop.Evaluate.due

    def due(self, step):
        if step == 10:
            os.kill(os.getpid(), 15)
        return run(self, step)

    messages = []
    with monkeypatch.context() as patch:
        patch.setattr(loop.Evaluate, "due", due)
        loop.train(made(), Workdir(tmp_path), log=messages.append)
    assert "Stopped by SIGTERM at round 10" in messages[-1]
    assert Checkpoints(tmp_path / "checkpoints").manifest(10)["due"] == ["evaluate"]
    assert not [line for line in lines_of(Workdir(tmp_path)) if line["step"] == 10]
    loop.train(made(), Workdir(tmp_path), log=quiet)
    assert lines_of(Workdir(tmp_path)) == lines_of(Workdir(uninterrupted[0]))
    assert pictures_of(tmp_path) == pictures_of(uninterrupted[0])


# ---------------------------------------------------------------------------------------------------------
# The order, by hand


class Recorded:
    """A part that notes that it was run."""

    def __init__(self, name, events, can_wait, error=None):
        self.name, self.can_wait, self.in_background = name, can_wait, name == "draw"
        self._events, self._error = events, error

    def due(self, step):
        return True

    def run(self, played):
        self._events.append(self.name)
        if self._error is not None:
            raise self._error


class RecordedSave:
    def __init__(self, events, due):
        self._events, self._due = events, due

    def due(self, step):
        return self._due

    def check_place(self):
        pass

    def run(self, played, due=(), *, blocking=False):
        self._events.append(("save", *(part.name for part in due)))

    def complete(self, step, due, *, in_background=False):
        kind = "due once written" if in_background else "due"
        self._events.append((kind, *(part.name for part in due)))


class Drawn:
    failure = None


@dataclasses.dataclass
class At:
    step: int


def run_due(saves, error=None, asked=None):
    events = []
    interrupt = Interrupt()
    interrupt.by = asked
    parts = [
        Recorded("log", events, can_wait=False),
        Recorded("evaluate", events, can_wait=True, error=error),
        Recorded("draw", events, can_wait=True),
    ]
    due = Due(parts, RecordedSave(events, saves), Drawn(), interrupt, quiet)
    try:
        left = due.run(At(7))
    except BrokenError:
        return events, None
    return events, [part.name for part in left]


def test_the_state_is_saved_after_the_log_and_before_what_may_fail():
    logged = ["log", ("due", "evaluate", "draw")]
    done = ["evaluate", ("due", "draw"), "draw", ("due once written",)]
    assert run_due(saves=True) == ([*logged, ("save", "evaluate", "draw"), *done], [])
    assert run_due(saves=False) == ([*logged, *done], [])


def test_a_failure_saves_the_state_with_all_that_is_left():
    events, left = run_due(saves=False, error=BrokenError())
    assert left is None
    assert events[-2:] == ["evaluate", ("save", "evaluate", "draw")]


def test_a_run_that_is_asked_to_stop_only_logs():
    assert run_due(saves=False, asked="SIGTERM") == (
        ["log", ("due", "evaluate", "draw")],
        ["evaluate", "draw"],
    )
