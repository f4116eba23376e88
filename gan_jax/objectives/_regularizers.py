"""Regularisers of generators' geometry and of weights, and a penalty without second derivatives, as terms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import flatten, over_batch
from gan_jax.functional.options import check_number
from gan_jax.functional.path_length import AVERAGE, OFFSET, W, path_lengths, scaled_to_pixels, style_layers
from gan_jax.objectives._forward import judge, score, transform_inputs, transform_name
from gan_jax.objectives._term import Outcome, Term, TermContext, Weight
from gan_jax.types import Array


def path_length(
    weight: Weight = 2.0,
    *,
    decay: float = 0.01,
    every: int = 1,
    own_step: bool = False,
    player: str = "generator",
) -> Term:
    """E (||J_w^T y|| / sqrt(L) - a)^2: steps of equal length in w move images by equal distances.

    J_w is the Jacobian of the generator by w, y ~ N(0, 1 / (H W)) images of noise, L the number of layers that take
    w, and a the moving average of the lengths, which is kept in the generator's objective state from 0 on. Half of
    the batch is used, every other example. w is the output of the mapping network, one for all layers, where the
    generator has one (see `functional.path_length`), else its latent z, which then is one array, and L is 1.
    StyleGAN2 takes a step of its own every fourth round.

    Args:
      weight: 2 is the paper's gamma_pl = ln 2 / (r^2 (ln r - ln 2)) of r x r images, where L = 2 log2 r - 2: the
        noise is divided by r here and the length by sqrt(L), as in the authors' code.
      decay: the share of a batch's mean length in the next average.
      every: lazy regularisation, see `Term`.
      own_step: see `Term`.
      player: the generator.

    Raises:
      ValueError: if the weight is negative or not finite, or the decay is outside [0, 1].

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, section 3.2 and appendix B
      (arXiv:1912.04958).
    """
    check_number("path_length", "weight", weight, least=0)
    check_number("path_length", "decay", decay, least=0, most=1)

    def value(c: TermContext) -> Outcome:
        network, (params, state, *_) = c.game.players[player].network, c.players[player]
        latent, *conditions = jax.tree.map(_every_other, c.outputs.generator_inputs)
        maps = isinstance(state, Mapping) and AVERAGE in state

        def generate(place: Array) -> Array:
            model_state = {**state, OFFSET: {W: place}} if maps else state
            z = latent if maps else place
            key = c.key("synthesis")
            return network.apply(params, model_state, z, *conditions, train=True, key=key)[0]

        start = jnp.zeros((len(latent), *state[AVERAGE][W].shape)) if maps else latent
        shape = jax.eval_shape(generate, start).shape
        noise = over_batch(jax.random.normal(c.key("direction"), (shape[0], math.prod(shape[1:]))))
        layers = style_layers(shape[1:]) if maps else 1
        scaled = scaled_to_pixels(noise.reshape(shape)) / math.sqrt(layers)
        lengths = path_lengths(generate, start, scaled)
        mean = jax.lax.stop_gradient(jnp.mean(lengths))
        average = c.state + decay * (mean - c.state)
        return Outcome(jnp.square(lengths - average), average, {"average": average, "length": mean})

    return Term(
        name="path_length",
        player=player,
        value=value,
        weight=weight,
        every=every,
        own_step=own_step,
        initial_state=lambda params: jnp.zeros(()),
        needs_latent=True,
    )


def _every_other(x: Array) -> Array:
    """Every other example, which moves none between devices; a batch of one is kept."""
    return x if len(x) < 2 else x[: len(x) // 2 * 2].reshape(len(x) // 2, 2, *x.shape[1:])[:, 0]


def approximate_penalty(
    weight: Weight = 100.0, *, sigma: float = 0.01, critic: str = "critic", on: str = "real"
) -> Term:
    """lambda E (D(x) - D(x + sigma e))^2, e ~ N(0, I): a gradient penalty of first order.

    As sigma goes to 0 the expectation over e is sigma^2 ||grad D(x)||^2, so that lambda sigma^2 = gamma / 2 is the
    weight of R1 or R2. Both scores have the same draws of the input transforms and of the critic; their difference
    is taken in float32, and the critic's products have the highest precision: rounded to TF32 or bfloat16 two
    scores would differ as much by rounding as by the perturbation. A critic that computes in bfloat16 itself
    (`dtype`) does so still: a penalty is 8 % too large at the default sigma, eighteen times at .001.
    It costs one more call of the critic and no second derivative.

    Args:
      weight: lambda.
      sigma: the standard deviation of the perturbation.
      critic: whose loss it joins.
      on: `real` or `fake`.

    Raises:
      ValueError: if `on` is neither, the weight is negative or not finite, or sigma is not positive.

    References:
      Lin et al., Diffusion Adversarial Post-Training for One-Step Video Generation, 2025, section 3.3
      (arXiv:2501.08316).
    """
    check_number("approximate_penalty", "weight", weight, least=0)
    check_number("approximate_penalty", "sigma", sigma, above=0)
    if on not in ("real", "fake"):
        raise ValueError(f"approximate_penalty is on 'real' or 'fake' samples, got {on!r}.")

    def value(c: TermContext) -> Array:
        view = c.real if on == "real" else c.fake
        # The draws with which the loss was computed: the term's key would give others.
        loss, drawn_by = c.with_key(c.loss_key), transform_name(c.game.objective, critic, on)
        drawn = over_batch(jax.random.normal(c.key("perturbation"), flatten(view.raw).shape, view.raw.dtype))
        moved = view.raw + sigma * drawn.reshape(view.raw.shape)
        inputs = transform_inputs(loss, (moved, *view.conditions), drawn_by, critic)
        outputs, _ = judge(loss, inputs, c.players[critic].model_state, on, critic)
        return jnp.square(score(view.outputs) - score(outputs))

    return Term(
        name=f"approximate_penalty_{on}",
        player=critic,
        value=value,
        weight=weight,
        needs_score=True,
        exact=True,
    )


def orthogonal_residual(kernel: Array) -> Array:
    """||W^T W - diag(W^T W)||^2 of a kernel read as a matrix `[everything else, out]`: a scalar.

    >>> print(orthogonal_residual(jnp.array([[1.0, 2.0], [3.0, -1.0]])))  # the columns' product is -1, twice
    2.0
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    products = matrix.T @ matrix
    return jnp.sum(jnp.square(products)) - jnp.sum(jnp.square(jnp.diagonal(products)))


def orthogonal_regularization(weight: Weight = 1e-4, *, player: str = "generator") -> Term:
    """beta sum ||W^T W * (1 - I)||^2 over a player's kernels: directions of their outputs are pushed apart.

    The norms of the outputs are free. Every parameter of two axes or more is a kernel. BigGAN's generators keep
    their quality under truncation with it.

    Raises:
      ValueError: if the weight is negative or not finite.

    References:
      Brock et al., Large Scale GAN Training for High Fidelity Natural Image Synthesis, 2019, equation (3)
      (arXiv:1809.11096).
    """
    check_number("orthogonal_regularization", "weight", weight, least=0)

    def value(c: TermContext) -> Array:
        kernels = [leaf for leaf in jax.tree.leaves(c.players[player].params) if leaf.ndim > 1]
        return sum((orthogonal_residual(kernel) for kernel in kernels), start=jnp.zeros(()))

    return Term(name="orthogonal", player=player, value=value, weight=weight)
