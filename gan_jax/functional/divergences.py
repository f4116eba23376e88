"""Divergences between known distributions: exact for masses, by quadrature for densities, closed for Gaussians.

Every f-divergence `D_f(P || Q) = E_Q f(p / q)` is written once, on log masses. A density on a grid, multiplied by
the volume of a cell, is a discrete distribution too, so quadrature is the same sum. The arguments are logarithms
because tails underflow: `KL(N(0, 1) || N(50, 1)) = 1250` needs `log q = -1250`.

All functions can be differentiated and jitted. Expect five digits in float32 and twelve inside
`jax.enable_x64(True)`. All values are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jax.typing import ArrayLike

from gan_jax.types import Array


class Divergence(Protocol):
    """A function `(log_p, log_q) -> D(P || Q)` from log masses `[..., K]` to `[...]`; `-inf` is no mass."""

    def __call__(self, log_p: Array, log_q: Array, /) -> Array: ...


# --- on log masses ------------------------------------------------------------------------------------------


def kl(log_p: Array, log_q: Array, /) -> Array:
    """The Kullback-Leibler divergence `sum p log(p / q)`; infinite if P has mass where Q has none.

    >>> round(float(discrete(kl, [0.5, 0.5], [0.25, 0.75])), 4)
    0.1438
    """
    log_p, log_q = _masked(log_p, log_q)
    none = jnp.isneginf(log_p)
    return jnp.where(none, 0.0, jnp.exp(log_p) * (jnp.where(none, 0.0, log_p) - log_q)).sum(-1)


def reverse_kl(log_p: Array, log_q: Array, /) -> Array:
    """The reverse Kullback-Leibler divergence `KL(Q || P)`."""
    return kl(log_q, log_p)


def jeffrey(log_p: Array, log_q: Array, /) -> Array:
    """Jeffreys' divergence `KL(P || Q) + KL(Q || P)`."""
    return kl(log_p, log_q) + kl(log_q, log_p)


def jensen_shannon(log_p: Array, log_q: Array, /) -> Array:
    """`KL(P || M) / 2 + KL(Q || M) / 2` with `M = (P + Q) / 2`, in `[0, log 2]` (f-GAN's "JS" is twice this)."""
    return skewed_jensen_shannon(0.5)(log_p, log_q)


def skewed_jensen_shannon(weight: float) -> Divergence:
    """The divergence `w KL(P || M) + (1 - w) KL(Q || M)` with `M = w P + (1 - w) Q`.

    Divided by `w (1 - w)` it tends to `KL(P || Q)` as w tends to 0 and to `KL(Q || P)` as w tends to 1.

    Raises:
      ValueError: unless `0 < weight < 1`.
    """
    if not 0 < weight < 1:
        raise ValueError(
            f"The skew must lie strictly between 0 and 1, got {weight}; its limits are the two KLs."
        )

    def divergence(log_p: Array, log_q: Array, /) -> Array:
        log_p, log_q = _masked(log_p, log_q)
        log_m = jnp.logaddexp(log_p + math.log(weight), log_q + math.log1p(-weight))
        return weight * kl(log_p, log_m) + (1 - weight) * kl(log_q, log_m)

    return divergence


def total_variation(log_p: Array, log_q: Array, /) -> Array:
    """The total variation distance `sum |p - q| / 2`, in [0, 1]."""
    log_p, log_q = _masked(log_p, log_q)
    return jnp.abs(jnp.exp(log_p) - jnp.exp(log_q)).sum(-1) / 2


def squared_hellinger(log_p: Array, log_q: Array, /) -> Array:
    """The squared Hellinger distance `sum (sqrt p - sqrt q)^2`, in [0, 2] (as in f-GAN; many texts halve it)."""
    log_p, log_q = _masked(log_p, log_q)
    return jnp.square(jnp.exp(log_p / 2) - jnp.exp(log_q / 2)).sum(-1)


def pearson(log_p: Array, log_q: Array, /) -> Array:
    """Pearson's chi squared, `sum (p - q)^2 / q`; infinite if P has mass where Q has none."""
    log_p, log_q = _masked(log_p, log_q)
    # ((p - q) / sqrt q)^2 overflows only where the divergence itself does.
    return jnp.square(jnp.exp(log_p - log_q / 2) - jnp.exp(log_q / 2)).sum(-1)


def neyman(log_p: Array, log_q: Array, /) -> Array:
    """Neyman's chi squared, `sum (p - q)^2 / p`."""
    return pearson(log_q, log_p)


