"""The auxiliary classifier game of Odena et al. (2017).

    L_S = E[log P(S = real | X_real)] + E[log P(S = fake | X_fake)]                              (2)
    L_C = E[log P(C = c | X_real)] + E[log P(C = c | X_fake)]                                    (3)

The critic maximises L_S + L_C, the generator L_C - L_S (here in its -log D form). The label is an input of the
generator but not of the critic, which has a head `classes` of K logits next to its score.
"""

from __future__ import annotations

from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import non_saturating as base
from gan_jax.objectives._forward import label_condition
from gan_jax.objectives._term import add_terms
from gan_jax.objectives._terms import classification

critic_loss = base.critic_loss
generator_loss = base.generator_loss


def ac_gan(
    prior: Prior,
    *,
    weight: float = 1.0,
    label: str = "y",
    condition: Condition = label_condition,
    critic_condition: Condition | None = unconditional,
) -> Objective:
    """The auxiliary classifier objective.

    Args:
      prior: draws the latent z.
      weight: the weight of L_C in both losses; the paper's is 1.
      label: the batch's entry with the labels; the generator's input is `y` unless `condition` reads another entry.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Odena et al., Conditional Image Synthesis with Auxiliary Classifier GANs, 2017, equations (2) and (3)
      (arXiv:1610.09585).
    """
    check_number("ac_gan", "weight", weight, least=0)
    return add_terms(
        base.non_saturating(prior, condition=condition, critic_condition=critic_condition),
        classification(weight, player="critic", on="both", label=label),
        classification(weight, player="generator", on="fake", label=label),
    )
