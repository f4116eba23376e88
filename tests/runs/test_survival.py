"""Runs that are killed, starved or shared: nothing good is lost, and what happened is said."""

import dataclasses
import os
import random
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

from gan_jax.runs import loop
from gan_jax.runs.workdir import Workdir, WorkdirError
from tests.runs.test_loop import experiment, quiet
from tests.stress import experiment as stress
from tests.stress import fuzz, inputs, kills
from tests.tiers import slow

ROUNDS = 200


def built(variant):
    config = stress.get_config()
    config.rounds, config.stream, config.seeds = ROUNDS, variant.stream, variant.seeds
    experiments = []
    for place in range(variant.seeds):
        config.seed = place
        experiments.append(stress.build(config))
    return dataclasses.replace(experiments[0], extra_sources=tuple(one.source for one in experiments[1:]))


def kill_once(variant, workdir, rng):
    """Kills a launch while it starts or compiles, or just when it begins to save."""
    process = kills.start(variant, workdir, ROUNDS)
    before = set((workdir / "checkpoints").glob("*"))
    until = time.monotonic() + (rng.uniform(0.5, 2.5) if rng.random() < 0.4 else 60)
    while process.poll() is None and time.monotonic() < until:
        if set((workdir / "checkpoints").glob("*")) - before:
            time.sleep(rng.uniform(0, 0.05))
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.filterwarnings("ignore::gan_jax.runs.checkpoint.CheckpointWarning")  # a save that was cut
@pytest.mark.parametrize(("name", "count"), [slow("eight devices, streamed data", 3), slow("four seeds", 2)])
def test_killed_at_random_moments_a_run_ends_as_the_one_left_alone(name, count, tmp_path, monkeypatch):
    """Bit for bit, its log too. `python -m tests.stress.kills` does it fifty times, in all variants."""
    variant, rng = kills.VARIANTS[name], random.Random(1)
    devices = jax.devices()[: variant.devices]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    loop.train(built(variant), Workdir(tmp_path / "alone"), log=quiet)
    for _ in range(count):
        kill_once(variant, tmp_path / "killed", rng)
    loop.train(built(variant), Workdir(tmp_path / "killed"), log=quiet)
    expected, found = (kills.state_of(variant, tmp_path / run, ROUNDS) for run in ("alone", "killed"))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    assert kills.log_of(tmp_path / "killed") == kills.log_of(tmp_path / "alone")


@pytest.mark.slow
def test_another_number_of_devices_goes_on_within_rounding(tmp_path, monkeypatch):
    """SGD, eight devices to round 10 and two from there, against two all the way."""
    import optax

    def run(rounds):
        made = experiment(rounds=rounds)
        players = {
            name: dataclasses.replace(player, optimizer=optax.sgd(0.05))
            for name, player in made.game.players.items()
        }
        return dataclasses.replace(made, game=dataclasses.replace(made.game, players=players))

    loop.train(run(10), Workdir(tmp_path / "moved"), log=quiet)
    two = jax.devices()[:2]
    monkeypatch.setattr(jax, "devices", lambda: two)
    moved = loop.train(run(20), Workdir(tmp_path / "moved"), log=quiet)
    stayed = loop.train(run(20), Workdir(tmp_path / "stayed"), log=quiet)
    for a, b in zip(jax.tree.leaves(moved.players), jax.tree.leaves(stayed.players), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True)
    if done.returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.full
def test_a_full_disk_ends_the_run_with_its_last_checkpoint_good_and_it_goes_on_when_there_is_room(small_disk):
    """The log, a picture or the checkpoint: whichever finds the disk full first says so."""
    workdir = Workdir(small_disk / "run")
    loop.train(experiment(rounds=10), workdir, log=quiet)
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    os.write(file.fileno(), b"\0" * size)
            except OSError:
                continue
    with pytest.raises(RuntimeError, match="the disk is full"):
        loop.train(experiment(rounds=20), workdir, log=quiet)
    filler.unlink()
    said = []
    whole = loop.train(experiment(rounds=20), Workdir(small_disk / "whole"), log=quiet)
    again = loop.train(experiment(rounds=20), workdir, log=said.append)
    assert "at round 10" in said[0]
    for a, b in zip(jax.tree.leaves(again.players), jax.tree.leaves(whole.players), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.full
def test_two_launches_on_one_work_directory(tmp_path):
    """The second is refused while the first trains, and has the directory once that has ended."""
    workdir, refused = Workdir(tmp_path), []

    def meanwhile(samples):
        with pytest.raises(WorkdirError, match=f"in use by process {os.getpid()}"):
            loop.train(experiment(rounds=4), workdir, log=quiet)
        refused.append(True)
        return np.zeros((4, 4, 1), np.uint8)

    loop.train(experiment(rounds=4, picture=meanwhile), workdir, log=quiet)
    assert refused
    assert int(loop.train(experiment(rounds=8), workdir, log=quiet).step) == 8


@pytest.mark.parametrize("reader", list(fuzz.READERS))
def test_any_content_is_read_or_refused_as_documented(reader):
    """`python -m tests.stress.fuzz` feeds ten thousand."""
    fuzz.fuzz(reader, 50)


@pytest.mark.parametrize("kind", list(inputs.KINDS))
def test_data_and_samples_of_any_kind_are_what_is_known_of_them(kind):
    """`python -m tests.stress.inputs` makes hundreds."""
    inputs.check(kind, 10)
