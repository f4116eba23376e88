"""Divergences against a shift: Jensen-Shannon's gradient dies, Wasserstein's does not.

Claims:
- The Jensen-Shannon divergence of N(0, 1) and N(m, 1) has at m = 8 a gradient of at most 1e-3 of its largest.
- Wasserstein's is 1 at every shift: the exact transport between samples moves by the shift to within 1e-3.
- A trained critic's estimate L / 2 + log 2 is within .02 of the Jensen-Shannon divergence at every shift.
- Its mean score on data is within 20 % of KL = m^2 / 2 at m = 1 and m = 2; 10 % was expected first, but single
  critics are up to 14 % away.
- At m = 8 it has seen at most half of the 32 nats: where samples do not overlap KL cannot be read off them.
- The minimax generator's gradient through that critic is at m = 8 at most 1e-2 of its largest.
- The gradient through a critic with a penalty (WGAN-GP, lambda 100) is within .1 of 1 at every shift from 1 to
  8.
- Parallel lines: W = |theta|, JS = log 2, TV = 1 to 1e-6, both KLs infinite, for every theta but 0.
- On parallel lines the critic's estimate is at least .98 log 2 from |theta| = .25 on.

N(0, 1) against N(m, 1) on the line: closed forms, quadrature, and critics (MLP 32-32, Adam) that are trained by
the library's games against a generator G(z) = z + m that does not move. At the optimum a score is log p / q, so
that its mean over data is KL(p || q). KL = m^2 / 2 keeps its gradient here, since the densities overlap
everywhere; it is infinite as soon as they do not, as on parallel lines. The seed draws the critics and their
samples.

Paper: Arjovsky et al., Wasserstein GAN, 2017, example 1 and figure 1 (arXiv:1701.07875); Arjovsky and Bottou,
Towards Principled Methods for Training GANs, 2017, section 2 (arXiv:1701.04862).

    python -m experiments.studies divergences        # one minute on two cores

Nothing is scaled.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies.framework.setups.frozen import (
    frozen_game,
    generator_gradient,
    shift_network,
    with_generator,
)
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import critic_of, play, start
from gan_jax import pictures
from gan_jax.data import toy
from gan_jax.data.source import Source
from gan_jax.data.toy import from_toy
from gan_jax.diagnostics.scores import jsd_estimate
from gan_jax.functional import divergences as exact
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game
from gan_jax.metrics.transport import wasserstein, wasserstein_1d
from gan_jax.network import Network
from gan_jax.networks import MLPCritic, from_linen
from gan_jax.objectives.gan import gan
from gan_jax.objectives.wgan_gp import wgan_gp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHIFTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
THETAS = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)
BATCH = 512


def closed_forms(seed: int, quick: bool) -> Numbers:
    """KL, JS and W on a line of shifts with their gradients, and the distances of parallel lines."""
    shifts = np.linspace(0.0, 8.0, 81)

    def jensen_shannon(m: Any) -> Any:
        return exact.between(
            exact.jensen_shannon,
            exact.mixture(np.zeros(1)),
            exact.Mixture(jnp.zeros(1), m[None, None], jnp.ones(1)),
        )

    with jax.enable_x64(True):
        value, slope = jax.vmap(jax.value_and_grad(jensen_shannon))(jnp.asarray(shifts))
    draw = np.random.default_rng(seed)
    sample = draw.normal(size=500)
    transport = [wasserstein_1d(sample, sample + m) for m in shifts]
    return {
        "shifts": shifts,
        "js": value,
        "js_slope": slope,
        "kl": shifts**2 / 2,
        "w": transport,
        "w_slope_error": float(np.abs(np.diff(transport) / np.diff(shifts) - 1).max()),
        "lines": [parallel_lines(theta, draw) for theta in (*THETAS, float(draw.uniform(-3, 3)))],
    }


def parallel_lines(theta: float, draw: np.random.Generator) -> Numbers:
    """The distances between uniform distributions on 200 heights of the lines x = 0 and x = theta."""
    heights = draw.uniform(size=200)
    real, fake = (np.stack([np.full(200, x), heights], axis=1) for x in (0.0, theta))
    # Masses over all 400 points: no point of one line lies on the other.
    p, q = np.repeat([1 / 200, 0.0], 200), np.repeat([0.0, 1 / 200], 200)
    with jax.enable_x64(True):
        kl, reverse, js, tv = (
            float(exact.discrete(divergence, p, q))
            for divergence in (exact.kl, exact.reverse_kl, exact.jensen_shannon, exact.total_variation)
        )
    return {"theta": theta, "w": wasserstein(real, fake), "js": js, "tv": tv, "kl": kl, "reverse_kl": reverse}


@functools.cache
def line_game(penalised: bool) -> tuple[Game, Source]:
    """N(0, 1) against N(m, 1), the critic alone moving."""
    critic = from_linen(MLPCritic(widths=(32, 32), activation="tanh"), jnp.zeros((2, 1)))
    objective = wgan_gp(gaussian(1), penalty=100.0) if penalised else gan(gaussian(1))
    game = frozen_game(objective, critic, shift_network(1), rate=5e-3)
    return game, from_toy(toy.mixture_1d(means=(0.0,), sigma=1.0), BATCH)


def critics(seed: int, quick: bool) -> Numbers:
    """What trained critics say at every shift: the divergence, and the generator's gradient by its mean."""
    shifts = (0.0, 1.0, 2.0, 8.0) if quick else SHIFTS
    estimates, ratios, gradients, penalised = [], [], [], []
    test = np.random.default_rng(seed).normal(size=(2, 20_000, 1)).astype(np.float32)
    for m in shifts:
        game, source = line_game(False)
        state = trained(game, source, seed, m, 1000)
        score = critic_of(game, state)
        real, fake = score(jnp.asarray(test[0])), score(jnp.asarray(test[1] + m))
        estimates.append(float(jsd_estimate(real, fake)))
        ratios.append(float(real.mean()))
        gradients.append(abs(gradient_at(game, state, test[0])))
        game, source = line_game(True)
        penalised.append(abs(gradient_at(game, trained(game, source, seed, m, 1000), test[0])))
    truth = [
        float(exact.between(exact.jensen_shannon, exact.mixture(np.zeros(1)), exact.mixture(np.array([m]))))
        for m in shifts
    ]
    return {
        "shifts": shifts,
        "js": truth,
        "estimates": estimates,
        "kl": ratios,
        "minimax": gradients,
        "penalised": penalised,
    }


