"""Moving averages that are young: their samples may be far from those of the weights themselves."""

from __future__ import annotations

import functools

import jax
import numpy as np

from gan_jax.game import Game, GeneratorRole
from gan_jax.training.step import ema_decay

_OLD = 1 << 30
"""A round at which every decay is what it will be."""
_INITIAL_SHARE = 0.01


def young_average(game: Game, step: int) -> str:
    """A line for the user where the moving average of a generator is young; empty where none is.

    It is young while its decay is still rising, or while more than 1 % of it are the initial weights.

    Args:
      game: the game.
      step: the rounds that are played.
    """
    for name in game.objective.with_role(GeneratorRole):
        if game.players[name].ema is None or step < 1:
            continue
        # Operation by operation it would be a program for each of them, at the end of every launch.
        decay = jax.jit(jax.vmap(functools.partial(ema_decay, game.players[name])))
        found = np.asarray(decay(np.append(np.arange(step), _OLD)))
        decays, now, finally_ = found[:-1], float(found[-2]), float(found[-1])
        initial = float(np.prod(decays, dtype=np.float64))
        if now < finally_ or initial > _INITIAL_SHARE:
            share = f" {100 * initial:.0f} % of it are still the initial weights."
            rounds = round(1 / (1 - now))
            last = "the last round" if rounds == 1 else f"about the last {rounds} rounds"
            return (
                f"The moving average of {name!r} is young: its decay at round {step} is {now:.4g} of "
                f"{finally_:.4g}, so it averages {last}."
                f"{share if initial > _INITIAL_SHARE else ''} --weights=raw samples the weights themselves."
            )
    return ""
