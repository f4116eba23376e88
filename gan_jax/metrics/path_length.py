"""Perceptual path length (Karras et al., 2019): how far images move along a short step of the latent path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from numpy.typing import ArrayLike
from scipy import special

from gan_jax.metrics.features import Extractor
from gan_jax.precision import at_highest_precision
from gan_jax.types import Array, Key, Tree

EPSILON = 1e-4
SAMPLES = 50_000
SIZE = 256
_TRIMMED = 1.0  # per cent on either side

Distance = Callable[[Array, Array], Array]
"""A distance of two batches of images in [-1, 1], `[B, H, W, C]`, to `[B]`; quadratic in small differences."""


class PathLength(NamedTuple):
    """A path length.

    Attributes:
      value: the mean without the extremes.
      standard_error: that of a trimmed mean, from the lengths moved to the nearest one kept (Tukey and McLaughlin,
        1963).
      lengths: `[N]`, of all paths.
      name: `ppl2_wend` for the published measure; another distance, step or number is named as such.
    """

    value: float
    standard_error: float
    lengths: np.ndarray
    name: str

    def __float__(self) -> float:
        return self.value

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The bounds of the value's interval by Student's t, over the paths of one generator.

        >>> PathLength(10.0, 1.0, np.arange(1000.0), "").interval()[1].__round__(3)
        11.962
        """
        kept = len(trimmed(self.lengths))
        reach = float(special.stdtrit(max(kept - 1, 1), (1 + level) / 2)) * self.standard_error
        return max(self.value - reach, 0.0), self.value + reach


