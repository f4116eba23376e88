"""StyleGAN2's game: the -log D game with R1 and path lengths, each in optimiser steps of its own.

    L_D = -E_x[log D(x)] - E_z[log(1 - D(G(z)))],   every 16 rounds: 16 gamma/2 E_x ||grad D(x)||^2
    L_G = -E_z[log D(G(z))],                        every 4 rounds: 4 path E (||J_w^T y|| / sqrt(L) - a)^2

y are images of N(0, 1 / (H W)), L the number of layers that take w, a the moving average of the lengths, on half of
the batch; path = 2 is the paper's gamma_pl. The learning rate and the betas of Adam are changed for the additional
steps, `optim.lazy_adam`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gan_jax.functional.priors import Prior
from gan_jax.game import Condition, Objective, unconditional
from gan_jax.objectives import non_saturating
from gan_jax.objectives._penalties import r1
from gan_jax.objectives._regularizers import path_length
from gan_jax.objectives._term import add_terms
from gan_jax.schedule import Schedule, regularization_turn, turn

critic_loss = non_saturating.critic_loss
generator_loss = non_saturating.generator_loss

LEARNING_RATE, B1, B2 = 0.002, 0.0, 0.99
"""Adam's options without regularisation steps; `optim.lazy_adam` adapts them."""
INTERVALS = {"r1": 16, "path_length": 4}
"""The rounds from one regularisation step of a term to the next."""


def stylegan2(
    prior: Prior,
    *,
    gamma: float = 10.0,
    path: float = 2.0,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
) -> Objective:
    """The objective of StyleGAN2; its game is played by `schedule(objective)`.

    R1 accepts a critic that compares the examples of its batch: the gradient is then of the sum of the scores.

    Args:
      prior: draws the latent z.
      gamma: the weight of R1, 10 in the paper for images of 1024 x 1024; see `gamma_for`. 0 is without.
      path: the weight of path lengths, 2 in the paper for all sizes; see `path_length`. 0 is without.
      condition: extra inputs of both networks, read off the batch.
      critic_condition: extra inputs of the critic, where they are not the generator's.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020 (arXiv:1912.04958);
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020 (arXiv:2006.06676).

    >>> from gan_jax.functional.priors import gaussian
    >>> [(turn.players, turn.terms, turn.every) for turn in schedule(stylegan2(gaussian(8)))][1::2]
    [(('critic',), ('r1',), 16), (('generator',), ('path_length',), 4)]
    """
    objective = non_saturating.non_saturating(prior, condition=condition, critic_condition=critic_condition)
    terms = [r1(gamma, own_step=True, coupled=True)] if gamma else []
    terms += [path_length(path, own_step=True)] if path else []
    return add_terms(objective, *terms)


def schedule(objective: Objective) -> Schedule:
    """A round: the critic's turn and the generator's, each followed by the steps of its terms in their rounds."""
    return tuple(
        played for player in objective.players for played in (turn(player), *own_steps(objective, player))
    )


def own_steps(objective: Objective, player: str) -> Schedule:
    """The regularisation steps of a player's terms."""
    return tuple(
        regularization_turn(player, term.name, every=INTERVALS[term.name])
        for term in objective.terms
        if term.player == player and term.own_step
    )


def gamma_for(shape: Sequence[int], batch_size: int) -> float:
    """The weight of R1 for images of a shape `[H, W, C]`: 0.0002 H W / B, or 10 for anything else.

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020, appendix C
      (arXiv:2006.06676).

    >>> gamma_for((256, 256, 3), 64), gamma_for((2,), 64)
    (0.2048, 10.0)
    """
    return 0.0002 * shape[0] * shape[1] / batch_size if len(shape) == 3 else 10.0
