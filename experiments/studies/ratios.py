"""Ratios and ways of playing: who turns in circles, who arrives, what it costs.

Claims:
- At 1:1 players of the plain field circle: the largest |imaginary part| of its eigenvalues is at least .9 of
  |eigenvalue|.
- Consensus turns less: at the same ratio its own field's largest real part lies deeper than the plain one's, by
  at least 1e-3.
- At equal processor time alternating 5:1 has come nearer than 1:1: its W2 is at most .75 of it.
- Alternating 5:1 ends at no more than half of alternating 1:1's W2.
- Alternating 50:1 ends no farther than 5:1 (ratio of W2 at most 1): here, where data and samples overlap, a
  better critic is no harm.
- A round at 50:1 takes at least 5 times as long as one at 1:1.
- Where all is rotation, in the bilinear game, consensus and extragradient arrive: their distance is at most a
  fifth of alternating play's.
- They do at equal processor time too: at most a fifth.
- Simultaneous play leaves: it ends at least 10 times as far as alternating play.
- In the game of distributions consensus and extragradient end at no more than half of simultaneous play's W2, at
  1:1.
- Trained, alternating 5:1 beats noise: its W2 is at most half of that of uniform noise with the data's range.

A Gaussian in the plane, N((1, -.5), S); G(z) = m + z L, D's score a quadratic form of x, which the optimal critic
of two Gaussians is; -log D losses, gradient descent of step .1, batch 256, 2,000 rounds; consensus with gamma =
.1. W2 of the generator's Gaussian to the data is in closed form; the mean of the last ten of fifty snapshots. The
k:1 forms of simultaneous play, consensus and extragradient have k - 1 turns of the critic and one of both.
Eigenvalues are those of each way's own field, at its last round. Times are processor seconds; at equal time is at
the time that 2,000 rounds of 1:1 take. The bilinear game is WGAN's with D(x) = w x and G(z) = m + z S^(1/2), of
the same data, steps and rounds, gamma = 1; its distance is |m - m_data|.

Expected and not found: that consensus and extragradient end at half of simultaneous play's W2 in the first game.
The tendency is there, its size is not: what is slow there is the critic's learning, which the ratio mends, more
than the rotation, which those two damp; the bilinear game has nothing but rotation. Nor, over five seeds, that
consensus's own field turns less than the plain one at its last round: in two seeds its largest real part lies
deeper, by .04 and .05, in three higher, by up to .02. Nor that 5:1 is nearer at equal processor time: its W2 is
then .84 of that of 1:1 (.51 to 1.18), and .3 of it (.25 to .35) after as many rounds.

Paper: Goodfellow et al., Generative Adversarial Nets, 2014, Algorithm 1 (arXiv:1406.2661); Mescheder et al., The
Numerics of GANs, 2017 (arXiv:1705.10461); Gidel et al., A Variational Inequality Perspective on GANs, 2018,
section 2 (arXiv:1802.10551).

    python -m experiments.studies ratios        # six minutes on one core

Nothing is scaled.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
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
from gan_jax.game import Field, Game, Player
from gan_jax.network import Network
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.wgan import wgan
from gan_jax.schedule import Schedule, alternating, turn
from gan_jax.state import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATIOS = (1, 5, 50)
WAYS = ("simultaneous", "alternating", "consensus", "extragradient")
STEP, ROUNDS, SNAPSHOTS, BATCH = 0.1, 2000, 50, 256
GAMMA, BILINEAR_GAMMA = 0.1, 1.0
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


def field_of(way: str, gamma: float) -> Field | None:
    """What the players follow; `None` is each one's own gradient."""
    return {"consensus": consensus(gamma), "extragradient": extragradient()}.get(way)


@functools.cache
def game_of(way: str, ratio: int) -> tuple[Game, Source]:
    """One way of playing at one ratio."""
    game = Game(
        players={
            "critic": Player(quadratic_critic(), optax.sgd(STEP)),
            "generator": Player(linear_generator(), optax.sgd(STEP)),
        },
        objective=non_saturating(gaussian(2)),
        schedule=schedule_of(way, ratio),
        field=field_of(way, GAMMA),
    )
    return game, toy.from_toy(data(), BATCH)


@functools.cache
def bilinear_game_of(way: str) -> tuple[Game, Source]:
    """WGAN's game of the data's mean: D(x) = w x, G(z) = m + z S^(1/2)."""

    def critic(params: Any, model_state: Any, x: Any, *, train: bool = False, key: Any = None) -> Any:
        return x @ params, model_state

    def generator(params: Any, model_state: Any, z: Any, *, train: bool = False, key: Any = None) -> Any:
        return params["m"] + z @ jnp.asarray(ROOT, jnp.float32), model_state

    def somewhere(key: Any) -> Any:
        return {"m": jax.random.normal(key, (2,))}, ()

    game = Game(
        players={
            "critic": Player(Network(init=lambda key: (jnp.zeros(2), ()), apply=critic), optax.sgd(STEP)),
            "generator": Player(Network(init=somewhere, apply=generator), optax.sgd(STEP)),
        },
        objective=wgan(gaussian(2)),
        schedule=schedule_of(way, 1),
        field=field_of(way, BILINEAR_GAMMA),
    )
    return game, toy.from_toy(data(), BATCH)


