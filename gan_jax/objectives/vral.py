"""Variance Regularizing Adversarial Learning with meta-discriminators, of Grewal et al. (2017): four players.

The critic D is to send fake samples to N(0, 1) and real ones to N(1, 1); the meta-discriminators F (`meta_fake`)
and R (`meta_real`) tell its outputs from draws of those. With sp = softplus, on logits:

    L_F = E sp(-F(y0)) + E sp(F(D(G(z)))),  y0 ~ N(0, 1)
    L_R = E sp(-R(y1)) + E sp(R(D(x))),     y1 ~ N(1, 1)
    L_D = E sp(-F(D(G(z)))) + E sp(-R(D(x)))        as in the authors' code
    L_D = -E sp(F(D(G(z)))) - E sp(R(D(x)))         as on their slides (saturating)
    L_G = E[(D(G(z)) - 1)^2]   or   (E D(G(z)) - E D(x))^2

The authors later wrote that the method is out of date and that some of its results are incorrect; it is here for
comparison with what came after it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import named_key, over_batch
from gan_jax.functional.priors import Prior
from gan_jax.game import Game, Objective
from gan_jax.objectives._look import Condition, judge, look, score, unconditional
from gan_jax.types import Array, Aux, Batch, LossFn, Moment, Players, Tree

TARGETS = {"meta_fake": 0.0, "meta_real": 1.0}
"""The mean of the normal distribution that each meta-discriminator takes for the true one."""
JUDGED = {"meta_fake": "fake", "meta_real": "real"}
CRITIC_LOSSES = ("code", "slides")
GENERATOR_LOSSES = ("target", "means")


def meta_loss(normal: Array, judged: Array) -> Array:
    """sp(-meta(y)) + sp(meta(D)): L_F or L_R of meta-logits, elementwise.

    >>> print(meta_loss(jnp.zeros(1), jnp.zeros(1)))  # 2 log 2
    [1.3862944]
    """
    return jax.nn.softplus(-normal) + jax.nn.softplus(judged)


def critic_loss(real: Array, fake: Array, form: str = "code") -> Array:
    """L_D of the meta-logits R(D(x)) and F(D(G(z))), elementwise.

    >>> print(critic_loss(jnp.zeros(1), jnp.zeros(1)), critic_loss(jnp.zeros(1), jnp.zeros(1), "slides"))
    [1.3862944] [-1.3862944]
    """
    if form == "slides":
        return -jax.nn.softplus(fake) - jax.nn.softplus(real)
    return jax.nn.softplus(-fake) + jax.nn.softplus(-real)


def generator_loss(real: Array, fake: Array, form: str = "target") -> Array:
    """(D(G(z)) - 1)^2 `[B]`, or (E D(G(z)) - E D(x))^2, a scalar, of the critic's scores.

    >>> real, fake = jnp.array([2.0, 4.0]), jnp.array([3.0, 7.0])
    >>> print(generator_loss(real, fake), generator_loss(real, fake, "means"))
    [ 4. 36.] 4.0
    """
    if form == "means":
        return jnp.square(jnp.mean(fake) - jnp.mean(real))
    return jnp.square(fake - 1)


def vral(
    prior: Prior,
    *,
    critic: str = "code",
    generator: str = "target",
    whole_batch: bool = False,
    condition: Condition = unconditional,
) -> Objective:
    """The objective of `critic`, `generator`, `meta_real` and `meta_fake`.

    A usual round has k turns of both meta-discriminators and the critic:
    `k * (turn("meta_real", "meta_fake"), turn("critic")) + (turn("generator"),)`.

    Args:
      prior: draws the latent z.
      critic: L_D as in the authors' `code` or on their `slides`.
      generator: L_G: `target`, squared distance of each score to 1, or `means`, of the two mean scores.
      whole_batch: the meta-discriminators see all scores of a batch at once, `[1, B]`, and say one logit; else each
        score alone, `[B, 1]`.
      condition: further inputs of generator and critic, read off the batch.

    Raises:
      ValueError: if there is no such form of a loss.

    References:
      Grewal et al., Variance Regularizing Adversarial Learning, 2017 (arXiv:1707.00309).
    """
    for what, given, forms in (("critic", critic, CRITIC_LOSSES), ("generator", generator, GENERATOR_LOSSES)):
        if given not in forms:
            raise ValueError(f"VRAL's {what} loss is one of {list(forms)}, got {given!r}.")

    def meta_input(scores: Array) -> Array:
        return scores[None, :] if whole_batch else scores[:, None]

    def meta_logits(
        game: Game, players: Players, scores: Array, model_state: Tree, moment: Moment, meta: str, name: str
    ) -> tuple[Array, Tree]:
        out, model_state = judge(game, players, (meta_input(scores),), model_state, moment, name, meta)
        return score(out), model_state

    def seen_scores(
        game: Game, players: Players, batch: Batch, moment: Moment
    ) -> tuple[dict[str, Any], dict[str, Array], Tree, Tree]:
        seen, generator_stats, critic_stats = look(game, players, batch, moment, condition)
        scores = {"real": score(seen["real_out"]), "fake": score(seen["fake_out"])}
        return seen, scores, generator_stats, critic_stats

    def meta_player(name: str) -> LossFn:
        def loss(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
            seen, scores, _, _ = seen_scores(game, players, batch, moment)
            judged = scores[JUDGED[name]]
            noise = over_batch(jax.random.normal(named_key(moment.key, f"{name}/normal"), judged.shape))
            normal, model_state = meta_logits(
                game, players, TARGETS[name] + noise, players[name].model_state, moment, name, "normal"
            )
            own, model_state = meta_logits(game, players, judged, model_state, moment, name, "scores")
            total = jnp.mean(meta_loss(normal, own))
            return total, Aux(model_state, players[name].objective_state, scores, {"loss": total}, seen)

        return loss

    def critic_player(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
        seen, scores, _, model_state = seen_scores(game, players, batch, moment)
        logits = {
            kind: meta_logits(game, players, scores[kind], players[meta].model_state, moment, meta, "scores")[
                0
            ]
            for meta, kind in JUDGED.items()
        }
        total = jnp.mean(critic_loss(logits["real"], logits["fake"], critic))
        return total, Aux(model_state, players["critic"].objective_state, scores, {"loss": total}, seen)

    def generator_player(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
        seen, scores, model_state, _ = seen_scores(game, players, batch, moment)
        losses = generator_loss(scores["real"], scores["fake"], generator)
        total = jnp.mean(losses)
        objective_state, fake = players["generator"].objective_state, {"fake": scores["fake"]}
        return total, Aux(model_state, objective_state, fake, {"loss": total}, {**seen, "losses": losses})

    exact = not whole_batch and generator == "target"
    return Objective(
        losses={
            "critic": critic_player,
            "generator": generator_player,
            "meta_real": meta_player("meta_real"),
            "meta_fake": meta_player("meta_fake"),
        },
        traits=frozenset({"latent", "mean"}) if exact else frozenset({"latent"}),
        prior=prior,
    )