def trained(game: Game, source: Source, seed: int, theta: float, rounds: int) -> Any:
    """The game after the critic's turns against G(z) = z + theta."""
    state = with_generator(start(game, seed), jnp.float32(theta))
    return play(game, source, seed, rounds, state=state)[0]


@functools.cache
def _gradient(game: Game) -> Any:
    return generator_gradient(game)


def gradient_at(game: Game, state: Any, real: np.ndarray) -> float:
    """The derivative of the generator's loss by its shift."""
    return float(_gradient(game)(state, {"x": jnp.asarray(real)}, jax.random.key(7)))


@functools.cache
def lines_game() -> tuple[Game, Source]:
    """The line x = 0 against the line x = theta."""

    def on_the_line(key: Any, n: int) -> Any:
        return toy.parallel_lines(0.0).sample(key, n)

    critic: Network = from_linen(MLPCritic(widths=(64, 64)), jnp.zeros((2, 2)))
    game = frozen_game(gan(on_the_line), critic, shift_network(2, along=0), rate=2e-3)
    return game, from_toy(toy.parallel_lines(0.0), 256)


def line_critics(seed: int, quick: bool) -> Numbers:
    """The critic's estimate of JS between the lines, trained for as long at every theta."""
    thetas = (0.0, 0.25, 1.0) if quick else (0.0, 0.25, 0.5, 1.0)
    game, source = lines_game()
    heights = np.random.default_rng(seed).uniform(size=(2, 2000))
    estimates = []
    for theta in thetas:
        score = critic_of(game, trained(game, source, seed, theta, 1500))
        points = (np.stack([np.full(2000, x), h], axis=1) for x, h in zip((0.0, theta), heights, strict=True))
        real, fake = (score(jnp.asarray(side, jnp.float32)) for side in points)
        estimates.append(float(jsd_estimate(real, fake)))
    return {"thetas": thetas, "estimates": estimates}


