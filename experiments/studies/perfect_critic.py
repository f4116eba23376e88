"""The discriminator is pretty good: it is perfect, the original cost's gradient dies, the other one's runs wild.

Claims:
- Trained from scratch against a generator frozen after 1, 10 and 25 epochs the critic's accuracy is at least .99
  at each.
- Its estimate of the Jensen-Shannon divergence is at least .98 log 2 at each.
- The gradient of the original cost, E log(1 - D(G(z))), falls by at least three orders of magnitude after 1
  epoch.
- It falls by at least three from its largest at each, within 10,000 turns.
- The variance of the -log D gradient over minibatches grows, from the first snapshot at the critic after its
  start to the last, at least tenfold at each.
- The norm of that gradient grows at least tenfold at each.
- Control: where D and its slope are independent Gaussians, as theorem 2.6 supposes, the measurement finds its
  Cauchy law: the Kolmogorov-Smirnov distance of a coordinate to a Cauchy is at most half of that to a Gaussian.
- Real -log D gradients follow it: at the last snapshot their distance to a Cauchy is at most that to a Gaussian,
  at each.
- They are nearer to a Gaussian at every snapshot: the distance to a Cauchy is at least 1.2 times that to it.

Data on a surface of two dimensions in fifty; G: z ~ N(0, I_2), MLP 128-128; critics MLP 128-128 (leaky ReLU);
-log D training by Adam(1e-3, b1 = .5), batch 128, an epoch being 40 rounds. The generator stops, a new critic
learns for 10,000 turns; it is judged on 2,000 other samples of both. Gradients: 32 minibatches of 128, the norm
of their mean, the trace of their covariance. Their law: 2,000 minibatches of 16, 50 of the generator's
parameters, each centred and divided by its interquartile range; the Cauchy is fitted by quartiles, the Gaussian
by quartiles or by mean and deviation, whichever is nearer; distances are means over the parameters. The control
draws D = e(x) and grad D = r(x), of standard deviation .01 and 1, at the samples of 16 latents.

What does not reproduce is the theorem's Cauchy law. It supposes that D's error and the error of its slope are
independent, so that -grad D / D is a ratio of independent Gaussians. A critic that ends in a sigmoid has grad D =
D (1 - D) grad s: numerator and denominator vanish together, and -grad log D = -(1 - D) grad s is as large as the
score's slope is and no larger. What grows is that slope, at all samples at once, and the gradients stay near a
Gaussian. That the original cost's gradient falls by three orders was first expected from its start and within
4,000 turns: the better the generator, the longer a new critic is of use to it.

Paper: Arjovsky and Bottou, Towards Principled Methods for Training GANs, 2017, figures 1 to 3 and theorem 2.6
(arXiv:1701.04862).

    python -m experiments.studies perfect_critic        # five minutes on one core

Scaled: a surface and MLPs where the paper has DCGANs on pictures; those are the study perfect_critic_mnist.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import stats

from experiments.studies.framework.setups import stopped_generator as stopped
from experiments.studies.framework.setups.frozen import generator_gradient
from experiments.studies.framework.setups.manifold import AMBIENT, LATENT, networks, surface
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from gan_jax import pictures
from gan_jax.data.toy import from_toy
from gan_jax.functional.priors import gaussian
from gan_jax.state import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPOCHS = (1, 10, 25)
ROUNDS_AN_EPOCH = 40
SNAPSHOTS = (0, 25, 100, 250, 500, 1000, 2500, 5000, 10_000)
LATENTS, COORDINATES, UPDATES = 16, 50, 2000


@functools.cache
def setup() -> stopped.Setup:
    """The surface, its generator and its critic."""
    source = from_toy(surface(), 128)
    return stopped.setup(networks(), gaussian(LATENT), source, surface().sample, rate=1e-3)


def frozen(seed: int, quick: bool, epochs: Sequence[int]) -> Numbers:
    """A critic from scratch against a generator of so many epochs, the last of a list."""
    stops = [ROUNDS_AN_EPOCH * epoch for epoch in epochs]
    updates = UPDATES // 4 if quick else UPDATES

    def also(state: TrainState) -> Numbers:
        return {"law": law_of(real_updates()(state, jax.random.split(jax.random.key(6000 + seed), updates)))}

    numbers = stopped.frozen(setup(), seed, stops, SNAPSHOTS[:-3] if quick else SNAPSHOTS, also)
    for snapshot in numbers["snapshots"][:-1]:
        del snapshot["law"]["shares"], snapshot["law"]["quantiles"]
    return numbers


@functools.cache
def real_updates() -> Callable[[TrainState, Any], Any]:
    """`(state, keys) -> [updates, COORDINATES]`: coordinates of the -log D gradient, a minibatch for each key."""
    made = setup()
    gradient = generator_gradient(made.for_seed)

    @jax.jit
    def updates(state: TrainState, keys: Any) -> Any:
        flat, _ = ravel_pytree(state.players["generator"].params)
        chosen = jnp.asarray(np.random.default_rng(0).choice(flat.size, size=COORDINATES, replace=False))

        def coordinates(key: Any) -> Any:
            return ravel_pytree(gradient(state, {"x": made.data(key, LATENTS)}, key))[0][chosen]

        return jax.lax.map(coordinates, keys)

    return updates


def white_noise(seed: int, quick: bool) -> Numbers:
    """The law of the -log D gradient under white-noise D."""
    return law_of(white_noise_updates(seed, UPDATES // 4 if quick else UPDATES))


def law_of(updates: Any) -> Numbers:
    """Updates' distances `[updates, COORDINATES]` to Cauchy and Gaussian laws, and their quantiles."""
    values = np.asarray(updates, np.float64)
    values = (values - np.median(values, axis=0)) / stats.iqr(values, axis=0)
    columns = list(values.T)
    laws = {
        "cauchy": [stats.cauchy(0, 0.5)] * len(columns),
        "gaussian by quartiles": [stats.norm(0, 1 / 1.349)] * len(columns),
        "gaussian by moments": [stats.norm(v.mean(), v.std()) for v in columns],
    }
    distance = {
        name: np.mean([stats.kstest(v, law.cdf).statistic for v, law in zip(columns, own, strict=True)])
        for name, own in laws.items()
    }
    shares = (np.arange(1, 100) / 100).round(2)
    return {**distance, "shares": shares, "quantiles": np.quantile(values, shares)}


