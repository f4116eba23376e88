"""Ratios and ways of playing: who turns in circles, who arrives, what it costs.

Claims:
- At 1:1 players circle: the largest |imaginary part| of the field's eigenvalues is at least .9 of |eigenvalue|.
- Alternating 5:1 ends at no more than half of alternating 1:1's W2.
- Alternating 50:1 ends no farther than 5:1 (ratio of W2 at most 1): here, where data and samples overlap, a
  better critic is no harm.
- A round at 50:1 takes at least 5 times as long as one at 1:1.

A Gaussian in the plane, N((1, -.5), S); G(z) = m + z L, D's score a quadratic form of x, which the optimal
critic of two Gaussians is; -log D losses, gradient descent of step .1, batch 256, 2,000 rounds; consensus with
gamma = .1. W2 of the generator's Gaussian to the data is in closed form; the mean of the last ten of fifty
snapshots. The k:1 forms of simultaneous play, consensus and extragradient have k - 1 turns of the critic and one of
both. Eigenvalues are those at the last round of alternating play. Times are processor seconds.

Expected and not found: at 1:1, against simultaneous play's W2, alternating play at no more than .9 of it, consensus
and extragradient at no more than half. They end at .78 (95 %: .52 to 1.04), .72 (.45 to .99) and .73 (.44 to 1.02):
the tendency is there, its size is not. The likely reason: what is slow here is the critic's learning, which the
ratio mends, more than the rotation, which those two damp. The study `dirac` is of rotation alone.

Paper: Goodfellow et al., Generative Adversarial Nets, 2014, Algorithm 1 (arXiv:1406.2661); Mescheder et al.,
The Numerics of GANs, 2017 (arXiv:1705.10461); Gidel et al., A Variational Inequality Perspective on GANs, 2018
(arXiv:1802.10551).

    python -m experiments.studies ratios        # five minutes on two cores

Nothing is scaled.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import play, start
from gan_jax import pictures
from gan_jax.data import toy
from gan_jax.data.source import Source
from gan_jax.diagnostics.dynamics import eigenvalues
from gan_jax.diagnostics.probe import ProbeContext
from gan_jax.field import consensus, extragradient
from gan_jax.functional.divergences import gaussian_wasserstein_2
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.network import Network
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.schedule import Schedule, alternating, turn
from gan_jax.state import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATIOS = (1, 5, 50)
WAYS = ("simultaneous", "alternating", "consensus", "extragradient")
STEP, ROUNDS, SNAPSHOTS = 0.1, 2000, 50
MEAN = np.array([1.0, -0.5])
ROOT = np.array([[0.5, 0.25], [0.0, 0.4]])


def data() -> toy.Toy:
    """N(MEAN, ROOT^T ROOT)."""
    return toy.Toy(
        sample=lambda key, n: jnp.asarray(MEAN) + jax.random.normal(key, (n, 2)) @ jnp.asarray(ROOT), dim=2
    )


def linear_generator() -> Network:
    """G(z) = m + z L."""

    def init(key: Any) -> Any:
        mean, root = jax.random.split(key)
        return {"m": jax.random.normal(mean, (2,)), "l": 0.5 * jax.random.normal(root, (2, 2))}, ()

    def apply(params: Any, model_state: Any, z: Any, *, train: bool = False, key: Any = None) -> Any:
        return params["m"] + z @ params["l"], model_state

    return Network(init=init, apply=apply)


def quadratic_critic() -> Network:
    """D's score x A x + w x + b."""

    def apply(params: Any, model_state: Any, x: Any, *, train: bool = False, key: Any = None) -> Any:
        return x @ params["w"] + jnp.sum((x @ params["a"]) * x, axis=1) + params["b"], model_state

    return Network(
        init=lambda key: ({"w": jnp.zeros(2), "a": jnp.zeros((2, 2)), "b": jnp.zeros(())}, ()), apply=apply
    )


def schedule_of(way: str, ratio: int) -> Schedule:
    """`ratio` turns of the critic for one of the generator."""
    if way == "alternating":
        return alternating(ratio)
    return (ratio - 1) * (turn("critic"),) + (turn("critic", "generator"),)


