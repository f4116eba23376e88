"""Random changes of an image: pure, differentiable functions of the image and of a few uniform numbers.

That they take numbers rather than a key lets a whole policy draw once for a batch, which compiles several times
faster than a draw for each change. Shifts are products with 0-1 matrices rather than gathers: exact, and their
derivatives are products too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import over_batch
from gan_jax.game import InputTransform
from gan_jax.types import Array, Key, Tree


@dataclasses.dataclass(frozen=True, eq=False)
class Augment:
    """One random change of one image.

    Attributes:
      draws: how many uniform numbers it takes.
      change: `(u [draws] in [0, 1), x [H, W, C]) -> [H, W, C]`, on float images in [-1, 1].
    """

    draws: int
    change: Callable[[Array, Array], Array]


def brightness() -> Augment:
    """Adds one number, uniform in [-1/2, 1/2], to every pixel."""
    return Augment(1, lambda u, x: x + (u[0] - 0.5).astype(x.dtype))


def saturation() -> Augment:
    """Scales every pixel's distance from its mean over the channels by a number uniform in [0, 2]."""

    def change(u: Array, x: Array) -> Array:
        grey = jnp.mean(x, axis=-1, keepdims=True)
        return grey + (x - grey) * (2 * u[0]).astype(x.dtype)

    return Augment(1, change)


def contrast() -> Augment:
    """Scales every value's distance from the image's mean by a number uniform in [1/2, 3/2]."""

    def change(u: Array, x: Array) -> Array:
        mean = jnp.mean(x)
        return mean + (x - mean) * (u[0] + 0.5).astype(x.dtype)

    return Augment(1, change)