def white_noise_updates(seed: int, updates: int) -> Any:
    """`[updates, COORDINATES]`: -E grad_x D / D pulled back to parameters, D and its slope redrawn each time."""
    game, draw = setup().game, np.random.default_rng(seed)
    player = stopped.trained(setup(), seed, (ROUNDS_AN_EPOCH,)).players["generator"]
    flat, as_tree = ravel_pytree(player.params)
    z = jnp.asarray(draw.normal(size=(LATENTS, LATENT)), jnp.float32)
    error = draw.normal(size=(updates, LATENTS, 1)) * 0.01
    slope = draw.normal(size=(updates, LATENTS, AMBIENT))
    chosen = jnp.asarray(draw.choice(flat.size, size=COORDINATES, replace=False))

    def output(params: Any) -> Any:
        tree = as_tree(params)
        return game.players["generator"].network.apply(tree, player.model_state, z, train=False, key=None)[0]

    @jax.jit
    def coordinates(params: Any, pulls: Any) -> Any:
        _, back = jax.vjp(output, params)
        return jax.lax.map(lambda pull: back(pull)[0][chosen], pulls)

    return coordinates(flat, jnp.asarray(-slope / error / LATENTS, jnp.float32))


def figure(results: Sequence[Result]) -> Figure:
    """Measures by turns; the law of real updates by turns, and their quantiles beside white noise's."""
    last = {
        f"real, {case}": [result[case]["snapshots"][-1]["law"] for result in results]
        for case in (CASES[0], CASES[-1])
    }
    last["white noise (control)"] = [result["white_noise"] for result in results]
    shares = np.asarray(last["white noise (control)"][0]["shares"])
    quantiles: dict[str, Any] = {
        name: (
            np.arcsinh(stats.norm(0, 1 / 1.349).ppf(shares)),
            np.arcsinh([law["quantiles"] for law in laws]),
        )
        for name, laws in last.items()
    }
    normal = np.arcsinh(stats.norm(0, 1 / 1.349).ppf(shares))
    quantiles["a Gaussian"] = (normal, normal)
    quantiles["a Cauchy"] = (normal, np.arcsinh(stats.cauchy(0, 0.5).ppf(shares)))
    ratios = {
        case: (
            [snapshot["turn"] for snapshot in results[0][case]["snapshots"] if snapshot["turn"] > 0],
            [
                [nearer_gaussian(s["law"]) for s in result[case]["snapshots"] if s["turn"] > 0]
                for result in results
            ],
        )
        for case in CASES
    }
    turns = ratios[CASES[0]][0]
    ratios["white noise (control)"] = (turns, [[cauchy_over_gaussian(r)] * len(turns) for r in results])
    panels: list[pictures.Chart | None] = [*stopped.panels(results, CASES)]
    return pictures.figure(
        pictures.Row(tuple(panels[:3]), shared_legend=True),
        pictures.Row((*panels[3:], None), shared_legend=True),
        pictures.Row(
            (
                pictures.curves(
                    ratios,
                    log="xy",
                    x_label="turns of the critic",
                    y_label="distance to Cauchy / to Gaussian",
                    title="Above 1: updates are nearer to a Gaussian",
                ),
                pictures.curves(
                    quantiles,
                    x_label="asinh of a Gaussian's quantile",
                    y_label="asinh of the updates' quantile",
                    title="Quantiles of updates at the last turn, scaled by quartiles",
                ),
            ),
            height=3.4,
        ),
    )


