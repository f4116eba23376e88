"""Initialisers against Flax's own numbers and their prescribed scales."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from gan_jax.networks import initializer

FLAX = [
    ("normal", 0.02, nn.initializers.normal(0.02)),
    ("lecun", 1.0, nn.initializers.lecun_normal()),
    ("he", 1.0, nn.initializers.variance_scaling(2.0, "fan_in", "normal")),
    ("glorot", 1.0, nn.initializers.glorot_uniform()),
    ("orthogonal", 0.8, nn.initializers.orthogonal(0.8)),
]


@pytest.mark.parametrize(("name", "scale", "flax"), FLAX, ids=lambda value: str(value)[:10])
def test_kernels_are_flaxs(name, scale, flax):
    shape = (3, 2, 5, 4)
    quick = {"xla_backend_optimization_level": 0}
    ours, theirs = (
        jax.jit(functools.partial(draw, shape=shape), compiler_options=quick)(jax.random.key(3))
        for draw in (initializer(name, scale), flax)
    )
    assert ours.shape == shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)


def test_kernels_have_their_scale():
    """he: sqrt(2 / 200) = 0.1; glorot: sqrt(2 / (9 * 12 + 9 * 20)) = 1/12; scales multiply."""
    draw = {
        name: np.std(jax.jit(initializer(name, scale), static_argnums=1)(jax.random.key(0), shape))
        for name, scale, shape in (("he", 2.0, (200, 100)), ("glorot", 3.0, (3, 3, 12, 20)))
    }
    assert draw["he"] == pytest.approx(0.2, rel=0.05)
    assert draw["glorot"] == pytest.approx(0.25, rel=0.05)


def test_orthogonal_rows_have_the_gain():
    rows = jax.jit(lambda key: initializer("orthogonal", 0.8)(key, (3, 8)))(jax.random.key(0))
    np.testing.assert_allclose(np.asarray(rows) @ np.asarray(rows).T, 0.64 * np.eye(3), atol=1e-5)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="Unknown initialiser"):
        initializer("xavier", 1.0)
