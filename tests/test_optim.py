"""clip_params bounds parameters, not updates."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.optim import clip_params


class ClipParams(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_parameters_end_inside_the_bound(self):
        optimizer = optax.chain(optax.sgd(1.0), clip_params(0.5))
        params = {"a": jnp.array([0.0, 0.4, -0.4, 3.0]), "b": jnp.array(-0.2)}
        grads = {"a": jnp.array([0.1, -1.0, 1.0, 0.0]), "b": jnp.array(0.1)}

        @self.variant
        def step(params):
            updates, _ = optimizer.update(grads, optimizer.init(params), params)
            return optax.apply_updates(params, updates)

        after = step(params)
        # By hand: 0 - .1; .4 + 1 -> .5; -.4 - 1 -> -.5; 3 -> .5, though its gradient is zero.
        np.testing.assert_allclose(after["a"], [-0.1, 0.5, -0.5, 0.5], rtol=1e-6)
        np.testing.assert_allclose(after["b"], -0.3, rtol=1e-6)


def test_large_updates_inside_the_bound_are_unchanged():
    """optax.clip(0.5) would cut this update of 0.9."""
    updates, _ = clip_params(0.5).update(jnp.array([0.9]), optax.EmptyState(), jnp.array([-0.45]))
    np.testing.assert_allclose(updates, [0.9], rtol=1e-6)


def test_exceeds_the_bound_by_rounding_at_most():
    params = jax.random.normal(jax.random.key(0), (1000,))
    updates, _ = clip_params(0.01).update(10 * params, optax.EmptyState(), params)
    after = np.abs(optax.apply_updates(params, updates))
    assert after.max() <= 0.01 + np.spacing(np.float32(np.abs(params).max()))


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan")])
def test_bound_must_be_positive(bound):
    with pytest.raises(ValueError, match="clipping bound c must be positive"):
        clip_params(bound)


def test_needs_params():
    with pytest.raises(ValueError, match="call update"):
        clip_params(0.1).update(jnp.zeros(1), optax.EmptyState())
