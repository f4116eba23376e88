"""Kantorovich-Rubinstein duality: linear programmes, and critics between them.

Claims:
- The primal and the dual linear programme agree to 1e-6.
- No critic's estimate, divided by its largest slope on the points, is above W1 (by more than 1e-4 of it).
- The gradient penalty's estimate is within a fifth of W1 as it stands.
- After division by its slope it reaches at least .6 of W1.
- Spectral normalisation keeps the slope at 1 or below, to 2 %: its estimate is a bound as it stands.
- Clipping's raw estimate is no estimate of W1: off by a factor of at least 5.
- Clipping's critic makes less of its slope than the penalty's: the ratio of their bounds is at most .9.

A hundred points of eight Gaussians on a ring (radius 2, sigma .02, / 1.414) against a hundred of N(0, I);
critics (MLP 128-128-128, ReLU) see exactly these points as real and as fake batch. Clipping: RMSProp 1e-3, c =
.01; penalty: lambda 10, Adam(1e-3, .9, .9); spectral normalisation: the same Adam. 3,000 turns each. The
penalty is two-sided and on segments between points: single slopes exceed 1.

Paper: Arjovsky et al., Wasserstein GAN, 2017 (arXiv:1701.07875); Gulrajani et al., Improved Training of
Wasserstein GANs, 2017 (arXiv:1704.00028); Miyato et al., Spectral Normalization for GANs, 2018
(arXiv:1802.05957).

    python -m experiments.studies duality        # two minutes on two cores

Nothing is scaled.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.framework.setups.frozen import CRITIC_ONLY, with_generator
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import BATCHES_A_SEED, critic_of, play, start
from gan_jax import pictures
from gan_jax.data import toy
from gan_jax.data.source import Source
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.metrics.duality import kantorovich_rubinstein
from gan_jax.network import Network
from gan_jax.networks import MLPCritic, from_linen
from gan_jax.objectives.wgan import optimizer, wgan
from gan_jax.objectives.wgan_gp import wgan_gp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 100
REACH = 2.5
WAYS = ("clipping", "penalty", "spectral")


def points_of(seed: Any) -> tuple[jax.Array, jax.Array]:
    """The real and the fake points."""
    real, fake = jax.random.split(jax.random.key(seed))
    return toy.ring(scale=1.414).sample(real, POINTS), jax.random.normal(fake, (POINTS, 2))


def same_points() -> Source:
    """Every batch is all real points of the seed."""

    def host_batches(cursor: int, count: int) -> np.ndarray:
        return np.arange(cursor, cursor + count, dtype=np.int32)

    def get_batch(_: Any, number: jax.Array) -> dict[str, jax.Array]:
        return {"x": points_of(number // BATCHES_A_SEED)[0]}

    return Source(host_batches=host_batches, get_batch=get_batch, batch_size=POINTS)


def given_points() -> Network:
    """A generator whose samples are its parameters."""

    def apply(params: Any, model_state: Any, z: Any, *, train: bool = False, key: Any = None) -> Any:
        return params, model_state

    return Network(init=lambda key: (jnp.zeros((POINTS, 2)), ()), apply=apply)


@functools.cache
def game_of(way: str) -> tuple[Game, Source]:
    """The critic of one way of staying Lipschitz, against points that do not move."""
    norm = "spectral" if way == "spectral" else "none"
    critic = MLPCritic(widths=(128, 128, 128), activation="relu", norm=norm)
    objective = wgan_gp(gaussian(1)) if way == "penalty" else wgan(gaussian(1))
    step = optimizer(1e-3, clip=0.01) if way == "clipping" else optax.adam(1e-3, b1=0.9, b2=0.9)
    game = Game(
        players={
            "critic": Player(from_linen(critic, jnp.zeros((2, 2))), step),
            "generator": Player(given_points(), optax.sgd(1.0)),
        },
        objective=objective,
        schedule=CRITIC_ONLY,
    )
    return game, same_points()


def run(seed: int, quick: bool, way: str) -> Numbers:
    """The critic's estimate against the linear programmes."""
    real, fake = points_of(seed)
    game, source = game_of(way)
    state = with_generator(start(game, seed), fake)
    state, _ = play(game, source, seed, 600 if quick else 3000, state=state)
    critic = critic_of(game, state)
    found = kantorovich_rubinstein(np.asarray(real), np.asarray(fake), critic, seed=seed)
    assert found.lipschitz is not None
    numbers: Numbers = {
        "primal": found.primal,
        "dual": found.dual,
        "critic": found.critic,
        "bound": found.bound,
        "gap": found.gap,
        "slope": found.lipschitz.largest_slope,
        "gradient": found.lipschitz.largest_gradient,
    }
    if seed == 0:
        side = jnp.linspace(-REACH, REACH, 40)
        mesh = jnp.stack(jnp.meshgrid(side, -side), axis=-1).reshape(-1, 2)
        numbers["surface"] = np.asarray(critic(mesh)).reshape(40, 40)
        numbers["points"] = np.concatenate([real, fake]).round(2)
    return numbers


def figure(results: Sequence[Result]) -> Figure:
    """The three critics' level bands, and what they make of W1."""
    panels = [
        pictures.surface(
            results[0][way]["surface"],
            results[0][way]["points"],
            extent=REACH,
            value_label="critic's value",
            title=f"{way}: estimate {results[0][way]['critic']:.3g}",
        )
        for way in WAYS
    ]
    share = {way: [result[way]["bound"] / result[way]["primal"] for result in results] for way in WAYS}
    slopes = {way: [result[way]["slope"] for result in results] for way in WAYS}
    title = "Every seed, mean and 95 % interval"
    return pictures.figure(
        pictures.Row(tuple(panels), height=2.8),
        pictures.Row(
            (
                pictures.dot_plot(
                    share, x_label="estimate / largest slope, as a share of W1", title=title, marks=[1.0]
                ),
                pictures.dot_plot(
                    slopes, log=True, x_label="largest slope between two points", title=title, marks=[1.0]
                ),
            ),
            height=2.0,
        ),
    )


def factor(result: Result) -> float:
    """By how much clipping's raw estimate is off W1, up or down."""
    ratio = result["clipping"]["critic"] / result["clipping"]["primal"]
    return max(ratio, 1 / max(ratio, 1e-9))


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=8,
    cases={way: functools.partial(run, way=way) for way in WAYS},
    seeds=5,
    claims=(
        Claim(
            effect=lambda r: max(abs(case["primal"] - case["dual"]) for case in r.values()),
            at_most=1e-6,
            quick=1e-6,
            every_seed=True,
        ),
        Claim(
            effect=lambda r: max(case["bound"] / case["primal"] - 1 for case in r.values()),
            at_most=1e-4,
            quick=1e-4,
            every_seed=True,
        ),
        Claim(
            effect=lambda r: abs(r["penalty"]["critic"] / r["penalty"]["primal"] - 1), at_most=0.2, quick=0.4
        ),
        Claim(effect=lambda r: r["penalty"]["bound"] / r["penalty"]["primal"], at_least=0.6, quick=0.4),
        Claim(effect=lambda r: r["spectral"]["slope"], at_most=1.02, quick=1.1, every_seed=True),
        Claim(effect=factor, at_least=5.0, quick=3.0),
        Claim(effect=lambda r: r["clipping"]["bound"] / r["penalty"]["bound"], at_most=0.9, quick=1.0),
    ),
    figure=figure,
)
