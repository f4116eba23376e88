"""Terms that add to any objective (`add_terms`): smoothing, matching, consistency, memory of the past."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from gan_jax.field import parts_of_turn
from gan_jax.functional.augment import adapt_probability
from gan_jax.functional.batch import flatten, over_batch
from gan_jax.functional.codes import Code
from gan_jax.functional.options import check_count, check_number
from gan_jax.objectives._forward import entry, generate, judge, score, transform_inputs
from gan_jax.objectives._term import Outcome, Term, TermContext, Weight
from gan_jax.types import Array, Key, Tree


def label_smoothing(epsilon: Weight = 0.1) -> Term:
    """One-sided label smoothing: the real samples' target is 1 - epsilon, the fake ones' stays 0.

    -(1 - e) log D - e log(1 - D) = softplus(-score) + e score: the term is e E[score(x)]. At the optimum
    D = (1 - e) p / (p + p_g): no probability is certain.

    Raises:
      ValueError: if epsilon is outside [0, 1).

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016, section 3.4 (arXiv:1606.03498).
    """

    check_number("label_smoothing", "epsilon", epsilon, least=0, below=1)

    def value(c: TermContext) -> Array:
        return c.real.score

    return Term(
        name="label_smoothing",
        player="critic",
        value=value,
        weight=epsilon,
        needs_logits=True,
    )


def match_features(real: Array, fake: Array) -> Array:
    """||E f(x) - E f(G(z))||^2 of features `[B, ...]`: a scalar.

    >>> print(match_features(jnp.array([[1.0, 2.0], [3.0, 2.0]]), jnp.array([[0.0, 0.0]])))  # means (2, 2), (0, 0)
    8.0
    """
    return jnp.sum(jnp.square(jnp.mean(flatten(real), axis=0) - jnp.mean(flatten(fake), axis=0)))


def feature_matching(weight: Weight = 1.0, *, name: str = "features") -> Term:
    """The generator matches the mean of a head of the critic: ||E f(x) - E f(G(z))||^2.

    Raises:
      ValueError: if the weight is negative or not finite.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016, section 3.1 (arXiv:1606.03498).
    """

    check_number("feature_matching", "weight", weight, least=0)

    def value(c: TermContext) -> Array:
        return match_features(c.real.head(name), c.fake.head(name))

    return Term(
        name="feature_matching",
        player="generator",
        value=value,
        weight=weight,
    )


def reconstruction(weight: Weight = 100.0, *, power: int = 1, target: str = "x") -> Term:
    """The generator's sample follows its paired target: mean |y - G|^power over an image, power 1 or 2.

    Args:
      weight: lambda; pix2pix has 100 (on [-1, 1] images).
      power: 1 blurs less than 2.
      target: the batch's entry that is to be reconstructed.

    Raises:
      ValueError: if the power is neither 1 nor 2, or the weight is negative or not finite.

    References:
      Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017, equation (3)
      (arXiv:1611.07004).
    """
    check_number("reconstruction", "weight", weight, least=0)
    if power not in (1, 2):
        raise ValueError(f"A reconstruction has power 1 or 2, got {power}.")

    def value(c: TermContext) -> Array:
        difference = jnp.abs(flatten(entry(c.batch, target) - c.samples))
        return jnp.mean(difference if power == 1 else jnp.square(difference), axis=1)

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

    Raises:
      ValueError: if the weight is negative or not finite.

    References:
      Chen et al., InfoGAN, 2016, equations (5) and (6) (arXiv:1606.03657).
    """

    check_number("mutual_information", "weight", weight, least=0)

    def value(c: TermContext) -> Array:
        likelihood = code.log_likelihood(c.fake.head(name), code.of(c.latent))
        return -(likelihood + code.entropy)

    return Term(
        name="mutual_information",
        player=player,
        value=value,
        weight=weight,
        needs_latent=True,
        single_examples=True,
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
      ValueError: if `on` is none of the three, or the weight is negative or not finite.

    References:
      Odena et al., Conditional Image Synthesis with Auxiliary Classifier GANs, 2017, equation (3)
      (arXiv:1610.09585).
    """
    check_number("classification", "weight", weight, least=0)
    if on not in ("real", "fake", "both"):
        raise ValueError(f"classification is on 'real', 'fake' or 'both' samples, got {on!r}.")

    def value(c: TermContext) -> Outcome:
        labels = entry(c.batch, label)
        losses, metrics = jnp.zeros(labels.shape[0]), {}
        for kind, view in (("real", c.real), ("fake", c.fake)):
            if on not in (kind, "both"):
                continue
            logits = view.head(name)
            losses = losses + optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            metrics[f"{kind}_accuracy"] = jnp.mean(jnp.argmax(logits, axis=-1) == labels)
        return Outcome(losses, metrics=metrics)

    return Term(
        name="classification",
        player=player,
        value=value,
        weight=weight,
        single_examples=True,
    )


def consistency(transform: Callable[[Key, Array], Array], weight: Weight = 10.0, *, on: str = "real") -> Term:
    """CR: E (D(x) - D(T(x)))^2, the critic's score does not change with the image's augmentation.

    Args:
      transform: T, `(key, x) -> x`; see `functional.augment`. The paper flips and shifts by a few pixels.
      weight: lambda.
      on: `real`; or `fake`, which with `real` is the balanced form (bCR).

    Raises:
      ValueError: if `on` is neither, or the weight is negative or not finite.

    References:
      Zhang et al., Consistency Regularization for Generative Adversarial Networks, 2020, equation (4)
      (arXiv:1910.12027); Zhao et al., Improved Consistency Regularization for GANs, 2021 (arXiv:2002.04724).
    """
    check_number("consistency", "weight", weight, least=0)
    if on not in ("real", "fake"):
        raise ValueError(f"consistency is on 'real' or 'fake' samples, got {on!r}.")

    def value(c: TermContext) -> Array:
        view = c.real if on == "real" else c.fake
        x, *conditions = view.inputs
        changed = transform(c.key("transform"), x)
        outputs, _ = judge(c, (changed, *conditions), c.players["critic"].model_state, "consistency")
        return jnp.square(score(view.outputs) - score(outputs))

    return Term(name=f"consistency_{on}", player="critic", value=value, weight=weight, needs_score=True)


def _nudged(c: TermContext, sigma: float) -> Array:
    """G(z + delta), delta ~ N(0, sigma^2): samples near those of the turn."""
    latent, *conditions = c.outputs.generator_inputs
    delta = over_batch(jax.random.normal(c.key("delta"), latent.shape, latent.dtype))
    inputs = (latent + sigma * delta, *conditions)
    samples, _ = generate(c, inputs, c.players["generator"].model_state)
    return samples


def latent_consistency(weight: Weight = 5.0, *, sigma: float = 0.03) -> Term:
    """zCR for the critic: E (D(G(z)) - D(G(z + delta)))^2, delta ~ N(0, sigma^2).

    Goes with `latent_diversity` for the generator. Needs a latent that is one array.

    Raises:
      ValueError: if the weight is negative or not finite, or sigma is not positive.

    References:
      Zhao et al., Improved Consistency Regularization for GANs, 2021, Algorithm 2 (arXiv:2002.04724).
    """

    check_number("latent_consistency", "weight", weight, least=0)
    check_number("latent_consistency", "sigma", sigma, above=0)

    def value(c: TermContext) -> Array:
        inputs = transform_inputs(c, (_nudged(c, sigma), *c.fake.conditions), "nudged")
        outputs, _ = judge(c, inputs, c.players["critic"].model_state, "latent_consistency")
        return jnp.square(score(c.fake.outputs) - score(outputs))

    return Term(
        name="latent_consistency",
        player="critic",
        value=value,
        weight=weight,
        needs_latent=True,
        needs_score=True,
    )


def latent_diversity(weight: Weight = 0.5, *, sigma: float = 0.03) -> Term:
    """zCR for the generator: -E mean (G(z) - G(z + delta))^2, samples move with their latents.

    Raises:
      ValueError: if the weight is negative or not finite, or sigma is not positive.

    References:
      Zhao et al., Improved Consistency Regularization for GANs, 2021, Algorithm 2 (arXiv:2002.04724).
    """

    check_number("latent_diversity", "weight", weight, least=0)
    check_number("latent_diversity", "sigma", sigma, above=0)

    def value(c: TermContext) -> Array:
        return -jnp.mean(flatten(jnp.square(c.samples - _nudged(c, sigma))), axis=1)

    return Term(name="latent_diversity", player="generator", value=value, weight=weight, needs_latent=True)


def lecam(weight: Weight = 0.3, *, decay: float = 0.99) -> Term:
    """E (D(x) - a_F)^2 + E (D(G(z)) - a_R)^2, a_R and a_F moving averages of real and fake scores.

    For few data. The averages are kept in the critic's objective state, begin at 0, and are logged; the authors
    begin the term after some rounds: give a weight that is 0 until then.

    Raises:
      ValueError: if the weight is negative or not finite, or the decay is outside [0, 1).

    References:
      Tseng et al., Regularizing Generative Adversarial Networks under Limited Data, 2021, equations (3) and (4)
      (arXiv:2104.03310).
    """

    check_number("lecam", "weight", weight, least=0)
    check_number("lecam", "decay", decay, least=0, below=1)

    def value(c: TermContext) -> Outcome:
        real, fake, anchors = c.real.score, c.fake.score, c.state
        distance = jnp.square(real - anchors["fake"]) + jnp.square(fake - anchors["real"])
        means = jax.lax.stop_gradient({"real": jnp.mean(real), "fake": jnp.mean(fake)})
        moved = jax.tree.map(lambda a, m: decay * a + (1 - decay) * m, dict(anchors), means)
        return Outcome(distance, moved, {f"{kind}_anchor": anchors[kind] for kind in ("real", "fake")})

    return Term(
        name="lecam",
        player="critic",
        value=value,
        weight=weight,
        initial_state=lambda params: {"real": jnp.zeros(()), "fake": jnp.zeros(())},
        needs_score=True,
    )


def historical_averaging(weight: Weight = 1.0, *, player: str = "critic") -> Term:
    """||theta - 1/t sum_i theta[i]||^2: a pull towards the mean of all of the player's past parameters.

    The mean is of theta[0], ..., theta[t - 1], those before the present ones, each once; at the first turn, where
    there are none, the term is 0. The mean and its count are kept in the player's objective state.

    Raises:
      ValueError: if the weight is negative or not finite.

    References:
      Salimans et al., Improved Techniques for Training GANs, 2016, section 3.3 (arXiv:1606.03498).
    """

    check_number("historical_averaging", "weight", weight, least=0)

    def begin(params: Tree) -> Tree:
        return {"mean": jax.tree.map(jnp.copy, params), "count": jnp.zeros(())}

    def value(c: TermContext) -> Outcome:
        params, past = c.players[player].params, c.state
        squares = jax.tree.map(lambda p, m: jnp.sum(jnp.square(p - m)), params, past["mean"])
        count = past["count"] + 1
        mean = jax.tree.map(
            lambda p, m: m + ((jax.lax.stop_gradient(p) - m) / count).astype(m.dtype), params, past["mean"]
        )
        # Fields that look ahead evaluate the first turn elsewhere than at theta[0].
        value = jnp.where(past["count"] > 0, sum(jax.tree.leaves(squares), start=jnp.zeros(())), 0.0)
        return Outcome(value, {"mean": mean, "count": count})

    return Term(name="historical_averaging", player=player, value=value, weight=weight, initial_state=begin)


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
    check_number("top_k", "fraction", fraction, above=0, most=1)

    def value(c: TermContext) -> Array:
        share = fraction(c.step) if callable(fraction) else fraction
        scores = jnp.mean(flatten(c.fake.score), axis=1)  # of patches, their mean
        weights = jax.lax.stop_gradient(top_k_share(scores, share))
        return jnp.sum(weights * c.losses) - jnp.mean(c.losses)

    return Term(
        name="top_k",
        player="generator",
        value=value,
        needs_losses=True,
    )


def adaptive_augmentation(target: float = 0.6, images: float = 500_000.0, *, every: int = 4) -> Term:
    """ADA's controller: the probability of augmentation, in the critic's objective state, follows its overfitting.

    Goes with `with_transforms(..., ada("bgc"))` or `diff_augment(policy, probability="ada")`, which read the
    probability of the state `ada`. It and the overfitting r_t = E sign(D(x)), the mean since the last step, are
    logged; the term itself adds nothing to the loss. In microbatches and under `pmap` the whole batch is counted.

    Args:
      target: of r_t.
      images: how many it takes to go from 0 to 1; of packs, every image counts.
      every: the critic's turns from one step of the probability to the next.

    Raises:
      ValueError: if the target is outside (-1, 1), where r_t lies, `images` is not positive, or `every` is below 1;
        when it is added, for losses whose critic's score has no fixed zero, as in relativistic games.

    References:
      Karras et al., Training Generative Adversarial Networks with Limited Data, 2020, section 3
      (arXiv:2006.06676).
    """

    check_number("adaptive_augmentation", "target", target, above=-1, below=1)
    check_number("adaptive_augmentation", "images", images, above=0)
    check_count("adaptive_augmentation", "every", every)

    def value(c: TermContext) -> Outcome:
        real = jax.lax.stop_gradient(c.real.score)
        turns, signs = c.state["turns"] + 1, c.state["signs"] + jnp.mean(jnp.sign(real))
        overfitting, due = signs / turns, turns >= every
        seen = turns * c.real.raw.shape[0] * parts_of_turn(c.game)
        moved = adapt_probability(c.state["probability"], overfitting, seen, target=target, images=images)
        state = {
            "probability": jnp.where(due, moved, c.state["probability"]),
            "signs": jnp.where(due, 0.0, signs),
            "turns": jnp.where(due, 0.0, turns),
        }
        return Outcome(0.0, state, {"probability": c.state["probability"], "overfitting": overfitting})

    return Term(
        name="ada",
        player="critic",
        value=value,
        needs_logits=True,
        initial_state=lambda params: {name: jnp.zeros(()) for name in ("probability", "signs", "turns")},
    )
