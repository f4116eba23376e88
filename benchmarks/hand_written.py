"""Every objective's round written by hand: plain arrays and formulas without the library's games.

A perceptron's parameters are a dict: `hidden`, a list of `(kernel, bias)`, and a `(kernel, bias)` for every output.
A loss is a function of all players' parameters and of the draws. The formulas are those of the papers that
`gan_jax.objectives` cites, written independently; keys are derived from the library's names, so that both sides
play the same game (`benchmarks.objectives --check`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.nn import relu, softplus

from gan_jax.keys import named_key

Array = jax.Array
Params = dict[str, Any]
Players = Mapping[str, Params]


class Draw(NamedTuple):
    """The inputs of a turn: the batch, the latent, extra noise, and the objective state."""

    batch: Mapping[str, Any]
    z: Array
    noise: Any
    objective_state: Any


class Hand(NamedTuple):
    """An objective written by hand.

    Attributes:
      losses: every player's loss, `(players, draw) -> scalar`.
      noise: extra draws, `(key, x) -> arrays`.
      next_state: `(players, draw) -> objective state` after the critic's turn.
    """

    losses: Mapping[str, Callable[[Players, Draw], Array]]
    noise: Callable[[Array, Array], Any] = lambda key, x: None
    next_state: Callable[[Players, Draw], Array] | None = None


# --- networks -----------------------------------------------------------------------------------------------


def linear(layer: tuple[Array, Array], h: Array) -> Array:
    return h @ layer[0] + layer[1]


def hidden(params: Params, x: Array) -> Array:
    for layer in params["hidden"]:
        x = relu(linear(layer, x))
    return x


def out(params: Params, x: Array) -> Array:
    return linear(params["out"], hidden(params, x))


def score(params: Params, x: Array) -> Array:
    return linear(params["score"], hidden(params, x))[:, 0]


def fake(p: Players, d: Draw) -> Array:
    return out(p["generator"], d.z)


def slope(f: Callable[[Array], Array], x: Array) -> Array:
    """||grad f|| of every example."""
    gradient = jax.grad(lambda x: jnp.sum(f(x)))(x)
    return jnp.sqrt(jnp.sum(jnp.square(gradient), axis=1) + 1e-20)


# --- losses of scores ---------------------------------------------------------------------------------------

Formula = Callable[[Array, Array], Array]
MINIMAX: Formula = lambda r, f: softplus(-r) + softplus(f)  # noqa: E731


def score_losses(critic: Formula, generator: Formula) -> Hand:
    """Losses of real and fake scores."""

    def both(p: Players, d: Draw) -> tuple[Array, Array]:
        return score(p["critic"], d.batch["x"]), score(p["critic"], fake(p, d))

    return Hand(
        {
            "critic": lambda p, d: jnp.mean(critic(*both(p, d))),
            "generator": lambda p, d: jnp.mean(generator(*both(p, d))),
        }
    )


def f_gan(activation: Callable[[Array], Array], penalty: Callable[[Array], Array]) -> Hand:
    """g_f(v) and f*(g_f(v)) of Nowozin et al."""
    return score_losses(lambda r, f: penalty(f) - activation(r), lambda r, f: -penalty(f))


def relativistic_average(a: Array, b: Array) -> Array:
    return softplus(jnp.mean(b) - a) + softplus(b - jnp.mean(a))


def parzen(mean: float, scores: Array, h: float = 0.5) -> Array:
    """KL(N(mean, 1) || the scores' Parzen density), by the trapezoidal rule."""
    offsets = jnp.linspace(-7.0, 7.0, 201)
    log_normal = -jnp.square(offsets) / 2 - math.log(2 * math.pi) / 2
    distance = (mean + offsets[:, None] - scores[None, :]) / h
    log_density = jax.nn.logsumexp(-jnp.square(distance) / 2, axis=1) - math.log(
        len(scores) * h * math.sqrt(2 * math.pi)
    )
    return jnp.sum(jnp.exp(log_normal) * (log_normal - log_density)) * (14 / 200)


# --- with a penalty -----------------------------------------------------------------------------------------


def penalised(
    base: Hand, point: Callable[[Players, Draw], Array], weigh: Callable[[Array], Array], noise: Any = None
) -> Hand:
    """The critic's loss plus the mean of `weigh(slope)` at the points."""

    def critic(p: Players, d: Draw) -> Array:
        norm = slope(lambda x: score(p["critic"], x), point(p, d))
        return base.losses["critic"](p, d) + jnp.mean(weigh(norm))

    return Hand({**base.losses, "critic": critic}, noise or base.noise)


def between(term: str) -> Callable[[Array, Array], Array]:
    """The uniform weights of interpolates."""
    return lambda key, x: jax.random.uniform(named_key(named_key(key, f"term/{term}"), "point"), (len(x), 1))


def interpolates(p: Players, d: Draw) -> Array:
    return d.noise * d.batch["x"] + (1 - d.noise) * fake(p, d)


def around(key: Array, x: Array) -> Array:
    return jax.random.uniform(named_key(named_key(key, "term/dragan_penalty"), "point"), x.shape)


# --- losses of features ------------------------------------------------------------------------------------


def squared_distances(x: Array, y: Array) -> Array:
    squares = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)
    return jnp.maximum(squares - 2 * x @ y.T, 0.0)


