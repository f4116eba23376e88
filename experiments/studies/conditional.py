"""Conditional games and codes: the class asked for is the class drawn; coordinates that mean something.

Claims:
- Of a conditional game's samples at least 90 % are of the class asked for (projection critic).
- Of AC-GAN's samples at least 90 % are.
- Both are digits: a judge with a reject class names at least 60 % as digits of the class asked for, at least .5
  more than of uniform noise and of an untrained generator's images.
- InfoGAN's bound of the mutual information between its code of ten categories and the sample reaches at least 2
  of log 10 = 2.303 nats.
- The ten categories draw at least 6 classes as their most frequent ones, with labels never seen.
- A category draws one kind of picture: the mutual information with the class drawn is at least 1 nat.
- Its two codes that are numbers are read off the sample: the lesser correlation is at least .9.
- They move the picture: from -2 to 2 the lesser of them goes at least .6 of the distance of two random samples.

Scikit-learn's digits, 8 x 8; MLPs of 256-256 (G with batch normalisation); z ~ N(0, I_32); -log D with R1 (gamma
.05), Adam(5e-4, b1 = .5), batch 64, 3,000 rounds, exponential averages of the generator (decay .995). InfoGAN: a
code of ten categories, lambda = 1, and two numbers in [-1, 1], lambda = .1 (of a head that reads both). Classes
are those of the library's classifier, which has seen real digits only (97.8 % accurate on held-out ones); 200
samples a class or category. The judge accepts an image that is as near to one half of the data as 99 % of the
other half's digits are. The pictures of the numbers are, of each category, those of the latent that they move
most, from -2 to 2 as in the paper, twice as far as is learnt. Controls: uniform noise, the untrained generator,
real digits, of random classes.

Of the pictures from -1 to 1 of a latent at random, as they were drawn first, nothing is seen to move, although
the numbers took them .6 to .8 of the distance of two random samples: hence the choice and the wider range.

Paper: Mirza and Osindero, Conditional Generative Adversarial Nets, 2014 (arXiv:1411.1784); Miyato and Koyama,
cGANs with Projection Discriminator, 2018 (arXiv:1802.05637); Odena et al., AC-GAN, 2017 (arXiv:1610.09585); Chen
et al., InfoGAN, 2016 (arXiv:1606.03657).

    python -m experiments.studies conditional        # five minutes on one core

Scaled: 8 x 8 digits and MLPs where the papers have MNIST and larger pictures.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.metrics import mutual_info_score

from experiments.studies.framework.image_text import as_text, from_text
from experiments.studies.framework.setups.digit_judge import judged
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import play, start
from gan_jax import pictures
from gan_jax.data import from_arrays, load
from gan_jax.data.arrays import decode
from gan_jax.data.source import Source
from gan_jax.evaluation.sampling import generator_variables, sample
from gan_jax.functional.codes import Code
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Objective, Player
from gan_jax.metrics.classifier import classifier_for
from gan_jax.metrics.features import classify
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import add_terms, label_condition, mutual_information, r1
from gan_jax.objectives.ac_gan import ac_gan
from gan_jax.objectives.info_gan import info_gan
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.schedule import alternating
from gan_jax.state import TrainState
from gan_jax.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LATENT, CLASSES, EACH, STEPS, REACH = 32, 10, 200, 8, 2.0
CODE, CATEGORIES = Code(categories=(CLASSES,), continuous=2), Code(categories=(CLASSES,))
WIDTHS = (256, 256)


def objective_of(way: str) -> Objective:
    """The game of one way."""
    if way == "info_gan":
        base = info_gan(LATENT, code=CODE, weight=0.1)
        terms = [
            dataclasses.replace(
                mutual_information(CATEGORIES, player=player, name="categories"), name="categories"
            )
            for player in ("critic", "generator")
        ]
        return add_terms(base, *terms)
    prior = gaussian(LATENT)
    return ac_gan(prior) if way == "ac_gan" else non_saturating(prior, condition=label_condition)


def critic_options(way: str) -> Mapping[str, Any]:
    """What its critic has beside a score."""
    options: dict[str, dict[str, Any]] = {
        "conditional": {"num_classes": CLASSES, "conditioning": "projection"},
        "ac_gan": {"heads": {"classes": CLASSES}},
        "info_gan": {"heads": {"code": CODE.head_size, "categories": CLASSES}},
    }
    return options[way]


@functools.cache
def game_of(way: str) -> tuple[Game, Source]:
    """Digits with their labels, and a game for them."""
    labels = jnp.zeros(2, jnp.int32)
    labelled = way != "info_gan"
    generator = MLPGenerator(
        output_shape=(8, 8, 1),
        widths=WIDTHS,
        norm="batch",
        output_activation="tanh",
        num_classes=CLASSES if labelled else None,
    )
    size = LATENT + (0 if labelled else CODE.size)
    of_generator = (jnp.zeros((2, size)), labels) if labelled else (jnp.zeros((2, size)),)
    of_critic = (jnp.zeros((2, 8, 8, 1)), labels) if way == "conditional" else (jnp.zeros((2, 8, 8, 1)),)
    adam = optax.adam(5e-4, b1=0.5)
    game = Game(
        players={
            "critic": Player(from_linen(MLPCritic(widths=WIDTHS, **critic_options(way)), *of_critic), adam),
            "generator": Player(from_linen(generator, *of_generator), adam, ema=0.995),
        },
        objective=add_terms(objective_of(way), r1(0.05)),
        schedule=alternating(),
    )
    arrays = load("digits")
    return game, from_arrays({"x": arrays["x"], "y": arrays["y"]}, 64)


def inputs_of(way: str, asked: np.ndarray, seed: int, numbers: np.ndarray | None = None) -> tuple[Array, ...]:
    """The generator's inputs for classes, or for categories beside numbers (random ones if `None`)."""
    key = jax.random.key(300 + seed)
    z = jax.random.normal(key, (len(asked), LATENT))
    if way != "info_gan":
        return z, jnp.asarray(asked, jnp.int32)
    drawn = CODE.draw(jax.random.fold_in(key, 1), len(asked))[:, CLASSES:]
    given = drawn if numbers is None else jnp.asarray(numbers, jnp.float32)
    return (jnp.concatenate([jax.nn.one_hot(asked, CLASSES), given, z], axis=1),)


