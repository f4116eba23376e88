"""The augmentation pipeline of ADA: pure, differentiable functions of an image and of a few uniform numbers.

Every parameter is a quantile of a uniform number, so that an image at given percentiles can be computed by hand.
Blits and geometric transforms are combined into one matrix before the image is touched, colours into one formula.
Geometric transforms look up a mirrored image that was doubled by the orthogonal wavelet sym6, bilinearly and at the
inverse of their matrix, and halve the result by the same wavelet; blits copy pixels.

A transform of an image is that of its continuation by reflection without end, so that no padding runs out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from gan_jax.functional import wavelets
from gan_jax.functional.augment import Chance, chance_at, check_chance
from gan_jax.functional.batch import flatten, over_batch
from gan_jax.functional.options import check_number
from gan_jax.game import InputTransform
from gan_jax.keys import named_key
from gan_jax.types import Array, Key, Tree

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "blit": ("flip", "rotate90", "shift"),
    "geometric": ("scale", "rotate_before", "anisotropy", "rotate_after", "fraction"),
    "color": ("brightness", "contrast", "luma_flip", "hue", "saturation"),
    "filter": ("filter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
}
"""The augmentations of each category, in the order in which they are applied."""

_TWO = ("shift", "fraction", "cutout")
"""The augmentations with two parameters, to the right and down; the filter has one for each band."""
SHIFT = 0.125
"""The largest shift by whole pixels, and the standard deviation of one by fractions, as a share of the size."""
SCALE = 0.2 * math.log(2)
"""The standard deviation of the logarithm of a scale; the following are those of other parameters."""
BRIGHTNESS, CONTRAST, SATURATION, AMPLIFICATION, NOISE = 0.2, 0.5 * math.log(2), math.log(2), math.log(2), 0.1
POWER = np.array([10.0, 1.0, 1.0, 1.0]) / 13
"""The share of an image's power that each frequency band is expected to have."""
CUTOUT = 0.5
"""The side of the window that is cut out, as a share of the size."""


def _angle(u: Array) -> Array:
    return math.pi * (2 * u - 1)


def _normal(scale: float) -> Callable[[Array], Array]:
    """The quantile of N(0, scale^2); u is kept from 0 and 1, where it is infinite."""
    return lambda u: scale * ndtri(jnp.clip(u, 1e-6, 1 - 1e-6))


_QUANTILES: Mapping[str, Callable[[Array], Array]] = {
    "flip": lambda u: jnp.floor(2 * u),
    "rotate90": lambda u: jnp.floor(4 * u),
    "shift": lambda u: SHIFT * (2 * u - 1),
    "scale": _normal(SCALE),
    "rotate_before": _angle,
    "anisotropy": _normal(SCALE),
    "rotate_after": _angle,
    "fraction": _normal(SHIFT),
    "brightness": _normal(BRIGHTNESS),
    "contrast": _normal(CONTRAST),
    "luma_flip": lambda u: jnp.floor(2 * u),
    "hue": _angle,
    "saturation": _normal(SATURATION),
    "filter": _normal(AMPLIFICATION),
    "noise": lambda u: _normal(NOISE)((1 + u) / 2),
    "cutout": lambda u: u,
}
"""The parameter of each augmentation as a function of a uniform number; 0 is the identity, but for the cutout."""


def _layout() -> tuple[dict[str, tuple[slice, slice]], int]:
    """The places of each augmentation's gates and of its parameters' uniform numbers, and the number of all."""
    places, start = {}, 0
    for name in _QUANTILES:
        gates = wavelets.BANDS if name == "filter" else 1
        parameters = 2 if name in _TWO else gates
        places[name] = (slice(start, start + gates), slice(start + gates, start + gates + parameters))
        start += gates + parameters
    return places, start


_PLACES, DRAWS = _layout()
"""`DRAWS` is the number of uniform numbers that an image takes, whatever the categories are."""

Chances: TypeAlias = Mapping[str, "Array | float"]
"""The probability of each augmentation by its name; one that is missing is not applied."""