def alpha_divergence(alpha: float) -> Divergence:
    """`(sum p^a q^(1-a) - 1) / (a (a - 1))`: `KL(P || Q)` at a = 1, `KL(Q || P)` at a = 0, half Pearson at 2.

    >>> p, q = [0.5, 0.5], [0.25, 0.75]
    >>> bool(jnp.isclose(2 * discrete(alpha_divergence(2.0), p, q), discrete(pearson, p, q)))
    True
    """
    if alpha == 1:
        return kl
    if alpha == 0:
        return reverse_kl

    def divergence(log_p: Array, log_q: Array, /) -> Array:
        log_p, log_q = _masked(log_p, log_q)
        # The linear terms sum to zero; they make every summand >= 0, so that nothing cancels between cells.
        power = jnp.exp(_times(alpha, log_p) + _times(1 - alpha, log_q))
        linear = alpha * jnp.exp(log_p) + (1 - alpha) * jnp.exp(log_q)
        return ((power - linear) / (alpha * (alpha - 1))).sum(-1)

    return divergence


def _masked(log_p: ArrayLike, log_q: ArrayLike) -> tuple[Array, Array]:
    """Replaces the -inf of cells where both have no mass by a finite logarithm whose exponential is 0."""
    log_p, log_q = jnp.broadcast_arrays(jnp.asarray(log_p), jnp.asarray(log_q))
    neither = jnp.isneginf(log_p) & jnp.isneginf(log_q)
    nothing = 4 * math.log(float(jnp.finfo(log_p.dtype).tiny))
    return jnp.where(neither, nothing, log_p), jnp.where(neither, nothing, log_q)


def _times(factor: float, log_mass: Array) -> Array:
    """`factor * log_mass`, with 0 * -inf = 0."""
    return factor * log_mass if factor else jnp.zeros_like(log_mass)


# --- discrete distributions and quadrature ------------------------------------------------------------------


def discrete(divergence: Divergence, p: ArrayLike, q: ArrayLike) -> Array:
    """A divergence between probability vectors.

    Args:
      divergence: a function of log masses, such as `kl`.
      p, q: `[..., K]`, non-negative, each summing to 1 over the last axis.

    Returns:
      The divergence in nats, `[...]`.

    Raises:
      ValueError: if the last axes differ in length.

    >>> round(float(discrete(jensen_shannon, [1.0, 0.0], [0.0, 1.0])), 6)
    0.693147
    """
    p, q = jnp.asarray(p, dtype=float), jnp.asarray(q, dtype=float)
    if p.shape[-1:] != q.shape[-1:]:
        raise ValueError(f"p and q must be over the same K outcomes, got shapes {p.shape} and {q.shape}.")
    return divergence(_safe_log(p), _safe_log(q))


def _safe_log(p: Array) -> Array:
    """`log p`, which is -inf at 0 but has gradient 0 there."""
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1.0)), -jnp.inf)


class Grid(NamedTuple):
    """A product grid for quadrature.

    Attributes:
      nodes: `[M, D]`.
      log_weights: the logarithm of each node's volume, `[M]`.
    """

    nodes: Array
    log_weights: Array


def grid(low: ArrayLike, high: ArrayLike, points: int = 4001) -> Grid:
    """The trapezoid rule on a box, which converges exponentially for smooth densities that vanish at its sides.

    Args:
      low, high: the box's corners, scalars (one dimension) or `[D]`.
      points: nodes per axis; eight per standard deviation of the narrowest component suffice.

    Raises:
      ValueError: if the corners differ in shape, or there are fewer than two points.

    >>> line = grid(0.0, 1.0, points=3)
    >>> jnp.exp(line.log_weights)
    Array([0.25, 0.5 , 0.25], dtype=float32)
    """
    low, high = (jnp.atleast_1d(jnp.asarray(corner, dtype=float)) for corner in (low, high))
    if low.shape != high.shape or low.ndim != 1 or points < 2:
        raise ValueError(
            f"Corners must be [D] and points at least 2, got {low.shape}, {high.shape} and {points} points."
        )
    steps = (high - low) / (points - 1)
    inner = jnp.log(steps)[:, None] * jnp.ones(points)
    axis_logs = inner.at[:, jnp.array([0, -1])].add(-math.log(2.0))
    axes = [jnp.linspace(a, b, points) for a, b in zip(low, high, strict=True)]
    mesh = jnp.meshgrid(*axes, indexing="ij")
    logs = jnp.stack(jnp.meshgrid(*axis_logs, indexing="ij")).reshape(len(axes), -1)
    return Grid(jnp.stack([m.ravel() for m in mesh], axis=-1), logs.sum(0))


def quadrature(
    divergence: Divergence, log_p: Callable[[Array], Array], log_q: Callable[[Array], Array], on: Grid
) -> Array:
    """A divergence between two densities.

    Args:
      divergence: a function of log masses, such as `kl`.
      log_p, log_q: log densities, `[M, D] -> [M]`.
      on: a `grid` that covers nearly all mass of both.

    Returns:
      The divergence in nats, a scalar.

    >>> p, q = mixture([0.0]), mixture([1.0])
    >>> round(float(quadrature(kl, p.log_density, q.log_density, grid(-8.0, 9.0))), 4)
    0.5
    """
    return divergence(log_p(on.nodes) + on.log_weights, log_q(on.nodes) + on.log_weights)