@functools.cache
def game_of(way: str, ratio: int) -> tuple[Game, Source]:
    """One way of playing at one ratio."""
    field = {"consensus": consensus(0.1), "extragradient": extragradient()}.get(way)
    game = Game(
        players={
            "critic": Player(quadratic_critic(), optax.sgd(STEP)),
            "generator": Player(linear_generator(), optax.sgd(STEP)),
        },
        objective=non_saturating(gaussian(2)),
        schedule=schedule_of(way, ratio),
        field=field,
    )
    return game, toy.from_toy(data(), 256)


def distance(state: TrainState) -> float:
    """W2 of the generator's Gaussian to the data's."""
    params = state.players["generator"].params
    root = np.asarray(params["l"], np.float64)
    covariances = root.T @ root, ROOT.T @ ROOT
    return float(gaussian_wasserstein_2(params["m"], covariances[0], MEAN, covariances[1]))


def run(seed: int, quick: bool, way: str, ratio: int) -> Numbers:
    """W2 through training, the rotation at its end, and seconds a round."""
    if quick and ratio > 1 and way != "alternating":
        return {}
    game, source = game_of(way, ratio)
    rounds = ROUNDS // 4 if quick else ROUNDS
    play(game, source, seed, rounds // SNAPSHOTS)  # compiles
    began = time.process_time()
    state, snapshots = play(
        game,
        source,
        seed,
        rounds,
        every=rounds // SNAPSHOTS,
        snapshot=lambda _, s: distance(s),
        state=start(game, seed),
    )
    seconds = time.process_time() - began
    plain = dataclasses.replace(game, field=None)
    batch = {"x": data().sample(jax.random.key(600 + seed), 4096)}
    found = eigenvalues(
        ProbeContext(
            game=plain,
            players=state.players,
            batch=batch,
            step=state.step,
            turn_key=jax.random.key(seed),
            start=state,
            state=state,
        )
    )
    return {
        "w2": float(np.mean(snapshots[-10:])),
        "path": snapshots,
        "rounds": rounds,
        "rotation": found["field/rotation"],
        "largest_real_part": found["field/largest_real_part"],
        "seconds_a_round": seconds / rounds,
    }


def figure(results: Sequence[Result]) -> Figure:
    """W2 through training at each ratio, where it ends, the rotation there, and what a round costs."""
    panels = []
    for ratio in RATIOS:
        curves = {}
        for way in WAYS:
            if played := [result[case(way, ratio)] for result in results if result[case(way, ratio)]]:
                paths = np.array([case["path"] for case in played])
                curves[way] = (np.linspace(0, played[0]["rounds"], paths.shape[1]), paths)
        panels.append(
            pictures.curves(
                curves, log="y", x_label="rounds", y_label="W2", title=f"{ratio}:1", order=tuple(WAYS)
            )
        )
    names = [name for name in STUDY.cases if results[0][name]]
    last = {name: [result[name]["w2"] for result in results] for name in names}
    rotation = {name: [result[name]["rotation"] for result in results] for name in names}
    cost = {name: [1e3 * result[name]["seconds_a_round"] for result in results] for name in names}
    return pictures.figure(
        pictures.Row(tuple(panels), height=3.0, shared_legend=True),
        pictures.Row(
            (
                pictures.dot_plot(last, log=True, x_label="W2, last ten evaluations", title="At the end"),
                pictures.dot_plot(rotation, x_label="rotation at the last round", title="Rotation"),
                pictures.dot_plot(cost, log=True, x_label="processor time of a round (ms)", title="Cost"),
            ),
            height=0.6 + 0.2 * len(names),
        ),
    )


def case(way: str, ratio: int) -> str:
    """The case's name."""
    return f"{way} {ratio}:1"


def over(first: tuple[str, int], second: tuple[str, int], key: str = "w2") -> Any:
    """A measure of one case over that of another."""
    return lambda result: result[case(*first)][key] / result[case(*second)][key]


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=15,
    cases={
        case(way, ratio): functools.partial(run, way=way, ratio=ratio) for ratio in RATIOS for way in WAYS
    },
    seeds=5,
    claims=(
        Claim(effect=lambda r: r[case("alternating", 1)]["rotation"], at_least=0.9, quick=0.5),
        Claim(effect=over(("alternating", 5), ("alternating", 1)), at_most=0.5, quick=1.0),
        Claim(effect=over(("alternating", 50), ("alternating", 5)), at_most=1.0),
        Claim(
            effect=over(("alternating", 50), ("alternating", 1), "seconds_a_round"), at_least=5.0, quick=3.0
        ),
    ),
    figure=figure,
)
