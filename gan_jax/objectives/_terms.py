"""Terms that add to any objective (`add_terms`): smoothing, matching, consistency, memory of the past."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from gan_jax.functional.augment import adapt_probability
from gan_jax.functional.batch import flatten, named_key, over_batch
from gan_jax.functional.codes import Code
from gan_jax.game import Game
from gan_jax.objectives._compose import LATENT, Outcome, Term
from gan_jax.objectives._look import generate, head, judge, prepare_inputs, score
from gan_jax.types import Array, Aux, Batch, Key, Moment, Players, Tree

Weight: TypeAlias = float | Callable[[Array], Array]
SCORES = frozenset({"features"})
"""What terms on scores do not go with."""


def label_smoothing(epsilon: Weight = 0.1) -> Term:
    """One-sided label smoothing: the real samples' target is 1 - epsilon, the fake ones' stays 0.

    -(1 - e) log D - e log(1 - D) = softplus(-score) + e score: the term is e E[score(x)]. At the optimum
    D = (1 - e) p / (p + p_g): no probability is certain.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016, section 3.4 (arXiv:1606.03498).
    """

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Array:
        return jnp.mean(aux.scores["real"])

    return Term(
        name="label_smoothing",
        player="critic",
        value=value,
        weight=epsilon,
        requires=frozenset({"logits"}),
    )


def match_features(real: Array, fake: Array) -> Array:
    """||E f(x) - E f(G(z))||^2 of features `[B, ...]`: a scalar.

    >>> print(match_features(jnp.array([[1.0, 2.0], [3.0, 2.0]]), jnp.array([[0.0, 0.0]])))  # means (2, 2), (0, 0)
    8.0
    """
    return jnp.sum(jnp.square(jnp.mean(flatten(real), axis=0) - jnp.mean(flatten(fake), axis=0)))


def feature_matching(weight: Weight = 1.0, *, name: str = "features") -> Term:
    """The generator matches the mean of a head of the critic: ||E f(x) - E f(G(z))||^2.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016, section 3.1 (arXiv:1606.03498).
    """

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Array:
        return match_features(head(aux.seen["real_out"], name), head(aux.seen["fake_out"], name))

    return Term(
        name="feature_matching",
        player="generator",
        value=value,
        weight=weight,
        removes=frozenset({"mean"}),
    )


def reconstruction(weight: Weight = 100.0, *, power: int = 1, target: str = "x") -> Term:
    """The generator's sample follows its paired target: mean |y - G|^power over an image, power 1 or 2.

    Args:
      weight: lambda; pix2pix has 100 (on [-1, 1] images).
      power: 1 blurs less than 2.
      target: the batch's entry that is to be reconstructed.

    Raises:
      ValueError: if the power is neither 1 nor 2.

    References:
      Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017, equation (3)
      (arXiv:1611.07004).
    """
    if power not in (1, 2):
        raise ValueError(f"A reconstruction has power 1 or 2, got {power}.")

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Array:
        difference = jnp.abs(batch[target] - aux.seen["sample"])
        return jnp.mean(difference if power == 1 else jnp.square(difference))

    return Term(name="reconstruction", player="generator", value=value, weight=weight)


def mutual_information(
    code: Code, weight: Weight = 1.0, *, player: str = "generator", name: str = "code"
) -> Term:
    """-lambda L_I, L_I = E log Q(c | G(z, c)) + H(c) <= I(c; G(z, c)): the latent code can be read off the sample.

    Q is a head of the critic; the bound is raised by both players, so one term joins each loss. The value logged is
    -L_I, in nats.

    Args:
      code: what of the latent is the code.
      weight: lambda.
      player: whose loss it joins.
      name: the critic's head.

    References:
      Chen et al., InfoGAN, 2016, equations (5) and (6) (arXiv:1606.03657).
    """

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Array:
        likelihood = code.log_likelihood(head(aux.seen["fake_out"], name), code.of(aux.seen["latent"]))
        return -(jnp.mean(likelihood) + code.entropy)

    return Term(
        name="mutual_information",
        player=player,
        value=value,
        weight=weight,
        requires=LATENT,
        conflicts=frozenset({"packed"}),
        adds=frozenset({"heads"}),
    )


def classification(
    weight: Weight = 1.0, *, player: str = "critic", on: str = "both", name: str = "classes", label: str = "y"
) -> Term:
    """-E log P(C = y | x) from a head of class logits `[B, K]`, on real samples, fake ones or both (summed).

    Args:
      weight: its weight.
      player: whose loss it joins.
      on: `real`, `fake` or `both`; fake samples were asked for the labels of the real ones.
      name: the critic's head.
      label: the batch's entry with the labels, `[B]` integers.

    Raises:
      ValueError: if `on` is none of the three.

    References:
      Odena et al., Conditional Image Synthesis with Auxiliary Classifier GANs, 2017, equation (3)
      (arXiv:1610.09585).
    """
    if on not in ("real", "fake", "both"):
        raise ValueError(f"classification is on 'real', 'fake' or 'both' samples, got {on!r}.")

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Outcome:
        total, metrics = jnp.zeros(()), {}
        for kind in ("real", "fake") if on == "both" else (on,):
            logits = head(aux.seen[f"{kind}_out"], name)
            total = total + jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[label]))
            metrics[f"{kind}_accuracy"] = jnp.mean(jnp.argmax(logits, axis=-1) == batch[label])
        return Outcome(total, metrics=metrics)

    return Term(
        name="classification",
        player=player,
        value=value,
        weight=weight,
        conflicts=frozenset({"packed"}),
        adds=frozenset({"heads"}),
    )


def consistency(transform: Callable[[Key, Array], Array], weight: Weight = 10.0, *, on: str = "real") -> Term:
    """CR: E (D(x) - D(T(x)))^2, the critic's score does not change with the image's augmentation.

    Args:
      transform: T, `(key, x) -> x`; see `functional.augment`. The paper flips and shifts by a few pixels.
      weight: lambda.
      on: `real`; or `fake`, which with `real` is the balanced form (bCR).

    Raises:
      ValueError: if `on` is neither.

    References:
      Zhang et al., Consistency Regularization for Generative Adversarial Networks, 2020, equation (4)
      (arXiv:1910.12027); Zhao et al., Improved Consistency Regularization for GANs, 2021 (arXiv:2002.04724).
    """
    if on not in ("real", "fake"):
        raise ValueError(f"consistency is on 'real' or 'fake' samples, got {on!r}.")

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Array:
        x, *conditions = aux.seen[on]
        changed = transform(named_key(moment.key, "transform"), x)
        out, _ = judge(
            game, players, (changed, *conditions), players["critic"].model_state, moment, "consistency"
        )
        return jnp.mean(jnp.square(score(aux.seen[f"{on}_out"]) - score(out)))

    return Term(name=f"consistency_{on}", player="critic", value=value, weight=weight, conflicts=SCORES)


def _nudged(game: Game, players: Players, moment: Moment, aux: Aux, sigma: float) -> Array:
    """G(z + delta), delta ~ N(0, sigma^2): samples near those of the turn."""
    latent, *conditions = aux.seen["inputs"]
    delta = over_batch(jax.random.normal(named_key(moment.key, "delta"), latent.shape, latent.dtype))
    inputs = (latent + sigma * delta, *conditions)
    sample, _ = generate(game, players, inputs, players["generator"].model_state, moment)
    return sample


def latent_consistency(weight: Weight = 5.0, *, sigma: float = 0.03) -> Term:
    """zCR for the critic: E (D(G(z)) - D(G(z + delta)))^2, delta ~ N(0, sigma^2).

    Goes with `latent_diversity` for the generator. Needs a latent that is one array.

    References:
      Zhao et al., Improved Consistency Regularization for GANs, 2021, Algorithm 2 (arXiv:2002.04724).
    """

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Array:
        near = _nudged(game, players, moment, aux, sigma)
        inputs = prepare_inputs(game, players, (near, *aux.seen["conditions"]), moment, "nudged")
        out, _ = judge(game, players, inputs, players["critic"].model_state, moment, "latent_consistency")
        return jnp.mean(jnp.square(score(aux.seen["fake_out"]) - score(out)))

    return Term(
        name="latent_consistency",
        player="critic",
        value=value,
        weight=weight,
        requires=LATENT,
        conflicts=SCORES,
    )


def latent_diversity(weight: Weight = 0.5, *, sigma: float = 0.03) -> Term:
    """zCR for the generator: -E mean (G(z) - G(z + delta))^2, samples move with their latents.

    References:
      Zhao et al., Improved Consistency Regularization for GANs, 2021, Algorithm 2 (arXiv:2002.04724).
    """

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Array:
        near = _nudged(game, players, moment, aux, sigma)
        return -jnp.mean(jnp.square(aux.seen["sample"] - near))

    return Term(name="latent_diversity", player="generator", value=value, weight=weight, requires=LATENT)


def lecam(weight: Weight = 0.3, *, decay: float = 0.99) -> Term:
    """E (D(x) - a_F)^2 + E (D(G(z)) - a_R)^2, a_R and a_F moving averages of real and fake scores.

    For few data. The averages are the critic's memory, begin at 0, and are logged; the authors begin the term after
    some rounds: give a weight that is 0 until then.

    References:
      Tseng et al., Regularizing Generative Adversarial Networks under Limited Data, 2021, equations (3) and (4)
      (arXiv:2104.03310).
    """

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Outcome:
        real, fake = aux.scores["real"], aux.scores["fake"]
        anchors = players["critic"].objective_state["lecam"]
        distance = jnp.mean(jnp.square(real - anchors["fake"])) + jnp.mean(jnp.square(fake - anchors["real"]))
        means = jax.lax.stop_gradient({"real": jnp.mean(real), "fake": jnp.mean(fake)})
        moved = jax.tree.map(lambda a, m: decay * a + (1 - decay) * m, dict(anchors), means)
        return Outcome(distance, moved, {f"{kind}_anchor": anchors[kind] for kind in ("real", "fake")})

    return Term(
        name="lecam",
        player="critic",
        value=value,
        weight=weight,
        objective_state=lambda params: {"real": jnp.zeros(()), "fake": jnp.zeros(())},
        conflicts=SCORES,
    )


def historical_averaging(weight: Weight = 1.0, *, player: str = "critic") -> Term:
    """||theta - 1/t sum_i theta[i]||^2: a pull towards the mean of all of the player's past parameters.

    The mean and its count are the player's memory; at the first turn it is the initial parameters.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016, section 3.3 (arXiv:1606.03498).
    """

    def begin(params: Tree) -> Tree:
        return {"mean": jax.tree.map(jnp.copy, params), "count": jnp.ones(())}

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Outcome:
        params, past = players[player].params, players[player].objective_state["historical_averaging"]
        squares = jax.tree.map(lambda p, m: jnp.sum(jnp.square(p - m)), params, past["mean"])
        count = past["count"] + 1
        mean = jax.tree.map(
            lambda p, m: m + ((jax.lax.stop_gradient(p) - m) / count).astype(m.dtype), params, past["mean"]
        )
        return Outcome(sum(jax.tree.leaves(squares), start=jnp.zeros(())), {"mean": mean, "count": count})

    return Term(name="historical_averaging", player=player, value=value, weight=weight, objective_state=begin)


def top_k_share(scores: Array, fraction: float | Array) -> Array:
    """Weights `[B]` that sum to 1: equal for the k = ceil(fraction B) highest scores, 0 for the rest.

    >>> print(top_k_share(jnp.array([0.1, 3.0, 2.0, -1.0]), 0.5))
    [0.  0.5 0.5 0. ]
    """
    n = scores.shape[0]
    k = jnp.clip(jnp.ceil(fraction * n - 1e-4), 1, n)
    rank = jnp.argsort(jnp.argsort(-scores))
    return jnp.where(rank < k, 1.0, 0.0) / k


def top_k(fraction: float | Callable[[Array], Array] = 0.5) -> Term:
    """The generator learns from the share of its samples that the critic finds most real.

    The term is the difference between the loss over those and over all, so it goes with any loss that is a mean
    over examples; the authors anneal the share from 1 to one half.

    Args:
      fraction: k / B in (0, 1], a number or `round -> number`.

    Raises:
      ValueError: if a number is outside (0, 1].

    References:
      Sinha et al., Top-k Training of GANs, 2020, section 3 (arXiv:2002.06224).
    """
    if not callable(fraction) and not 0 < fraction <= 1:
        raise ValueError(f"top_k keeps a share in (0, 1] of the samples, got {fraction}.")

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Array:
        share = fraction(moment.step) if callable(fraction) else fraction
        weights = jax.lax.stop_gradient(top_k_share(aux.scores["fake"], share))
        losses = aux.seen["losses"]
        return jnp.sum(weights * losses) - jnp.mean(losses)

    return Term(
        name="top_k",
        player="generator",
        value=value,
        requires=frozenset({"mean"}),
        removes=frozenset({"mean"}),
    )


def adaptive_augmentation(target: float = 0.6, images: float = 500_000.0) -> Term:
    """ADA's controller: the probability of augmentation, in the critic's memory as `ada`, follows its overfitting.

    Goes with `prepared(..., diff_augment(policy, probability="ada"))`. The probability and the overfitting
    r_t = E sign(D(x)) are logged; the term itself adds nothing to the loss. Under `pmap` every replica sees its own
    part of the batch: divide `images` by their number.

    Args:
      target: of r_t.
      images: how many it takes to go from 0 to 1.

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020, section 3
      (arXiv:2006.06676).
    """

    def value(game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Outcome:
        probability, real = (
            players["critic"].objective_state["ada"],
            jax.lax.stop_gradient(aux.scores["real"]),
        )
        moved = adapt_probability(probability, real, target=target, images=images)
        metrics = {"probability": probability, "overfitting": jnp.mean(jnp.sign(real))}
        return Outcome(0.0, moved, metrics)

    return Term(
        name="ada",
        player="critic",
        value=value,
        requires=frozenset({"logits"}),
        objective_state=lambda params: jnp.zeros(()),
    )
