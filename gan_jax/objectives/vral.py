"""Variance Regularizing Adversarial Learning with meta-discriminators, of Grewal et al. (2017): four players.

The critic D is to send fake samples to N(0, 1) and real ones to N(1, 1); the meta-discriminators F (`meta_fake`)
and R (`meta_real`) distinguish its outputs from draws of those. With sp = softplus, on logits:

    L_F = E sp(-F(y0)) + E sp(F(D(G(z)))),  y0 ~ N(0, 1)
    L_R = E sp(-R(y1)) + E sp(R(D(x))),     y1 ~ N(1, 1)
    L_D = E sp(-F(D(G(z)))) + E sp(-R(D(x)))        as in the authors' code
    L_D = -E sp(F(D(G(z)))) - E sp(R(D(x)))         as on their slides (saturating)
    L_G = E[(D(G(z)) - 1)^2]   or   (E D(G(z)) - E D(x))^2

The authors later wrote that the method is out of date and that some of its results are incorrect; it is here for
comparison with what came after it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import over_batch
from gan_jax.functional.priors import Prior
from gan_jax.game import (
    AuxiliaryRole,
    Condition,
    CriticRole,
    GeneratorRole,
    LossFn,
    Objective,
    PlayerObjective,
    TurnContext,
    loss_output,
    unconditional,
)
from gan_jax.objectives._forward import forward, judge, score
from gan_jax.outputs import ForwardOutputs, LossOutput
from gan_jax.types import Array, Tree

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
      whole_batch: the meta-discriminators map all scores of a batch, `[1, B]`, to one logit; otherwise each score
        by itself, `[B, 1]`.
      condition: extra inputs of generator and critic, read off the batch.

    Raises:
      ValueError: if there is no such form of a loss.

    References:
      Grewal et al., Variance Regularizing Adversarial Learning, 2017 (arXiv:1707.00309).
    """
    for player, form, forms in (
        ("critic", critic, CRITIC_LOSSES),
        ("generator", generator, GENERATOR_LOSSES),
    ):
        if form not in forms:
            raise ValueError(f"VRAL's {player} loss is one of {list(forms)}, got {form!r}.")

    def meta_logits(
        context: TurnContext, scores: Array, model_state: Tree, meta: str, name: str
    ) -> tuple[Array, Tree]:
        inputs = scores[None, :] if whole_batch else scores[:, None]
        outputs, model_state = judge(context, (inputs,), model_state, name, meta)
        return score(outputs), model_state

    def forward_scores(context: TurnContext) -> tuple[Array, Array, ForwardOutputs, dict[str, Tree]]:
        outputs, model_states = forward(context, condition)
        assert outputs.real is not None
        assert outputs.fake is not None
        return outputs.real.score, outputs.fake.score, outputs, model_states

    def meta_player(meta: str, mean: float) -> LossFn:
        def loss(context: TurnContext) -> LossOutput:
            real, fake, outputs, _ = forward_scores(context)
            scores = fake if meta == "meta_fake" else real
            noise = over_batch(jax.random.normal(context.key(f"{meta}/normal"), scores.shape))
            state = context.players[meta].model_state
            normal, state = meta_logits(context, mean + noise, state, meta, "normal")
            judged, state = meta_logits(context, scores, state, meta, "scores")
            return loss_output(context, meta, meta_loss(normal, judged), model_state=state, outputs=outputs)

        return loss

    def critic_player(context: TurnContext) -> LossOutput:
        real, fake, outputs, states = forward_scores(context)
        metas = {name: context.players[name].model_state for name in ("meta_real", "meta_fake")}
        real_logits, _ = meta_logits(context, real, metas["meta_real"], "meta_real", "scores")
        fake_logits, _ = meta_logits(context, fake, metas["meta_fake"], "meta_fake", "scores")
        losses = critic_loss(real_logits, fake_logits, critic)
        return loss_output(context, "critic", losses, model_state=states["critic"], outputs=outputs)

    def generator_player(context: TurnContext) -> LossOutput:
        real, fake, outputs, states = forward_scores(context)
        losses = generator_loss(real, fake, generator)
        return loss_output(context, "generator", losses, model_state=states["generator"], outputs=outputs)

    return Objective(
        players={
            "critic": PlayerObjective(role=CriticRole(), loss=critic_player),
            "generator": PlayerObjective(role=GeneratorRole(condition=condition), loss=generator_player),
            "meta_real": PlayerObjective(role=AuxiliaryRole(), loss=meta_player("meta_real", 1.0)),
            "meta_fake": PlayerObjective(role=AuxiliaryRole(), loss=meta_player("meta_fake", 0.0)),
        },
        prior=prior,
    )
