"""A perfect discriminator, and instance noise: what does not overlap cannot be learnt from.

Claims:
- Against a generator on another curve the critic tells all points apart: accuracy at least .999.
- There it is flat: the mean |grad_x D| on both curves is at most .05 for every seed.
- The minimax generator's gradient falls to at most a tenth of its largest.
- With noise that is annealed to .2 and rates that then fall the generator learns: W1 ends at a quarter of its
  start or less.
- It ends at a quarter or less of that without noise.
- It beats noise: it ends at half or less of the W1 of uniform noise on the square around the circle.
- Noise that vanishes leaves it again: annealed to .02, W1 ends at 1.5 times its least or more.
- The schedule that keeps some of it does not: W1 ends at 1.25 times its least or less.
- Without noise the generator comes nearer and is thrown out: W1 ends at 1.5 times its least or more.
- The reason: without noise the critic's score becomes at least 3 times as steep at samples as with noise that is
  kept.

Data on the unit circle, a generator of curves (z uniform on a line, MLP 64-64 to the plane) that starts near the
origin; the critic MLP 64-64 (leaky ReLU) of the minimax game, Adam(1e-3, b1 = .5), batch 256. First 3,000 turns
of the critic alone, then 3,000 rounds of five critic turns and one of the generator, by gradient descent of step
.05: Adam would divide a vanishing gradient by its own size, and goes on. The noise is uniform, its standard
deviation falls from 1 to .02 or .2 along a straight line in the first 2,000 rounds; with .2 both players' rates
fall to 0 in the last 1,000. W1 is exact, between 500 samples of both; ends are means of the last two of 15
snapshots. Controls: uniform noise on the square, the untrained generator, other points of the circle, whose W1 is
the least that 500 points can have.

What happens is this. Noise that is kept lets W1 fall to what other points of the circle have. Where it falls to
.02 the critic separates both curves again as soon as the noise is less than their distance: its slope at samples
rises from 1 to 50, the generator's steps with it, and what was learnt is thrown away. Without noise the slope
rises from the start on; the generator is driven nearer at first, in most seeds, is thrown out, and its gradient
vanishes out there. How far it is thrown differs so much between seeds, from 2.1 to 7 times the least W1, that the
interval of the mean does not show 1.5.

Paper: Arjovsky and Bottou, Towards Principled Methods for Training GANs, 2017, theorems 2.1, 2.2 and section 3
(arXiv:1701.04862).

    python -m experiments.studies instance_noise        # four minutes on one core

Nothing is scaled.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.framework.setups.frozen import CRITIC_ONLY, generator_gradient
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import critic_of, late, play, seed_curves, start
from gan_jax import pictures
from gan_jax.data import toy
from gan_jax.data.source import Source
from gan_jax.diagnostics.norms import tree_norm
from gan_jax.evaluation.sampling import sample
from gan_jax.functional.noise import instance_noise
from gan_jax.functional.penalties import input_gradient, safe_norm
from gan_jax.functional.priors import uniform
from gan_jax.game import Game, Player
from gan_jax.metrics.transport import wasserstein
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import with_transforms
from gan_jax.objectives.gan import gan
from gan_jax.schedule import alternating
from gan_jax.state import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUNDS, ALONE, SNAPSHOTS, SAMPLES = 3000, 3000, 15, 500
RATE, STEP = 1e-3, 0.05
FIRST_NOISE, VANISHING, KEPT = 1.0, 0.02, 0.2


def circle() -> toy.Toy:
    """Uniform on the unit circle: a curve, no area."""

    def draw(key: Any, n: int) -> Any:
        angle = jax.random.uniform(key, (n,), maxval=2 * np.pi)
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)

    return toy.Toy(sample=draw, dim=2)


@functools.cache
def games_of(last_noise: float | None, rounds: int, falling: bool = False) -> tuple[Game, Game, Source]:
    """The critic alone, the game, and the data.

    Args:
      last_noise: what the noise's deviation falls to, in the first two thirds of the rounds; `None` for no noise.
      rounds: of the game.
      falling: whether the players' rates fall to 0 in the last third.
    """
    objective, third = gan(uniform(1)), rounds // 3
    if last_noise is not None:
        deviation = optax.linear_schedule(FIRST_NOISE, last_noise, 2 * third)
        objective = with_transforms(objective, instance_noise(deviation, "uniform"))
    # The critic has learnt alone before, in so many turns, and has five turns in a round.
    rates = (
        optax.linear_schedule(RATE, 0.0, 5 * third, ALONE + 10 * third) if falling else RATE,
        optax.linear_schedule(STEP, 0.0, third, 2 * third) if falling else STEP,
    )
    game = Game(
        players={
            "critic": Player(
                from_linen(MLPCritic(widths=(64, 64)), jnp.zeros((2, 2))), optax.adam(rates[0], b1=0.5)
            ),
            "generator": Player(
                from_linen(MLPGenerator(output_shape=(2,), widths=(64, 64)), jnp.zeros((2, 1))),
                optax.sgd(rates[1]),
            ),
        },
        objective=objective,
        schedule=alternating(5),
    )
    return dataclasses.replace(game, schedule=CRITIC_ONLY), game, toy.from_toy(circle(), 256)


def perfect(seed: int, quick: bool) -> Numbers:
    """What a critic without noise has become when it has learnt alone."""
    for_seed, _, source = games_of(None, ROUNDS)
    gradient = jax.jit(generator_gradient(for_seed))
    real = circle().sample(jax.random.key(1000 + seed), 2000)

    def snapshot(done: int, state: TrainState) -> Numbers:
        fake = jnp.asarray(sample(for_seed, state, jax.random.key(2000 + seed), 2000))
        score = critic_of(for_seed, state)

        def probability(x: Any) -> Any:
            return jax.nn.sigmoid(score(x))

        right = jnp.mean(score(real) > 0) + jnp.mean(score(fake) <= 0)
        slopes = [float(safe_norm(input_gradient(probability, x)).mean()) for x in (real, fake)]
        norm = float(tree_norm(gradient(state, {"x": real}, jax.random.key(3))))
        return {"round": done, "accuracy": float(right) / 2, "slope": max(slopes), "gradient": norm}

    _, snapshots = play(for_seed, source, seed, ALONE, every=ALONE // 10, snapshot=snapshot)
    return {"snapshots": snapshots}


def learn(seed: int, quick: bool, last_noise: float | None, falling: bool = False) -> Numbers:
    """W1, the generator's gradient and the critic's slope through training, from a critic that has learnt alone."""
    rounds = 600 if quick else ROUNDS
    for_seed, game, source = games_of(last_noise, rounds, falling)
    state, _ = play(for_seed, source, seed, ALONE, state=start(for_seed, seed))
    state = state._replace(step=jnp.zeros((), jnp.int32))  # the noise is annealed from here
    real = data_of(seed)
    gradient = generator_gradient(game)

    def snapshot(done: int, state: TrainState) -> Numbers:
        fake = sample(game, state, jax.random.key(2000 + seed), SAMPLES)
        slope = safe_norm(input_gradient(critic_of(game, state), jnp.asarray(fake))).mean()
        norm = tree_norm(gradient(state, {"x": jnp.asarray(real)}, jax.random.key(3)))
        return {"round": done, "w1": wasserstein(real, fake), "slope": float(slope), "gradient": float(norm)}

    state, snapshots = play(
        game, source, seed, rounds, every=rounds // SNAPSHOTS, snapshot=snapshot, state=state
    )
    shown: Any = sample(game, state, jax.random.key(5), 400).round(3) if seed == 0 else []
    return {"snapshots": snapshots, "samples": shown}


def data_of(seed: int, draw: int = 0) -> np.ndarray:
    """Points of the circle, `[SAMPLES, 2]`."""
    return np.asarray(circle().sample(jax.random.fold_in(jax.random.key(1000 + seed), draw), SAMPLES))


def control(seed: int, quick: bool, fake: Callable[[int], np.ndarray]) -> Numbers:
    """The W1 of what does not learn, at each snapshot the same."""
    points = fake(seed)
    rounds = np.linspace(0, ROUNDS, SNAPSHOTS + 1).astype(int)
    distance = wasserstein(data_of(seed), points)
    return {
        "snapshots": [{"round": done, "w1": distance} for done in rounds],
        "samples": [],
    }


def noise(seed: int) -> np.ndarray:
    """Uniform on the square around the circle, `[SAMPLES, 2]`."""
    return np.random.default_rng(seed).uniform(-1, 1, size=(SAMPLES, 2))


def untrained(seed: int) -> np.ndarray:
    """Samples of the generator before the first round, `[SAMPLES, 2]`."""
    _, game, _ = games_of(None, ROUNDS)
    return sample(game, start(game, seed), jax.random.key(2000 + seed), SAMPLES)


METHODS = {
    "without noise": functools.partial(learn, last_noise=None),
    "noise to .02": functools.partial(learn, last_noise=VANISHING),
    "noise to .2, falling rates": functools.partial(learn, last_noise=KEPT, falling=True),
}
CONTROLS = {
    "noise": functools.partial(control, fake=noise),
    "untrained": functools.partial(control, fake=untrained),
    "real": functools.partial(control, fake=functools.partial(data_of, draw=1)),
}


def figure(results: Sequence[Result]) -> Figure:
    """The critic alone; W1, gradients and slopes with and without noise; the generators' curves."""
    alone = {
        name: seed_curves(results, "perfect", key)
        for name, key in (("generator's gradient", "gradient"), ("slope of D", "slope"))
    }
    distances = {name: seed_curves(results, name, "w1") for name in (*METHODS, *CONTROLS)}
    forces = {
        label: {name: seed_curves(results, name, key) for name in METHODS}
        for key, label in (("slope", "|gradient of the score| at samples"), ("gradient", "norm"))
    }
    order = (*METHODS, *CONTROLS)
    charts = [
        pictures.curves(drawn, log="y", x_label="round", y_label=label, title=title, order=order)
        for (label, drawn), title in zip(
            forces.items(), ("Slope of the critic", "The generator's gradient"), strict=True
        )
    ]
    real = np.asarray(circle().sample(jax.random.key(0), 400))
    panels = [
        pictures.scatter(
            np.asarray(results[0][name]["samples"]), real, limits=((-1.7, 1.7), (-1.7, 1.7)), title=name
        )
        for name in METHODS
    ]
    return pictures.figure(
        pictures.Row(
            (
                pictures.curves(
                    alone,
                    log="y",
                    x_label="turns of the critic",
                    y_label="norm",
                    title="The critic alone, no noise",
                ),
                pictures.curves(
                    distances, log="y", x_label="round", y_label="W1", title="Distance to the data"
                ),
            ),
            height=3.6,
        ),
        pictures.Row(tuple(charts), height=3.2, shared_legend=True),
        pictures.Row(tuple(panels), height=3.4, shared_legend=True),
    )


