"""The energy-based game of Zhao et al. (2017).

    L_D = D(x) + max(0, m - D(G(z))),   L_G = D(G(z))                                            (1), (2)

The energy D is minus the critic's score: an autoencoder's reconstruction error (`autoencoder_critic`, power 2).
With `pulling_away` the generator also spreads the codes of its samples, EBGAN-PT:

    f_PT(S) = 1 / (N (N - 1)) sum_{i != j} (S_i . S_j / (||S_i|| ||S_j||))^2                      (4)
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from gan_jax.functional.options import check_number
from gan_jax.functional.penalties import safe_norm
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.objectives._term import Term, TermContext, add_terms
from gan_jax.types import Array


def critic_loss(real: Array, fake: Array, margin: float = 1.0) -> Array:
    """D(x) + max(0, m - D(G(z))), of scores -D: `[B]`.

    >>> print(critic_loss(jnp.array([-2.0]), jnp.array([-0.25])))  # 2 + (1 - .25)
    [2.75]
    """
    return -real + jax.nn.relu(margin + fake)


def generator_loss(real: Array, fake: Array) -> Array:
    """D(G(z)), of scores -D: `[B]`."""
    return -fake


def pulling_away(codes: Array) -> Array:
    """f_PT of codes `[B, ...]`: the mean squared cosine of different examples' codes, a scalar.

    >>> print(pulling_away(jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])))  # one pair of three is parallel
    0.33333334
    """
    codes = codes.reshape(codes.shape[0], -1)
    n = codes.shape[0]
    norms = safe_norm(codes)[:, None]
    unit = codes / jnp.where(norms > 0, norms, 1.0)
    cosines = jnp.matmul(unit, unit.T, precision=jax.lax.Precision.HIGHEST)
    # The sum over pairs is that over all entries without the diagonal's ones.
    return (jnp.sum(jnp.square(cosines)) - jnp.sum(jnp.square(jnp.diagonal(cosines)))) / (n * (n - 1))


def ebgan(
    prior: Prior,
    *,
    margin: float = 1.0,
    pull_away: float = 0.0,
    code: str = "code",
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The energy-based objective.

    Args:
      prior: draws the latent z.
      margin: m; the critic does not raise the energy of fake samples beyond it.
      pull_away: the weight of the pulling-away term in the generator's loss; the paper's EBGAN-PT uses 0.1.
      code: the critic's head that holds the codes.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Zhao et al., Energy-based Generative Adversarial Network, 2017, equations (1), (2) and (4)
      (arXiv:1609.03126).
    """
    check_number("ebgan", "margin", margin, above=0)
    check_number("ebgan", "pull_away", pull_away, least=0)
    base = two_player(
        critic=functools.partial(critic_loss, margin=margin),
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
    )
    if pull_away == 0:
        return base

    def value(c: TermContext) -> Array:
        return pulling_away(c.fake.head(code))

    return add_terms(
        base,
        Term(
            name="pulling_away",
            player="generator",
            value=value,
            weight=pull_away,
        ),
    )
