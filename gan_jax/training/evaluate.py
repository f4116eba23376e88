"""What can be said of a state: samples, pictures, scores and evaluations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.functional.batch import named_key
from gan_jax.game import Game, TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.types import Array, Key, Metrics, Moment, Tree

CHUNK = 1000


def generator_variables(state: TrainState, ema: bool = True) -> tuple[Tree, Tree]:
    """The generator's `(params, stats)`: its moving average where it keeps one and `ema` asks for it."""
    if ema and "generator" in state.ema:
        return state.ema["generator"]
    player = state.players["generator"]
    return player.params, player.stats


@functools.lru_cache(maxsize=32)
def _sampler(game: Game) -> Callable[..., Array]:
    @functools.partial(jax.jit, static_argnums=3)
    def sample(variables: tuple[Tree, Tree], key: Key, conditions: Any, n: int) -> Array:
        prior = game.objective.prior
        inputs = conditions if prior is None else (prior(named_key(key, "latent"), n), *conditions)
        out, _ = game.networks["generator"].apply(
            *variables, *inputs, train=False, key=named_key(key, "generator")
        )
        return out

    return sample


def sample(
    game: Game,
    state: TrainState,
    key: Key,
    n: int,
    *,
    ema: bool = True,
    conditions: Callable[[int], tuple[Any, ...]] = lambda n: (),
) -> np.ndarray:
    """Samples of the generator in evaluation (running statistics, no noise in layers).

    Args:
      game: the game.
      state: whose generator.
      key: the draw; the same key gives the same latents whatever the parameters.
      n: how many.
      ema: use the moving average where the generator keeps one.
      conditions: `n -> the generator's further inputs`, each `[n, ...]`.

    Returns:
      `[n, ...]`, images in [-1, 1].

    Raises:
      ValueError: if `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"Ask for 1 or more samples, got {n}.")
    variables, draw = generator_variables(state, ema), _sampler(game)
    given = conditions(n)
    parts = []
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        part = jax.tree.map(lambda c, a=start, b=start + size: c[a:b], given)
        parts.append(np.asarray(draw(variables, jax.random.fold_in(key, start), part, size)))
    return np.concatenate(parts)


def picture(experiment: Experiment, state: TrainState, *, ema: bool = True) -> Callable[[], np.ndarray]:
    """The experiment's picture of `state`, always of the same latents: draws now, paints (uint8) when called."""
    key = named_key(jax.random.key(experiment.seed), "picture")
    samples = sample(
        experiment.game,
        state,
        key,
        experiment.picture_samples,
        ema=ema,
        conditions=experiment.conditions,
    )
    return lambda: experiment.picture(samples)


def evaluate(experiment: Experiment, state: TrainState) -> dict[str, Any]:
    """What the experiment's evaluations say of samples, and every player's loss and scores on one fresh batch.

    Returns:
      `{"step", "samples": {"ema" or "raw": {...}}, "players": {...}}`, all numbers.
    """
    key = named_key(jax.random.key(experiment.seed), "evaluation")
    kinds = {"ema": True, "raw": False} if "generator" in state.ema else {"raw": False}
    samples: dict[str, dict[str, Any]] = {}
    for kind, ema in kinds.items():
        drawn = sample(
            experiment.game,
            state,
            key,
            experiment.evaluation_samples,
            ema=ema,
            conditions=experiment.conditions,
        )
        samples[kind] = {
            name: number
            for evaluation in experiment.evaluations.values()
            for name, number in evaluation(drawn).items()
        }
    return {
        "step": int(state.step),
        "evaluation_samples": experiment.evaluation_samples,
        "samples": samples,
        "players": losses_and_scores(experiment, state),
    }


def losses_and_scores(experiment: Experiment, state: TrainState) -> dict[str, float]:
    """Every player's loss terms and the mean and standard deviation of its scores, on the next batch."""
    source = experiment.source
    fed = jax.tree.map(lambda x: x[0], source.feed(int(state.cursor), 1))
    key = jax.random.fold_in(named_key(state.key, "evaluation"), state.step)

    @jax.jit
    def measure(state: TrainState, resident: Tree, fed: Tree) -> Metrics:
        batch = source.fetch(resident, fed)
        measured: Metrics = {}
        for name, loss in experiment.game.objective.losses.items():
            _, aux = loss(experiment.game, state.players, batch, Moment(state.step, key))
            measured |= {f"{name}/{metric}": value for metric, value in aux.metrics.items()}
            for kind, scores in aux.scores.items():
                measured[f"{name}/score_{kind}_mean"] = jnp.mean(scores)
                measured[f"{name}/score_{kind}_std"] = jnp.std(scores)
        return measured

    return {name: float(value) for name, value in measure(state, source.resident, fed).items()}