def distances(x: Array, y: Array) -> Array:
    squared = squared_distances(x, y)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def rational_quadratic(x: Array, y: Array) -> Array:
    """The sum of (1 + d^2 / 2a)^-a for a of .2, .5, 1, 2 and 5, with fast forms of the powers."""
    squared = squared_distances(x, y)
    a02, a05, a1, a2, a5 = (1 + squared / (2 * a) for a in (0.2, 0.5, 1.0, 2.0, 5.0))
    return jnp.exp(-0.2 * jnp.log(a02)) + jax.lax.rsqrt(a05) + 1 / a1 + 1 / a2**2 + 1 / a5**5


def feature(params: Params, x: Array) -> Array:
    return linear(params["features"], hidden(params, x))


def features(p: Players, d: Draw) -> tuple[Array, Array]:
    return feature(p["critic"], d.batch["x"]), feature(p["critic"], fake(p, d))


def mmd(p: Players, d: Draw) -> Array:
    r, f = features(p, d)
    n = len(r)
    rr, ff = rational_quadratic(r, r), rational_quadratic(f, f)
    within = (jnp.sum(rr) - jnp.trace(rr) + jnp.sum(ff) - jnp.trace(ff)) / (n * (n - 1))
    return within - 2 * jnp.mean(rational_quadratic(r, f))


def mmd_critic(p: Players, d: Draw) -> Array:
    r, f = features(p, d)

    def witness(x: Array) -> Array:
        h = feature(p["critic"], x)
        return jnp.mean(rational_quadratic(h, r), axis=1) - jnp.mean(rational_quadratic(h, f), axis=1)

    return -mmd(p, d) + jnp.mean(jnp.square(slope(witness, interpolates(p, d)) - 1))


def energy(p: Players, d: Draw) -> Array:
    r, f = features(p, d)
    n = len(r)
    within = (jnp.sum(distances(r, r)) + jnp.sum(distances(f, f))) / (n * (n - 1))
    return 2 * jnp.mean(distances(r, f)) - within


def length(x: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=1) + 1e-20)


def cramer_critic(p: Players, d: Draw) -> Array:
    r, f = features(p, d)
    n = len(r)

    def surrogate(x: Array) -> Array:
        h = feature(p["critic"], x)
        return jnp.mean(distances(h, f), axis=1) - length(h)

    towards = jnp.mean(distances(r, f)) - jnp.sum(distances(f, f)) / (n * (n - 1))
    gap = towards - jnp.mean(length(r)) + jnp.mean(length(f))
    return -gap + 10 * jnp.mean(jnp.square(slope(surrogate, interpolates(p, d)) - 1))


# --- autoencoders -------------------------------------------------------------------------------------------


def error(p: Players, x: Array, power: int) -> Array:
    """The reconstruction error of every example."""
    difference = jnp.abs(x - out(p["critic"], x))
    return jnp.mean(difference if power == 1 else jnp.square(difference), axis=1)


def began_critic(p: Players, d: Draw) -> Array:
    return jnp.mean(error(p, d.batch["x"], 1)) - d.objective_state * jnp.mean(error(p, fake(p, d), 1))


def began_k(p: Players, d: Draw) -> Array:
    balance = 0.5 * jnp.mean(error(p, d.batch["x"], 1)) - jnp.mean(error(p, fake(p, d), 1))
    return jnp.clip(d.objective_state + 0.001 * balance, 0.0, 1.0)


# --- VRAL ---------------------------------------------------------------------------------------------------


def meta(
    name: str, mean: float, scored: Callable[[Players, Draw], Array]
) -> Callable[[Players, Draw], Array]:
    def loss(p: Players, d: Draw) -> Array:
        normal, judged = mean + d.noise[name], score(p["critic"], scored(p, d))
        return jnp.mean(
            softplus(-score(p[name], normal[:, None])) + softplus(score(p[name], judged[:, None]))
        )

    return loss


def vral_critic(p: Players, d: Draw) -> Array:
    r, f = score(p["critic"], d.batch["x"]), score(p["critic"], fake(p, d))
    return jnp.mean(
        softplus(-score(p["meta_fake"], f[:, None])) + softplus(-score(p["meta_real"], r[:, None]))
    )


