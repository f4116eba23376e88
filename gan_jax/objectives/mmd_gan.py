"""MMD GANs: a kernel's discrepancy between the critic's features of real and fake samples.

    max_h min_G MMD^2_k(h(X), h(G(Z))),   MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

The losses are of the critic's head `features` `[B, D]` (its score, as one feature, where there is no such head).
A critic's scores are then the witness function w(x) = E k(h(x), h(X')) - E k(h(x), h(Y')), larger at real samples;
the penalty holds the norm of its gradient at 1, on interpolates.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from gan_jax.functional.kernels import Kernel, rational_quadratic_kernel, squared_mmd
from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.objectives._forward import features
from gan_jax.objectives._penalties import feature_penalty
from gan_jax.objectives._term import add_terms
from gan_jax.types import Array

RATIONAL_QUADRATIC = rational_quadratic_kernel()
HEAD = "features"


def critic_loss(real: Array, fake: Array, kernel: Kernel = RATIONAL_QUADRATIC) -> Array:
    """-MMD^2 of features `[B, D]`, unbiased: a scalar."""
    return -squared_mmd(kernel, real, fake)


def generator_loss(real: Array, fake: Array, kernel: Kernel = RATIONAL_QUADRATIC) -> Array:
    """MMD^2 of features `[B, D]`, unbiased: a scalar."""
    return squared_mmd(kernel, real, fake)


def witness(x: Array, real: Array, fake: Array, kernel: Kernel = RATIONAL_QUADRATIC) -> Array:
    """w at features x `[n, D]`, from features of real and fake `[B, D]`: `[n]`.

    >>> from gan_jax.functional.kernels import linear_kernel
    >>> real, fake = jnp.array([[1.0]]), jnp.array([[-1.0]])
    >>> print(witness(jnp.array([[2.0], [-3.0]]), real, fake, linear_kernel))  # x (1 - -1)
    [ 4. -6.]
    """
    return jnp.mean(kernel(x, real), axis=1) - jnp.mean(kernel(x, fake), axis=1)


def mmd_gan(
    prior: Prior,
    *,
    kernel: Kernel = RATIONAL_QUADRATIC,
    penalty: float = 1.0,
    every: int = 1,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The MMD objective.

    Args:
      prior: draws the latent z.
      kernel: see `functional.kernels`; the default is the mixture of rational quadratic kernels of Binkowski et
        al., `gaussian_kernel()` their Gaussian one, of bandwidths 2, 5, 10, 20, 40 and 80. That of Li et al. is
        `gaussian_kernel((1.0, 2.0, 4.0, 8.0, 16.0))`.
      penalty: the weight of the witness's gradient penalty; 0 leaves it out (and then clip the critic).
      every: compute the penalty every so many rounds, scaled by as much.
      condition: further inputs of both networks, read off the batch.
      critic_condition: further inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Li et al., MMD GAN, 2017 (arXiv:1705.08584); Binkowski et al., Demystifying MMD GANs, 2018, sections 2 and 3
      (arXiv:1801.01401).
    """
    check_number("mmd_gan", "penalty", penalty, least=0)

    def realness(real: Array, fake: Array) -> tuple[Array, Array]:
        both = jax.lax.stop_gradient((real, fake))
        return witness(real, *both, kernel), witness(fake, *both, kernel)

    base = two_player(
        critic=functools.partial(critic_loss, kernel=kernel),
        generator=functools.partial(generator_loss, kernel=kernel),
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
        read=features,
        realness=realness,
        on_features=True,
    )
    if not penalty:
        return base
    formula = functools.partial(witness, kernel=kernel)
    return add_terms(base, feature_penalty("witness_penalty", formula, penalty, every=every))