_EXACT = jax.lax.Precision.HIGHEST
"""At default precision a TPU would round products to bfloat16."""


def strengths(u: Array, chances: Chances, name: str) -> Array:
    """The parameters of an augmentation, 0 where it is not applied; a scalar if there is only one.

    Args:
      u: `[DRAWS]`, uniform in [0, 1).
      chances: the probability of each augmentation.
      name: the augmentation.
    """
    gates, parameters = _PLACES[name]
    if name not in chances:
        return jnp.zeros(()) if parameters.stop - parameters.start == 1 else jnp.zeros(2)
    found = jnp.where(u[gates] < chances[name], _QUANTILES[name](u[parameters]), 0.0)
    return found[0] if len(found) == 1 else found


def geometry(u: Array, chances: Chances, height: int, width: int) -> tuple[Array, Array]:
    """The inverse of the blits and geometric transforms of one image, and whether it is more than a copy of pixels.

    Args:
      u: `[DRAWS]`, uniform in [0, 1).
      chances: the probability of each augmentation.
      height, width: the image's size in pixels.

    Returns:
      The matrix `[2, 3]` that maps a place of the result, `(x, y, 1)` in pixels to the right and down from the
      centre, to that of the image; and a boolean.

    >>> inverse, general = geometry(jnp.full(DRAWS, 0.25), {"rotate90": 1.0}, 8, 8)  # a quarter turn to the left
    >>> print(inverse, general)
    [[ 0. -1.  0.]
     [ 1.  0.  0.]] False
    """
    get = functools.partial(strengths, u, chances)
    size = np.array([width, height])
    linear, offset = jnp.eye(2), jnp.zeros(2)
    # The inverse of a chain of transforms is the chain of their inverses: each is multiplied from the right.
    linear = linear * jnp.stack([1 - 2 * get("flip"), jnp.ones(())])
    quarter = get("rotate90").astype(jnp.int32)
    linear = _turned(linear, jnp.array([1.0, 0, -1, 0])[quarter], jnp.array([0.0, 1, 0, -1])[quarter])
    offset = offset - jnp.sum(linear * jnp.round(size * get("shift")), axis=1)
    linear = linear * jnp.exp(-get("scale"))
    linear = _rotated(linear, get("rotate_before"))
    linear = linear * jnp.exp(jnp.array([-1, 1]) * get("anisotropy"))
    linear = _rotated(linear, get("rotate_after"))
    offset = offset - jnp.sum(linear * size * get("fraction"), axis=1)
    gates = [u[_PLACES[name][0]] < chances[name] for name in CATEGORIES["geometric"] if name in chances]
    general = jnp.any(jnp.concatenate(gates)) if gates else jnp.array(False)
    return jnp.concatenate([linear, offset[:, None]], axis=1), general


def _turned(linear: Array, cosine: Array, sine: Array) -> Array:
    """`linear` times the rotation of this cosine and sine."""
    return cosine * linear + sine * (linear[:, ::-1] * jnp.array([1.0, -1.0]))


def _rotated(linear: Array, angle: Array) -> Array:
    return _turned(linear, jnp.cos(angle), jnp.sin(angle))


def copied(x: Array, inverse: Array) -> Array:
    """Copies to each pixel of `[H, W, C]` the one at the inverse of its place, of the mirrored image.

    >>> print(copied(jnp.arange(3.0).reshape(1, 3, 1), jnp.array([[1.0, 0, 1], [0, 1, 0]])).ravel())
    [1. 2. 1.]
    """
    height, width, _ = x.shape
    right, down = _places(inverse, np.arange(height), np.arange(width), height, width)
    return x[_mirror(jnp.round(down), height), _mirror(jnp.round(right), width)]


def resampled(x: Array, inverse: Array) -> Array:
    """The image `[H, W, C]` at the inverse of each place, through the wavelet's doubled grid.

    A linear ramp is resampled exactly away from the mirrors.
    """
    height, width, _ = x.shape
    source = _product(wavelets.doubling(height), wavelets.doubling(width), x)
    grid = [(np.arange(2 * size + 10) - wavelets.DELAY) / 2 for size in (height, width)]
    right, down = _places(inverse, grid[0], grid[1], height, width)
    found = _bilinear(source, 2 * down + wavelets.DELAY, 2 * right + wavelets.DELAY)
    return _product(wavelets.halving(height), wavelets.halving(width), found)


