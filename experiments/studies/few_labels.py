"""Few labels: a game with unlabelled data against a supervised baseline.

Claims:
- With 100 labels the K + 1 classes game (feature matching) makes at most .7 of the supervised baseline's test
  errors.
- CatGAN, semi-supervised, makes fewer: at most .95 of them.
- A good classifier needs no good generator: a judge of digits rejects at least .9 of CatGAN's samples, as it does
  of noise.

MNIST-5k: 1,000 test images, the other 4,000 unlabelled, 100 of them, ten a class, with labels; the seed draws
split and labels. The critic of Salimans et al., 256-128-128, weight-normalised, noise .3 at the input and .5 in
the layers; G U[0, 1]^100 - 128 - 128, softplus, batch normalisation; Adam(.003, b1 = .5) falling to 0, batches of
100, 6,000 rounds; test on an exponential average of the weights (decay .99). The baseline is the same network,
noise, optimiser and average, with the labelled loss alone. The bounds were set before any run; the length after a
pilot of a seed that is not among these, whose game made .78 of the errors after 3,000 rounds and .43 after 6,000.
CatGAN's bound was 1 first, which what learns nothing would meet.

The samples: CatGAN's are noise to the eye, since its generator has only to make the critic sure, and evenly so
over classes; feature matching's are blurred or dark. Both papers report the classifier. The judge accepts an
image that is as near to one half of the data as 99 % of the other half's digits are; at 28 x 28 a dark blur is as
near as that, so that what it accepts of feature matching is no sign of quality. Uniform noise, an untrained
generator and test digits stand beside the games.

Paper: Salimans et al., Improved Techniques for Training GANs, 2016, section 5 (arXiv:1606.03498); Springenberg,
CatGAN, 2016 (arXiv:1511.06390).

    python -m experiments.studies few_labels        # half an hour on two cores

Scaled: 5,000 of MNIST's 70,000 digits, 150 epochs for 300, and networks a quarter as wide; the paper's are the
defaults of `SemiSupervisedCritic` and `SemiSupervisedGenerator`. --quick plays 600 rounds, after which CatGAN is
ahead of the baseline and feature matching not yet.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.framework.image_text import as_text, from_text
from experiments.studies.framework.setups.digit_judge import REJECTED, judged
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import no_game, play, start
from gan_jax import pictures
from gan_jax.data import from_arrays, load
from gan_jax.data.arrays import decode
from gan_jax.evaluation.sampling import sample
from gan_jax.functional.priors import uniform
from gan_jax.game import Game, Objective, Player
from gan_jax.networks import SemiSupervisedCritic, SemiSupervisedGenerator, from_linen
from gan_jax.objectives import add_terms
from gan_jax.objectives.cat_gan import cat_gan
from gan_jax.objectives.semi_supervised import log_z, semi_supervised, supervised
from gan_jax.schedule import alternating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, JUDGED = 40, 500
ROUNDS, QUICK_ROUNDS = 6000, 600
LATENT, LABELS, TEST = 100, 100, 1000
PRIOR = uniform(LATENT, 0.0, 1.0)


def baseline() -> Objective:
    """The labelled loss alone, in the same game."""
    return add_terms(no_game(PRIOR, read=log_z), supervised())


WAYS = {
    "supervised": baseline,
    "K + 1 classes": lambda: semi_supervised(PRIOR),
    "CatGAN": lambda: cat_gan(PRIOR, weight=1.0),
}


@functools.cache
def game_of(way: str, rounds: int) -> Game:
    """The game of one way."""
    falling = optax.linear_schedule(3e-3, 0.0, rounds // 2, rounds // 2)
    critic = SemiSupervisedCritic(widths=(256, 128, 128), input_noise=0.3, noise=0.5)
    generator = SemiSupervisedGenerator(output_shape=(28, 28, 1), widths=(128, 128))
    adam = optax.adam(falling, b1=0.5)
    return Game(
        players={
            "critic": Player(from_linen(critic, jnp.zeros((2, 28, 28, 1))), adam, ema=0.99),
            "generator": Player(from_linen(generator, jnp.zeros((2, LATENT))), adam),
        },
        objective=WAYS[way](),
        schedule=alternating(),
    )


def split(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Digits to learn from, those of them that have labels, and test digits."""
    arrays = load("mnist5k")
    order = np.random.default_rng(seed).permutation(len(arrays["x"]))
    test, train = order[:TEST], order[TEST:]
    chosen = np.concatenate([train[arrays["y"][train] == k][: LABELS // 10] for k in range(10)])
    return tuple({name: arrays[name][at] for name in ("x", "y")} for at in (train, chosen, test))  # type: ignore[return-value]


def run(seed: int, quick: bool, way: str) -> Numbers:
    """The share of test images that are named wrongly, and that of samples which the judge rejects."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    unlabelled, labelled, test = split(seed)
    source = from_arrays({"x": unlabelled["x"]}, 100, seed, labelled=labelled)
    game = game_of(way, rounds)
    state, _ = play(game, source, seed, rounds)
    images = decode(jnp.asarray(test["x"]))
    out, _ = game.players["critic"].network.apply(*state.ema["critic"], images, train=False, key=None)
    wrong = np.asarray(jnp.argmax(out["classes"], axis=1)) != test["y"]
    return {
        "error": float(wrong.mean()),
        **scored(sample(game, state, jax.random.key(500 + seed), JUDGED), seed),
    }


def scored(images: np.ndarray, seed: int) -> Numbers:
    """The share of images that the judge rejects, and some of them."""
    numbers: Numbers = {"rejected": float((judged(images, "mnist5k") == REJECTED).mean())}
    if seed == 0:
        numbers["samples"] = as_text(images[:SHOWN])
    return numbers


def noise(seed: int, quick: bool) -> Numbers:
    """Uniform noise; of what names digits at random nine of ten are wrong."""
    images = np.random.default_rng(seed).uniform(-1, 1, size=(JUDGED, 28, 28, 1)).astype(np.float32)
    return {"error": 0.9, **scored(images, seed)}


def untrained(seed: int, quick: bool) -> Numbers:
    """The generator before the first round."""
    game = game_of("K + 1 classes", ROUNDS)
    return {"error": 0.9, **scored(sample(game, start(game, seed), jax.random.key(500 + seed), JUDGED), seed)}


def real(seed: int, quick: bool) -> Numbers:
    """Test digits, half of which are among those that the judge compares with."""
    images = np.asarray(decode(jnp.asarray(split(seed)[2]["x"])))[:JUDGED]
    return {"error": 0.0, **scored(images, seed)}


CONTROLS = {"noise": noise, "untrained": untrained, "real": real}


def figure(results: Sequence[Result]) -> Figure:
    """Every seed's test error and rejected samples, and what the two generators draw."""
    errors = {way: [100 * result[way]["error"] for result in results] for way in WAYS}
    games = [way for way in WAYS if way != "supervised"]
    rejected = {name: [100 * result[name]["rejected"] for result in results] for name in (*games, *CONTROLS)}
    grids = [
        pictures.image(
            pictures.image_grid(from_text(results[0][way]["samples"], 28), 10, gap=1), title=f"{way}, samples"
        )
        for way in (*games, "untrained")
    ]
    shown = (
        pictures.dot_plot(errors, x_label="test error (%)", title="100 labels: every seed, mean and 95 %"),
        pictures.dot_plot(rejected, x_label="samples that are no digits (%)", title="Samples, judged"),
    )
    return pictures.figure(pictures.Row(shown, height=2.0), pictures.Row(tuple(grids), height=2.0))


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=13.1,
    cases={**{way: functools.partial(run, way=way) for way in WAYS}, **CONTROLS},
    controls=tuple(CONTROLS),
    seeds=5,
    claims=(
        Claim(effect=lambda r: r["K + 1 classes"]["error"] / r["supervised"]["error"], at_most=0.7),
        Claim(effect=lambda r: r["CatGAN"]["error"] / r["supervised"]["error"], at_most=0.95, quick=0.95),
        Claim(effect=lambda r: r["CatGAN"]["rejected"], at_least=0.9, quick=0.9),
    ),
    figure=figure,
)