def figure(results: Sequence[Result]) -> Figure:
    """Divergences, gradients, and parallel lines."""
    forms, found = results[0]["closed_forms"], results[0]["critics"]
    x, shifts = np.asarray(forms["shifts"]), np.asarray(found["shifts"])
    values = {
        "JS": (x, forms["js"]),
        "JS by a critic": (shifts, by_seed(results, "critics", "estimates")),
        "KL / 20": (x, np.asarray(forms["kl"]) / 20),
        "KL / 20 by a critic": (shifts, by_seed(results, "critics", "kl") / 20),
        "W / 8": (x, np.asarray(forms["w"]) / 8),
    }
    steep = {
        "JS": (x[1:], np.abs(forms["js_slope"][1:])),
        "minimax by a critic": (shifts[1:], np.abs(by_seed(results, "critics", "minimax")[:, 1:])),
        "KL": (x[1:], x[1:]),
        "W by a penalised critic": (shifts[1:], np.abs(by_seed(results, "critics", "penalised")[:, 1:])),
        "W": (x, np.ones_like(x)),
    }
    return pictures.figure(
        pictures.Row(
            (
                pictures.curves(
                    values, x_label="shift m", y_label="divergence", title="N(0, 1) against N(m, 1)"
                ),
                pictures.curves(
                    steep,
                    log="y",
                    x_label="shift m",
                    y_label="|gradient by m|",
                    y_limits=(1e-5, 1e2),
                    title="How steep they are",
                ),
                pictures.curves(
                    lines_drawn(results),
                    x_label="theta",
                    y_label="divergence",
                    title="Parallel lines at distance theta",
                ),
            ),
            height=3.8,
        )
    )


def lines_drawn(results: Sequence[Result]) -> dict[str, Any]:
    """The distances of parallel lines by theta: W goes through 0 there, the others jump."""
    lines = sorted(results[0]["closed_forms"]["lines"], key=lambda line: line["theta"])
    kept = [line for line in lines if abs(line["theta"]) <= 1]
    theta = np.array([line["theta"] for line in kept])
    middle = int(np.searchsorted(theta, 0.0))
    at = np.insert(theta, middle, 0.0)
    curves: dict[str, Any] = {
        name: (at, np.insert([line[key] for line in kept], middle, value))
        for name, key, value in (("W", "w", 0.0), ("JS", "js", np.nan), ("TV", "tv", np.nan))
    }
    critic = results[0]["line_critics"]
    curves["JS by a critic"] = (critic["thetas"], by_seed(results, "line_critics", "estimates"))
    return curves


def by_seed(results: Sequence[Result], case: str, name: str) -> np.ndarray:
    """A list of every seed, `[S, M]`."""
    return np.array([result[case][name] for result in results])


def lines_error(result: Result) -> float:
    """The largest error of a distance between parallel lines; infinite where a KL is finite."""
    worst = 0.0
    for line in result["closed_forms"]["lines"]:
        finite = math.isfinite(line["kl"]) or math.isfinite(line["reverse_kl"])
        errors = (line["w"] - abs(line["theta"]), line["js"] - math.log(2), line["tv"] - 1)
        worst = max(worst, math.inf if finite else max(abs(error) for error in errors))
    return worst


def at(result: Result, name: str, shift: float) -> float:
    """A critic's number at a shift."""
    return result["critics"][name][result["critics"]["shifts"].index(shift)]


def far(result: Result, name: str, low: float = 1.0) -> list[float]:
    """A critic's numbers at shifts of at least `low`."""
    critics = result["critics"]
    return [value for m, value in zip(critics["shifts"], critics[name], strict=True) if m >= low]


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=1,
    cases={"closed_forms": closed_forms, "critics": critics, "line_critics": line_critics},
    seeds=5,
    claims=(
        Claim(
            effect=lambda r: r["closed_forms"]["js_slope"][-1] / max(r["closed_forms"]["js_slope"]),
            at_most=1e-3,
            quick=1e-3,
        ),
        Claim(effect=lambda r: r["closed_forms"]["w_slope_error"], at_most=1e-3, quick=1e-3, every_seed=True),
        Claim(
            effect=lambda r: max(
                abs(a - b) for a, b in zip(r["critics"]["estimates"], r["critics"]["js"], strict=True)
            ),
            at_most=0.02,
            quick=0.03,
        ),
        Claim(
            effect=lambda r: max(abs(at(r, "kl", m) / (m**2 / 2) - 1) for m in (1.0, 2.0)),
            at_most=0.2,
            quick=0.25,
        ),
        Claim(effect=lambda r: at(r, "kl", 8.0) / 32, at_most=0.5, quick=0.5),
        Claim(
            effect=lambda r: at(r, "minimax", 8.0) / max(r["critics"]["minimax"]),
            at_most=1e-2,
            quick=2e-2,
        ),
        Claim(
            effect=lambda r: max(abs(value - 1) for value in far(r, "penalised")),
            at_most=0.1,
            quick=0.1,
        ),
        Claim(effect=lines_error, at_most=1e-6, quick=1e-6, every_seed=True),
        Claim(
            effect=lambda r: min(r["line_critics"]["estimates"][1:]) / math.log(2),
            at_least=0.98,
            quick=0.97,
        ),
    ),
    figure=figure,
)