def _product(rows: np.ndarray, columns: np.ndarray, x: Array) -> Array:
    wide = jnp.einsum("jw,hwc->hjc", jnp.asarray(columns, x.dtype), x, precision=_EXACT)
    return jnp.einsum("ih,hjc->ijc", jnp.asarray(rows, x.dtype), wide, precision=_EXACT)


def _places(
    inverse: Array, rows: np.ndarray, columns: np.ndarray, height: int, width: int
) -> tuple[Array, Array]:
    """Where a result's rows and columns come from, in pixels to the right and down from the first one."""
    x = jnp.asarray(columns - (width - 1) / 2, jnp.float32)[None, :]
    y = jnp.asarray(rows - (height - 1) / 2, jnp.float32)[:, None]
    right = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
    down = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
    return right + (width - 1) / 2, down + (height - 1) / 2


def _mirror(place: Array, size: int) -> Array:
    index = jnp.mod(place.astype(jnp.int32), wavelets.period(size))
    return jnp.minimum(index, wavelets.period(size) - index) if size > 1 else jnp.zeros_like(index)


def _bilinear(source: Array, down: Array, right: Array) -> Array:
    """Bilinear lookup in a periodic image `[H, W, C]` at places `[h, w]`."""
    height, width, channels = source.shape
    top, left = jnp.floor(down), jnp.floor(right)
    below, beside = (down - top)[..., None], (right - left)[..., None]
    pixels = source.reshape(-1, channels)

    def at(row: Array, column: Array) -> Array:
        index = jnp.mod(row.astype(jnp.int32), height) * width + jnp.mod(column.astype(jnp.int32), width)
        return pixels[index]

    upper = (1 - beside) * at(top, left) + beside * at(top, left + 1)
    lower = (1 - beside) * at(top + 1, left) + beside * at(top + 1, left + 1)
    return (1 - below) * upper + below * lower


def recolored(u: Array, chances: Chances, x: Array) -> Array:
    """Changes the colours of an image of 3 channels, or of 1, which counts as grey.

    With m a pixel's mean over its channels, brightness b, contrast c, luma flip i, hue angle t and saturation s
    make of x the grey (1 - 2 i) c (m + b) and the colour c s R(t) (x - m), R the rotation about the grey axis.

    Raises:
      ValueError: for another number of channels.

    >>> recolored(jnp.full(DRAWS, 0.5), {"luma_flip": 1.0}, jnp.array([[[0.0, 0.3, 0.6]]]))  # grey is negated
    Array([[[-0.6, -0.3,  0. ]]], dtype=float32)
    """
    if x.shape[-1] not in (1, 3):
        raise ValueError(
            f"Colours are augmented in images of 1 or 3 channels, got {x.shape[-1]}: leave out the first c of the "
            "categories."
        )
    get = functools.partial(strengths, u, chances)
    contrast, angle = jnp.exp(get("contrast")), get("hue")
    mean = jnp.mean(x, axis=-1, keepdims=True)
    turned = (jnp.roll(x, 1, axis=-1) - jnp.roll(x, -1, axis=-1)) / math.sqrt(3)
    color = jnp.cos(angle) * (x - mean) + jnp.sin(angle) * turned
    grey = (1 - 2 * get("luma_flip")) * (mean + get("brightness"))
    return contrast * (grey + jnp.exp(get("saturation")) * color)


def band_gains(u: Array, chances: Chances) -> Array:
    """The gain of each frequency band `[4]`; one that is amplified leaves an expected image's power as it is."""
    factors = jnp.exp(strengths(u, chances, "filter"))
    return factors / jnp.sqrt(jnp.prod(POWER * jnp.square(factors) + 1 - POWER))


