"""Optax transformations for GANs: weight clipping, and Adam adjusted to lazy regularisation."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from gan_jax.types import Array, Tree


def clip_params(bound: float) -> optax.GradientTransformation:
    """Keeps every parameter in [-bound, bound] after the update: WGAN's weight clipping.

    `optax.clip` bounds updates; this transformation bounds the updated parameters, so it must end a chain.
    Adding the update to the parameter rounds once: a parameter may exceed the bound by one unit in the last place.

    Args:
      bound: c > 0, in the parameters' units.

    Returns:
      An optax transformation without a state.

    Raises:
      ValueError: if the bound is not positive, or if `update` is called without `params`.

    Example:
      >>> optimizer = optax.chain(optax.sgd(1.0), clip_params(0.01))
      >>> params = jnp.array([0.0, 0.005])
      >>> updates, _ = optimizer.update(jnp.array([-1.0, 0.001]), optimizer.init(params), params)
      >>> print(optax.apply_updates(params, updates))
      [0.01  0.004]

    References:
      Arjovsky et al., Wasserstein GAN, 2017, Algorithm 1, line 7 (arXiv:1701.07875).
    """
    if not bound > 0:
        raise ValueError(f"The clipping bound c must be positive, got {bound}.")

    def update(updates: Tree, state: optax.EmptyState, params: Tree | None = None):
        if params is None:
            raise ValueError("clip_params bounds parameters: call update(updates, state, params).")
        clipped = jax.tree.map(lambda p, u: jnp.clip(p + u, -bound, bound) - p, params, updates)
        return clipped, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def lazy_adam(
    learning_rate: float,
    b1: float = 0.0,
    b2: float = 0.99,
    *,
    every: int,
    eps: float = 1e-8,
    eps_root: float = 0.0,
) -> optax.GradientTransformation:
    """Adam for a player whose regularisation is a separate step once every `every` rounds.

    With c = every / (every + 1) the learning rate is multiplied by c and the betas are raised to the power c, so
    that the extra steps do not change the effective speed of the optimiser.

    Args:
      learning_rate: the rate of an optimiser without such steps.
      b1, b2: the betas of an optimiser without such steps; the defaults are StyleGAN2's.
      every: the interval of the regularisation in rounds, see `schedule.regularization_turn`.
      eps, eps_root: added to the root of the second moment, and to the moment under it.

    Raises:
      ValueError: if `every` is below 1.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, appendix B (arXiv:1912.04958).
    """
    if every < 1:
        raise ValueError(f"A regularisation step is taken every n >= 1 rounds, got every={every}.")
    c = every / (every + 1)
    return optax.adam(c * learning_rate, b1=b1**c, b2=b2**c, eps=eps, eps_root=eps_root)


def ema_half_life(
    images: float | Callable[[Array], Array], batch_size: int, *, ramp: float | None = 0.05
) -> Callable[[Array], Array]:
    """The decay of a moving average whose weights halve every so many images, for `Player.ema`.

    In round t, after t `batch_size` images, the half-life is min(`images`, `ramp` t `batch_size`), so that a young
    average is not held by the initial weights; the decay is 0.5 ** (batch_size / half-life).

    Args:
      images: the half-life, more than 0; or `round -> half-life`, 0 where the average is to be the parameters.
      batch_size: images a round.
      ramp: the half-life's share of the images seen so far; `None` has no ramp.

    Raises:
      ValueError: if `images` or `batch_size` is not positive.

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020 (arXiv:2006.06676), of whose
      authors' training settings the ramp is one.

    >>> decay = ema_half_life(1000.0, 100, ramp=0.05)
    >>> [round(float(decay(jnp.array(t))), 4) for t in (0, 100, 1000)]  # 0, half-lives of 500 and 1,000 images
    [0.0, 0.8706, 0.933]
    """
    if batch_size < 1 or not (callable(images) or images > 0):
        raise ValueError(
            f"A half-life is of more than 0 images, got {images} at a batch size of {batch_size}."
        )

    def decay(step: Array) -> Array:
        half_life = jnp.asarray(images(step) if callable(images) else images, jnp.float32)
        if ramp is not None:
            half_life = jnp.minimum(half_life, ramp * batch_size * jnp.asarray(step, jnp.float32))
        return 0.5 ** (batch_size / jnp.maximum(half_life, 1e-8))

    return decay
