"""A generator that has stopped, and measurements of a new critic that learns to tell its samples from data."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from experiments.studies.framework.setups.frozen import CRITIC_ONLY, generator_gradient
from experiments.studies.framework.study import Numbers, Result
from experiments.studies.framework.training import critic_of, play, start
from gan_jax import pictures
from gan_jax.data.source import Source
from gan_jax.diagnostics.scores import logit_statistics
from gan_jax.evaluation.sampling import sample
from gan_jax.functional.priors import Prior
from gan_jax.game import Game, Player
from gan_jax.network import Network
from gan_jax.objectives.gan import gan
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.schedule import alternating
from gan_jax.state import TrainState, with_player


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """A -log D game whose generator is stopped after some epochs.

    Attributes:
      game: it.
      source: its data.
      prior: of the generator.
      data: `(key, n) -> [n, ...]`, for snapshots.
      batch: examples of a minibatch.
      minibatches: how many gradients' means and variances are taken over.
      judged: samples of either kind on which the critic is judged.
    """

    game: Game
    source: Source
    prior: Prior
    data: Callable[[Any, int], Any]
    batch: int
    minibatches: int = 32
    judged: int = 2000

    @functools.cached_property
    def for_seed(self) -> Game:
        """The critic alone."""
        return dataclasses.replace(self.game, schedule=CRITIC_ONLY)

    @functools.cached_property
    def gradients(self) -> Callable[..., Any]:
        """`(state, key) -> {cost: (|mean gradient|, trace of its covariance)}`, over minibatches."""
        costs = {"original": gan(self.prior), "-log D": non_saturating(self.prior)}
        gradients = {name: generator_gradient(self.for_seed, cost) for name, cost in costs.items()}

        @jax.jit
        def measure(state: TrainState, key: Any) -> Any:
            def of_minibatch(key: Any) -> Any:
                batch = {"x": self.data(key, self.batch)}
                return {
                    name: ravel_pytree(gradient(state, batch, key))[0] for name, gradient in gradients.items()
                }

            found = jax.lax.map(of_minibatch, jax.random.split(key, self.minibatches))
            return {
                name: (jnp.linalg.norm(g.mean(axis=0)), jnp.sum(g.var(axis=0, ddof=1)))
                for name, g in found.items()
            }

        return measure


def setup(
    networks: dict[str, Network],
    prior: Prior,
    source: Source,
    data: Callable[[Any, int], Any],
    rate: float,
    **options: Any,
) -> Setup:
    """The -log D game by Adam(rate, b1 = .5), one turn of each player a round."""
    adam = optax.adam(rate, b1=0.5)
    game = Game(
        players={name: Player(network, adam) for name, network in networks.items()},
        objective=non_saturating(prior),
        schedule=alternating(),
    )
    return Setup(game=game, source=source, prior=prior, data=data, batch=source.batch_size, **options)


@functools.lru_cache(maxsize=8)
def trained(made: Setup, seed: int, stops: tuple[int, ...]) -> TrainState:
    """The -log D game after the last of `stops`, rounds, ascending; what comes before is played once."""
    if not stops:
        return start(made.game, seed)
    *before, rounds = stops
    state = trained(made, seed, tuple(before))
    return play(made.game, made.source, seed, rounds - int(state.step), state=state)[0]


def frozen(
    made: Setup,
    seed: int,
    stops: Sequence[int],
    turns: Sequence[int],
    also: Callable[[TrainState], Numbers] = lambda state: {},
) -> Numbers:
    """A critic from scratch against the generator of the last stop: measurements after `turns`, ascending.

    `also` measures more at every snapshot.
    """
    state, fresh = trained(made, seed, tuple(stops)), start(made.for_seed, 500 + seed)
    generator = state.players["generator"]
    players = with_player(
        fresh.players, "generator", params=generator.params, model_state=generator.model_state
    )
    state = fresh._replace(cursor=state.cursor, players=players)
    real = jnp.asarray(made.data(jax.random.key(7000 + seed), made.judged))
    fake = jnp.asarray(sample(made.for_seed, state, jax.random.key(8000 + seed), made.judged))
    snapshots, played = [], 0
    for turn in turns:
        if turn > played:
            state, _ = play(made.for_seed, made.source, seed, turn - played, state=state)
            played = turn
        snapshots.append({"turn": turn, **measurements(made, state, real, fake, seed), **also(state)})
    return {"snapshots": snapshots}


def measurements(made: Setup, state: TrainState, real: Any, fake: Any, seed: int) -> Numbers:
    """Accuracy, the divergence's estimate, and both costs' gradients."""
    score = critic_of(made.for_seed, state)
    found = logit_statistics(score(real), score(fake))
    costs = made.gradients(state, jax.random.key(9000 + seed))
    return {
        "accuracy": float(found["accuracy"]),
        "jsd": float(found["jsd_estimate"]),
        "original": costs["original"][0],
        "other": costs["-log D"][0],
        "variance": costs["-log D"][1],
    }


PANELS = (
    ("accuracy", "accuracy", "The critic's accuracy", ""),
    ("jsd", "estimate / log 2", "Its estimate of the JSD", ""),
    ("original", "norm", "Generator's gradient, log(1 - D)", "y"),
    ("other", "norm", "Generator's gradient, -log D", "y"),
    ("variance", "variance", "Variance of the gradient, -log D", "y"),
)


def panels(results: Sequence[Result], cases: Sequence[str]) -> list[pictures.Chart]:
    """Accuracy, the estimate, both costs' gradients and the other's variance by turns."""
    charts = []
    for key, label, title, log in PANELS:
        drawn = {}
        for case in cases:
            snapshots = [
                [snapshot for snapshot in result[case]["snapshots"] if snapshot["turn"] > 0]
                for result in results
            ]
            values = np.array([[snapshot[key] for snapshot in of_seed] for of_seed in snapshots])
            unit = math.log(2) if key == "jsd" else 1.0
            drawn[case] = (
                [snapshot["turn"] for snapshot in snapshots[0]],
                np.maximum(values, 1e-20 if log else 0) / unit,
            )
        axes: Any = f"x{log}"
        charts.append(
            pictures.curves(drawn, log=axes, x_label="turns of the critic", y_label=label, title=title)
        )
    return charts


def at_each(
    cases: Sequence[str], measure: Callable[[Sequence[Numbers]], float], worst: Callable[..., float]
) -> Callable[[Result], float]:
    """A measure of the snapshots, the worst over the generators."""
    return lambda result: worst(measure(result[case]["snapshots"]) for case in cases)


def accuracy(snapshots: Sequence[Numbers]) -> float:
    """At the end."""
    return snapshots[-1]["accuracy"]


def estimate(snapshots: Sequence[Numbers]) -> float:
    """At the end, as a share of log 2."""
    return snapshots[-1]["jsd"] / math.log(2)


def decades(snapshots: Sequence[Numbers]) -> float:
    """log10 of the original cost's gradient at the end over that at the start."""
    return math.log10(max(snapshots[-1]["original"], 1e-30) / snapshots[0]["original"])


def decades_from_largest(snapshots: Sequence[Numbers]) -> float:
    """log10 of the original cost's gradient at the end over its largest."""
    return math.log10(
        max(snapshots[-1]["original"], 1e-30) / max(snapshot["original"] for snapshot in snapshots)
    )


def variance_growth(snapshots: Sequence[Numbers]) -> float:
    """The -log D gradient's variance at the end over that at the first snapshot after the start."""
    return snapshots[-1]["variance"] / snapshots[1]["variance"]


def norm_growth(snapshots: Sequence[Numbers]) -> float:
    """The -log D gradient's norm at the end over that at the first snapshot after the start."""
    return snapshots[-1]["other"] / snapshots[1]["other"]