def amplified(x: Array, gains: Array) -> Array:
    """Multiplies the frequency bands of an image `[H, W, C]` by gains `[4]`, along both axes."""
    rows, columns = (
        jnp.einsum("b,bij->ij", gains, jnp.asarray(wavelets.band_matrices(size), x.dtype), precision=_EXACT)
        for size in x.shape[:2]
    )
    wide = jnp.einsum("jw,hwc->hjc", columns, x, precision=_EXACT)
    return jnp.einsum("ih,hjc->ijc", rows, wide, precision=_EXACT)


def cut_out(u: Array, chances: Chances, x: Array) -> Array:
    """Sets a window of half the size around a random point to 0."""
    gates, _ = _PLACES["cutout"]
    centre = strengths(u, chances, "cutout")

    def inside(share: Array, size: int) -> Array:
        low, high = (jnp.round((share + side * CUTOUT / 2) * size) for side in (-1, 1))
        return (jnp.arange(size) >= low) & (jnp.arange(size) < high)

    window = inside(centre[1], x.shape[0])[:, None] & inside(centre[0], x.shape[1])
    return jnp.where((window & (u[gates] < chances["cutout"]))[..., None], 0, x)


def augment_image(
    u: Array, chances: Chances, x: Array, noise: Array | None = None, *, colors: bool = True
) -> Array:
    """Augments one image `[H, W, C]`.

    Args:
      u: `[DRAWS]`, uniform in [0, 1).
      chances: the probability of each augmentation; those that are missing are not computed.
      x: the image, in [-1, 1].
      noise: standard normal numbers of the image's shape, where `chances` has `noise`.
      colors: whether colours, filter and noise are applied too; without them the image is only moved and cut.

    Returns:
      The augmented image; its values may leave [-1, 1].

    >>> x = jnp.arange(4.0).reshape(2, 2, 1)
    >>> print(augment_image(jnp.full(DRAWS, 0.5), {"flip": 1.0}, x)[..., 0])
    [[1. 0.]
     [3. 2.]]
    """
    dtype, x = x.dtype, x.astype(jnp.float32)
    if _has(chances, "blit") or _has(chances, "geometric"):
        inverse, general = geometry(u, chances, *x.shape[:2])
        moved = copied(x, inverse)
        x = jnp.where(general, resampled(x, inverse), moved) if _has(chances, "geometric") else moved
    if colors and _has(chances, "color"):
        x = recolored(u, chances, x)
    if colors and "filter" in chances:
        x = amplified(x, band_gains(u, chances))
    if colors and noise is not None:
        x = x + strengths(u, chances, "noise") * noise
    if "cutout" in chances:
        x = cut_out(u, chances, x)
    return x.astype(dtype)


def _has(chances: Chances, category: str) -> bool:
    return any(name in chances for name in CATEGORIES[category])


def chances_of(weights: Mapping[str, float], p: Array | float) -> dict[str, Array]:
    """The probability of each augmentation at p; the two rotations are such that at least one happens with p.

    >>> chances = chances_of({"flip": 1.0, "hue": 0.5, "rotate_before": 1.0}, 0.75)
    >>> {name: float(chance) for name, chance in chances.items()}
    {'flip': 0.75, 'hue': 0.375, 'rotate_before': 0.5}
    """
    chances = {name: jnp.asarray(weight * p, jnp.float32) for name, weight in weights.items()}
    for name in ("rotate_before", "rotate_after"):
        if name in chances:
            chances[name] = 1 - jnp.sqrt(1 - jnp.minimum(chances[name], 1.0))
    return chances