def normals(key: Array, x: Array) -> dict[str, Array]:
    return {
        name: jax.random.normal(named_key(key, f"{name}/normal"), x.shape[:1])
        for name in ("meta_real", "meta_fake")
    }


# --- labels, codes and pairs --------------------------------------------------------------------------------


def cross_entropy(logits: Array, y: Array) -> Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


def ac_gan(player: str) -> Callable[[Players, Draw], Array]:
    def loss(p: Players, d: Draw) -> Array:
        y = d.batch["y"]
        sample = out(p["generator"], jnp.concatenate([d.z, jax.nn.one_hot(y, 8)], axis=1))
        h_real, h_fake = hidden(p["critic"], d.batch["x"]), hidden(p["critic"], sample)
        r, f = (linear(p["critic"]["score"], h)[:, 0] for h in (h_real, h_fake))
        fake_loss = cross_entropy(linear(p["critic"]["classes"], h_fake), y)
        if player == "generator":
            return jnp.mean(softplus(-f)) + fake_loss
        return jnp.mean(MINIMAX(r, f)) + cross_entropy(linear(p["critic"]["classes"], h_real), y) + fake_loss

    return loss


def info_gan(player: str) -> Callable[[Players, Draw], Array]:
    """The loss for a code of one category of eight and two numbers, in front of the noise."""

    def loss(p: Players, d: Draw) -> Array:
        h_fake = hidden(p["critic"], fake(p, d))
        r, f = score(p["critic"], d.batch["x"]), linear(p["critic"]["score"], h_fake)[:, 0]
        head = linear(p["critic"]["code"], h_fake)
        category = jnp.sum(d.z[:, :8] * jax.nn.log_softmax(head[:, :8]), axis=1)
        log_s = jnp.clip(head[:, 10:], -6.0, 3.0)
        scaled = (d.z[:, 8:10] - head[:, 8:10]) * jnp.exp(-log_s)
        numbers = jnp.sum(-jnp.square(scaled) / 2 - log_s - math.log(2 * math.pi) / 2, axis=1)
        information = jnp.mean(category + numbers) + math.log(8) + 2 * math.log(2)
        adversarial = softplus(-f) if player == "generator" else MINIMAX(r, f)
        return jnp.mean(adversarial) - information

    return loss


def semi_supervised_critic(p: Players, d: Draw) -> Array:
    def logits(x: Array) -> Array:
        return linear(p["critic"]["classes"], hidden(p["critic"], x))

    r, f = (jax.nn.logsumexp(logits(x), axis=1) for x in (d.batch["x"], fake(p, d)))
    labelled = d.batch["labelled"]
    return jnp.mean(MINIMAX(r, f)) / 2 + cross_entropy(logits(labelled["x"]), labelled["y"])


def match_features(p: Players, d: Draw) -> Array:
    r, f = hidden(p["critic"], d.batch["x"]), hidden(p["critic"], fake(p, d))
    return jnp.sum(jnp.square(jnp.mean(r, axis=0) - jnp.mean(f, axis=0)))


def entropies(logits: Array) -> tuple[Array, Array]:
    """The entropy of the mean class distribution, and the mean entropy."""
    log_p = jax.nn.log_softmax(logits)
    log_mean = jax.nn.logsumexp(log_p, axis=0) - math.log(len(logits))
    return -jnp.sum(jnp.exp(log_mean) * log_mean), -jnp.mean(jnp.sum(jnp.exp(log_p) * log_p, axis=1))


def cat_gan(player: str) -> Callable[[Players, Draw], Array]:
    def loss(p: Players, d: Draw) -> Array:
        def logits(x: Array) -> Array:
            return linear(p["critic"]["classes"], hidden(p["critic"], x))

        marginal, conditional = entropies(logits(fake(p, d)))
        if player == "generator":
            return conditional - marginal
        marginal, real_conditional = entropies(logits(d.batch["x"]))
        labelled = d.batch["labelled"]
        return real_conditional - marginal - conditional + cross_entropy(logits(labelled["x"]), labelled["y"])

    return loss


def pix2pix(player: str) -> Callable[[Players, Draw], Array]:
    def loss(p: Players, d: Draw) -> Array:
        condition, y = d.batch["condition"], d.batch["x"]
        sample = out(p["generator"], condition)
        r, f = (score(p["critic"], jnp.concatenate([x, condition], axis=1)) for x in (y, sample))
        if player == "critic":
            return jnp.mean(MINIMAX(r, f))
        return jnp.mean(softplus(-f)) + 100 * jnp.mean(jnp.abs(y - sample))

    return loss


def cycle_critic(critic: str, generator: str, source: str, target: str) -> Callable[[Players, Draw], Array]:
    def loss(p: Players, d: Draw) -> Array:
        sample = out(p[generator], d.batch[source])
        r, f = score(p[critic], d.batch[target]), score(p[critic], sample)
        return jnp.mean(jnp.square(r - 1) + jnp.square(f))

    return loss


