"""The discriminator is pretty good: it is perfect, the original cost's gradient dies, the other one's runs wild.

Claims:
- Trained from scratch against a generator frozen after 1, 10 and 25 epochs the critic's accuracy is at least
  .99 at each.
- Its estimate of the Jensen-Shannon divergence is at least .98 log 2 at each.
- The gradient of the original cost, E log(1 - D(G(z))), falls by at least three orders of magnitude after 1
  epoch.
- It falls by at least three from its largest at each, within 10,000 turns (it was first expected to fall so far
  from its first and within 4,000: the better the generator, the longer a new critic is of use to it).
- The variance of the -log D gradient over minibatches grows, from the first snapshot at the critic after its start
  to the last, at least tenfold at each.
- The norm of that gradient grows at least threefold at each.
- Under white-noise errors of D its coordinates are Cauchy: the Kolmogorov-Smirnov distance to a fitted Cauchy
  is at most half of that to a fitted Gaussian.

Data on a surface of two dimensions in fifty; G: z ~ N(0, I_2), MLP 128-128; critics MLP 128-128 (leaky ReLU);
-log D training by Adam(1e-3, b1 = .5), batch 128, an epoch being 40 rounds. The generator stops, a new critic
learns for 10,000 turns; it is judged on 2,000 other samples of both. Gradients: 32 minibatches of 128, the norm
of their mean, the trace of their covariance. White noise (theorem 2.6): D = e(x), grad D = r(x), independent
centred Gaussians of standard deviation .01 and 1, drawn 2,000 times at the samples of 16 latents; 50 of the
generator's parameters, each centred and divided by its interquartile range. The Cauchy is fitted by quartiles,
the Gaussian by quartiles or by mean and deviation, whichever is nearer.

Paper: Arjovsky and Bottou, Towards Principled Methods for Training GANs, 2017, figures 1 to 3 and theorem 2.6
(arXiv:1701.04862).

    python -m experiments.studies perfect_critic        # three minutes on two cores

Scaled: a surface and MLPs where the paper has DCGANs on pictures; those are the study perfect_critic_mnist.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import stats

from experiments.studies.framework.setups import stopped_generator as stopped
from experiments.studies.framework.setups.manifold import AMBIENT, LATENT, networks, surface
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from gan_jax import pictures
from gan_jax.data.toy import from_toy
from gan_jax.functional.priors import gaussian

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
    return stopped.frozen(setup(), seed, stops, SNAPSHOTS[:-3] if quick else SNAPSHOTS)


def white_noise(seed: int, quick: bool) -> Numbers:
    """Coordinates of grad_theta(-log D) under white-noise D, and their distances to Cauchy and Gaussian laws."""
    values = np.asarray(white_noise_updates(seed, UPDATES // 4 if quick else UPDATES), np.float64)
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
    """Measures by turns; quantiles of the noisy updates against those of both laws."""
    noise = results[0]["white_noise"]
    shares, found = np.asarray(noise["shares"]), np.arcsinh(noise["quantiles"])
    cauchy, normal = stats.cauchy(0, 0.5).ppf(shares), stats.norm(0, 1 / 1.349).ppf(shares)
    quantiles = {
        "a Cauchy's": (np.arcsinh(cauchy), found),
        "a Gaussian's": (np.arcsinh(normal), found),
        "equal": (np.arcsinh(cauchy), np.arcsinh(cauchy)),
    }
    last = pictures.curves(
        quantiles, x_label="asinh of the law's quantile", y_label="asinh of the updates'", title="Quantiles"
    )
    panels = stopped.panels(results, CASES)
    return pictures.figure(
        pictures.Row(tuple(panels[:3]), shared_legend=True),
        pictures.Row((*panels[3:], last), height=3.2),
    )


def cauchy_over_gaussian(result: Result) -> float:
    """The distance to the Cauchy over that to the nearer Gaussian."""
    noise = result["white_noise"]
    return noise["cauchy"] / min(noise["gaussian by quartiles"], noise["gaussian by moments"])


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
            at_least=3.0,
            quick=1.5,
        ),
        Claim(effect=cauchy_over_gaussian, at_most=0.5, quick=0.5),
    ),
    figure=figure,
)
