"""Image-to-image translation with a conditional game, of Isola et al. (2017).

    L_cGAN(G, D) = E_{x,y}[log D(x, y)] + E_{x,z}[log(1 - D(x, G(x, z)))]                        (1)
    L_L1(G) = E_{x,y,z}[||y - G(x, z)||_1]                                                       (3)
    G* = argmin_G max_D L_cGAN + lambda L_L1                                                     (4)

The batch's `condition` is the paper's x, its `x` the paper's y. The generator has no latent: its noise is dropout
in its layers. The generator minimises -log D; a critic with a head `patches` `[B, h, w]` (PatchGAN) has one loss
per patch. The paper halves the critic's loss in training, although its formula does not.
"""

from __future__ import annotations

from collections.abc import Mapping

from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective
from gan_jax.objectives import non_saturating
from gan_jax.objectives._compose import two_player
from gan_jax.objectives._forward import entry, mean_score, score
from gan_jax.objectives._term import add_terms
from gan_jax.objectives._terms import reconstruction
from gan_jax.types import Array, Batch

L1 = 100.0

critic_loss = non_saturating.critic_loss
generator_loss = non_saturating.generator_loss


def image_condition(batch: Batch) -> tuple[Array, ...]:
    """The image to translate, given to generator and critic."""
    return (entry(batch, "condition"),)


def patches(out: Mapping[str, Array]) -> Array:
    """The critic's patch scores `[B, h, w]`, or its score `[B]` where it has none."""
    return out["patches"] if "patches" in out else score(out)


def pix2pix(
    prior: Prior | None = None,
    *,
    l1: float = L1,
    condition: Condition = image_condition,
    critic_condition: Condition | None = None,
) -> Objective:
    """The image-to-image objective.

    Args:
      prior: draws a latent z; the paper uses none.
      l1: lambda of the L1 term.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017, equations (1), (3)
      and (4) (arXiv:1611.07004).
    """
    check_number("pix2pix", "l1", l1, least=0)
    base = two_player(
        critic=critic_loss,
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
        read=patches,
        realness=mean_score,
        logits=True,
    )
    return add_terms(base, reconstruction(l1))