def cycle_generator(
    name: str, back: str, critic: str, source: str, target: str
) -> Callable[[Players, Draw], Array]:
    def loss(p: Players, d: Draw) -> Array:
        x, y = d.batch[source], d.batch[target]
        sample = out(p[name], x)
        cycles = jnp.mean(jnp.abs(out(p[back], sample) - x)) + jnp.mean(
            jnp.abs(out(p[name], out(p[back], y)) - y)
        )
        return jnp.mean(jnp.square(score(p[critic], sample) - 1)) + 10 * cycles

    return loss


# --- all objectives -----------------------------------------------------------------------------------------

GAN = score_losses(MINIMAX, lambda r, f: -softplus(f))
NON_SATURATING = score_losses(MINIMAX, lambda r, f: softplus(-f))
WGAN = score_losses(lambda r, f: f - r, lambda r, f: -f)

HANDS: dict[str, Hand] = {
    "gan": GAN,
    "non_saturating": NON_SATURATING,
    "least_squares": score_losses(
        lambda r, f: (jnp.square(r - 1) + jnp.square(f)) / 2, lambda r, f: jnp.square(f - 1) / 2
    ),
    "hinge": score_losses(lambda r, f: relu(1 - r) + relu(1 + f), lambda r, f: -f),
    "bgan": score_losses(MINIMAX, lambda r, f: jnp.square(f) / 2),
    "relativistic": score_losses(relativistic_average, lambda r, f: relativistic_average(f, r)),
    "relativistic:standard": score_losses(lambda r, f: softplus(f - r), lambda r, f: softplus(r - f)),
    "f_gan": f_gan(lambda v: v, lambda v: jnp.exp(v - 1)),
    "f_gan:jensen_shannon": f_gan(lambda v: math.log(2) - softplus(-v), lambda v: softplus(v) - math.log(2)),
    "f_gan:squared_hellinger": f_gan(lambda v: 1 - jnp.exp(-v), lambda v: jnp.exp(v) - 1),
    "vral_parzen": score_losses(lambda r, f: parzen(1.0, r) + parzen(0.0, f), lambda r, f: jnp.square(f - 1)),
    "wgan": WGAN,
    "wgan_gp": penalised(
        WGAN, interpolates, lambda norm: 10 * jnp.square(norm - 1), between("gradient_penalty")
    ),
    "dragan": penalised(
        GAN,
        lambda p, d: d.batch["x"] + 0.5 * jnp.std(d.batch["x"]) * d.noise,
        lambda norm: 10 * jnp.square(norm - 1),
        around,
    ),
    "zero_centred": penalised(NON_SATURATING, lambda p, d: d.batch["x"], lambda norm: 5 * jnp.square(norm)),
    "mmd_gan": Hand({"critic": mmd_critic, "generator": mmd}, between("witness_penalty")),
    "cramer": Hand({"critic": cramer_critic, "generator": energy}, between("surrogate_penalty")),
    "began": Hand(
        {"critic": began_critic, "generator": lambda p, d: jnp.mean(error(p, fake(p, d), 1))},
        next_state=began_k,
    ),
    "ebgan": Hand(
        {
            "critic": lambda p, d: jnp.mean(error(p, d.batch["x"], 2) + relu(1 - error(p, fake(p, d), 2))),
            "generator": lambda p, d: jnp.mean(error(p, fake(p, d), 2)),
        }
    ),
    "vral": Hand(
        {
            "critic": vral_critic,
            "generator": lambda p, d: jnp.mean(jnp.square(score(p["critic"], fake(p, d)) - 1)),
            "meta_real": meta("meta_real", 1.0, lambda p, d: d.batch["x"]),
            "meta_fake": meta("meta_fake", 0.0, fake),
        },
        normals,
    ),
    "ac_gan": Hand({player: ac_gan(player) for player in ("critic", "generator")}),
    "info_gan": Hand({player: info_gan(player) for player in ("critic", "generator")}),
    "semi_supervised": Hand({"critic": semi_supervised_critic, "generator": match_features}),
    "cat_gan": Hand({player: cat_gan(player) for player in ("critic", "generator")}),
    "pix2pix": Hand({player: pix2pix(player) for player in ("critic", "generator")}),
    "cycle_gan": Hand(
        {
            "critic_a": cycle_critic("critic_a", "generator_ba", "x", "condition"),
            "critic_b": cycle_critic("critic_b", "generator_ab", "condition", "x"),
            "generator_ab": cycle_generator("generator_ab", "generator_ba", "critic_b", "condition", "x"),
            "generator_ba": cycle_generator("generator_ba", "generator_ab", "critic_a", "x", "condition"),
        }
    ),
}
"""Objectives by name, some in several forms, `objective:form`; a new one need not be here."""
