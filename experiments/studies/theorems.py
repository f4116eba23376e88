"""Theorem checks: what the optimal discriminator's game minimises, with and without noise.

Claims:
- At the optimal critic the minimax value is -log 4 + 2 JSD to 1e-6.
- A step on -log D follows the gradient of KL(Pg || Pr) - 2 JSD(Pr || Pg): relative difference at most 1e-4.
- A step on log(1 - D) follows the gradient of 2 JSD(Pr || Pg): relative difference at most 1e-4.
- The gradient that the library's minimax game gives a generator, at the D* of a game with noise of standard
  deviation s, is that of Theorem 3.2, towards data and away from samples: relative difference at most 1e-4.
- With the library's instance noise on the samples too its mean over 4,000 draws is that of the theorem's
  corollary: no coordinate is farther than 4.5 standard errors.
- Theorem 3.3: along a trained run whose noise is annealed W(Pr, Pg) is at every snapshot at most 2 V^(1/2) + 2 C
  JSD^(1/2), and so it is on parallel lines at any noise.
- The run trains: W falls to at most a quarter of its start.

Theorem 2.5 (and the value of Goodfellow et al., Theorem 1): 1-D Gaussians that the seed draws, the analytic D* =
Pr / (Pr + Pg) put as logits into the library's losses, expectations by quadrature. Theorem 3.2: a library's game,
its data 60 points of a curve and its prior 60 latents of a generator in the plane, its critic D*; the generator's
gradient is that of the game's own turn. The theorem's right side is computed from its formula, the corollary's by
Gauss-Hermite quadrature. Theorem 3.3: -log D on the line, N(-2, .5^2) and N(2, .5^2), MLPs of 64-64, Adam(1e-3,
b1 = .5), batch 256, 3,000 rounds; the critic's inputs have uniform noise, which is bounded as the theorem asks,
its standard deviation falls from 2 to .02. At 25 snapshots 400 samples of both stand for Pr and Pg: W and the JSD
of the noisy distributions are exact for these points; V = E |eps|^2, C is the diameter of both supports.

Paper: Arjovsky and Bottou, Towards Principled Methods for Training GANs, 2017, theorems 2.5, 3.2, 3.3 and
corollary 3.2 (arXiv:1701.04862); Goodfellow et al., Generative Adversarial Nets, 2014, theorem 1
(arXiv:1406.2661).

    python -m experiments.studies theorems        # one minute on one core

Nothing is scaled. Float64, but for the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from experiments.studies.framework.setups.frozen import generator_gradient
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import play
from gan_jax import pictures
from gan_jax.data import toy
from gan_jax.data.source import Source
from gan_jax.evaluation.sampling import sample
from gan_jax.functional import divergences as exact
from gan_jax.functional import priors
from gan_jax.functional.noise import instance_noise
from gan_jax.game import Game, Objective, Player
from gan_jax.metrics.transport import wasserstein_1d
from gan_jax.network import Network
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import gan, non_saturating, with_transforms
from gan_jax.schedule import alternating
from gan_jax.state import TrainState
from gan_jax.training.step import init_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS, DRAWS = 60, 4000
FIRST_NOISE, LAST_NOISE, ROUNDS, SNAPSHOTS, SAMPLES = 2.0, 0.02, 3000, 25, 400
LEVELS = np.geomspace(FIRST_NOISE, LAST_NOISE, 25)
DATA = toy.mixture_1d((-2.0, 2.0), 0.5)


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
    """Theorem 3.2 and its corollary: the gradient of the library's game against the theorem's formula."""
    draw = np.random.default_rng(seed)
    sigma = draw.uniform(0.2, 0.6)
    with jax.enable_x64(True):
        angles = jnp.asarray(draw.uniform(0, np.pi, POINTS))
        data = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
        z = jnp.asarray(draw.normal(size=(POINTS, 2)))
        theta = {
            "matrix": jnp.asarray(draw.normal(size=(2, 2)) * 0.5),
            "offset": jnp.asarray(draw.normal(size=2) * 0.5),
        }
        fixed = generated(theta, z)

        def d_star(x: Any) -> Any:
            return jnp.log(density(x, data, sigma)) - jnp.log(density(x, fixed, sigma))

        base = gan.gan(lambda key, n: z)
        still = flat_gradient(base, d_star, theta, data)
        noisy = flat_gradient(with_transforms(base, instance_noise(sigma)), d_star, theta, data)
        # The standard normal's Gauss-Hermite rule in the plane.
        nodes, weights = np.polynomial.hermite_e.hermegauss(20)
        rule = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 1, 2)
        shares = np.outer(weights, weights).reshape(-1) / (2 * math.pi)

        def theorem(theta: Any) -> Any:
            return pulled(generated(theta, z), fixed, data, fixed, sigma)

        def corollary(theta: Any) -> Any:
            def at(noise: Any) -> Any:
                return pulled(generated(theta, z) + noise, fixed + noise, data, fixed, sigma)

            return jnp.sum(jnp.asarray(shares) * jax.lax.map(at, jnp.asarray(sigma * rule)))

        left = np.asarray(still(jax.random.key(seed)))
        right, mean = (
            np.asarray(ravel_pytree(jax.jit(jax.grad(side))(theta))[0]) for side in (theorem, corollary)
        )
        keys = jax.random.split(jax.random.key(seed), DRAWS // 10 if quick else DRAWS)
        draws = np.asarray(jax.jit(lambda keys: jax.lax.map(noisy, keys))(keys))
    errors = draws.std(axis=0, ddof=1) / len(draws) ** 0.5
    return {
        "sigma": sigma,
        "difference": np.linalg.norm(left - right) / np.linalg.norm(left),
        "norm": np.linalg.norm(left),
        "corollary_errors": (draws.mean(axis=0) - mean) / errors,
    }


def generated(theta: Any, z: Any) -> Any:
    """The generator of the plane, tanh(z M) + b."""
    return jnp.tanh(z @ theta["matrix"]) + theta["offset"]


def density(x: Any, points: Any, sigma: float) -> Any:
    """That of the points with Gaussian noise."""
    squares = jnp.sum(jnp.square(x[:, None] - points), axis=-1)
    return jnp.mean(jnp.exp(-squares / (2 * sigma**2)), axis=1) / (2 * math.pi * sigma**2)


def pulled(x: Any, held: Any, data: Any, samples: Any, sigma: float) -> Any:
    """A function of x whose gradient is the theorem's right side; `held` is x, held fixed.

    That is E a(x) int P(x - y) grad |x - y|^2 dPr(y) - b(x) int P(x - y) grad |x - y|^2 dPg(y).
    """
    real, fake = density(held, data, sigma), density(held, samples, sigma)
    a = 1 / (2 * sigma**2 * (real + fake))
    b = a * real / fake

    def pull(points: Any) -> Any:
        apart = jnp.sum(jnp.square(held[:, None] - points), axis=-1)
        kernel = jnp.exp(-apart / (2 * sigma**2)) / (2 * math.pi * sigma**2)
        return jnp.mean(kernel * jnp.sum(jnp.square(x[:, None] - points), axis=-1), axis=1)

    return jnp.mean(a * pull(data) - b * pull(samples))


def flat_gradient(objective: Objective, score: Any, theta: Any, data: Any) -> Any:
    """`key -> gradient [6]` of a game whose critic is `score` and whose generator stands at theta."""

    def critic(params: Any, model_state: Any, x: Any, train: bool = False, key: Any = None) -> Any:
        return score(x), model_state

    def generator(params: Any, model_state: Any, z: Any, train: bool = False, key: Any = None) -> Any:
        return generated(params, z), model_state

    game = Game(
        players={
            "critic": Player(Network(init=lambda key: ({}, ()), apply=critic), optax.sgd(1.0)),
            "generator": Player(Network(init=lambda key: (theta, ()), apply=generator), optax.sgd(1.0)),
        },
        objective=objective,
        schedule=alternating(),
    )
    state, gradient = init_state(game, jax.random.key(0)), generator_gradient(game)
    return lambda key: ravel_pytree(gradient(state, {"x": data}, key))[0]


def annealed_game(rounds: int) -> tuple[Game, Source]:
    """-log D on the line with uniform noise at the critic's inputs, whose deviation falls along a straight line."""
    adam = optax.adam(1e-3, b1=0.5)
    noise = instance_noise(optax.linear_schedule(FIRST_NOISE, LAST_NOISE, rounds), "uniform")
    game = Game(
        players={
            "critic": Player(from_linen(MLPCritic(widths=(64, 64)), jnp.zeros((2, 1))), adam),
            "generator": Player(
                from_linen(MLPGenerator(output_shape=(1,), widths=(64, 64)), jnp.zeros((2, 1))), adam
            ),
        },
        objective=with_transforms(non_saturating.non_saturating(priors.gaussian(1)), noise),
        schedule=alternating(),
    )
    return game, toy.from_toy(DATA, 256)


