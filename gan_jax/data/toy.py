"""Distributions in few dimensions whose truth is known, drawn inside the step.

Every function returns a `Toy`: a pure `sample(key, n) -> [n, D]` and what is known of the distribution in
closed form. `scale` is what every point is divided by. The ring of the unrolled GAN (Metz et al. 2017) is
`ring()`; WGAN-GP's toys (Gulrajani et al. 2017) are `ring(scale=1.414)`, `grid(scale=2.828)` and `swiss_roll()`;
PacGAN's (Lin et al. 2018) are `ring(radius=1.0, sigma=0.01)` and `grid()`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data.errors import DataError, check_batch_size
from gan_jax.data.source import Source
from gan_jax.functional.batch import over_batch
from gan_jax.keys import named_key
from gan_jax.types import Array, Batch, Key


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Toy:
    """A distribution that can be drawn from without end.

    Attributes:
      sample: `(key, n) -> x [n, D]`, float32, pure; `n` is static under `jit`.
      dim: D.
      means: the modes' means, `[K, D]`, or `None` where there are no modes.
      sigma: the modes' standard deviation, one number or `[K]`; `None` where there are no modes.
      weights: the modes' probabilities, `[K]`; `None` where there are no modes.
      log_prob: `x [n, D] -> [n]`, the log density; `None` where it has no closed form or none exists.
      sample_labelled: `(key, n) -> (x [n, D], mode [n] int32)`; `x` equals `sample(key, n)`.
    """

    sample: Callable[[Key, int], Array]
    dim: int
    means: np.ndarray | None = None
    sigma: float | np.ndarray | None = None
    weights: np.ndarray | None = None
    log_prob: Callable[[Array], Array] | None = None
    sample_labelled: Callable[[Key, int], tuple[Array, Array]] | None = None


def gaussian_mixture(
    means: Any, sigma: float | Sequence[float] | np.ndarray, weights: Sequence[float] | None = None
) -> Toy:
    """A mixture of isotropic Gaussians.

    Args:
      means: `[K, D]`.
      sigma: the standard deviation of every mode, one number or `[K]`; 0 is a mixture of points.
      weights: probabilities `[K]` that sum to 1; equal if `None`.

    Raises:
      DataError: if the shapes do not fit, a `sigma` is negative, or the weights are not probabilities.

    >>> toy = gaussian_mixture([[0.0, 0.0], [3.0, 4.0]], sigma=0.1)
    >>> toy.sample(jax.random.key(0), 5).shape
    (5, 2)
    """
    means = np.asarray(means, np.float32)
    if means.ndim != 2 or not means.size:
        raise DataError(f"The means of a mixture are [K, D] with K, D >= 1, got shape {means.shape}.")
    modes, dim = means.shape
    sigmas = _per_mode("sigma", sigma, modes)
    if np.any(sigmas < 0):
        raise DataError(f"Standard deviations are 0 or more, got {sigma}.")
    shares = _per_mode("weights", 1 / modes if weights is None else weights, modes)
    if np.any(shares < 0) or abs(shares.sum() - 1) > 1e-5:
        raise DataError(f"Weights are probabilities that sum to 1, got {weights}.")
    log_shares = np.log(np.maximum(shares, np.finfo(np.float32).tiny)).astype(np.float32)

    def sample_labelled(key: Key, n: int) -> tuple[Array, Array]:
        if weights is None:
            mode = jax.random.randint(named_key(key, "mode"), (n,), 0, modes)
        else:
            mode = jax.random.categorical(named_key(key, "mode"), log_shares, shape=(n,)).astype(jnp.int32)
        noise = jax.random.normal(named_key(key, "noise"), (n, dim))
        return jnp.asarray(means)[mode] + jnp.asarray(sigmas)[mode, None] * noise, mode

    def log_prob(x: Array) -> Array:
        squared = jnp.sum(jnp.square((x[:, None] - means) / sigmas[:, None]), -1)
        normalizer = dim * (np.log(sigmas) + 0.5 * np.log(2 * np.pi))
        return jax.nn.logsumexp(log_shares - normalizer - 0.5 * squared, axis=-1)

    return Toy(
        sample=lambda key, n: sample_labelled(key, n)[0],
        dim=dim,
        means=means,
        sigma=float(np.asarray(sigma)) if np.ndim(sigma) == 0 else sigmas,
        weights=shares,
        log_prob=log_prob if np.all(sigmas > 0) else None,
        sample_labelled=sample_labelled,
    )


def _per_mode(name: str, value: Any, modes: int) -> np.ndarray:
    value = np.asarray(value, np.float32)
    if value.shape not in ((), (modes,)):
        raise DataError(f"{name} is one number or one per mode, [{modes}], got shape {value.shape}.")
    return np.broadcast_to(value, (modes,)).copy()


def ring(modes: int = 8, radius: float = 2.0, sigma: float = 0.02, scale: float = 1.0) -> Toy:
    """Gaussians on a circle, mode k at the angle 2 pi k / modes.

    Raises:
      DataError: if there is no mode, or `scale` is not positive.

    >>> ring(modes=4, radius=2.0).means.round(6) + 0.0
    array([[ 2.,  0.],
           [ 0.,  2.],
           [-2.,  0.],
           [ 0., -2.]], dtype=float32)
    """
    _check(modes=modes, scale=scale)
    # Without the end point: linspace(0, 2 pi, modes) would put the last mode on the first.
    angles = 2 * np.pi * np.arange(modes) / modes
    return gaussian_mixture(
        radius / scale * np.stack([np.cos(angles), np.sin(angles)], axis=1), sigma / scale
    )


def grid(side: int = 5, spacing: float = 2.0, sigma: float = 0.05, scale: float = 1.0) -> Toy:
    """`side` x `side` Gaussians on a square grid centred at the origin.

    Raises:
      DataError: if `side` is below 1, or `scale` is not positive.

    >>> sorted({float(x) for x in grid().means[:, 0]})
    [-4.0, -2.0, 0.0, 2.0, 4.0]
    """
    _check(side=side, scale=scale)
    line = spacing / scale * (np.arange(side) - (side - 1) / 2)
    return gaussian_mixture(
        np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2), sigma / scale
    )


def mixture_1d(
    means: Sequence[float] = (-2.0, 2.0),
    sigma: float | Sequence[float] = 0.5,
    weights: Sequence[float] | None = None,
) -> Toy:
    """A mixture of Gaussians on the line, `[n, 1]`.

    >>> toy = mixture_1d(means=(0.0,), sigma=1.0)
    >>> float(toy.log_prob(jnp.zeros((1, 1)))[0])  # -log sqrt(2 pi)
    -0.9189...
    """
    return gaussian_mixture(np.reshape(np.asarray(means, np.float32), (-1, 1)), sigma, weights)


def swiss_roll(noise: float = 0.25, scale: float = 7.5) -> Toy:
    """The swiss roll seen from above, `(t cos t, t sin t) / scale` with t uniform in [1.5 pi, 4.5 pi].

    The same law as columns 0 and 2 of scikit-learn's `make_swiss_roll`, noise (before scaling) included.

    Raises:
      DataError: if `noise` is negative or `scale` is not positive.
    """
    _check(scale=scale, noise=noise)

    def sample(key: Key, n: int) -> Array:
        t = jax.random.uniform(named_key(key, "angle"), (n,), minval=1.5 * np.pi, maxval=4.5 * np.pi)
        points = jnp.stack([t * jnp.cos(t), t * jnp.sin(t)], axis=1)
        return (points + noise * jax.random.normal(named_key(key, "noise"), (n, 2))) / scale

    return Toy(sample=sample, dim=2)


def two_moons(noise: float = 0.1, scale: float = 1.0) -> Toy:
    """Two half circles that reach into each other; the label is the moon.

    The same law as scikit-learn's `make_moons` with its points drawn uniformly on the half circles.

    Raises:
      DataError: if `noise` is negative or `scale` is not positive.
    """
    _check(scale=scale, noise=noise)

    def sample_labelled(key: Key, n: int) -> tuple[Array, Array]:
        moon = jax.random.randint(named_key(key, "mode"), (n,), 0, 2)
        t = jax.random.uniform(named_key(key, "angle"), (n,), maxval=np.pi)
        outer = jnp.stack([jnp.cos(t), jnp.sin(t)], axis=1)
        points = jnp.where(moon[:, None] == 0, outer, jnp.array([1.0, 0.5]) - outer)
        return (points + noise * jax.random.normal(named_key(key, "noise"), (n, 2))) / scale, moon

    return Toy(sample=lambda key, n: sample_labelled(key, n)[0], dim=2, sample_labelled=sample_labelled)


def parallel_lines(theta: float = 1.0) -> Toy:
    """Uniform on the segment `{theta} x [0, 1]`: learning parallel lines (Arjovsky et al. 2017).

    Against `parallel_lines(0)` the Wasserstein distance is |theta|; for theta != 0 the Jensen-Shannon divergence
    is log 2 and both Kullback-Leibler divergences are infinite.
    """

    def sample(key: Key, n: int) -> Array:
        height = jax.random.uniform(named_key(key, "height"), (n,))
        return jnp.stack([jnp.full((n,), theta, jnp.float32), height], axis=1)

    return Toy(sample=sample, dim=2)


def _check(**values: float) -> None:
    """Counts start at 1, a scale is positive, noise is not negative."""
    for name, value in values.items():
        allowed = {"scale": value > 0, "noise": value >= 0}.get(name, value >= 1)
        if not allowed:
            bound = {"scale": "above 0", "noise": "0 or more"}.get(name, "1 or more")
            raise DataError(f"{name} is {bound}, got {value}.")


def from_toy(toy: Toy, batch_size: int, seed: int = 0, *, labels: bool = False) -> Source:
    """Batches drawn inside the step: the host sends only their numbers.

    Batch number i is a pure function of `seed` and i, on any number of devices.

    Args:
      toy: what to draw from.
      batch_size: B.
      seed: of the draws.
      labels: whether the batch also has the mode of every point, `y [B]`.

    Raises:
      DataError: if `toy` is none, `batch_size` is below 1, or labels are asked of a toy without modes.

    >>> source = from_toy(ring(), batch_size=4, labels=True)
    >>> host_batch = source.host_batches(0, 3)
    >>> batch = source.get_batch(source.device_data, jax.tree.map(lambda leaf: leaf[0], host_batch))
    >>> batch["x"].shape, batch["y"].shape
    ((4, 2), (4,))
    """
    if not isinstance(toy, Toy):
        raise DataError(f"from_toy takes a toy, as toy.ring() returns it; got {toy!r}.")
    check_batch_size(batch_size)
    if labels and toy.sample_labelled is None:
        raise DataError("Labels were asked of a toy without modes: take labels=False.")

    def host_batches(cursor: int, count: int) -> np.ndarray:
        return np.arange(cursor, cursor + count, dtype=np.int32)

    # The seed is data, so that one program draws for many seeds.
    def get_batch(seed: Array, number: Array) -> Batch:
        key = jax.random.fold_in(jax.random.key(seed), number)
        if labels and toy.sample_labelled is not None:
            x, y = toy.sample_labelled(key, batch_size)
            return over_batch({"x": x, "y": y})
        return over_batch({"x": toy.sample(key, batch_size)})

    return Source(
        host_batches=host_batches, get_batch=get_batch, device_data=np.uint32(seed), batch_size=batch_size
    )
