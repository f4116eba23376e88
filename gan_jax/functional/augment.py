"""Random augmentations of an image: pure, differentiable functions of the image and of a few uniform numbers.

Since they take numbers rather than a key, a policy draws only once for a batch, which compiles several times
faster than one draw per augmentation. Shifts are products with 0-1 matrices rather than gathers: these are exact,
and their derivatives are products too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import over_batch
from gan_jax.functional.options import check_number
from gan_jax.game import InputTransform
from gan_jax.types import Array, Key, Tree


@dataclasses.dataclass(frozen=True, eq=False)
class Augment:
    """A random augmentation of a single image.

    Attributes:
      draws: the number of uniform random numbers that it takes.
      change: `(u [draws] in [0, 1), x [H, W, C]) -> [H, W, C]`, on float images in [-1, 1].
    """

    draws: int
    change: Callable[[Array, Array], Array]


def brightness() -> Augment:
    """An augmentation that adds one number, uniform in [-1/2, 1/2], to every pixel."""
    return Augment(1, lambda u, x: x + (u[0] - 0.5).astype(x.dtype))


def saturation() -> Augment:
    """An augmentation that scales every pixel's deviation from its channel mean by a number uniform in [0, 2]."""

    def change(u: Array, x: Array) -> Array:
        grey = jnp.mean(x, axis=-1, keepdims=True)
        return grey + (x - grey) * (2 * u[0]).astype(x.dtype)

    return Augment(1, change)


def contrast() -> Augment:
    """An augmentation that scales every value's deviation from the image's mean by a factor in [1/2, 3/2]."""

    def change(u: Array, x: Array) -> Array:
        mean = jnp.mean(x)
        return mean + (x - mean) * (u[0] + 0.5).astype(x.dtype)

    return Augment(1, change)


def translation(ratio: float = 0.125) -> Augment:
    """An augmentation that shifts by whole pixels, up to `ratio` of the size each way; uncovered pixels become 0.

    >>> x = jnp.ones((20, 8, 8, 1))
    >>> jnp.unique(augment_batch(jax.random.key(0), translation(), x)).tolist()
    [0.0, 1.0]
    """

    def change(u: Array, x: Array) -> Array:
        height, width, _ = x.shape
        down, right = _shift(u[0], int(height * ratio + 0.5)), _shift(u[1], int(width * ratio + 0.5))
        return _window(x, down, right, height, width)

    return Augment(2, change)


