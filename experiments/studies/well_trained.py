"""Well-trained discriminators: eight objectives at 1:1 and 50:1.

Claims:
- At 50:1 the standard GAN's generator gradient is at least 100 times smaller than that of VRAL with
  meta-discriminators, for every seed.
- It is at least 100 times smaller than that of VRAL's Parzen form, for every seed.
- It is at least 100 times smaller than WGAN's.
- It is smaller than WGAN's for every seed.
- A gradient penalty and noise at D's inputs mend that: the standard GAN's gradient with either is at 50:1 at
  least 10 times as large as without.
- At 50:1 the standard GAN's output does not vary: Var D(G(z)) is at most 1e-3.
- Var D(G(z)) of VRAL's Parzen form ends within .4 of its target, 1 - h^2, at either ratio and for every seed.
- Var D(G(z)) of VRAL's meta-discriminators ends within .5 of its target, 1, at 1:1 and for every seed.
- At 50:1 it ends within .5 of its target too.
- At 50:1 it does not sink to nothing: it ends at .05 or more for every seed.
- At 50:1 the standard GAN's samples are worse than at 1:1: the sliced W2 to data is at least 1.5 times as large.
- At 50:1 VRAL's samples, of either form, are worse than WGAN's: at least 1.5 times as far from data.
- WGAN's samples at 50:1 beat noise: they are at most half as far from data as uniform noise with the data's
  range.

What of the slides does not reproduce: WGAN's gradient at 50:1 is steady, as there, but small by itself, since the
slopes of a critic clipped at .01 are, and stands some 10 times above the standard GAN's, not 100; the standard
one's falls with every further turn of the critic, so that the slides' scale needs a critic trained to its optimum
in every round, hundreds of turns, and a generator of as many rounds. With meta-discriminators Var D(G(z)) does
not stay at its target: it swings at 1:1 and ends between .1 and .5 at 50:1. And what VRAL's steady gradients lead
to is not the data: WGAN, least squares and -log D all come nearer at 50:1, and with the Parzen form at 1:1
samples drift away, out of the picture. WGAN's samples at 50:1 are nearer to data than noise, at .59 of its distance
(.57 to .61), and not at half of it.

Data on a surface of two dimensions in fifty; G: z ~ N(0, I_2), MLP 128-128; critic MLP 128-128 (leaky ReLU), for
VRAL meta-networks of 28 ReLU units. Adam(1e-4, b1 = .5), batch 64, 4,000 rounds at 1:1 and 600 at 50:1; WGAN with
RMSProp(5e-5) and c = .01; the penalty is (|grad D| - 1)^2 of the score between data and samples with weight 10,
the noise Gaussian of standard deviation .5 at all inputs of D. D is the critic's output: the probability for the
standard GAN and -log D, the score for the others. The generator's gradient is that of each objective's own loss
by a sample, ||d L_G / d G(z)||, the mean over samples, D's noise left out; ends are means of the last three of
eleven snapshots. Controls: uniform noise over the data's range in each dimension, the untrained generator, other
data.

Paper: Grewal et al., Variance Regularizing Adversarial Learning, 2017 (arXiv:1707.00309) and its slides. Its
authors later wrote that the method is out of date and that some of its results are incorrect.

    python -m experiments.studies well_trained        # ten minutes on two cores

Scaled: a surface and MLPs where the slides have pictures. --quick plays three of the objectives at 50:1.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.framework.setups.manifold import LATENT, networks, surface
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import play, start
from gan_jax import pictures
from gan_jax.data.source import Source
from gan_jax.data.toy import from_toy
from gan_jax.evaluation.sampling import sample
from gan_jax.functional.noise import instance_noise
from gan_jax.functional.penalties import input_gradient, safe_norm
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Objective, Player
from gan_jax.metrics.transport import sliced_wasserstein
from gan_jax.network import Network
from gan_jax.networks import MLPCritic, from_linen
from gan_jax.objectives import (
    add_terms,
    gan,
    gradient_penalty,
    least_squares,
    non_saturating,
    vral,
    vral_parzen,
    wgan,
    with_transforms,
)
from gan_jax.schedule import alternating, turn
from gan_jax.state import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRIOR = gaussian(LATENT)
WINDOW = vral_parzen.WINDOW
PENALTY, NOISE = 10.0, 0.5
OBJECTIVES: dict[str, tuple[Objective, Callable[[Any], Any]]] = {
    "standard": (gan.gan(PRIOR), lambda s: gan.generator_loss(s, s)),
    "standard, penalty": (
        add_terms(gan.gan(PRIOR), gradient_penalty(PENALTY)),
        lambda s: gan.generator_loss(s, s),
    ),
    "standard, noise": (
        with_transforms(gan.gan(PRIOR), instance_noise(NOISE)),
        lambda s: gan.generator_loss(s, s),
    ),
    "-log D": (non_saturating.non_saturating(PRIOR), lambda s: non_saturating.generator_loss(s, s)),
    "least squares": (least_squares.least_squares(PRIOR), lambda s: least_squares.generator_loss(s, s)),
    "WGAN": (wgan.wgan(PRIOR), lambda s: wgan.generator_loss(s, s)),
    "VRAL, meta": (vral.vral(PRIOR), lambda s: vral.generator_loss(s, s)),
    "VRAL, Parzen": (vral_parzen.vral_parzen(PRIOR), lambda s: vral_parzen.generator_loss(s, s)),
}
"""Each with its generator's loss of fake scores."""
RATIOS = {1: 4000, 50: 600}
PROBABILITY = ("standard", "standard, penalty", "standard, noise", "-log D")
"""Whose D is the sigmoid of the score."""
QUICK = ("standard", "WGAN", "VRAL, meta")
SHOWN = 250