def run(seed: int, quick: bool, way: str) -> Numbers:
    """What is drawn where a class or a category is asked for."""
    game, source = game_of(way)
    state, _ = play(game, source, seed, 800 if quick else 3000)
    apply = jax.jit(
        lambda variables, inputs: game.players["generator"].network.apply(*variables, *inputs, train=False)[0]
    )
    draw = functools.partial(apply, generator_variables(state))
    asked = np.repeat(np.arange(CLASSES), EACH)
    inputs = inputs_of(way, asked, seed)
    images = np.asarray(draw(inputs))
    numbers = named(images, asked, seed)
    if way == "info_gan":
        numbers |= read_back(game, state, images, inputs[0], asked) | moved(draw, asked, seed)
    return numbers


def named(images: np.ndarray, asked: np.ndarray, seed: int) -> Numbers:
    """How the classes that are drawn `[CLASSES * EACH, 8, 8, 1]` go with those that were asked for."""
    drawn = classify(classifier_for("digits"), images)
    table = np.array([np.bincount(drawn[asked == k], minlength=CLASSES) for k in range(CLASSES)])
    numbers: Numbers = {
        "accuracy": float((drawn == asked).mean()),
        "judged": float((judged(images) == asked).mean()),
        "information": mutual_info_score(asked, drawn),
        "classes": len(set(table.argmax(axis=1).tolist())),
        "purity": float(table.max(axis=1).mean() / EACH),
    }
    if seed == 0:
        numbers["images"] = as_text(images.reshape(CLASSES, EACH, 64)[:, :8].reshape(-1, 64))
    return numbers


def control(seed: int, quick: bool, images: Callable[[int, int], np.ndarray]) -> Numbers:
    """The same of images that know of no class."""
    asked = np.repeat(np.arange(CLASSES), EACH)
    nothing = {"bound": 0.0, "correlations": [0.0, 0.0], "moved": [0.0, 0.0]}
    return {**named(images(seed, len(asked)), asked, seed), **nothing}


def noise(seed: int, number: int) -> np.ndarray:
    """Uniform noise."""
    return np.random.default_rng(seed).uniform(-1, 1, size=(number, 8, 8, 1)).astype(np.float32)


