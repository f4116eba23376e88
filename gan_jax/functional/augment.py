"""Random changes of images as pure, differentiable functions of a key.

Each is `(key, x [B, H, W, C]) -> [B, H, W, C]` on float images in [-1, 1] and draws for every example on its own.
Shifts are products with 0-1 matrices rather than gathers: exact, and their derivatives are products too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import named_key, over_batch
from gan_jax.types import Array, Key, Prepare, Tree

Augment: TypeAlias = Callable[[Key, Array], Array]


def random_brightness(key: Key, x: Array) -> Array:
    """Adds a number uniform in [-1/2, 1/2] to every pixel of an image."""
    return x + _uniform(key, x, -0.5, 0.5)


def random_saturation(key: Key, x: Array) -> Array:
    """Scales every pixel's distance from its mean over the channels by a number uniform in [0, 2]."""
    grey = jnp.mean(x, axis=-1, keepdims=True)
    return grey + (x - grey) * _uniform(key, x, 0.0, 2.0)


def random_contrast(key: Key, x: Array) -> Array:
    """Scales every value's distance from the image's mean by a number uniform in [1/2, 3/2]."""
    mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    return mean + (x - mean) * _uniform(key, x, 0.5, 1.5)


def random_translation(key: Key, x: Array, ratio: float = 0.125) -> Array:
    """Shifts by whole pixels, up to `ratio` of the size each way; what comes in is 0, the middle grey.

    >>> x = jnp.ones((20, 8, 8, 1))
    >>> jnp.unique(jax.jit(random_translation)(jax.random.key(0), x)).tolist()
    [0.0, 1.0]
    """
    _, height, width, _ = x.shape
    down = _whole(named_key(key, "down"), x, int(height * ratio + 0.5))
    right = _whole(named_key(key, "right"), x, int(width * ratio + 0.5))
    return _window(x, down, right, height, width)


def random_crop(key: Key, x: Array, padding: int = 4) -> Array:
    """Shifts by up to `padding` pixels each way; what comes in mirrors the border."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode="reflect")
    down = padding + _whole(named_key(key, "down"), x, padding)
    right = padding + _whole(named_key(key, "right"), x, padding)
    return _window(padded, down, right, height, width)


def random_cutout(key: Key, x: Array, ratio: float = 0.5) -> Array:
    """Sets to 0 a square of `ratio` of the size around a point anywhere in the image."""
    _, height, width, _ = x.shape
    rows = _span(named_key(key, "down"), x, height, ratio)
    columns = _span(named_key(key, "right"), x, width, ratio)
    return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], 0, x)


def random_flip(key: Key, x: Array) -> Array:
    """Mirrors left and right, one image in two."""
    mirrored = over_batch(jax.random.bernoulli(key, shape=(x.shape[0], 1, 1, 1)))
    return jnp.where(mirrored, x[:, :, ::-1], x)


def _uniform(key: Key, x: Array, low: float, high: float) -> Array:
    return over_batch(jax.random.uniform(key, (x.shape[0], 1, 1, 1), x.dtype, low, high))


def _whole(key: Key, x: Array, most: int) -> Array:
    """A whole number in [-most, most] for every example, `[B]`."""
    return over_batch(jax.random.randint(key, (x.shape[0],), -most, most + 1))


def _window(x: Array, down: Array, right: Array, height: int, width: int) -> Array:
    """`out[b, i, j] = x[b, i + down[b], j + right[b]]`, 0 outside; `[B, height, width, C]`."""

    def picks(start: Array, length: int, stored: int) -> Array:
        wanted = start[:, None] + jnp.arange(length)
        return (wanted[:, :, None] == jnp.arange(stored)).astype(x.dtype)

    rows, columns = picks(down, height, x.shape[1]), picks(right, width, x.shape[2])
    # Full precision, or a TPU rounds the pixels to bfloat16.
    exact = jax.lax.Precision.HIGHEST
    moved = jnp.einsum("bij,bjkc->bikc", rows, x, precision=exact)
    return jnp.einsum("bkj,bijc->bikc", columns, moved, precision=exact)


def _span(key: Key, x: Array, size: int, ratio: float) -> Array:
    """Which of `size` places lie in a window of `ratio` of them around a random centre, `[B, size]`."""
    length = int(size * ratio + 0.5)
    centre = jax.random.randint(key, (x.shape[0], 1), 0, size + (1 - length % 2))
    place = jnp.arange(size) - (over_batch(centre) - length // 2)
    return (place >= 0) & (place < length)


_COLOR: tuple[tuple[str, Augment], ...] = (
    ("brightness", random_brightness),
    ("saturation", random_saturation),
    ("contrast", random_contrast),
)
_PLACE: dict[str, tuple[tuple[str, Augment], ...]] = {
    "translation": (("translation", random_translation),),
    "cutout": (("cutout", random_cutout),),
    "flip": (("flip", random_flip),),
}


def diff_augment(
    policy: str | Sequence[str] = ("color", "translation", "cutout"), probability: float | str = 1.0
) -> Prepare:
    """DiffAugment: what the critic sees of real and fake is augmented, and the generator learns through it.

    Image conditions of the size of `x` (the input of an image-to-image game) move and are cut with it, so that
    the pair stays aligned; their colours and all other conditions stay as they are.

    Args:
      policy: of `color` (brightness, saturation, contrast), `translation`, `cutout` and `flip`, in the order in
        which they are applied; names, or one string with commas.
      probability: with which each change is applied to an example; or the name under which the critic's memory
        holds it (adaptive augmentation, see `adapt_probability`).

    Raises:
      ValueError: if a policy is unknown, or the probability is outside [0, 1].

    References:
      Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training, 2020 (arXiv:2006.10738).
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020 (arXiv:2006.06676).

    >>> prepare = diff_augment("cutout")
    >>> x = jnp.ones((2, 8, 8, 3))
    >>> (seen,) = prepare((x,), key=jax.random.key(0), step=jnp.array(0), memory={})
    >>> seen.shape
    (2, 8, 8, 3)
    """
    names = [name.strip() for name in policy.split(",")] if isinstance(policy, str) else list(policy)
    known = ["color", *_PLACE]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"diff_augment knows the policies {known}, got {unknown}.")
    if not isinstance(probability, str) and not 0 <= probability <= 1:
        raise ValueError(f"A probability lies in [0, 1], got {probability}.")

    def prepare(
        inputs: tuple[Array, ...], *, key: Key, step: Array, memory: Mapping[str, Tree]
    ) -> tuple[Array, ...]:
        share = memory[probability] if isinstance(probability, str) else probability
        moving = [leaf.ndim == 4 and leaf.shape[:3] == inputs[0].shape[:3] for leaf in inputs]
        for name in names:
            for step_name, augment in _COLOR if name == "color" else _PLACE[name]:
                changed = [name != "color" and moves for moves in moving]
                changed[0] = True
                own = named_key(key, step_name)
                inputs = tuple(
                    _sometimes(augment, own, leaf, share) if change else leaf
                    for leaf, change in zip(inputs, changed, strict=True)
                )
        return inputs

    return prepare


def _sometimes(augment: Augment, key: Key, x: Array, probability: float | Array) -> Array:
    if isinstance(probability, float | int) and probability == 1:
        return augment(key, x)
    chosen = jax.random.bernoulli(named_key(key, "chosen"), probability, (x.shape[0], 1, 1, 1))
    return jnp.where(over_batch(chosen), augment(key, x), x)


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
