"""The -log D game with zero-centred gradient penalties, of Mescheder et al. (2018).

    R1 = gamma/2 E_x[||grad D(x)||^2]                                                            (9)
    R2 = gamma/2 E_z[||grad D(G(z))||^2]                                                         (10)

Either makes alternating and simultaneous gradient descent converge locally if the generator can represent the data.
The authors train with R1, gamma = 10, simultaneous or alternating turns. The critic must not couple its batch.
"""

from __future__ import annotations

from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import non_saturating as base
from gan_jax.objectives._penalties import r1, r2
from gan_jax.objectives._term import add_terms

critic_loss = base.critic_loss
generator_loss = base.generator_loss


def zero_centred(
    prior: Prior,
    *,
    gamma_real: float = 10.0,
    gamma_fake: float = 0.0,
    every: int = 1,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The -log D objective with R1 (`gamma_real`) and, where `gamma_fake` is not 0, R2.

    Args:
      prior: draws the latent z.
      gamma_real: gamma of R1; 0 leaves it out.
      gamma_fake: gamma of R2; 0 leaves it out.
      every: compute the penalties once in `every` rounds, multiplied by `every`.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if both weights are 0.

    References:
      Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, equations (9) and (10)
      (arXiv:1801.04406).
    """
    check_number("zero_centred", "gamma_real", gamma_real, least=0)
    check_number("zero_centred", "gamma_fake", gamma_fake, least=0)
    if gamma_real == 0 and gamma_fake == 0:
        raise ValueError("zero_centred needs a penalty: pass gamma_real (R1) or gamma_fake (R2).")
    terms = [
        penalty(gamma, every=every) for penalty, gamma in ((r1, gamma_real), (r2, gamma_fake)) if gamma != 0
    ]
    return add_terms(
        base.non_saturating(prior, condition=condition, critic_condition=critic_condition), *terms
    )