def ada(
    categories: str = "bgc",
    probability: Chance = "ada",
    *,
    multipliers: Mapping[str, float] | None = None,
) -> InputTransform:
    """ADA's augmentations of the critic's real and fake inputs, with gradients through them.

    Image conditions of the size of `x` are moved and cut with it, and keep their colours.

    Args:
      categories: initials in the paper's order: `b` (blits: flips, quarter turns, shifts by whole pixels), `g`
        (geometric: scale, rotation, anisotropy, shifts by fractions), `c` (colours: brightness, contrast, luma
        flip, hue, saturation), `f` (filter), `n` (noise), and after any of these a second `c` (cutout).
      probability: p in [0, 1]; `round -> p`; or the name under which the critic's objective state holds it, that of
        `adaptive_augmentation`.
      multipliers: factors of p in [0, 1] by category (`blit`, `geometric`, `color`, `filter`, `noise`, `cutout`) or
        by augmentation (`CATEGORIES`), 1 by default. R3GAN has `ada("bgcc", multipliers={"color": 0.5})`.

    Raises:
      ValueError: if the categories, the probability or a multiplier are none; when applied, if `x` is not an image.

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020, appendix B
      (arXiv:2006.06676).

    >>> transform = ada("bgc", 0.8)
    >>> augmented = jax.jit(lambda x: transform.apply((x,), jax.random.key(0), jnp.array(0), {})[0])
    >>> augmented(jnp.ones((2, 8, 6, 3))).shape
    (2, 8, 6, 3)
    """
    weights = _weights(categories, multipliers or {})
    check_chance("ada", probability)

    def apply(
        inputs: tuple[Array, ...], key: Key, step: Array, objective_state: Mapping[str, Tree]
    ) -> tuple[Array, ...]:
        if inputs[0].ndim != 4:
            raise ValueError(f"ada augments images [B, H, W, C], got {inputs[0].shape}.")
        chances = chances_of(weights, chance_at(probability, step, objective_state))
        size = inputs[0].shape[0]
        u = over_batch(jax.random.uniform(key, (size, DRAWS)))
        moves = [leaf.ndim == 4 and leaf.shape[:3] == inputs[0].shape[:3] for leaf in inputs]

        def augmented(place: int, x: Array) -> Array:
            if place or "noise" not in chances:
                return jax.vmap(lambda u, x: augment_image(u, chances, x, colors=place == 0))(u, x)
            # Drawn as a matrix, which compiles faster.
            normal = over_batch(jax.random.normal(named_key(key, "ada/noise"), flatten(x).shape))
            return jax.vmap(lambda u, x, n: augment_image(u, chances, x, n))(u, x, normal.reshape(x.shape))

        return tuple(augmented(i, x) if moves[i] else x for i, x in enumerate(inputs))

    reads = probability if isinstance(probability, str) else None
    return InputTransform(name="ada", apply=apply, reads_state=reads)


def _weights(categories: str, multipliers: Mapping[str, float]) -> dict[str, float]:
    """The multiplier of every augmentation of these categories.

    Raises:
      ValueError: for letters that are no categories, and for multipliers of what is not among them.
    """
    names = categories_of(categories)
    weights = {name: 1.0 for category in names for name in CATEGORIES[category]}
    for name, factor in multipliers.items():
        members = CATEGORIES.get(name, (name,))
        if not set(members) <= set(weights):
            raise ValueError(
                f"ada({categories!r}, multipliers={{{name!r}: ...}}) names none of its augmentations; these are "
                f"{sorted({*names, *weights})}."
            )
        check_number("ada", f"multipliers[{name!r}]", factor, least=0, most=1)
        weights |= dict.fromkeys(members, factor)
    return weights


def categories_of(letters: str) -> tuple[str, ...]:
    """The categories that a string of initials names, in order.

    Raises:
      ValueError: if they are not some of `bgcfnc`, in this order.

    >>> categories_of("bgcfnc")
    ('blit', 'geometric', 'color', 'filter', 'noise', 'cutout')
    """
    found: list[str] = []
    start, names = 0, tuple(CATEGORIES)
    for letter in letters:
        place = next((i for i in range(start, len(names)) if names[i][0] == letter), None)
        if place is None:
            found = []
            break
        found.append(names[place])
        start = place + 1
    if not found:
        raise ValueError(
            f"ada takes the initials of its categories in order, {''.join(name[0] for name in names)} or a part of "
            f"it (b blits, g geometric, c colours, f filter, n noise, c cutout), got {letters!r}."
        )
    return tuple(found)