def untrained(seed: int, number: int) -> np.ndarray:
    """The generator with labels before the first round."""
    game, _ = game_of("conditional")
    return sample(
        game,
        start(game, seed),
        jax.random.key(300 + seed),
        number,
        condition_batch=lambda n: {"y": jnp.arange(n, dtype=jnp.int32) * CLASSES // n},
    )


def real(seed: int, number: int) -> np.ndarray:
    """Digits of random classes."""
    images = np.asarray(decode(jnp.asarray(load("digits")["x"])))
    return images[np.random.default_rng(seed).integers(len(images), size=number)]


CONTROLS = {"noise": noise, "untrained": untrained, "real": real}


def read_back(game: Game, state: TrainState, images: np.ndarray, latent: Array, asked: np.ndarray) -> Numbers:
    """The bound of the mutual information with the categories, and how well the numbers are read."""
    player = state.players["critic"]
    out, _ = game.players["critic"].network.apply(
        player.params, player.model_state, jnp.asarray(images), train=False
    )
    head, code = np.asarray(out["code"]), np.asarray(CODE.of(latent))
    likelihood = np.asarray(jax.nn.log_softmax(out["categories"]))[np.arange(len(asked)), asked]
    means = head[:, CLASSES : CLASSES + CODE.continuous]
    return {
        "bound": float(likelihood.mean() + np.log(CLASSES)),
        "correlations": [
            np.corrcoef(means[:, k], code[:, CLASSES + k])[0, 1] for k in range(CODE.continuous)
        ],
    }


def moved(draw: Callable[[Any], Array], asked: np.ndarray, seed: int) -> Numbers:
    """How far a number takes the picture, as a share of the distance of two random samples; pictures of it."""
    numbers: Numbers = {"moved": []}
    strips = []
    for k in range(CODE.continuous):
        steps = []
        for value in np.linspace(-REACH, REACH, STEPS):
            chosen = np.zeros((len(asked), CODE.continuous))
            chosen[:, k] = value
            steps.append(np.asarray(draw(inputs_of("info_gan", asked, seed, chosen))).reshape(-1, 64))
        way = np.linalg.norm(steps[0] - steps[-1], axis=1)
        best = way.reshape(CLASSES, EACH).argmax(axis=1) + EACH * np.arange(CLASSES)
        strips.append(np.stack(steps, axis=1)[best])
        apart = np.random.default_rng(seed).permutation(len(asked))
        middle = steps[STEPS // 2]
        numbers["moved"].append(way.mean() / np.linalg.norm(middle - middle[apart], axis=1).mean())
    if seed == 0:
        numbers["strips"] = [as_text(strip.reshape(-1, 64)) for strip in strips]
    return numbers


def figure(results: Sequence[Result]) -> Figure:
    """A column of samples for every class or category, by each way, and what InfoGAN's numbers do."""

    def columns(lines: Sequence[str], title: str, y_label: str = "") -> pictures.Chart:
        images = from_text(lines, 8).reshape(CLASSES, -1, 8, 8, 1)
        ordered = images.swapaxes(0, 1).reshape(-1, 8, 8, 1)
        grid = pictures.image_grid(ordered, CLASSES, gap=1, scale=3, smooth=True)
        return pictures.image(grid, title=title, x_label="class or category", y_label=y_label)

    titles = {
        "conditional": "Projection, class asked",
        "ac_gan": "AC-GAN, class asked",
        "info_gan": "InfoGAN, its categories",
    }
    grids = [columns(results[0][way]["images"], title, "samples") for way, title in titles.items()]
    strips = [
        columns(lines, f"InfoGAN's number {k + 1}", "-2 (top) to 2")
        for k, lines in enumerate(results[0]["info_gan"]["strips"])
    ]
    numbers = {
        "projection": [r["conditional"]["accuracy"] for r in results],
        "projection, judged": [r["conditional"]["judged"] for r in results],
        "AC-GAN": [r["ac_gan"]["accuracy"] for r in results],
        "AC-GAN, judged": [r["ac_gan"]["judged"] for r in results],
        "InfoGAN, purity": [r["info_gan"]["purity"] for r in results],
        **{name: [r[name]["accuracy"] for r in results] for name in CONTROLS},
    }
    shares = pictures.dot_plot(
        numbers, x_label="share drawn as asked", title="Every seed, mean and 95 % interval", marks=[0.9]
    )
    return pictures.figure(pictures.Row(tuple(grids)), pictures.Row((*strips, shares), height=2.6))


LABELLED = ("conditional", "ac_gan")

STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=13,
    cases={
        **{way: functools.partial(run, way=way) for way in ("conditional", "ac_gan", "info_gan")},
        **{name: functools.partial(control, images=images) for name, images in CONTROLS.items()},
    },
    controls=tuple(CONTROLS),
    seeds=3,
    claims=(
        Claim(effect=lambda r: r["conditional"]["accuracy"], at_least=0.9, quick=0.6),
        Claim(effect=lambda r: r["ac_gan"]["accuracy"], at_least=0.9, quick=0.6),
        Claim(
            effect=lambda r: min(
                min(r[way]["judged"] for way in LABELLED) - 0.6,
                min(r[way]["judged"] for way in LABELLED)
                - max(r[name]["judged"] for name in ("noise", "untrained"))
                - 0.5,
            ),
            at_least=0.0,
            quick=0.0,
        ),
        Claim(effect=lambda r: r["info_gan"]["bound"], at_least=2.0, quick=1.5),
        Claim(effect=lambda r: r["info_gan"]["classes"], at_least=6.0, quick=3.0),
        Claim(effect=lambda r: r["info_gan"]["information"], at_least=1.0, quick=0.3),
        Claim(effect=lambda r: min(r["info_gan"]["correlations"]), at_least=0.9, quick=0.6),
        Claim(effect=lambda r: min(r["info_gan"]["moved"]), at_least=0.6, quick=0.6),
    ),
    figure=figure,
)
