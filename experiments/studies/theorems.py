"""Theorem checks: what the optimal discriminator's game minimises, with and without noise.

Claims:
- At the optimal critic the minimax value is -log 4 + 2 JSD to 1e-6.
- A step on -log D follows the gradient of KL(Pg || Pr) - 2 JSD(Pr || Pg): relative difference at most 1e-4.
- A step on log(1 - D) follows the gradient of 2 JSD(Pr || Pg): relative difference at most 1e-4.
- With noise of standard deviation s the generator's gradient is that of Theorem 3.2, towards data and away from
  samples: relative difference at most 1e-4.
- Theorem 3.3: W(Pr, Pg) is never above 2 V^(1/2) + 2 C JSD^(1/2), at any noise of the annealing schedule.

Theorem 2.5 (and the value of Goodfellow et al., Theorem 1): 1-D Gaussians that the seed draws, the analytic D*
= Pr / (Pr + Pg) put as logits into the library's losses, expectations by quadrature. Theorem 3.2: 60 points of
a curve against 60 of a generator in the plane, D* and the points of integration held fixed. Theorem 3.3:
uniform noise, which is bounded as the theorem asks, on point sets on the line and on parallel lines, 25 noise
levels from 2 to .02; V = E |eps|^2.

Paper: Arjovsky and Bottou, Towards Principled Methods for Training GANs, 2017, theorems 2.5, 3.2, 3.3
(arXiv:1701.04862); Goodfellow et al., Generative Adversarial Nets, 2014, theorem 1 (arXiv:1406.2661).

    python -m experiments.studies theorems        # half a minute on two cores

Nothing is scaled. Float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments.studies.framework.study import Claim, Numbers, Result, Study
from gan_jax import pictures
from gan_jax.functional import divergences as exact
from gan_jax.metrics.transport import wasserstein_1d
from gan_jax.objectives import gan, non_saturating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = np.geomspace(2.0, 0.02, 25)


def gaussian(mean: Any, std: Any) -> exact.Mixture:
    """N(mean, std^2), differentiable in both."""
    return exact.Mixture(jnp.zeros(1), jnp.reshape(mean, (1, 1)), jnp.reshape(std, 1))


def optimal_critic(seed: int, quick: bool) -> Numbers:
    """The minimax value and both generators' gradients at D*, against the divergences they stand for."""
    draw = np.random.default_rng(seed)
    with jax.enable_x64(True):
        real = gaussian(draw.uniform(-1, 1), draw.uniform(0.5, 1.5))
        theta = jnp.array([draw.uniform(-1.5, 1.5), draw.uniform(0.5, 1.5)])
        line = exact.grid(-12.0, 12.0, 4001)
        fixed = gaussian(theta[0], theta[1])

        def logit(x: Any) -> Any:
            return real.log_density(x) - fixed.log_density(x)

        def mean_over(p: exact.Mixture, values: Any) -> Any:
            return jnp.sum(jnp.exp(p.log_density(line.nodes) + line.log_weights) * values)

        here = logit(line.nodes)
        zeros = jnp.zeros_like(here)
        # critic_loss(real, fake) is a sum of a term of each: the other is taken out at 0, where it is log 2.
        of_real = gan.critic_loss(here, zeros) - math.log(2)
        of_fake = gan.critic_loss(zeros, here) - math.log(2)
        value = -(mean_over(real, of_real) + mean_over(fixed, of_fake))
        jsd = exact.between(exact.jensen_shannon, real, fixed)
        return {
            "value_error": abs(float(value + math.log(4) - 2 * jsd)),
            "jsd": float(jsd),
            "saturating": gradients_agree(gan, real, logit, theta),
            "non_saturating": gradients_agree(non_saturating, real, logit, theta),
        }


def gradients_agree(objective: Any, real: exact.Mixture, logit: Any, theta: Any) -> float:
    """|difference| / |gradient| of the loss at a fixed D* and of its divergence, by theta = (mean, std)."""
    z = exact.grid(-12.0, 12.0, 4001)
    weights = jnp.exp(gaussian(0.0, 1.0).log_density(z.nodes) + z.log_weights)

    def loss(theta: Any) -> Any:
        fake = logit(theta[0] + theta[1] * z.nodes)
        return jnp.sum(weights * objective.generator_loss(fake, fake))

    def divergence(theta: Any) -> Any:
        fake = gaussian(theta[0], theta[1])
        jsd = exact.between(exact.jensen_shannon, real, fake)
        if objective is gan:
            return 2 * jsd
        return exact.between(exact.kl, fake, real) - 2 * jsd

    by_loss, by_divergence = jax.grad(loss)(theta), jax.grad(divergence)(theta)
    return float(jnp.linalg.norm(by_loss - by_divergence) / jnp.linalg.norm(by_divergence))


