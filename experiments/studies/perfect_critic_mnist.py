"""The discriminator is pretty good, on handwritten digits.

Claims:
- Trained from scratch against a DCGAN frozen after 1, 10 and 25 epochs the critic's accuracy is at least .99 at
  each.
- Its estimate of the Jensen-Shannon divergence is at least .98 log 2 after 1 epoch.
- It is at least .95 log 2 at each.
- The gradient of the original cost, E log(1 - D(G(z))), falls after 1 epoch by at least one order of magnitude
  from its largest for every seed.
- It falls by at least three, as the paper's do.
- It falls like a power of the turns: after 1 epoch the slope of its logarithm by that of the turns, from 250
  turns on, is between -.5 and -1.5 (its distance to -1 is at most .5).
- The variance of the -log D gradient over minibatches grows, from the first snapshot at the critic after its
  start to the last, at least tenfold at each: log10 of the growth is at least 1.
- The norm of that gradient grows at least tenfold at each.

MNIST-5k, 28 x 28; DCGANs of width 16 (the critic without normalisation), z of 32 dimensions; -log D training by
Adam(5e-4, b1 = .5), batch 64, an epoch being 78 rounds. The generator stops, a new critic learns for 4,000 turns,
the paper's number; it is judged on 1,000 digits of the data and 1,000 other samples. Gradients: 16 minibatches of
64, the norm of their mean, the trace of their covariance.

What does not reproduce at this scale: three orders of magnitude of the original cost's gradient. It is D(G(z))
times the score's slope, and once the critic separates all samples its logistic loss, and D(G(z)) with it, falls
like one over the turns: a decade takes ten times as many. Where it begins to separate, after some hundred turns
and later the better the generator is, 4,000 turns leave one decade or little more. The paper's critics, four
times as wide, separate within ten turns; the study perfect_critic, whose samples are farther from data, shows
three decades and more. Nor does it fall like one over the turns for every seed: the slope's distance to -1 is .55
over three seeds, with an interval from 0 to 1.7.

Paper: Arjovsky and Bottou, Towards Principled Methods for Training GANs, 2017, figures 1 to 3 (arXiv:1701.04862).

    python -m experiments.studies perfect_critic_mnist      # a quarter of an hour on two cores
    python -m experiments.studies perfect_critic_mnist --full        # width 64: hours

Scaled: narrower networks, 5,000 digits. --quick takes scikit-learn's 8 x 8 digits, and 1,000 turns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

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
TURNS = (0, 25, 100, 250, 500, 1000, 2000, 4000)
FULL_WIDTH = 64
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


def frozen(seed: int, quick: bool, epochs: Sequence[int], width: int = WIDTH) -> Numbers:
    """A critic from scratch against a generator of so many epochs, the last of a list."""
    made = setup("digits" if quick else "mnist5k", width)
    rounds_an_epoch = (made.source.size or 0) // BATCH
    stops = [rounds_an_epoch * epoch for epoch in epochs]
    return stopped.frozen(made, seed, stops, TURNS[:-2] if quick else TURNS)


def figure(results: Sequence[Result]) -> Figure:
    """Measures by turns."""
    panels: list[pictures.Chart | None] = [*stopped.panels(results, CASES)]
    return pictures.figure(
        pictures.Row(tuple(panels[:3]), shared_legend=True),
        pictures.Row((*panels[3:], None), shared_legend=True),
    )


def power(snapshots: Sequence[Numbers]) -> float:
    """The slope of the logarithm of the original cost's gradient by that of the turns, from 250 turns on."""
    turns, norms = np.array([(s["turn"], s["original"]) for s in snapshots if s["turn"] >= 250]).T
    return float(np.polyfit(np.log(turns), np.log(norms), 1)[0])


CASES = ["1 epoch", "10 epochs", "25 epochs"]
STARTS = {name: EPOCHS[: place + 1] for place, name in enumerate(CASES)}

STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=2.1,
    cases={name: functools.partial(frozen, epochs=epochs) for name, epochs in STARTS.items()},
    full={
        name: functools.partial(frozen, epochs=epochs, width=FULL_WIDTH) for name, epochs in STARTS.items()
    },
    seeds=3,
    claims=(
        Claim(effect=stopped.at_each(CASES, stopped.accuracy, min), at_least=0.99, quick=0.95),
        Claim(effect=stopped.at_each(CASES[:1], stopped.estimate, min), at_least=0.98, quick=0.9),
        Claim(effect=stopped.at_each(CASES, stopped.estimate, min), at_least=0.95, quick=0.8),
        Claim(
            effect=stopped.at_each(CASES[:1], stopped.decades_from_largest, max),
            at_most=-1.0,
            quick=-0.7,
            every_seed=True,
        ),
        Claim(
            effect=stopped.at_each(CASES, stopped.decades_from_largest, max), at_most=-3.0, reproduces=False
        ),
        Claim(effect=lambda r: abs(power(r[CASES[0]]["snapshots"]) + 1), at_most=0.5, reproduces=False),
        Claim(
            effect=lambda r: math.log10(stopped.at_each(CASES, stopped.variance_growth, min)(r)),
            at_least=1.0,
            quick=0.3,
        ),
        Claim(effect=stopped.at_each(CASES, stopped.norm_growth, min), at_least=10.0, quick=1.5),
    ),
    figure=figure,
)
