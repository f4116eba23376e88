"""What a round takes, said before a run begins."""

import jax
import numpy as np

from gan_jax.data.arrays import from_arrays
from gan_jax.evaluation import expected
from gan_jax.objectives.gan import gan
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state
from tests import helpers
from tests.helpers import PRIOR, WIDTH, X_DIM

EXAMPLES, BATCH = 4096, 512


def experiment(rounds):
    x = np.random.default_rng(0).normal(size=(EXAMPLES, X_DIM)).astype(np.float32)
    return Experiment(
        game=helpers.game(gan(PRIOR)),
        source=from_arrays({"x": x}, BATCH),
        rounds=rounds,
        seed=0,
        log_every=1,
        checkpoint_every=0,
        sample_every=0,
        picture=lambda samples: np.zeros((1, 1, 1), np.uint8),
    )


def test_memory_is_that_of_state_data_and_program():
    found = expected.expected(experiment(rounds=10), seconds=0.0)
    state = jax.eval_shape(lambda: init_state(experiment(10).game, jax.random.key(0)))
    assert found.state_bytes == 4 * sum(
        leaf.size for leaf in jax.tree.leaves(state.players)
    )  # plain SGD, no average
    assert found.data_bytes == 4 * EXAMPLES * X_DIM
    assert found.working_bytes >= 4 * BATCH * WIDTH  # a batch's hidden layer is kept for the way back
    assert 0 < found.round_seconds < 5


def test_a_run_is_as_long_as_its_rounds(monkeypatch):
    found = expected.Expected(2**20, 3 * 2**30, 512 * 2**20, 8.2, 0.012)
    monkeypatch.setattr(expected, "expected", lambda experiment: found)
    memory, time = expected.expected_lines(experiment(rounds=1_000_000))
    assert memory == "memory  3.5 GiB on a device: state 1 MiB, data 3 GiB, a round's arrays 512 MiB"
    assert time == (
        "time    0.012 s a round on one cpu: 1,000,000 rounds in 3.3 h, without pictures and evaluations; "
        "compiled in 8 s"
    )