def noisy_gradient(seed: int, quick: bool) -> Numbers:
    """Theorem 3.2: both sides, for a generator in the plane."""
    draw = np.random.default_rng(seed)
    sigma = draw.uniform(0.2, 0.6)
    with jax.enable_x64(True):
        angles = jnp.asarray(draw.uniform(0, np.pi, 60))
        data = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
        z = jnp.asarray(draw.normal(size=(60, 2)))
        theta = {
            "matrix": jnp.asarray(draw.normal(size=(2, 2)) * 0.5),
            "offset": jnp.asarray(draw.normal(size=2) * 0.5),
        }

        def g(theta: Any) -> Any:
            return jnp.tanh(z @ theta["matrix"]) + theta["offset"]

        fixed = g(theta)

        def density(x: Any, points: Any) -> Any:
            squares = jnp.sum(jnp.square(x[:, None] - points), axis=-1)
            return jnp.mean(jnp.exp(-squares / (2 * sigma**2)), axis=1) / (2 * math.pi * sigma**2)

        def loss(theta: Any) -> Any:
            x = g(theta)
            real, fake = density(x, data), density(x, fixed)
            return jnp.mean(jnp.log(fake / (real + fake)))

        real, fake = density(fixed, data), density(fixed, fixed)
        a = 1 / (2 * sigma**2 * (real + fake))
        b = a * real / fake

        def weighted(theta: Any) -> Any:
            x = g(theta)

            def pull(points: Any) -> Any:
                squares = jnp.sum(jnp.square(x[:, None] - points), axis=-1)
                kernel = jnp.exp(-jax.lax.stop_gradient(squares) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
                return jnp.mean(kernel * squares, axis=1)

            return jnp.mean(a * pull(data) - b * pull(fixed))

        left, right = (ravel_pytree(jax.grad(side)(theta))[0] for side in (loss, weighted))
        norm = jnp.linalg.norm(left)
        return {
            "sigma": sigma,
            "difference": float(jnp.linalg.norm(left - right) / norm),
            "norm": float(norm),
        }


def wasserstein_bound(seed: int, quick: bool) -> Numbers:
    """Theorem 3.3 at every noise level: (bound - W) / W, for point sets on the line and for parallel lines."""
    draw = np.random.default_rng(seed)
    real, fake = draw.normal(size=40), draw.normal(size=40) * draw.uniform(0.5, 2) + draw.uniform(-2, 2)
    theta = draw.uniform(0.2, 2.0)
    distance = wasserstein_1d(real, fake)
    on_line = [point_bound(real, fake, sigma) for sigma in LEVELS]
    on_lines = [lines_bound(theta, sigma) for sigma in LEVELS]
    return {
        "w": distance,
        "bounds": on_line,
        "theta": theta,
        "lines_bounds": on_lines,
        "margin": min((np.array(on_line) / distance - 1).min(), (np.array(on_lines) / theta - 1).min()),
    }


def point_bound(real: np.ndarray, fake: np.ndarray, sigma: float) -> float:
    """2 V^(1/2) + 2 C JSD^(1/2) for points on the line under uniform noise: densities are constant in pieces."""
    half = math.sqrt(3) * sigma
    points = np.concatenate([real, fake])
    edges = np.unique(np.concatenate([points - half, points + half]))
    widths, middles = np.diff(edges), (edges[1:] + edges[:-1]) / 2
    masses = [
        (np.abs(middles[:, None] - side) < half).mean(axis=1) / (2 * half) * widths for side in (real, fake)
    ]
    with jax.enable_x64(True):
        jsd = float(exact.discrete(exact.jensen_shannon, *masses))
    return 2 * sigma + 2 * (edges[-1] - edges[0]) * math.sqrt(max(jsd, 0.0))


def lines_bound(theta: float, sigma: float) -> float:
    """The bound for the lines x = 0 and x = theta: what the noise across them leaves apart tells them apart."""
    reach = 2 * math.sqrt(3) * sigma
    jsd = math.log(2) * min(theta / reach, 1.0)
    diameter = math.hypot(theta + reach, 1 + reach)
    return 2 * math.sqrt(2) * sigma + 2 * diameter * math.sqrt(jsd)


def figure(results: Sequence[Result]) -> Figure:
    """The bound along the schedule, and all differences."""
    found = results[0]["wasserstein_bound"]
    level = np.asarray(LEVELS)
    curves = {
        "bound, points on a line": (level, found["bounds"]),
        "W": (level, np.full(len(level), found["w"])),
        "bound, parallel lines": (level, found["lines_bounds"]),
        "|theta|": (level, np.full(len(level), found["theta"])),
    }
    groups = {
        "value": [r["optimal_critic"]["value_error"] for r in results],
        "-log D": [r["optimal_critic"]["non_saturating"] for r in results],
        "log(1 - D)": [r["optimal_critic"]["saturating"] for r in results],
        "Theorem 3.2": [r["noisy_gradient"]["difference"] for r in results],
    }
    differences = {name: [max(value, 1e-17) for value in values] for name, values in groups.items()}
    return pictures.figure(
        pictures.Row(
            (
                pictures.curves(
                    curves, log="x", x_label="sigma of the noise", y_label="distance", title="Theorem 3.3"
                ),
                pictures.dot_plot(
                    differences,
                    log=True,
                    x_label="difference from the closed form",
                    title="Every seed, and the claims' bound",
                    marks=[1e-4],
                ),
            ),
            height=3.4,
        )
    )


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=4,
    cases={
        "optimal_critic": optimal_critic,
        "noisy_gradient": noisy_gradient,
        "wasserstein_bound": wasserstein_bound,
    },
    seeds=5,
    claims=(
        Claim(effect=lambda r: r["optimal_critic"]["value_error"], at_most=1e-6, quick=1e-6, every_seed=True),
        Claim(
            effect=lambda r: r["optimal_critic"]["non_saturating"], at_most=1e-4, quick=1e-4, every_seed=True
        ),
        Claim(effect=lambda r: r["optimal_critic"]["saturating"], at_most=1e-4, quick=1e-4, every_seed=True),
        Claim(effect=lambda r: r["noisy_gradient"]["difference"], at_most=1e-4, quick=1e-4, every_seed=True),
        Claim(effect=lambda r: r["wasserstein_bound"]["margin"], at_least=0.0, quick=0.0, every_seed=True),
    ),
    figure=figure,
)