@at_highest_precision
def perceptual_path_length(
    mapping: Callable[..., Array],
    synthesis: Callable[..., Array],
    latents: Callable[[Key, int], Array],
    distance: Distance,
    *,
    key: Key,
    conditions: Sequence[ArrayLike] = (),
    samples: int = SAMPLES,
    epsilon: float = EPSILON,
    batch_size: int = 16,
) -> PathLength:
    """StyleGAN2's `ppl2_wend`: the path length at the ends of paths in w, with the distance given.

        E  d(g(w_0), g(w_0 + epsilon (w_1 - w_0))) / epsilon^2,   w_i = f(z_i)

    Both images have the same noise and condition, nothing is cropped, and images above 256 pixels are averaged over
    boxes to 256. Lengths below the first and above the last percentile are left out.

    Products have the highest precision, and a network that computes in less than float32 is refused: two images a
    small step apart differ by its rounding, not by the step (the authors' code computes in float32 too).

    Time is O(samples) pairs of samples and distances, memory that of one batch of them.

    Args:
      mapping: f, `(z [B, ...], *conditions) -> w [B, ...]`; for a generator without one it returns z, and the path
        is in z.
      synthesis: g, `(w, key, *conditions) -> images [B, H, W, C]` in [-1, 1], whose noise is a function of the key.
      latents: `(key, n) -> z [n, ...]`, such as an objective's prior.
      distance: `lpips_distance(...)` for the published measure, or any other, such as `feature_distance(...)`.
      key: of the latents and the noise.
      conditions: what a conditional generator takes beside z, such as labels: arrays `[samples, ...]` with a row
        for each path.
      samples: the number of paths.
      epsilon: the step.
      batch_size: paths at once.

    Raises:
      ValueError: for fewer than two paths, a step that is not positive, conditions of another number of rows,
        a generator or a distance that computes in less than float32, lengths that are not finite, or images above
        256 that boxes do not fill.

    References:
      Tukey and McLaughlin, Less Vulnerable Confidence and Significance Procedures for Location Based on a Single
      Sample, 1963; Karras et al., A Style-Based Generator Architecture for Generative Adversarial Networks, 2019
      (arXiv:1812.04948), section 4.1; Karras et al., Analyzing and Improving the Image Quality of StyleGAN,
      2020 (arXiv:1912.04958).

    >>> def linear(w, key):
    ...     return 2 * w[:, None, None, :]
    >>> def squared(x, y):
    ...     return jnp.sum((x - y) ** 2, axis=(1, 2, 3))
    >>> def latents(key, n):
    ...     return jnp.sign(jax.random.normal(key, (n, 1)))
    >>> found = perceptual_path_length(
    ...     lambda z: z, linear, latents, squared, key=jax.random.key(0), samples=64, epsilon=0.5)
    >>> sorted({round(float(length), 5) for length in found.lengths}), found.name
    ([0.0, 16.0], 'path length (squared, epsilon 0.5, 64 paths)')
    """
    if samples < 2 or not epsilon > 0:
        raise ValueError(f"A path length needs 2 paths and a step > 0, got {samples} and {epsilon}.")

    rows = [np.asarray(condition) for condition in conditions]
    if any(len(condition) != samples for condition in rows):
        sizes = ", ".join(str(len(condition)) for condition in rows)
        raise ValueError(f"Conditions have a row for each of {samples} paths, got {sizes}.")

    @jax.jit
    def batch(key: Key, *given: Array) -> Array:
        first, second, noise = jax.random.split(key, 3)
        w0, w1 = (mapping(latents(part, batch_size), *given) for part in (first, second))
        images = (boxed(synthesis(w, noise, *given)) for w in (w0, w0 + epsilon * (w1 - w0)))
        return distance(*images) / epsilon**2

    made = []
    for number in range(-(-samples // batch_size)):
        # The last batch is filled up, and what is more than `samples` is dropped.
        places = np.minimum(np.arange(number * batch_size, (number + 1) * batch_size), samples - 1)
        given = [condition[places] for condition in rows]
        if not number:
            _check_precision(jax.make_jaxpr(batch)(key, *given), epsilon)
        made.append(np.asarray(batch(jax.random.fold_in(key, number), *given)))
    lengths = np.concatenate(made)[:samples].astype(np.float64)
    if not np.isfinite(lengths).all():
        raise ValueError(
            f"{int((~np.isfinite(lengths)).sum())} of {samples} path lengths are NaN or infinite."
        )
    kept = trimmed(lengths)
    name = getattr(distance, "__name__", type(distance).__name__)
    published = (name, epsilon, samples) == (LPIPS_NAME, EPSILON, SAMPLES)
    return PathLength(
        value=float(kept.mean()),
        standard_error=_trimmed_error(lengths),
        lengths=lengths,
        name="ppl2_wend" if published else f"path length ({name}, epsilon {epsilon:g}, {samples} paths)",
    )


def _check_precision(program: Any, epsilon: float) -> None:
    """Checks that nothing in a traced program is computed in less than float32.

    Raises:
      ValueError: naming the dtype.
    """
    if narrow := sorted(set(_narrow_results(program))):
        raise ValueError(
            f"a path length is the difference of two images at a step of {epsilon:g}, which {', '.join(narrow)} "
            "rounds away: build the generator, and the distance, with dtype=float32 (--config.precision=float32)."
        )


def _narrow_results(program: Any) -> Iterator[str]:
    """The dtypes below float32 of the results of a program's operations, those of inner programs included."""
    for equation in program.eqns:
        for variable in equation.outvars:
            dtype = getattr(variable.aval, "dtype", np.dtype(bool))
            if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
                yield str(dtype)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "eqns"):
                    yield from _narrow_results(inner)
                elif isinstance(inner, export.Exported):
                    yield from map(_NARROW.__getitem__, re.findall(_NARROW_TYPES, inner.mlir_module()))


_NARROW = {"bf16": "bfloat16", "f16": "float16"}
_NARROW_TYPES = r"[<x](bf16|f16)[>,]"
"""Types of arrays in the text of an exported program."""

LPIPS_NAME = "lpips_vgg16"
"""The `__name__` of the distance that `lpips_distance` makes."""


def trimmed(lengths: np.ndarray) -> np.ndarray:
    """Lengths `[N]` from the first to the last percentile, both of which are members of the set.

    >>> trimmed(np.arange(1000.0))[[0, -1]].tolist()
    [9.0, 990.0]
    """
    low = np.percentile(lengths, _TRIMMED, method="lower")
    high = np.percentile(lengths, 100 - _TRIMMED, method="higher")
    return lengths[(lengths >= low) & (lengths <= high)]


def _trimmed_error(lengths: np.ndarray) -> float:
    kept = trimmed(lengths)
    if len(kept) < 2:
        return float("nan")
    moved = np.clip(lengths, kept.min(), kept.max())
    share = len(kept) / len(lengths)
    return float(moved.std(ddof=1) / (share * np.sqrt(len(lengths))))


def boxed(images: Array, size: int = SIZE) -> Array:
    """Images `[B, H, W, C]` averaged over boxes of `H // size` pixels; those up to `size` pass unchanged.

    Raises:
      ValueError: if boxes do not fill the image.

    >>> boxed(jnp.arange(4.0).reshape(1, 2, 2, 1), size=1).ravel().tolist()
    [1.5]
    """
    batch, height, width, channels = images.shape
    factor = height // size
    if factor <= 1:
        return images
    if height % factor or width % factor:
        raise ValueError(f"Images of {height} x {width} are not filled by boxes of {factor} x {factor}.")
    return images.reshape(batch, height // factor, factor, width // factor, factor, channels).mean(
        axis=(2, 4)
    )


def feature_distance(extractor: Extractor) -> Distance:
    """The mean squared difference of an extractor's features, a differentiable distance of images.

    Args:
      extractor: its `apply` must be differentiable where gradients are taken.

    >>> from gan_jax.metrics.features import pixels
    >>> feature_distance(pixels())(jnp.zeros((2, 4, 4, 1)), jnp.ones((2, 4, 4, 1))).tolist()
    [1.0, 1.0]
    """
    params: Tree = jax.tree.map(jnp.asarray, extractor.params)

    def distance(x: Array, y: Array) -> Array:
        first, second = (extractor.apply(params, images)["features"] for images in (x, y))
        return jnp.mean((first - second) ** 2, axis=1)

    distance.__name__ = f"squared difference of {extractor.name}"
    return distance
