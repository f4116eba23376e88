"""Projection: the latent whose sample is nearest to an image."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan_jax.functional.options import check_count, check_number
from gan_jax.keys import named_key
from gan_jax.metrics.features import Extractor
from gan_jax.metrics.progress import progress_bar
from gan_jax.models.model import Model, as_floats
from gan_jax.models.portable import fixed_batch
from gan_jax.types import Array, Tree

Distance = Callable[[Array], Array]
"""`images [N, H, W, C] -> features [N, ...]`; images are compared by their mean squared difference."""
RAMP_DOWN, RAMP_UP = 0.25, 0.05
CANDIDATES = 1000
NOISE_RAMP = 0.75
STEPS_PER_DISPATCH = 20
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999)


class Projection(NamedTuple):
    """The end of a projection.

    Attributes:
      latent: `[1, d]`, or a tree of such arrays: z for `Model.sample(z=...)`; with a mapping network w, for
        `Model.synthesize`. Where layers draw noise, that is another one there than of `image`.
      image: its sample, `[H, W, C]`.
      distance: the distance of the sample from the image.
      history: the least distance of all starts at every step, `[steps]`, under that step's noise.
    """

    latent: Tree
    image: np.ndarray
    distance: float
    history: np.ndarray


def project(
    model: Model,
    image: Any,
    *,
    steps: int = 1000,
    starts: int = 8,
    learning_rate: float = 0.1,
    noise: float = 0.05,
    distance: str | Distance | Extractor = "pixels",
    label: int | str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Projection:
    """Finds the latent whose sample is nearest to an image, by Adam from several starts at once.

    As StyleGAN2's projector: the learning rate rises over the first 5 % of the steps and falls by a cosine over
    the last quarter, and noise is added to the latent until three quarters of them; it keeps the search from the
    first minimum. The starts are the nearest of 1,000 latents of the prior. For a generator with a mapping network
    the search is in w, else in z.

    Args:
      model: the generator, whose programs must have derivatives: rebuilt by `load_model(..., config=FILE)`, or read
        from what `--mode=export` wrote.
      image: `[H, W, C]`, uint8 or floats in [-1, 1].
      steps: of Adam.
      starts: latents that are improved side by side, 1,000 at most.
      learning_rate: the largest.
      noise: the first noise's standard deviation, in those of the latents.
      distance: `pixels`; `features`, those of the critic's head `features`; an extractor, such as
        `gan_jax.metrics.vgg16_extractor(FILE)`; or `images -> features` in JAX.
      label: the image's class, where the generator takes one.
      seed: determines starts and noise.
      progress: shows a bar; the features of a large network take minutes to hours without an accelerator.

    Raises:
      ValueError: if a number is out of range, the image is of another shape, of integers other than uint8 or not
        finite, the generator has no latent or no derivatives, or its critic has
        no features of single images.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, appendix D (arXiv:1912.04958).
    """
    check_count("project", "steps", steps)
    check_count("project", "starts", starts)
    check_number("project", "starts", starts, least=1, most=CANDIDATES)
    check_number("project", "learning_rate", learning_rate, above=0)
    check_number("project", "noise", noise, least=0)
    if not isinstance(model, Model):
        raise ValueError(f"project takes a Model, as load_model returns it; got {type(model).__name__}.")
    if model.programs.latent is None:
        raise ValueError(f"{model.player} has no latent to look for.")
    if not model.programs.differentiable:
        raise ValueError(
            "The programs beside a run's checkpoints have no derivatives, nor has an export made without the run's "
            "data: load the model with config=FILE, the run's experiment, or export the run and load that."
        )
    image = as_floats(image)
    if image.shape != model.sample_shape:
        raise ValueError(f"The samples are {model.sample_shape}, the image is {image.shape}.")
    starts = fixed_batch(model.generator) or starts
    features = _distance(model, distance, label, starts)
    render, candidates = _rendering(model, label, starts, seed)
    target = features(jnp.repeat(image[None], starts, axis=0))[:1]

    def distances(latents: Tree) -> Array:
        difference = features(render(latents)) - target
        return jnp.mean(jnp.square(difference), axis=tuple(range(1, difference.ndim)))

    begin = _nearest(jax.jit(distances), candidates, starts, progress)
    deviations = jax.tree.map(lambda leaf: jnp.std(leaf, axis=0, keepdims=True), candidates)
    descent = _Descent(steps, learning_rate, noise, seed)
    latents, place, value, history = _descend(distances, begin, deviations, descent, progress)
    # Of all starts, since the noise that layers draw is that of the place.
    rendered = np.asarray(render(latents)[place])
    best = jax.tree.map(lambda leaf: np.asarray(leaf[place])[None], latents)
    return Projection(best, rendered, float(value), np.asarray(history))


def _rendering(
    model: Model, label: int | str | None, starts: int, seed: int
) -> tuple[Callable[[Tree], Array], Tree]:
    """`latents [starts, d] -> samples` as a JAX function, and latents to begin with."""
    z = model.latents(CANDIDATES, seed=seed)
    conditions = model.condition_rows(
        len(jax.tree.leaves(z)[0]), np.array(0) if label is None and model.classes else label
    )
    mapped = model.player in model.programs.mappings
    program = model.programs.syntheses[model.player] if mapped else model.generator
    rest = () if mapped else tuple(condition[:starts] for condition in conditions)
    weights = jax.device_put(dict(model.weights[model.player]))
    key = jax.random.key_data(named_key(named_key(jax.random.key(seed), "picture"), model.player))
    candidates = model.mapped(z, conditions) if mapped else z
    return lambda latents: program.call(weights, key, latents, *rest), jax.tree.map(jnp.asarray, candidates)


def _distance(
    model: Model, distance: str | Distance | Extractor, label: int | str | None, starts: int
) -> Distance:
    if isinstance(distance, Extractor):
        return _of_extractor(distance, (starts, *model.sample_shape))
    if callable(distance):
        return distance
    if distance == "pixels":
        return lambda images: images
    if distance != "features":
        raise ValueError(
            f"A distance is pixels, features, an extractor or a function of images, got {distance!r}."
        )
    critic = model.critic
    name = model.programs.critic_of.get(model.player, "")
    labels = (
        model.class_rows(np.array(0) if label is None else label, starts)
        if critic and len(critic.inputs) > 1
        else None
    )
    rest = () if labels is None else (labels,)
    key = jax.random.key_data(jax.random.key(0))

    def of_critic(images: Array) -> Array:
        assert critic is not None
        return critic.call(jax.device_put(dict(model.weights[name])), key, images, *rest)["features"]

    images = jax.ShapeDtypeStruct((starts, *model.sample_shape), jnp.float32)
    if critic is not None and model.critic_group != 1:
        raise ValueError(
            "The critic compares the examples of its batch, so that an image alone has no features: compare "
            "pixels, or the features of an extractor."
        )
    try:
        jax.eval_shape(of_critic, images)
    except (AssertionError, KeyError):
        raise ValueError(
            "The critic has no head 'features', as modules of gan_jax.networks have with features=True: compare "
            "pixels, or the features of an extractor."
        ) from None
    return of_critic


def _of_extractor(extractor: Extractor, shape: tuple[int, ...]) -> Distance:
    """An extractor's features.

    Raises:
      ValueError: if they have no derivatives, as those of an ONNX file.
    """
    params = jax.tree.map(jnp.asarray, extractor.params)

    def features(images: Array) -> Array:
        return extractor.apply(params, images)["features"]

    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    try:
        jax.eval_shape(jax.grad(lambda x: jnp.sum(jnp.square(features(x)))), images)
    except ValueError as error:
        if "callback" not in str(error).lower():
            raise
        raise ValueError(
            f"The features of {extractor.name!r} have no derivatives, which the search needs."
        ) from error
    return features


def _nearest(distances: Callable[[Tree], Array], candidates: Tree, starts: int, progress: bool) -> Tree:
    """The `starts` candidates with the least distances, nearest first."""
    count = len(jax.tree.leaves(candidates)[0])
    found = []
    with progress_bar(count // starts * starts, "candidates", progress, "latents") as bar:
        for start in range(0, count - starts + 1, starts):
            rows = jax.tree.map(lambda leaf, start=start: leaf[start : start + starts], candidates)
            found.append(jax.block_until_ready(distances(rows)))
            bar.update(starts)
    order = jnp.argsort(jnp.concatenate(found))[:starts]
    return jax.tree.map(lambda leaf: leaf[order], candidates)


class _Descent(NamedTuple):
    """The numbers of a descent; see `project`."""

    steps: int
    learning_rate: float
    noise: float
    seed: int


def _descend(
    distances: Callable[[Tree], Array], begin: Tree, deviations: Tree, descent: _Descent, progress: bool
) -> tuple[Tree, int, Array, Array]:
    """Adam from every start: the latents at the end `[starts, ...]`, the place of the nearest, its distance, the
    history."""
    carry = (begin, _ADAM.init(begin), jnp.zeros(descent.steps))
    with progress_bar(descent.steps, "projection", progress, "steps") as bar:
        for start in range(0, descent.steps, STEPS_PER_DISPATCH):
            stop = min(start + STEPS_PER_DISPATCH, descent.steps)
            carry = jax.block_until_ready(_advance(distances, descent, carry, deviations, start, stop))
            bar.update(stop - start)
    latents, _, history = carry
    values = jax.jit(distances)(latents)
    place = int(jnp.argmin(values))
    return latents, place, values[place], history


@functools.partial(jax.jit, static_argnums=(0, 1))
def _advance(
    distances: Callable[[Tree], Array], descent: _Descent, carry: Any, deviations: Tree, start: int, stop: int
) -> Any:
    """The steps from `start` until before `stop` of `(latents, Adam's state, history)`."""
    key = named_key(jax.random.key(descent.seed), "projection")

    def step(number: Array, carry: Any) -> Any:
        latents, state, history = carry
        t = number / descent.steps
        fall = 0.5 - 0.5 * jnp.cos(math.pi * jnp.minimum(1.0, (1 - t) / RAMP_DOWN))
        rate = descent.learning_rate * fall * jnp.minimum(1.0, (t + 1 / descent.steps) / RAMP_UP)
        strength = descent.noise * jnp.square(jnp.maximum(0.0, 1 - t / NOISE_RAMP))
        leaves, structure = jax.tree.flatten(latents)
        keys = jax.random.split(jax.random.fold_in(key, number), len(leaves))
        shaken = [
            leaf + strength * deviation * jax.random.normal(leaf_key, leaf.shape)
            for leaf, deviation, leaf_key in zip(leaves, jax.tree.leaves(deviations), keys, strict=True)
        ]

        def total(latents: Tree) -> tuple[Array, Array]:
            values = distances(latents)
            return jnp.sum(values), values

        grads, values = jax.grad(total, has_aux=True)(jax.tree.unflatten(structure, shaken))
        updates, state = _ADAM.update(grads, state)
        latents = jax.tree.map(lambda x, u: x - rate * u, latents, updates)
        return latents, state, history.at[number].set(jnp.min(values))

    return jax.lax.fori_loop(start, stop, step, carry)
