"""R3GAN's game (Huang et al. 2024): relativistic pairing with both zero-centred gradient penalties.

    L_D = E softplus(-(D(x) - D(G(z)))) + gamma/2 (E_x ||grad D(x)||^2 + E_z ||grad D(G(z))||^2)
    L_G = E softplus(-(D(G(z)) - D(x)))

Every sample is compared with one real example, of the same label where both are conditional; the generator's turn
has real examples of its own. With both penalties the game converges locally (the paper's theorem), with neither it
does not. They are of the gradients by the images before any input transform, and are computed in every round, since
the theorem does not cover lazy ones. The critic must not couple its batch.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from gan_jax.functional.options import check_number
from gan_jax.functional.penalties import squared_norm
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, LossFn, Objective, TermRecord, TurnContext, loss_output, unconditional
from gan_jax.objectives import relativistic
from gan_jax.objectives._compose import two_player
from gan_jax.objectives._forward import check_uncoupled, forward_with_slopes
from gan_jax.objectives._term import Weight
from gan_jax.outputs import LossOutput
from gan_jax.types import Array


def critic_loss(real: Array, fake: Array) -> Array:
    """softplus(-(D(x) - D(G(z)))), the critic's loss without its penalties: `[B]`.

    >>> print(critic_loss(jnp.zeros(1), jnp.zeros(1)))  # log 2
    [0.6931472]
    """
    return relativistic.critic_loss(real, fake, average=False)


def generator_loss(real: Array, fake: Array) -> Array:
    """softplus(-(D(G(z)) - D(x))): `[B]`."""
    return relativistic.generator_loss(real, fake, average=False)


def r3gan(
    prior: Prior,
    *,
    gamma: Weight = 1.0,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The relativistic objective with R1 and R2 of one weight.

    The scores and both penalties come from one forward and one backward pass of the critic. They are logged as
    `critic/r1` and `critic/r2`, without gamma.

    Args:
      prior: draws the latent z.
      gamma: the weight of both penalties, a number or `round -> number`. The paper's falls to a tenth during
        training and grows with the image's size (`networks.r3gan` and `image_schedules` have its values).
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if gamma is not a positive number.

    References:
      Huang et al., The GAN is dead; long live the GAN! A Modern GAN Baseline, 2024, section 2 (arXiv:2501.05441).
    """
    check_number("r3gan", "gamma", gamma, above=0, hint="without penalties it is relativistic(average=False)")
    base = two_player(
        critic=critic_loss,
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
    )
    penalised = base.with_player("critic", loss=_penalised_loss(gamma, condition, critic_condition))
    records = [TermRecord(player="critic", name=name, uncoupled_critic="critic") for name in ("r1", "r2")]
    return dataclasses.replace(penalised, terms=tuple(records))


def _penalised_loss(gamma: Weight, condition: Condition, critic_condition: Condition | None) -> LossFn:
    def loss(context: TurnContext) -> LossOutput:
        outputs, model_states, slopes = forward_with_slopes(context, condition, critic_condition)
        assert outputs.real is not None
        assert outputs.fake is not None
        check_uncoupled(context, "critic", outputs.real.inputs, "r1")
        losses = critic_loss(outputs.real.score, outputs.fake.score)
        base = loss_output(context, "critic", losses, model_state=model_states["critic"], outputs=outputs)
        # Of packs, a norm is over all examples of a pack.
        scored = losses.shape[0]
        r1, r2 = (squared_norm(slope.reshape(scored, -1)) / 2 for slope in slopes)
        weight = gamma(context.step) if callable(gamma) else gamma
        value = base.value + weight * (jnp.mean(r1) + jnp.mean(r2))
        return base._replace(
            value=value,
            contributions=(*base.contributions, weight * r1, weight * r2),
            metrics={**base.metrics, "loss": value, "r1": jnp.mean(r1), "r2": jnp.mean(r2)},
        )

    return loss