@functools.cache
def players() -> dict[str, Network]:
    """Generator, critic and meta-discriminators, of all games."""
    meta = from_linen(MLPCritic(widths=(28,), activation="relu"), jnp.zeros((2, 1)))
    return {**networks(), "meta_real": meta, "meta_fake": meta}


@functools.cache
def game_of(name: str, ratio: int) -> tuple[Game, Source]:
    """An objective at a ratio."""
    objective, _ = OBJECTIVES[name]
    optimizers = {player: optax.adam(1e-4, b1=0.5) for player in objective.players}
    schedule = alternating(ratio)
    if name == "WGAN":
        optimizers = {"critic": wgan.optimizer(clip=wgan.CLIP), "generator": wgan.optimizer()}
    if name == "VRAL, meta":
        schedule = ratio * (turn("meta_real", "meta_fake"), turn("critic")) + (turn("generator"),)
    game = Game(
        players={player: Player(players()[player], optimizers[player]) for player in objective.players},
        objective=objective,
        schedule=schedule,
    )
    return game, from_toy(surface(), 64)


@functools.cache
def judge() -> Callable[[TrainState, Any], tuple[Any, Any]]:
    """`(state, x) -> (scores, ||d score / d x||)`, one program for all games."""

    @jax.jit
    def scores_and_slopes(critic: Any, x: Any) -> tuple[Any, Any]:
        def score(x: Any) -> Any:
            return players()["critic"].apply(critic.params, critic.model_state, x, train=False, key=None)[0]

        return score(x), safe_norm(input_gradient(score, x))

    return lambda state, x: scores_and_slopes(state.players["critic"], x)


def measure_at(game: Game, name: str, seed: int) -> Callable[[int, TrainState], Numbers]:
    """`(round, state) -> numbers`: the gradient that samples get, D's slope, Var D(G(z)), the distance to data."""
    loss = OBJECTIVES[name][1]
    output = jax.nn.sigmoid if name in PROBABILITY else lambda score: score
    real = surface().sample(jax.random.key(4000 + seed), 2000)

    def steepness(function: Callable[[Any], Any], scores: Any) -> Any:
        return jnp.abs(jax.grad(lambda s: jnp.sum(function(s)))(scores))

    def snapshot(done: int, state: TrainState) -> Numbers:
        fake = sample(game, state, jax.random.key(5000 + seed), 2000)
        (of_real, _), (of_fake, slopes) = judge()(state, real), judge()(state, fake)
        numbers: Numbers = {
            "round": done,
            "gradient": jnp.mean(steepness(loss, of_fake) * slopes),
            "slope": jnp.mean(steepness(output, of_fake) * slopes),
            "variance": jnp.var(output(of_fake)),
            "distance": float(sliced_wasserstein(np.asarray(real), fake, projections=64)),
        }
        if seed == 0:
            outputs = [np.asarray(output(scores)) for scores in (of_real, of_fake)]
            numbers["histogram"] = [np.quantile(side, np.linspace(0.005, 0.995, 60)) for side in outputs]
            numbers["samples"] = (fake[:SHOWN] @ plane()).round(2)
        return numbers

    return snapshot