def wasserstein_bound(seed: int, quick: bool) -> Numbers:
    """Theorem 3.3 through an annealed run, and for parallel lines: the least (bound - W) / W."""
    rounds = ROUNDS // 5 if quick else ROUNDS
    game, source = annealed_game(rounds)
    real = np.asarray(DATA.sample(jax.random.key(1000 + seed), SAMPLES))[:, 0]

    def snapshot(done: int, state: TrainState) -> Numbers:
        fake = sample(game, state, jax.random.fold_in(jax.random.key(2000 + seed), done), SAMPLES)[:, 0]
        sigma = FIRST_NOISE + (LAST_NOISE - FIRST_NOISE) * done / rounds
        bound = point_bound(real, fake.astype(np.float64), sigma)
        return {"round": done, "sigma": sigma, "w": wasserstein_1d(real, fake), "bound": bound}

    _, snapshots = play(game, source, seed, rounds, every=rounds // SNAPSHOTS, snapshot=snapshot)
    theta = np.random.default_rng(seed).uniform(0.2, 2.0)
    lines = [lines_bound(theta, sigma) for sigma in LEVELS]
    along = [snapshot["bound"] / snapshot["w"] - 1 for snapshot in snapshots]
    return {
        "snapshots": snapshots,
        "theta": theta,
        "lines_bounds": lines,
        "margin": min(along),
        "lines_margin": min(np.array(lines) / theta - 1),
        "remaining": snapshots[-1]["w"] / snapshots[0]["w"],
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
    """The bound along the run and along the schedule, and all differences."""
    found = [result["wasserstein_bound"] for result in results]
    rounds = [snapshot["round"] for snapshot in found[0]["snapshots"]]
    names = {"bound of theorem 3.3": "bound", "W(Pr, Pg)": "w", "noise's deviation": "sigma"}
    along = {
        name: (rounds, np.array([[snapshot[key] for snapshot in seed["snapshots"]] for seed in found]))
        for name, key in names.items()
    }
    lines = {
        "bound / |theta|": (
            LEVELS,
            np.array([np.array(seed["lines_bounds"]) / seed["theta"] for seed in found]),
        ),
        "W / |theta|": (LEVELS, np.ones(len(LEVELS))),
    }
    differences = {
        "value at D*": [r["optimal_critic"]["value_error"] for r in results],
        "-log D": [r["optimal_critic"]["non_saturating"] for r in results],
        "log(1 - D)": [r["optimal_critic"]["saturating"] for r in results],
        "Theorem 3.2": [r["noisy_gradient"]["difference"] for r in results],
    }
    errors = {
        f"seed {seed}": result["noisy_gradient"]["corollary_errors"] for seed, result in enumerate(results)
    }
    return pictures.figure(
        pictures.Row(
            (
                pictures.curves(
                    along, log="y", x_label="round", y_label="distance", title="Theorem 3.3, an annealed run"
                ),
                pictures.curves(
                    lines,
                    log="xy",
                    x_label="noise's deviation",
                    y_label="relative to |theta|",
                    title="Theorem 3.3, parallel lines",
                ),
            ),
            height=3.2,
        ),
        pictures.Row(
            (
                pictures.dot_plot(
                    {name: [max(value, 1e-17) for value in values] for name, values in differences.items()},
                    log=True,
                    x_label="difference from the closed form",
                    title="Every seed; at most 1e-4 (value: 1e-6) is claimed",
                    marks=[1e-4],
                ),
                pictures.dot_plot(
                    errors,
                    x_label="difference (standard errors)",
                    title="Corollary 3.2, each parameter; 4.5 is claimed",
                    marks=[-4.5, 4.5],
                ),
            ),
            height=2.4,
        ),
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
        Claim(
            effect=lambda r: np.abs(r["noisy_gradient"]["corollary_errors"]).max(),
            at_most=4.5,
            quick=4.5,
            every_seed=True,
        ),
        Claim(
            effect=lambda r: min(r["wasserstein_bound"][name] for name in ("margin", "lines_margin")),
            at_least=0.0,
            quick=0.0,
            every_seed=True,
        ),
        Claim(effect=lambda r: r["wasserstein_bound"]["remaining"], at_most=0.25, quick=0.5),
    ),
    figure=figure,
)
