"""The Wasserstein game of Arjovsky et al. (2017).

    W(P_r, P_g) = sup_{||f||_L <= 1} E_x[f(x)] - E_z[f(g(z))]                                    (2)

The critic f is kept Lipschitz by clipping its parameters, an optimiser's business (`optim.clip_params`), not
the loss's. `optimizer`, `schedule` and `warm_up` are Algorithm 1's defaults.
"""

from __future__ import annotations

from collections.abc import Callable

import optax

from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives._compose import two_player
from gan_jax.optim import clip_params
from gan_jax.schedule import Schedule, alternating
from gan_jax.types import Array

LEARNING_RATE = 5e-5
CLIP = 0.01
BATCH_SIZE = 64
N_CRITIC = 5


def critic_loss(real: Array, fake: Array) -> Array:
    """-(f(x) - f(g(z))): `[B]`.

    >>> import jax.numpy as jnp
    >>> print(critic_loss(jnp.array([3.0]), jnp.array([1.0])))
    [-2.]
    """
    return fake - real


def generator_loss(real: Array, fake: Array) -> Array:
    """-f(g(z)): `[B]`."""
    return -fake


def optimizer(
    learning_rate: float | Callable[[Array], Array] = LEARNING_RATE,
    clip: float | None = None,
    *,
    differentiable: bool = False,
) -> optax.GradientTransformation:
    """RMSProp as in the authors' code, with `clip` followed by weight clipping to [-clip, clip].

    v <- .99 v + .01 g^2, theta <- theta - learning_rate g / (sqrt(v) + 1e-8): PyTorch's defaults. Those of
    `optax.rmsprop` are another decay, .9, and sqrt(v + 1e-8), by which the small gradients of a clipped critic
    hardly move it.

    Args:
      learning_rate: of every step, or of the step that is counted.
      clip: c, the bound on every parameter; `None` clips nothing.
      differentiable: for `unrolled`: sqrt(v + 1e-8) in place of sqrt(v) + 1e-8, which has no derivative where a
        gradient is zero.
    """
    step = optax.rmsprop(learning_rate, decay=0.99, eps=1e-8, eps_in_sqrt=differentiable)
    return step if clip is None else optax.chain(step, clip_params(clip))


def schedule(n_critic: int = N_CRITIC) -> Schedule:
    """`n_critic` turns of the critic, then one of the generator."""
    return alternating(n_critic)


def warm_up(
    critic_turns: int = 100, first: int = 25, every: int = 500
) -> tuple[tuple[Callable[[int], bool], Schedule], ...]:
    """The authors' code: `critic_turns` critic turns in each of the first 25 rounds and every 500th, as phases."""
    return ((lambda step: step < first or step % every == 0, alternating(critic_turns)),)


def wgan(
    prior: Prior,
    *,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The Wasserstein objective; keep the critic Lipschitz by its optimiser, `optimizer(clip=0.01)`.

    Args:
      prior: draws the latent z.
      condition: further inputs of both networks, read off the batch.
      critic_condition: further inputs of the critic, where they are not the generator's.

    References:
      Arjovsky et al., Wasserstein GAN, 2017, equation (2) and Algorithm 1 (arXiv:1701.07875).
    """
    return two_player(
        critic=critic_loss,
        generator=generator_loss,
        prior=prior,
        condition=condition,
        critic_condition=critic_condition,
    )
