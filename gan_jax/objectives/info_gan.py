"""InfoGAN, of Chen et al. (2016): a game whose latent code is interpretable.

    min_{G,Q} max_D V(D, G) - lambda L_I(G, Q),   L_I = E[log Q(c | G(z, c))] + H(c)             (5), (6)

Part of the latent is a code c (`functional.codes.Code`); Q reads it off the sample. Q is the critic's head `code`
and shares its body, as in the paper, so both players raise the bound L_I <= I(c; G(z, c)). The game is -log D's.
"""

from __future__ import annotations

from gan_jax.functional.codes import Code
from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import non_saturating as base
from gan_jax.objectives._term import add_terms
from gan_jax.objectives._terms import mutual_information

critic_loss = base.critic_loss
generator_loss = base.generator_loss


def info_gan(
    noise: Prior | int,
    *,
    code: Code,
    weight: float = 1.0,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The InfoGAN objective. The generator's latent is the code followed by the noise, `[B, code.size + d]`.

    Args:
      noise: the prior of z, or the dimension of a Gaussian one.
      code: c; the critic needs a head `code` of size `code.head_size`.
      weight: lambda; the paper uses 1 for categories.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Chen et al., InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial
      Nets, 2016, equations (5) and (6) (arXiv:1606.03657).
    """
    check_number("info_gan", "weight", weight, least=0)
    terms = [mutual_information(code, weight, player=player) for player in ("critic", "generator")]
    return add_terms(
        base.non_saturating(code.prior(noise), condition=condition, critic_condition=critic_condition), *terms
    )