class Mixture(NamedTuple):
    """A mixture of Gaussians with spherical components.

    Attributes:
      log_weights: `[K]`.
      means: `[K, D]`.
      stds: `[K]`.
    """

    log_weights: Array
    means: Array
    stds: Array

    def log_density(self, x: Array) -> Array:
        """The log density at points `[M, D]`: `[M]`."""
        squares = jnp.square((x[:, None] - self.means) / self.stds[:, None]).sum(-1)
        constant = self.means.shape[1] * (jnp.log(self.stds) + math.log(2 * math.pi) / 2)
        return jax.nn.logsumexp(self.log_weights - constant - squares / 2, axis=1)

    def box(self, deviations: float = 10.0) -> tuple[Array, Array]:
        """Corners `[D]` of a box that covers every component within `deviations` standard deviations."""
        reach = deviations * self.stds[:, None]
        return (self.means - reach).min(0), (self.means + reach).max(0)


def mixture(means: ArrayLike, stds: ArrayLike = 1.0, weights: ArrayLike | None = None) -> Mixture:
    """A mixture of Gaussians; with one mean, a Gaussian.

    Args:
      means: `[K, D]`, or `[K]` in one dimension.
      stds: a scalar or `[K]`.
      weights: `[K]`, positive, normalised to sum 1; uniform by default.

    Raises:
      ValueError: if means are not `[K]` or `[K, D]`.
    """
    centers = jnp.asarray(means, dtype=float)
    if centers.ndim not in (1, 2):
        raise ValueError(f"means must be [K] or [K, D], got shape {centers.shape}.")
    centers = centers.reshape(len(centers), -1)
    count = len(centers)
    logs = jnp.zeros(count) if weights is None else jnp.log(jnp.asarray(weights, dtype=float))
    return Mixture(
        jax.nn.log_softmax(logs), centers, jnp.broadcast_to(jnp.asarray(stds, dtype=float), (count,))
    )


def common_grid(p: Mixture, q: Mixture, points: int = 4001, deviations: float = 10.0) -> Grid:
    """A grid that covers both mixtures."""
    (low_p, high_p), (low_q, high_q) = p.box(deviations), q.box(deviations)
    return grid(jnp.minimum(low_p, low_q), jnp.maximum(high_p, high_q), points)


def between(
    divergence: Divergence, p: Mixture, q: Mixture, points: int = 4001, deviations: float = 10.0
) -> Array:
    """A divergence between two mixtures by quadrature on their common grid of `points` nodes per axis.

    Chi squared divergences that are barely finite need more `deviations`, since `p^2 / q` is wider than p.

    >>> round(float(between(total_variation, mixture([0.0]), mixture([0.0, 3.0]))), 4)
    0.4332
    """
    return quadrature(divergence, p.log_density, q.log_density, common_grid(p, q, points, deviations))


# --- Gaussians in closed form -------------------------------------------------------------------------------


def gaussian_kl(mean_p: ArrayLike, cov_p: ArrayLike, mean_q: ArrayLike, cov_q: ArrayLike) -> Array:
    """`KL(N(mean_p, cov_p) || N(mean_q, cov_q))`; means `[D]`, covariances `[D, D]`; scalars are one dimension.

    >>> float(gaussian_kl(0.0, 1.0, 3.0, 1.0))
    4.5
    """
    shift, p, q = _gaussians(mean_p, cov_p, mean_q, cov_q)
    trace = jnp.trace(jnp.linalg.solve(q, p))
    return (trace + shift @ jnp.linalg.solve(q, shift) - len(shift) + _logdet(q) - _logdet(p)) / 2


def gaussian_squared_hellinger(
    mean_p: ArrayLike, cov_p: ArrayLike, mean_q: ArrayLike, cov_q: ArrayLike
) -> Array:
    """`2 - 2 BC`, the Bhattacharyya coefficient `BC` in closed form."""
    shift, p, q = _gaussians(mean_p, cov_p, mean_q, cov_q)
    middle = (p + q) / 2
    log_bc = (_logdet(p) + _logdet(q)) / 4 - _logdet(middle) / 2 - shift @ jnp.linalg.solve(middle, shift) / 8
    return -2 * jnp.expm1(log_bc)


