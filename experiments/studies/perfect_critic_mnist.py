"""The discriminator is pretty good, on handwritten digits.

Claims:
- Trained from scratch against a DCGAN frozen after 1, 10 and 25 epochs the critic's accuracy is at least .95 at
  each (.99 was expected of 1,000 turns).
- Its estimate of the Jensen-Shannon divergence is at least .98 log 2 after 1 epoch.
- It is at least .8 log 2 at each and for every seed (.98 log 2 was expected).
- The gradient of the original cost, E log(1 - D(G(z))), falls after 1 epoch by at least one order of magnitude
  from its largest for every seed (three were expected).
- The variance of the -log D gradient over minibatches grows, from the first snapshot at the critic after its start
  to the last, at least tenfold at each: log10 of the growth is at least 1.
- The norm of that gradient grows at least threefold at each.

What does not reproduce at this scale: after 10 and 25 epochs the critic is not perfect within 1,000 turns, and the
original cost's gradient has hardly begun to fall. The study perfect_critic, whose critics are nearer to their
optimum, shows both.

MNIST-5k, 28 x 28; DCGANs of width 16 (the critic without normalisation), z of 32 dimensions; -log D training by
Adam(5e-4, b1 = .5), batch 64, an epoch being 78 rounds. The generator stops, a new critic learns for 1,000
turns; it is judged on 1,000 digits of the data and 1,000 other samples. Gradients: 16 minibatches of 64, the
norm of their mean, the trace of their covariance.

Paper: Arjovsky and Bottou, Towards Principled Methods for Training GANs, 2017, figures 1 to 3
(arXiv:1701.04862).

    python -m experiments.studies perfect_critic_mnist               # six minutes on two cores
    python -m experiments.studies perfect_critic_mnist --full        # width 64, 4,000 turns: hours

Scaled: narrower networks, 5,000 digits, 1,000 turns where the paper has 4,000. --quick takes scikit-learn's 8 x 8
digits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from experiments.studies.framework.setups import stopped_generator as stopped
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from gan_jax import pictures
from gan_jax.data import from_arrays, load
from gan_jax.data.arrays import decode
from gan_jax.functional.priors import gaussian
from gan_jax.networks import DCGANCritic, DCGANGenerator, from_linen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPOCHS = (1, 10, 25)
TURNS = (0, 25, 100, 250, 500, 1000)
FULL_TURNS, FULL_WIDTH = (*TURNS, 2000, 4000), 64
LATENT, WIDTH, BATCH = 32, 16, 64


@functools.cache
def setup(data: str, width: int) -> stopped.Setup:
    """Digits, and DCGANs of a width for them."""
    images = load(data)["x"]
    size = images.shape[1]

    def draw(key: Any, n: int) -> Any:
        return decode(jnp.asarray(images)[jax.random.randint(key, (n,), 0, len(images))])

    networks = {
        "critic": from_linen(DCGANCritic(width=width, norm="none"), jnp.zeros((2, size, size, 1))),
        "generator": from_linen(DCGANGenerator(size=size, channels=1, width=width), jnp.zeros((2, LATENT))),
    }
    source = from_arrays({"x": images}, BATCH)
    return stopped.setup(networks, gaussian(LATENT), source, draw, rate=5e-4, minibatches=16, judged=1000)


def frozen(
    seed: int, quick: bool, epochs: Sequence[int], turns: Sequence[int] = TURNS, width: int = WIDTH
) -> Numbers:
    """A critic from scratch against a generator of so many epochs, the last of a list."""
    made = setup("digits" if quick else "mnist5k", width)
    rounds_an_epoch = (made.source.size or 0) // BATCH
    stops = [rounds_an_epoch * epoch for epoch in epochs]
    return stopped.frozen(made, seed, stops, turns[:-1] if quick else turns)


def figure(results: Sequence[Result]) -> Figure:
    """Measures by turns."""
    panels: list[pictures.Chart | None] = [*stopped.panels(results, CASES)]
    return pictures.figure(
        pictures.Row(tuple(panels[:3]), shared_legend=True),
        pictures.Row((*panels[3:], None), shared_legend=True),
    )


CASES = ["1 epoch", "10 epochs", "25 epochs"]
STARTS = {name: EPOCHS[: place + 1] for place, name in enumerate(CASES)}

STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=2.1,
    cases={name: functools.partial(frozen, epochs=epochs) for name, epochs in STARTS.items()},
    full={
        name: functools.partial(frozen, epochs=epochs, turns=FULL_TURNS, width=FULL_WIDTH)
        for name, epochs in STARTS.items()
    },
    seeds=3,
    claims=(
        Claim(
            effect=stopped.at_each(CASES, stopped.accuracy, min),
            at_least=0.95,
            quick=0.95,
        ),
        Claim(
            effect=stopped.at_each(CASES[:1], stopped.estimate, min),
            at_least=0.98,
            quick=0.9,
        ),
        Claim(
            effect=stopped.at_each(CASES, stopped.estimate, min),
            at_least=0.8,
            quick=0.8,
            every_seed=True,
        ),
        Claim(
            effect=stopped.at_each(CASES[:1], stopped.decades_from_largest, max),
            at_most=-1.0,
            quick=-0.7,
            every_seed=True,
        ),
        Claim(
            effect=lambda r: math.log10(stopped.at_each(CASES, stopped.variance_growth, min)(r)),
            at_least=1.0,
            quick=0.3,
        ),
        Claim(
            effect=stopped.at_each(CASES, stopped.norm_growth, min),
            at_least=3.0,
            quick=1.5,
        ),
    ),
    figure=figure,
)