def crop(padding: int = 4) -> Augment:
    """An augmentation that shifts by up to `padding` pixels each way; uncovered pixels mirror the border."""

    def change(u: Array, x: Array) -> Array:
        height, width, _ = x.shape
        padded = jnp.pad(x, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
        down, right = padding + _shift(u[0], padding), padding + _shift(u[1], padding)
        return _window(padded, down, right, height, width)

    return Augment(2, change)


def cutout(ratio: float = 0.5) -> Augment:
    """An augmentation that sets a window of `ratio` of the image's size, around a random point, to 0."""

    def change(u: Array, x: Array) -> Array:
        rows, columns = _span(u[0], x.shape[0], ratio), _span(u[1], x.shape[1], ratio)
        return jnp.where((rows[:, None] & columns)[..., None], 0, x)

    return Augment(2, change)


def flip() -> Augment:
    """An augmentation that mirrors left and right with probability 1/2."""
    return Augment(1, lambda u, x: jnp.where(u[0] < 0.5, x[:, ::-1], x))


def sometimes(augment: Augment, probability: float | Array) -> Augment:
    """Applies `augment` with a probability, and otherwise leaves the image unchanged."""
    if isinstance(probability, float | int) and probability == 1:
        return augment
    return Augment(augment.draws + 1, lambda u, x: jnp.where(u[0] < probability, augment.change(u[1:], x), x))


def chain(*augments: Augment) -> Augment:
    """The composition of augmentations in order, each with separate draws."""

    def change(u: Array, x: Array) -> Array:
        for augment in augments:
            x, u = augment.change(u[: augment.draws], x), u[augment.draws :]
        return x

    return Augment(sum(augment.draws for augment in augments), change)


def augment_batch(key: Key, augment: Augment, x: Array) -> Array:
    """Applies `augment` to a batch `x [B, H, W, C]`, sharded over the devices, with separate draws per image."""
    return jax.vmap(augment.change)(over_batch(jax.random.uniform(key, (x.shape[0], augment.draws))), x)


def _shift(u: Array, most: int) -> Array:
    """An integer uniform in [-most, most], from u uniform in [0, 1)."""
    return jnp.floor(u * (2 * most + 1)).astype(jnp.int32) - most


def _window(x: Array, down: Array, right: Array, height: int, width: int) -> Array:
    """`out[i, j] = x[i + down, j + right]`, 0 outside; `[height, width, C]`."""

    def picks(start: Array, length: int, stored: int) -> Array:
        wanted = start + jnp.arange(length)
        return (wanted[:, None] == jnp.arange(stored)).astype(x.dtype)

    # At default precision a TPU would round the pixels to bfloat16.
    exact = jax.lax.Precision.HIGHEST
    moved = jnp.einsum("ij,jkc->ikc", picks(down, height, x.shape[0]), x, precision=exact)
    return jnp.einsum("kj,ijc->ikc", picks(right, width, x.shape[1]), moved, precision=exact)


def _span(u: Array, size: int, ratio: float) -> Array:
    """A mask `[size]` of the positions in a window of `ratio` times `size` around a random centre."""
    length = int(size * ratio + 0.5)
    centre = jnp.floor(u * (size + 1 - length % 2)).astype(jnp.int32)
    place = jnp.arange(size) - (centre - length // 2)
    return (place >= 0) & (place < length)


Chance: TypeAlias = float | str | Callable[[Array], Array]
"""A probability: a number, the name of the objective state that holds it, or `round -> probability`."""


def check_chance(function: str, probability: Chance) -> None:
    """Checks that a probability that is a number lies in [0, 1].

    Raises:
      ValueError: if it does not.
    """
    if not isinstance(probability, str):
        check_number(function, "probability", probability, least=0, most=1)


def chance_at(probability: Chance, step: Array, objective_state: Mapping[str, Tree]) -> float | Array:
    """The probability in round `step`.

    >>> float(chance_at("ada", jnp.array(0), {"ada": {"probability": jnp.array(0.25)}}))
    0.25
    """
    if callable(probability):
        return probability(step)
    return objective_state[probability]["probability"] if isinstance(probability, str) else probability


POLICIES: dict[str, tuple[Augment, ...]] = {
    "color": (brightness(), saturation(), contrast()),
    "translation": (translation(),),
    "cutout": (cutout(),),
    "flip": (flip(),),
}
"""The policies of `diff_augment` by name."""


def diff_augment(
    policy: str | Sequence[str] = ("color", "translation", "cutout"), probability: Chance = 1.0
) -> InputTransform:
    """DiffAugment: augments the critic's real and fake inputs, with gradients through the augmentation.

    Image conditions of the size of `x` (the input of an image-to-image game) are shifted and cut with it, so that
    the pair stays aligned; their colours and all other conditions are unchanged.

    Args:
      policy: some of `color` (brightness, saturation, contrast), `translation`, `cutout` and `flip`, in the order
        in which they are applied: a sequence of names, or one string with commas.
      probability: the probability of applying each augmentation to an image, in [0, 1]; `round -> probability`; or
        the name under which the critic's objective state holds it, that of `adaptive_augmentation`.

    Raises:
      ValueError: if a policy is unknown, or the probability is outside [0, 1].

    References:
      Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training, 2020 (arXiv:2006.10738).
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020 (arXiv:2006.06676).

    >>> transform = diff_augment("color,cutout")
    >>> x = jnp.ones((2, 8, 8, 3))
    >>> (changed,) = transform.apply((x,), jax.random.key(0), jnp.array(0), {})
    >>> changed.shape
    (2, 8, 8, 3)
    """
    names = [name.strip() for name in policy.split(",")] if isinstance(policy, str) else list(policy)
    if unknown := [name for name in names if name not in POLICIES]:
        raise ValueError(f"diff_augment knows the policies {sorted(POLICIES)}, got {unknown}.")
    check_chance("diff_augment", probability)

    def apply(
        inputs: tuple[Array, ...], key: Key, step: Array, objective_state: Mapping[str, Tree]
    ) -> tuple[Array, ...]:
        chance = chance_at(probability, step, objective_state)
        moves = [leaf.ndim == 4 and leaf.shape[:3] == inputs[0].shape[:3] for leaf in inputs]
        changes = [(name, sometimes(augment, chance)) for name in names for augment in POLICIES[name]]

        def change(u: Array, *images: Array) -> tuple[Array, ...]:
            for name, augment in changes:
                draw, u = u[: augment.draws], u[augment.draws :]
                images = tuple(
                    augment.change(draw, image) if place == 0 or name != "color" else image
                    for place, image in enumerate(images)
                )
            return images

        draws = sum(augment.draws for _, augment in changes)
        u = over_batch(jax.random.uniform(key, (inputs[0].shape[0], draws)))
        changed = iter(
            jax.vmap(change)(u, *(leaf for leaf, moved in zip(inputs, moves, strict=True) if moved))
        )
        return tuple(next(changed) if moved else leaf for leaf, moved in zip(inputs, moves, strict=True))

    reads = probability if isinstance(probability, str) else None
    return InputTransform(name="diff_augment", apply=apply, reads_state=reads)


def adapt_probability(
    probability: Array,
    overfitting: Array,
    count: Array | float,
    *,
    target: float = 0.6,
    images: float = 500_000.0,
) -> Array:
    """ADA's controller: one step of the probability of augmentation towards an overfitting of `target`.

    The probability moves by `count` / `images` up or down, and stays in [0, 1].

    Args:
      probability: the current probability.
      overfitting: r_t = E sign(D(x)) over the scores of real images: 0 for a critic that guesses, 1 for one that
        recognises every real image.
      count: the number of images since the last step.
      target: the desired r_t.
      images: the number of images after which the probability can have risen from 0 to 1.

    Returns:
      The next probability, a scalar in [0, 1].

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020, section 3, equation (1)
      (arXiv:2006.06676).

    >>> float(adapt_probability(jnp.array(0.5), jnp.array(1.0), 100, images=1000.0))
    0.6...
    """
    return jnp.clip(probability + jnp.sign(overfitting - target) * count / images, 0.0, 1.0)
