"""Variance Regularizing Adversarial Learning with a Parzen window, of Grewal et al. (2017).

    L_D = KL(N(0, 1) || p~(D(G(z)))) + KL(N(1, 1) || p~(D(x)))

p~ is the density of the batch's scores, p~(y) = 1/B sum_i N(y; D_i, h^2). As the batch grows at a fixed window h,
each term tends to KL(N(m, 1) || N(mean D, Var D + h^2)) for normal scores, least at Var D = 1 - h^2: h is below 1.
The generator is that of the meta-discriminators' form, L_G = E[(D(G(z)) - 1)^2] or (E D(G(z)) - E D(x))^2.

The authors later wrote that the method is out of date and that some of its results are incorrect; it is here for
comparison with what came after it.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from gan_jax.functional.precision import at_least_float32
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import vral
from gan_jax.objectives._compose import two_player
from gan_jax.types import Array

WINDOW = 0.5
REACH, NODES = 7.0, 201

generator_loss = vral.generator_loss


def log_parzen(y: Array, scores: Array, window: float) -> Array:
    """log p~(y) at points `[n]`, from scores `[B]`: `[n]`."""
    distance = (y[:, None] - scores[None, :]) / window
    norm = math.log(window) + math.log(2 * math.pi) / 2
    return jax.nn.logsumexp(-jnp.square(distance) / 2, axis=1) - math.log(scores.shape[0]) - norm


def kl_to_parzen(mean: float, scores: Array, window: float) -> Array:
    """KL(N(mean, 1) || p~) of scores `[B]`, by quadrature on 201 points within 7 standard deviations: a scalar.

    The trapezoidal rule converges geometrically for integrands that decay like a Gaussian; a step of .07 is exact
    to rounding for windows of .1 and wider.
    """
    offsets = jnp.linspace(-REACH, REACH, NODES, dtype=scores.dtype)
    log_normal = -jnp.square(offsets) / 2 - math.log(2 * math.pi) / 2
    masses = jnp.exp(log_normal) * (2 * REACH / (NODES - 1))
    return jnp.sum(masses * (log_normal - log_parzen(mean + offsets, scores, window)))


def critic_loss(real: Array, fake: Array, window: float = WINDOW) -> Array:
    """KL(N(0, 1) || p~(fake)) + KL(N(1, 1) || p~(real)) of scores `[B]`: a scalar.

    >>> loss = critic_loss(jnp.ones(3), jnp.zeros(3), window=1.0)  # each p~ is its own target
    >>> bool(abs(loss) < 1e-5)
    True
    """
    real, fake = at_least_float32(real), at_least_float32(fake)
    return kl_to_parzen(1.0, real, window) + kl_to_parzen(0.0, fake, window)


def vral_parzen(
    prior: Prior,
    *,
    window: float = WINDOW,
    generator: str = "target",
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The Parzen-window objective.

    Args:
      prior: draws the latent z.
      window: h, the standard deviation of the window, in (0, 1).
      generator: L_G: `target` or `means`, see `vral`.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if the window is not in (0, 1), or there is no such generator loss.

    References:
      Grewal et al., Variance Regularizing Adversarial Learning, 2017 (arXiv:1707.00309).
    """
    if not 0 < window < 1:
        raise ValueError(
            f"The window h must lie in (0, 1), got {window}: the scores' variance is driven to 1 - h^2."
        )
    if generator not in vral.GENERATOR_LOSSES:
        raise ValueError(f"VRAL's generator loss is one of {list(vral.GENERATOR_LOSSES)}, got {generator!r}.")
    return two_player(
        critic=functools.partial(critic_loss, window=window),
        generator=functools.partial(generator_loss, form=generator),
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
    )
