"""The Wasserstein game with a gradient penalty, of Gulrajani et al. (2017).

    L = E_z[D(G(z))] - E_x[D(x)] + lambda E_x_hat[(||grad D(x_hat)||_2 - 1)^2]                   (3)

with x_hat uniform on the segments between real and fake samples. The paper trains with lambda = 10,
Adam(1e-4, 0, .9) and 5 critic turns a round. The critic must not couple its batch.
"""

from __future__ import annotations

from gan_jax.functional.options import check_number
from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import wgan
from gan_jax.objectives._penalties import gradient_penalty
from gan_jax.objectives._term import add_terms

PENALTY = 10.0

critic_loss = wgan.critic_loss
generator_loss = wgan.generator_loss


def wgan_gp(
    prior: Prior,
    *,
    penalty: float = PENALTY,
    target: float = 1.0,
    one_sided: bool = False,
    every: int = 1,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The Wasserstein objective with lambda = `penalty`.

    Args:
      prior: draws the latent z.
      penalty: lambda.
      target: the gradient norm t that the penalty asks for; TF-GAN divides the penalty by t^2.
      one_sided: penalise only norms above the target.
      every: compute the penalty every so many rounds, scaled by as much.
      condition: further inputs of both networks, read off the batch.
      critic_condition: further inputs of the critic, where they are not the generator's.

    Raises:
      ValueError: if an option is out of its range.

    References:
      Gulrajani et al., Improved Training of Wasserstein GANs, 2017, equation (3) (arXiv:1704.00028).
    """
    check_number("wgan_gp", "penalty", penalty, least=0)
    check_number("wgan_gp", "target", target, least=0)
    return add_terms(
        wgan.wgan(prior, condition=condition, critic_condition=critic_condition),
        gradient_penalty(penalty, target=target, one_sided=one_sided, every=every),
    )