def nearer_gaussian(law: Numbers) -> float:
    """The distance to the Cauchy over that to the nearer Gaussian."""
    return law["cauchy"] / min(law["gaussian by quartiles"], law["gaussian by moments"])


def cauchy_over_gaussian(result: Result) -> float:
    """That ratio under white noise."""
    return nearer_gaussian(result["white_noise"])


def real_ratios(result: Result) -> list[list[float]]:
    """That ratio for real updates: for each generator, at each snapshot after the critic's start."""
    return [
        [nearer_gaussian(snapshot["law"]) for snapshot in result[case]["snapshots"] if snapshot["turn"] > 0]
        for case in CASES
    ]


CASES = ["1 epoch", "10 epochs", "25 epochs"]

STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=2,
    cases={
        **{name: functools.partial(frozen, epochs=EPOCHS[: place + 1]) for place, name in enumerate(CASES)},
        "white_noise": white_noise,
    },
    seeds=5,
    claims=(
        Claim(
            effect=stopped.at_each(CASES, stopped.accuracy, min),
            at_least=0.99,
            quick=0.98,
        ),
        Claim(effect=stopped.at_each(CASES, stopped.estimate, min), at_least=0.98, quick=0.9),
        Claim(
            effect=stopped.at_each(CASES[:1], stopped.decades, max),
            at_most=-3.0,
            quick=-1.5,
        ),
        Claim(
            effect=stopped.at_each(CASES, stopped.decades_from_largest, max),
            at_most=-3.0,
            quick=-0.7,
        ),
        Claim(
            effect=stopped.at_each(CASES, stopped.variance_growth, min),
            at_least=10.0,
            quick=2.0,
        ),
        Claim(
            effect=stopped.at_each(CASES, stopped.norm_growth, min),
            at_least=10.0,
            quick=1.5,
        ),
        Claim(effect=cauchy_over_gaussian, at_most=0.5, quick=0.5),
        Claim(effect=lambda r: max(row[-1] for row in real_ratios(r)), at_most=1.0, reproduces=False),
        Claim(effect=lambda r: min(min(row) for row in real_ratios(r)), at_least=1.2, quick=1.0),
    ),
    figure=figure,
)