def end(result: Result, key: str) -> float:
    """What the critic's last snapshot has."""
    return result["perfect"]["snapshots"][-1][key]


def last(result: Result, name: str) -> float:
    """The W1 at the end, mean of the last two snapshots."""
    return late(result, name, "w1", 2)


def least(result: Result, name: str) -> float:
    """The least W1 through training."""
    return min(snapshot["w1"] for snapshot in result[name]["snapshots"])


def steepest(result: Result, name: str) -> float:
    """The steepest that the critic is at samples, after the first snapshot."""
    return max(snapshot["slope"] for snapshot in result[name]["snapshots"][1:])


STILL, VANISHES, HELD = METHODS

STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=5,
    cases={"perfect": perfect, **METHODS, **CONTROLS},
    controls=tuple(CONTROLS),
    seeds=5,
    claims=(
        Claim(effect=lambda r: end(r, "accuracy"), at_least=0.999, quick=0.999, every_seed=True),
        Claim(effect=lambda r: end(r, "slope"), at_most=0.05, quick=0.05, every_seed=True),
        Claim(
            effect=lambda r: (
                end(r, "gradient") / max(snapshot["gradient"] for snapshot in r["perfect"]["snapshots"])
            ),
            at_most=0.1,
            quick=0.1,
        ),
        Claim(effect=lambda r: last(r, HELD) / r[HELD]["snapshots"][0]["w1"], at_most=0.25, quick=0.5),
        Claim(effect=lambda r: last(r, HELD) / last(r, STILL), at_most=0.25, quick=0.5),
        Claim(effect=lambda r: last(r, HELD) / last(r, "noise"), at_most=0.5, quick=0.9),
        Claim(effect=lambda r: last(r, VANISHES) / least(r, VANISHES), at_least=1.5),
        Claim(effect=lambda r: last(r, HELD) / least(r, HELD), at_most=1.25),
        Claim(effect=lambda r: last(r, STILL) / least(r, STILL), at_least=1.5, reproduces=False),
        Claim(effect=lambda r: steepest(r, STILL) / steepest(r, HELD), at_least=3.0, quick=1.5),
    ),
    figure=figure,
)
