"""The four rows of R3GAN's comparison: their losses are what their names say, on the same networks."""

import jax
import numpy as np
import pytest

from experiments.studies.framework.setups.pairing import ROWS, row_game
from experiments.studies.stacked_digits import stacked
from gan_jax.training.step import init_state, make_train_step
from tests.programs import UNOPTIMISED

GAMMA = 0.5


@pytest.mark.slow
def test_the_rows_differ_in_their_loss_and_their_penalties_only():
    """Of one first round: R2 adds gamma times itself to either loss, and pairing is one softplus for two."""
    source, metrics = stacked(8), {}
    host_batches = source.host_batches(0, 2)
    batches = jax.vmap(lambda number: source.get_batch(source.device_data, number))(host_batches)
    for row in ROWS:
        game = row_game(row, width=4, gamma=GAMMA)
        step = jax.jit(make_train_step(game), compiler_options=UNOPTIMISED)
        metrics[row] = jax.device_get(step(init_state(game, jax.random.key(0)), batches)[1])
    for loss in ("GAN", "RpGAN"):
        with_r1, with_both = (metrics[f"{loss} + {penalties}"] for penalties in ("R1", "R1 + R2"))
        np.testing.assert_allclose(
            with_both["critic/loss"] - with_r1["critic/loss"], GAMMA * with_both["critic/r2"], rtol=1e-3
        )
        np.testing.assert_allclose(with_both["critic/r1"], with_r1["critic/r1"], rtol=1e-5)
        assert with_both["critic/r2"] > 0
        assert "critic/r2" not in with_r1
    for row, count in (("GAN + R1", 2), ("RpGAN + R1", 1)):
        plain = metrics[row]["critic/loss"] - GAMMA * metrics[row]["critic/r1"]
        # Scores are near 0 at first, where a softplus is log 2.
        np.testing.assert_allclose(plain, count * np.log(2), rtol=0.35)
