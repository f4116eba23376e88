"""The precision of products: the training's as asked for, and the highest where a number is judged."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from gan_jax.diagnostics.weights import spectral_norm
from gan_jax.networks.layers import SpectralWeight
from gan_jax.objectives import add_terms, approximate_penalty
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.play import apply_turn
from gan_jax.precision import at_highest_precision, matmul_precision
from gan_jax.schedule import turn
from tests import helpers

X = jnp.ones((4, 4))


def precisions(function, *args):
    """The precisions of a program's products, each once."""
    text = jax.jit(function).lower(*args).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    return {
        match[1] if (match := re.search(r"precision = \[(\w+)", line)) else "DEFAULT" for line in products
    }


@pytest.mark.parametrize(
    ("name", "found"), [("default", "DEFAULT"), ("high", "HIGH"), ("highest", "HIGHEST")]
)
def test_products_in_the_context_have_its_precision(name, found):
    with matmul_precision(name):
        assert precisions(lambda x: x @ x, X) == {found}


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="one of default, high, highest, got 'tf32'"):
        matmul_precision("tf32")


def test_the_derivative_of_a_product_has_the_products_precision():
    """It is taken outside of the context, as a loss with an exact term is differentiated by the training."""
    exact = at_highest_precision(lambda x: jnp.sum(jnp.tanh(x @ x)))
    assert precisions(jax.grad(exact), X) == {"HIGHEST"}


def test_spectral_norms_have_the_highest():
    layer = SpectralWeight()
    variables = layer.init(jax.random.key(0), X)
    assert precisions(lambda x: layer.apply(variables, x, mutable="spectral"), X) == {"HIGHEST"}
    assert precisions(spectral_norm, X) == {"HIGHEST"}


def critic_precisions(objective, diagnostics=()):
    game = helpers.game(objective)
    context = helpers.context(game)

    def play(players):
        return apply_turn(turn("critic"), dataclasses.replace(context, players=players), diagnostics)

    return precisions(play, context.players)


def test_a_diagnostics_products_have_the_highest_and_the_training_the_platforms():
    objective = non_saturating(lambda key, n: helpers.normal(key, n, helpers.Z_DIM))
    assert critic_precisions(objective) == {"DEFAULT"}

    def diagnostic(played):
        gram = jnp.vdot(*(2 * [played.losses["critic"].outputs.real.score]))
        return {"critic/gram": gram}

    assert critic_precisions(objective, [diagnostic]) == {"DEFAULT", "HIGHEST"}


def test_a_term_that_is_a_difference_of_close_outputs_is_exact_with_the_loss_that_it_reads():
    objective = non_saturating(lambda key, n: helpers.normal(key, n, helpers.Z_DIM))
    assert critic_precisions(add_terms(objective, approximate_penalty())) == {"HIGHEST"}