def gaussian_pearson(mean_p: ArrayLike, cov_p: ArrayLike, mean_q: ArrayLike, cov_q: ArrayLike) -> Array:
    """Pearson's chi squared; infinite unless `2 cov_p^-1 - cov_q^-1` is positive definite."""
    shift, p, q = _gaussians(mean_p, cov_p, mean_q, cov_q)
    precision_q = jnp.linalg.inv(q)
    inner = 2 * jnp.linalg.inv(p) - precision_q
    pulled = precision_q @ shift
    exponent = (pulled @ jnp.linalg.solve(inner, pulled) + shift @ pulled) / 2
    log_ratio = exponent + (_logdet(q) - _logdet(inner)) / 2 - _logdet(p)
    return jnp.where(jnp.linalg.eigvalsh(inner)[0] > 0, jnp.expm1(log_ratio), jnp.inf)


def gaussian_total_variation(
    mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike
) -> Array:
    """Total variation between Gaussians on the line; scalars, standard deviations.

    Gaussians of one covariance in more dimensions: take their Mahalanobis distance as the shift, both stds 1.

    >>> float(gaussian_total_variation(0.0, 1.0, 2.0, 1.0)) == float(2 * ndtr(1.0) - 1)
    True
    """
    mean_p, std_p, mean_q, std_q = (jnp.asarray(v, dtype=float) for v in (mean_p, std_p, mean_q, std_q))
    # The densities cross where a x^2 + 2 b x + c = 0, with x measured from mean_p in units of std_p.
    shift, ratio = (mean_q - mean_p) / std_p, std_q / std_p
    a, b = 1 - 1 / ratio**2, shift / ratio**2
    c = -2 * jnp.log(ratio) - (shift / ratio) ** 2
    root = jnp.sqrt(jnp.maximum(b**2 - a * c, 0.0))
    # The stable pair of roots: one by the sign of b, one by Vieta; the second tends to infinity as a -> 0.
    far = -b - jnp.where(b >= 0, root, -root)
    same = far == 0  # identical distributions
    near_x = jnp.where(same, 0.0, c / jnp.where(same, 1.0, far))
    far_x = jnp.where(a == 0, jnp.sign(far) * jnp.inf, far / jnp.where(a == 0, 1.0, a))

    def difference(x: Array) -> Array:
        return ndtr(x) - ndtr((x - shift) / ratio)

    return jnp.where(same, 0.0, jnp.abs(difference(near_x) - difference(far_x)))


def gaussian_wasserstein_1(mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike) -> Array:
    """W1 between one-dimensional Gaussians, `E |shift + (std_q - std_p) Z|`, the mean of a folded normal.

    >>> float(gaussian_wasserstein_1(0.0, 1.0, 3.0, 1.0))
    3.0
    """
    shift = jnp.asarray(mean_q, dtype=float) - mean_p
    spread = jnp.abs(jnp.asarray(std_q, dtype=float) - std_p)
    flat = spread == 0
    ratio = shift / jnp.where(flat, 1.0, spread)
    folded = spread * math.sqrt(2 / math.pi) * jnp.exp(-(ratio**2) / 2) + shift * (1 - 2 * ndtr(-ratio))
    return jnp.where(flat, jnp.abs(shift), folded)


def gaussian_wasserstein_2(mean_p: ArrayLike, cov_p: ArrayLike, mean_q: ArrayLike, cov_q: ArrayLike) -> Array:
    """W2 between Gaussians: `|shift|^2 + tr(P + Q - 2 (P^1/2 Q P^1/2)^1/2)`, square-rooted.

    >>> float(gaussian_wasserstein_2(0.0, 1.0, 3.0, 25.0))
    5.0
    """
    shift, p, q = _gaussians(mean_p, cov_p, mean_q, cov_q)
    half = _psd_root(p)
    cross = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(half @ q @ half), 0.0)).sum()
    return jnp.sqrt(jnp.maximum(shift @ shift + jnp.trace(p) + jnp.trace(q) - 2 * cross, 0.0))


def _gaussians(
    mean_p: ArrayLike, cov_p: ArrayLike, mean_q: ArrayLike, cov_q: ArrayLike
) -> tuple[Array, Array, Array]:
    """`mean_q - mean_p` `[D]` and both covariances `[D, D]`, checked."""
    means = [jnp.atleast_1d(jnp.asarray(mean, dtype=float)) for mean in (mean_p, mean_q)]
    covs = [jnp.atleast_2d(jnp.asarray(cov, dtype=float)) for cov in (cov_p, cov_q)]
    dims = {mean.shape[0] for mean in means}
    if len(dims) != 1 or any(mean.ndim != 1 for mean in means) or {c.shape for c in covs} != {(*dims, *dims)}:
        shapes = [v.shape for v in (*means, *covs)]
        raise ValueError(f"Gaussians need means [D], [D] and covariances [D, D], [D, D], got {shapes}.")
    return means[1] - means[0], covs[0], covs[1]


def _logdet(matrix: Array) -> Array:
    return jnp.linalg.slogdet(matrix)[1]


def _psd_root(matrix: Array) -> Array:
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T
