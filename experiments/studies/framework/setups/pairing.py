"""The four games that R3GAN's authors compare on StackedMNIST, with one network.

Huang et al., The GAN is dead; long live the GAN! A Modern GAN Baseline, 2024, section 2 (arXiv:2501.05441): the
-log D game and relativistic pairing, each with R1 and with R1 and R2. In their single runs both games with R1 alone
diverge, -log D with both penalties covers 693 of the 1,000 modes (reverse KL .927) and relativistic pairing with
both penalties all of them (.078).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import optax

from gan_jax.functional.priors import Prior, gaussian
from gan_jax.game import Game, Objective, Player
from gan_jax.networks import R3GANCritic, R3GANGenerator, from_linen
from gan_jax.objectives import add_terms, r1
from gan_jax.objectives.r3gan import r3gan
from gan_jax.objectives.relativistic import relativistic
from gan_jax.objectives.zero_centred import zero_centred
from gan_jax.schedule import alternating

ROWS: Mapping[str, Callable[[Prior, float], Objective]] = {
    "GAN + R1": lambda prior, gamma: zero_centred(prior, gamma_real=gamma),
    "GAN + R1 + R2": lambda prior, gamma: zero_centred(prior, gamma_real=gamma, gamma_fake=gamma),
    "RpGAN + R1": lambda prior, gamma: add_terms(relativistic(prior, average=False), r1(gamma)),
    "RpGAN + R1 + R2": lambda prior, gamma: r3gan(prior, gamma=gamma),
}
"""The rows of the paper's table, objectives by `(prior, gamma)`."""
LATENT = 64


@functools.cache
def row_game(
    row: str, *, size: int = 8, width: int = 32, blocks: int = 1, gamma: float = 0.1, rate: float = 2e-4
) -> Game:
    """One of the four games, with R3GAN's networks of one width and Adam with beta1 = 0.

    Args:
      row: a key of `ROWS`.
      size: the side of the images in pixels, 8 for stacked digits and 32 for the paper's StackedMNIST.
      width, blocks: of the networks.
      gamma: weight of the penalties.
      rate: of Adam, whose beta2 is .99.

    >>> sorted(row_game("RpGAN + R1 + R2").objective.players)
    ['critic', 'generator']
    """
    critic = R3GANCritic(width=width, blocks=blocks)
    generator = R3GANGenerator(size=size, channels=3, width=width, blocks=blocks)
    adam = optax.adam(rate, b1=0.0, b2=0.99)
    return Game(
        players={
            "critic": Player(from_linen(critic, jnp.zeros((2, size, size, 3))), adam),
            "generator": Player(from_linen(generator, jnp.zeros((2, LATENT))), adam, ema=0.99),
        },
        objective=ROWS[row](gaussian(LATENT), gamma),
        schedule=alternating(),
    )