@functools.cache
def plane() -> np.ndarray:
    """The two directions in which the data vary most, `[50, 2]`."""
    data = np.asarray(surface().sample(jax.random.key(1), 4000))
    _, _, directions = np.linalg.svd(data - data.mean(axis=0), full_matrices=False)
    return directions[:2].T


def run(seed: int, quick: bool, name: str, ratio: int) -> Numbers:
    """Snapshots through training; histograms and samples at the end alone."""
    if quick and (ratio == 1 or name not in QUICK):
        return {"snapshots": []}
    game, source = game_of(name, ratio)
    rounds = RATIOS[ratio] // 5 if quick else RATIOS[ratio]
    _, snapshots = play(game, source, seed, rounds, every=rounds // 10, snapshot=measure_at(game, name, seed))
    kept = ("histogram", "samples")
    *earlier, last = snapshots
    reduced = [{key: value for key, value in snapshot.items() if key not in kept} for snapshot in earlier]
    return {"snapshots": [*reduced, last]}


def control(seed: int, quick: bool, points: Callable[[int], np.ndarray]) -> Numbers:
    """The distance to data of what does not learn."""
    real = np.asarray(surface().sample(jax.random.key(4000 + seed), 2000))
    distance = float(sliced_wasserstein(real, points(seed), projections=64))
    return {"snapshots": [{"distance": distance}] * 3}


def noise(seed: int) -> np.ndarray:
    """Uniform over the data's range in each dimension, `[2000, 50]`."""
    data = np.asarray(surface().sample(jax.random.key(1), 4000))
    return np.random.default_rng(seed).uniform(data.min(axis=0), data.max(axis=0), size=(2000, data.shape[1]))


def untrained(seed: int) -> np.ndarray:
    """Samples of the generator before the first round."""
    game, _ = game_of("standard", 1)
    return sample(game, start(game, seed), jax.random.key(5000 + seed), 2000)


def real_data(seed: int) -> np.ndarray:
    """Other samples of the data."""
    return np.asarray(surface().sample(jax.random.key(6000 + seed), 2000))


CONTROLS = {"noise": noise, "untrained": untrained, "real": real_data}


def figure(results: Sequence[Result]) -> Figure:
    """D's outputs and samples at either ratio, and three measures through training."""
    data = np.asarray(surface().sample(jax.random.key(0), 400)) @ plane()
    rows = []
    for ratio in RATIOS:
        names = [name for name in OBJECTIVES if results[0][case(name, ratio)]["snapshots"]]
        last_snapshots = {name: results[0][case(name, ratio)]["snapshots"][-1] for name in names}
        outputs = [
            pictures.histogram(
                {
                    side: _spread(quantiles)
                    for side, quantiles in zip(("real", "fake"), snapshot["histogram"], strict=True)
                },
                bins=40,
                x_label="D",
                title=f"{name}, {ratio}:1",
            )
            for name, snapshot in last_snapshots.items()
        ]
        clouds = [
            pictures.scatter(np.asarray(snapshot["samples"]), data, limits=LIMITS)
            for snapshot in last_snapshots.values()
        ]
        rows += [
            pictures.Row(tuple(outputs), height=2.2, shared_legend=True),
            pictures.Row(tuple(clouds), height=2.2, shared_legend=True),
        ]
    names = [name for name in STUDY.cases if results[0][name]["snapshots"]]
    ends = {name: [final(result, name, "distance") for result in results] for name in names}
    distances = pictures.dot_plot(
        ends, log=True, x_label="sliced W2 to data, last three snapshots", title="Every seed, mean and 95 %"
    )
    return pictures.figure(
        *rows, *measures(results), pictures.Row((distances,), height=0.8 + 0.2 * len(names)), width=16.0
    )


MENDED = ("standard", "standard, penalty", "standard, noise")
GROUPS = (tuple(name for name in OBJECTIVES if name not in MENDED[1:]), MENDED)
"""The slides' six objectives, and what their last page has against the standard one's."""
LIMITS = ((-11.0, 11.0), (-11.0, 11.0))
MEASURES = {
    "gradient": "|d L_G / d G(z)|",
    "slope": "|grad D(G(z))|",
    "variance": "Var D(G(z))",
}


def measures(results: Sequence[Result]) -> list[pictures.Row]:
    """The measures through training, two rows for each ratio."""
    rows = []
    for ratio, group in itertools.product(RATIOS, GROUPS):
        charts = []
        for key, label in MEASURES.items():
            drawn = {}
            for name in group:
                snapshots = [result[case(name, ratio)]["snapshots"] for result in results]
                if snapshots[0]:
                    values = np.array([[snapshot[key] for snapshot in seed] for seed in snapshots])
                    drawn[name] = (
                        [snapshot["round"] for snapshot in snapshots[0]],
                        np.maximum(values, 1e-12),
                    )
            if drawn:
                charts.append(
                    pictures.curves(
                        drawn,
                        log="y",
                        x_label="rounds",
                        y_label=label,
                        title=f"{ratio}:1",
                        order=group,
                    )
                )
        rows += [pictures.Row(tuple(charts), height=3.0, shared_legend=True)] if charts else []
    return rows


def _spread(quantiles: Sequence[float]) -> np.ndarray:
    """A sample with these quantiles."""
    return np.interp(np.linspace(0, 1, 2000), np.linspace(0, 1, len(quantiles)), quantiles)


def case(name: str, ratio: int) -> str:
    """The case's name."""
    return f"{name}, {ratio}:1"


def final(result: Result, case: str, key: str) -> float:
    """A measure of a case, the mean of the last three snapshots."""
    return float(np.mean([snapshot[key] for snapshot in result[case]["snapshots"][-3:]]))


def last(result: Result, name: str, ratio: int, key: str) -> float:
    """A measure of an objective at a ratio, the mean of the last three snapshots."""
    return final(result, case(name, ratio), key)


def times_smaller(other: str) -> Callable[[Result], float]:
    """By how much the standard GAN's gradient at 50:1 is smaller than another's."""
    return lambda r: last(r, other, 50, "gradient") / max(last(r, "standard", 50, "gradient"), 1e-30)


def parzen_off_target(result: Result) -> float:
    """The distance of Var D(G(z)) to 1 - h^2, the larger of both ratios."""
    target = 1 - WINDOW**2
    return max(abs(last(result, "VRAL, Parzen", ratio, "variance") - target) for ratio in RATIOS)


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=6,
    cases={
        **{
            case(name, ratio): functools.partial(run, name=name, ratio=ratio)
            for name in OBJECTIVES
            for ratio in RATIOS
        },
        **{name: functools.partial(control, points=points) for name, points in CONTROLS.items()},
    },
    controls=tuple(CONTROLS),
    seeds=5,
    claims=(
        Claim(effect=times_smaller("VRAL, meta"), at_least=100.0, quick=10.0, every_seed=True),
        Claim(effect=times_smaller("VRAL, Parzen"), at_least=100.0, every_seed=True),
        Claim(effect=times_smaller("WGAN"), at_least=100.0, reproduces=False),
        Claim(effect=times_smaller("WGAN"), at_least=1.0, quick=1.0, every_seed=True),
        Claim(
            effect=lambda r: min(times_smaller(f"standard, {way}")(r) for way in ("penalty", "noise")),
            at_least=10.0,
        ),
        Claim(effect=lambda r: last(r, "standard", 50, "variance"), at_most=1e-3, quick=1e-2),
        Claim(effect=parzen_off_target, at_most=0.4, every_seed=True),
        Claim(effect=lambda r: abs(last(r, "VRAL, meta", 1, "variance") - 1), at_most=0.5, every_seed=True),
        Claim(effect=lambda r: abs(last(r, "VRAL, meta", 50, "variance") - 1), at_most=0.5, reproduces=False),
        Claim(
            effect=lambda r: last(r, "VRAL, meta", 50, "variance"),
            at_least=0.05,
            quick=0.05,
            every_seed=True,
        ),
        Claim(
            effect=lambda r: last(r, "standard", 50, "distance") / last(r, "standard", 1, "distance"),
            at_least=1.5,
        ),
        Claim(
            effect=lambda r: (
                min(last(r, name, 50, "distance") for name in ("VRAL, meta", "VRAL, Parzen"))
                / last(r, "WGAN", 50, "distance")
            ),
            at_least=1.5,
        ),
        Claim(
            effect=lambda r: last(r, "WGAN", 50, "distance") / final(r, "noise", "distance"),
            at_most=0.5,
            reproduces=False,
        ),
    ),
    figure=figure,
)