def translation(ratio: float = 0.125) -> Augment:
    """Shifts by whole pixels, up to `ratio` of the size each way; what comes in is 0, the middle grey.

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
    """Shifts by up to `padding` pixels each way; what comes in mirrors the border."""

    def change(u: Array, x: Array) -> Array:
        height, width, _ = x.shape
        padded = jnp.pad(x, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
        down, right = padding + _shift(u[0], padding), padding + _shift(u[1], padding)
        return _window(padded, down, right, height, width)

    return Augment(2, change)


def cutout(ratio: float = 0.5) -> Augment:
    """Sets to 0 a window of `ratio` of the size around a point anywhere in the image."""

    def change(u: Array, x: Array) -> Array:
        rows, columns = _span(u[0], x.shape[0], ratio), _span(u[1], x.shape[1], ratio)
        return jnp.where((rows[:, None] & columns)[..., None], 0, x)

    return Augment(2, change)


def flip() -> Augment:
    """Mirrors left and right, one image in two."""
    return Augment(1, lambda u, x: jnp.where(u[0] < 0.5, x[:, ::-1], x))


def sometimes(augment: Augment, probability: float | Array) -> Augment:
    """`augment` with a probability, else the image as it is."""
    if isinstance(probability, float | int) and probability == 1:
        return augment
    return Augment(augment.draws + 1, lambda u, x: jnp.where(u[0] < probability, augment.change(u[1:], x), x))


def chain(*augments: Augment) -> Augment:
    """One change after the other, each with its own draws."""

    def change(u: Array, x: Array) -> Array:
        for augment in augments:
            x, u = augment.change(u[: augment.draws], x), u[augment.draws :]
        return x

    return Augment(sum(augment.draws for augment in augments), change)


def augment_batch(key: Key, augment: Augment, x: Array) -> Array:
    """`augment` on a batch `x [B, H, W, C]`, each image with its own draws, divided over the devices."""
    return jax.vmap(augment.change)(over_batch(jax.random.uniform(key, (x.shape[0], augment.draws))), x)


def _shift(u: Array, most: int) -> Array:
    """A whole number in [-most, most], each as likely."""
    return jnp.floor(u * (2 * most + 1)).astype(jnp.int32) - most


def _window(x: Array, down: Array, right: Array, height: int, width: int) -> Array:
    """`out[i, j] = x[i + down, j + right]`, 0 outside; `[height, width, C]`."""

    def picks(start: Array, length: int, stored: int) -> Array:
        wanted = start + jnp.arange(length)
        return (wanted[:, None] == jnp.arange(stored)).astype(x.dtype)

    # Full precision, or a TPU rounds the pixels to bfloat16.
    exact = jax.lax.Precision.HIGHEST
    moved = jnp.einsum("ij,jkc->ikc", picks(down, height, x.shape[0]), x, precision=exact)
    return jnp.einsum("kj,ijc->ikc", picks(right, width, x.shape[1]), moved, precision=exact)


def _span(u: Array, size: int, ratio: float) -> Array:
    """Which of `size` places lie in a window of `ratio` of them around a random centre, `[size]`."""
    length = int(size * ratio + 0.5)
    centre = jnp.floor(u * (size + 1 - length % 2)).astype(jnp.int32)
    place = jnp.arange(size) - (centre - length // 2)
    return (place >= 0) & (place < length)


POLICIES: dict[str, tuple[Augment, ...]] = {
    "color": (brightness(), saturation(), contrast()),
    "translation": (translation(),),
    "cutout": (cutout(),),
    "flip": (flip(),),
}
"""What `diff_augment` knows by name."""


def diff_augment(
    policy: str | Sequence[str] = ("color", "translation", "cutout"), probability: float | str = 1.0
) -> InputTransform:
    """DiffAugment: what the critic sees of real and fake is augmented, and the generator learns through it.

    Image conditions of the size of `x` (the input of an image-to-image game) move and are cut with it, so that
    the pair stays aligned; their colours and all other conditions stay as they are.

    Args:
      policy: of `color` (brightness, saturation, contrast), `translation`, `cutout` and `flip`, in the order in
        which they are applied; names, or one string with commas.
      probability: with which each change is applied to an image; or the name under which the critic's objective
        state holds it (adaptive augmentation, see `adapt_probability`).

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
    if not isinstance(probability, str) and not 0 <= probability <= 1:
        raise ValueError(f"A probability lies in [0, 1], got {probability}.")

    def apply(
        inputs: tuple[Array, ...], key: Key, step: Array, objective_state: Mapping[str, Tree]
    ) -> tuple[Array, ...]:
        share = objective_state[probability] if isinstance(probability, str) else probability
        moves = [leaf.ndim == 4 and leaf.shape[:3] == inputs[0].shape[:3] for leaf in inputs]
        changes = [(name, sometimes(augment, share)) for name in names for augment in POLICIES[name]]

        def change(u: Array, *images: Array) -> tuple[Array, ...]:
            for name, augment in changes:
                own, u = u[: augment.draws], u[augment.draws :]
                images = tuple(
                    augment.change(own, image) if place == 0 or name != "color" else image
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
    probability: Array, real_scores: Array, *, target: float = 0.6, images: float = 500_000.0
) -> Array:
    """ADA's controller: one step of the probability of augmentation towards an overfitting of `target`.

    Overfitting is r_t = E sign(D(x)) over real scores `[B]`: 0 where the critic cannot tell, 1 where it knows every
    real image. The probability moves by B / `images` up or down, and stays in [0, 1].

    Args:
      probability: the present one.
      real_scores: the critic's logits on (augmented) real images, `[B]`.
      target: of r_t.
      images: how many images it takes to go from 0 to 1.

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020, section 3, equation (1).

    >>> float(adapt_probability(jnp.array(0.5), jnp.full(100, 3.0), images=1000.0))
    0.6...
    """
    overfitting = jnp.mean(jnp.sign(jax.lax.stop_gradient(real_scores)))
    step = jnp.sign(overfitting - target) * real_scores.shape[0] / images
    return jnp.clip(probability + step, 0.0, 1.0)