def distance(state: TrainState) -> float:
    """W2 of the generator's Gaussian to the data's."""
    params = state.players["generator"].params
    return gaussian_distance(params["m"], np.asarray(params["l"], np.float64))


def gaussian_distance(mean: Any, root: np.ndarray) -> float:
    """W2 of N(mean, root^T root) to the data."""
    return float(gaussian_wasserstein_2(mean, root.T @ root, MEAN, ROOT.T @ ROOT))


def mean_distance(state: TrainState) -> float:
    """|m - m_data|."""
    return float(np.linalg.norm(np.asarray(state.players["generator"].params["m"], np.float64) - MEAN))


def run(seed: int, quick: bool, way: str, ratio: int) -> Numbers:
    """W2 through training, the rotation of the way's own field at its end, and seconds a round."""
    if quick and ratio > 1 and way != "alternating":
        return {}
    game, source = game_of(way, ratio)
    state, numbers = timed(game, source, seed, ROUNDS // 4 if quick else ROUNDS, distance)
    found = eigenvalues(
        ProbeContext(
            game=game,
            players=state.players,
            batch={"x": data().sample(jax.random.key(600 + seed), 4096)},
            step=state.step,
            turn_key=jax.random.key(seed),
            start=state,
            state=state,
        )
    )
    return {
        **numbers,
        "rotation": found["field/rotation"],
        "largest_real_part": found["field/largest_real_part"],
    }


def run_bilinear(seed: int, quick: bool, way: str) -> Numbers:
    """The mean's distance through training, and seconds a round."""
    game, source = bilinear_game_of(way)
    return timed(game, source, seed, ROUNDS // 2 if quick else ROUNDS, mean_distance)[1]


def timed(
    game: Game, source: Source, seed: int, rounds: int, measure: Callable[[TrainState], float]
) -> tuple[TrainState, Numbers]:
    """The state after the rounds, a measure through them, its late mean, and processor seconds a round."""
    every = rounds // SNAPSHOTS
    play(game, source, seed, every)  # compiles
    state, path, spent = start(game, seed), [measure(start(game, seed))], 0.0
    for _ in range(SNAPSHOTS):
        began = time.process_time()
        state, _ = play(game, source, seed, every, state=state)
        jax.block_until_ready(state)
        spent += time.process_time() - began
        path.append(measure(state))
    numbers = {
        "w2": float(np.mean(path[-10:])),
        "path": path,
        "rounds": rounds,
        "seconds_a_round": spent / rounds,
    }
    return state, numbers


def uniform_noise(seed: int, quick: bool) -> Numbers:
    """W2 of the Gaussian with the moments of uniform noise over three deviations of the data."""
    deviations = np.sqrt(np.diag(ROOT.T @ ROOT))
    value = gaussian_distance(MEAN, np.diag(3 * deviations / np.sqrt(3)))
    return constant(value)


def untrained(seed: int, quick: bool) -> Numbers:
    """W2 of the generator before the first round."""
    return constant(distance(start(game_of("alternating", 1)[0], seed)))


def real_data(seed: int, quick: bool) -> Numbers:
    """W2 of the moments of a batch of data: what a game of such batches can hope for."""
    batch = np.asarray(data().sample(jax.random.key(700 + seed), BATCH), np.float64)
    return constant(gaussian_distance(batch.mean(axis=0), np.linalg.cholesky(np.cov(batch.T)).T))


def constant(value: float) -> Numbers:
    """What does not learn, in the form of `run`; its rounds take a second."""
    return {
        "w2": value,
        "path": [value] * (SNAPSHOTS + 1),
        "rounds": ROUNDS,
        "seconds_a_round": 1.0,
        "rotation": 0.0,
        "largest_real_part": 0.0,
    }


def figure(results: Sequence[Result]) -> Figure:
    """W2 through training at each ratio and in the bilinear game; where it ends, rotation, a round's cost."""
    panels = []
    for ratio in RATIOS:
        drawn = {way: case(way, ratio) for way in WAYS if results[0][case(way, ratio)]}
        panels.append(paths(results, drawn, f"{ratio}:1", "W2"))
    bilinear = paths(results, {way: bilinear_case(way) for way in WAYS}, "Bilinear game, 1:1", "|m - m_data|")
    seconds = {
        f"{ratio}:1": (
            np.mean([r[case("alternating", ratio)]["seconds_a_round"] for r in results])
            * np.linspace(0, results[0][case("alternating", ratio)]["rounds"], SNAPSHOTS + 1)[1:],
            [r[case("alternating", ratio)]["path"][1:] for r in results],
        )
        for ratio in RATIOS
    }
    by_time = pictures.curves(
        seconds, log="xy", x_label="processor time (s)", y_label="W2", title="Alternating, by time"
    )
    names = [name for name in STUDY.cases if results[0][name] and name not in CONTROLS]
    games = [name for name in names if "rotation" in results[0][name]]
    ends = {name: [r[name]["w2"] for r in results] for name in (*games, *CONTROLS)}
    rotation = {name: [r[name]["rotation"] for r in results] for name in games}
    cost = {name: [1e3 * r[name]["seconds_a_round"] for r in results] for name in games}
    return pictures.figure(
        pictures.Row(tuple(panels), height=3.0, shared_legend=True),
        pictures.Row((bilinear, by_time), height=3.2),
        pictures.Row(
            (
                pictures.dot_plot(ends, log=True, x_label="W2, last ten evaluations", title="At the end"),
                pictures.dot_plot(rotation, x_label="|imaginary part| / |eigenvalue|", title="Rotation"),
                pictures.dot_plot(cost, log=True, x_label="processor time of a round (ms)", title="Cost"),
            ),
            height=0.6 + 0.2 * len(ends),
        ),
    )


def paths(results: Sequence[Result], drawn: dict[str, str], title: str, label: str) -> pictures.Chart:
    """The paths of some cases by rounds."""
    curves = {
        way: (
            np.linspace(0, results[0][name]["rounds"], SNAPSHOTS + 1),
            np.array([result[name]["path"] for result in results]),
        )
        for way, name in drawn.items()
    }
    return pictures.curves(curves, log="y", x_label="round", y_label=label, title=title, order=WAYS)


def case(way: str, ratio: int) -> str:
    """The case's name."""
    return f"{way} {ratio}:1"


def bilinear_case(way: str) -> str:
    """The case's name."""
    return f"bilinear, {way}"


def over(first: str, second: str, key: str = "w2") -> Callable[[Result], float]:
    """A measure of one case over that of another."""
    return lambda result: result[first][key] / result[second][key]


def at_equal_time(first: str, second: str) -> Callable[[Result], float]:
    """The measure of one case over that of another, at the time that the rounds of the second one take, or of the
    first if they take less."""

    def effect(result: Result) -> float:
        a, b = result[first], result[second]
        ends = [side["rounds"] * side["seconds_a_round"] for side in (a, b)]
        values = [
            np.interp(min(ends), np.linspace(0, end, SNAPSHOTS + 1), smooth(side["path"]))
            for side, end in zip((a, b), ends, strict=True)
        ]
        return float(values[0] / values[1])

    return effect


def smooth(path: Sequence[float]) -> np.ndarray:
    """The mean of each five neighbours."""
    values = np.asarray(path, np.float64)
    padded = np.pad(values, 2, mode="edge")
    return np.convolve(padded, np.full(5, 0.2), mode="valid")


def deeper(result: Result) -> float:
    """By how much the largest real part of consensus' field lies below that of the plain one."""
    plain, other = (result[case(way, 1)]["largest_real_part"] for way in ("simultaneous", "consensus"))
    return plain - other


CONTROLS = {"noise": uniform_noise, "untrained": untrained, "real": real_data}
ONE, FIVE, FIFTY = (case("alternating", ratio) for ratio in RATIOS)
BILINEAR = {way: bilinear_case(way) for way in WAYS}


def largest(*effects: Callable[[Result], float]) -> Callable[[Result], float]:
    """The largest of some effects."""
    return lambda result: max(effect(result) for effect in effects)


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=15,
    cases={
        **{
            case(way, ratio): functools.partial(run, way=way, ratio=ratio) for ratio in RATIOS for way in WAYS
        },
        **{name: functools.partial(run_bilinear, way=way) for way, name in BILINEAR.items()},
        **CONTROLS,
    },
    controls=tuple(CONTROLS),
    seeds=5,
    claims=(
        Claim(effect=lambda r: r[ONE]["rotation"], at_least=0.9, quick=0.5),
        Claim(effect=deeper, at_least=1e-3, reproduces=False),
        Claim(effect=at_equal_time(FIVE, ONE), at_most=0.75, reproduces=False),
        Claim(effect=over(FIVE, ONE), at_most=0.5, quick=0.75),
        Claim(effect=over(FIFTY, FIVE), at_most=1.0),
        Claim(effect=over(FIFTY, ONE, "seconds_a_round"), at_least=5.0, quick=3.0),
        Claim(
            effect=largest(*(over(BILINEAR[way], BILINEAR["alternating"]) for way in WAYS[2:])),
            at_most=0.2,
            quick=0.5,
        ),
        Claim(
            effect=largest(*(at_equal_time(BILINEAR[way], BILINEAR["alternating"]) for way in WAYS[2:])),
            at_most=0.2,
            quick=0.5,
        ),
        Claim(effect=over(BILINEAR["simultaneous"], BILINEAR["alternating"]), at_least=10.0, quick=2.0),
        Claim(
            effect=largest(*(over(case(way, 1), case("simultaneous", 1)) for way in WAYS[2:])),
            at_most=0.5,
            reproduces=False,
        ),
        Claim(effect=over(FIVE, "noise"), at_most=0.5, quick=0.9),
    ),
    figure=figure,
)
