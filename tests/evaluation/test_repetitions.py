"""Samples of conditions alone: more of them than there are conditions would repeat one another."""

import dataclasses
import functools
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import ring, translation
from gan_jax.cli import comparing, evaluating, sampling
from gan_jax.cli.errors import UsageError
from gan_jax.cli.opened_run import OpenedRun
from gan_jax.cli.request import SAMPLE_FLAGS
from gan_jax.evaluation import sampling as evaluation_sampling
from gan_jax.evaluation.repetitions import different_samples, period
from gan_jax.runs.config import write_config
from gan_jax.runs.workdir import Workdir

ASKED = (*SAMPLE_FLAGS, "num_samples", "player", "workdir", "checkpoint")


@pytest.fixture(scope="module")
def translating():
    """A U-Net of the digits' edges, of which 359 pairs are held back."""
    config = translation.get_config()
    config.update({"data": "edges:digits", "width": 4, "batch_size": 16})
    return translation.build(config)


def request(number):
    return SimpleNamespace(num_samples=number)


@pytest.mark.parametrize(("asked", "different"), [(40, 40), (359, 359), (370, 359), (1795, 359)])
def test_conditions_that_come_again_are_counted_once(translating, asked, different):
    found = different_samples(translating.game, "generator", asked, translating.condition_batch)
    assert found == different


def test_latents_do_not_come_again():
    experiment = ring.build(ring.get_config())
    assert different_samples(experiment.game, "generator", 5000, experiment.condition_batch) == 5000


def test_more_samples_than_conditions_are_refused_where_they_are_asked_for(translating, tmp_path):
    run = OpenedRun(Workdir(tmp_path), translating)
    for evaluates in (True, False):
        of = functools.partial(
            run.different_samples, experiment=translating, player="generator", evaluates=evaluates
        )
        assert [of(request(None), n=40), of(request(359), n=359), of(request(None), n=370)] == [40, 359, 359]
        with pytest.raises(UsageError, match=r"--num_samples=1795: generator .* give 359 at most"):
            of(request(1795), n=1795)


def test_each_mode_that_draws_samples_refuses_repetitions(translating, tmp_path, monkeypatch):
    run = opened(translating, tmp_path, monkeypatch)
    asked = SimpleNamespace(**dict.fromkeys(ASKED))
    asked.num_samples = 1795
    for draw in (
        lambda: evaluating._scored(asked, run, translating, iter(())),
        lambda: comparing._drawn(asked, run, translating, None, "generator", "run"),
        lambda: sampling.sample(asked),
    ):
        with pytest.raises(UsageError, match="give 359 at most"):
            draw()


def test_equal_conditions_that_the_data_have_are_no_repetition():
    rows = [bytes([k]) for k in np.random.default_rng(0).integers(0, 3, 200)]
    assert period(rows) == 200
    black = [b"black"] * 9
    assert period([*black, b"a", b"b", *black]) == 20
    assert period([]) == 0


def test_a_picture_has_as_many_samples_as_there_are_conditions(translating, tmp_path, monkeypatch):
    """Where no number is given: of two pairs that were held back forty samples were drawn and counted."""
    drawn = []

    def stop(game, state, key, n, **options):
        drawn.append(n)
        raise StopIteration

    experiment = dataclasses.replace(translating, picture_samples=400)
    run = opened(experiment, tmp_path, monkeypatch)
    monkeypatch.setattr(evaluation_sampling, "sample", stop)
    with pytest.raises(StopIteration):
        sampling.sample(SimpleNamespace(**dict.fromkeys(ASKED)))
    assert run.experiment is experiment
    assert drawn == [359]


def opened(experiment, root, monkeypatch):
    """A run of one checkpoint that every mode opens, without weights."""
    write_config(Workdir(root), {})
    run = OpenedRun(Workdir(root), experiment)
    monkeypatch.setattr(OpenedRun, "weights", lambda self, request: "raw")
    monkeypatch.setattr(OpenedRun, "standing", lambda self, request: None)
    monkeypatch.setattr(OpenedRun, "per_seed", lambda self, state, standing: [(experiment, state)])
    restored = SimpleNamespace(state=SimpleNamespace(step=0))
    monkeypatch.setattr(OpenedRun, "restored", lambda self, steps: [restored])
    monkeypatch.setattr(sampling, "open_run", lambda request: run)
    return run
