"""Penalties on a critic's gradient by its inputs, as terms that add to any objective (`add_terms`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gan_jax.functional import penalties
from gan_jax.objectives._forward import check_uncoupled, critic_closure, features, judge
from gan_jax.objectives._term import Term, TermContext, Weight
from gan_jax.types import Array, Key

Point: TypeAlias = Callable[[Key, Array, Array], Array]
"""Where a penalty looks: `(key, real, fake) -> x`, all `[B, ...]`."""
Penalty: TypeAlias = Callable[[penalties.Critic, Array], Array]
"""`(critic closure, x [B, ...]) -> [B]`, or a scalar."""


def critic_penalty(
    name: str,
    point: Point,
    penalty: Penalty,
    weight: Weight,
    *,
    every: int = 1,
    critic: str = "critic",
    own_step: bool = False,
) -> Term:
    """A penalty on the critic's gradient by its inputs, at points between or around real and fake.

    Conditions stay those of the real examples.

    Args:
      name: under which it is logged.
      point: where to look.
      penalty: the formula.
      weight: lambda.
      every: lazy regularisation.
      critic: whose loss it joins.
      own_step: an optimiser step of its own, see `Term`.
    """

    def value(c: TermContext) -> Array:
        check_uncoupled(c, critic, c.real.inputs, name)
        real, *conditions = c.real.inputs
        x = point(c.key("point"), real, c.fake.x)
        return penalty(critic_closure(c, tuple(conditions), critic), x)

    return Term(
        name=name,
        player=critic,
        value=value,
        weight=weight,
        every=every,
        own_step=own_step,
        needs_score=True,
        uncoupled_critic=critic,
    )


def feature_penalty(
    name: str, witness: Callable[[Array, Array, Array], Array], weight: Weight, *, every: int = 1
) -> Term:
    """lambda E (||grad_x w(x_hat)|| - 1)^2 on interpolates, w a function of the critic's features.

    Args:
      name: under which it is logged.
      witness: `(features of x [n, D], of real [B, D], of fake [B, D]) -> w [n]`.
      weight: lambda.
      every: lazy regularisation.
    """

    def value(c: TermContext) -> Array:
        check_uncoupled(c, "critic", c.real.inputs, name)
        real, *conditions = c.real.inputs
        x = penalties.interpolates(c.key("point"), real, c.fake.x)
        real_features, fake_features = features(c.real.outputs), features(c.fake.outputs)

        def score(x: Array) -> Array:
            outputs, _ = judge(c, (x, *conditions), c.players["critic"].model_state, "closure")
            return witness(features(outputs), real_features, fake_features)

        return penalties.norm_penalty(score, x)

    return Term(
        name=name,
        player="critic",
        value=value,
        weight=weight,
        every=every,
        needs_features=True,
        uncoupled_critic="critic",
    )


def gradient_penalty(
    weight: Weight = 10.0,
    *,
    target: float = 1.0,
    one_sided: bool = False,
    every: int = 1,
    critic: str = "critic",
) -> Term:
    """lambda E (||grad D(x_hat)|| - target)^2 on interpolates of real and fake (Gulrajani et al., 2017, (3)).

    With `one_sided`, only norms above the target count.
    """
    return critic_penalty(
        "gradient_penalty",
        penalties.interpolates,
        lambda closure, x: penalties.norm_penalty(closure, x, target, one_sided),
        weight,
        every=every,
        critic=critic,
    )


def mixture_penalty(
    weight: Weight = 10.0,
    *,
    t: float = 0.5,
    target: float = 1.0,
    one_sided: bool = False,
    every: int = 1,
    critic: str = "critic",
) -> Term:
    """lambda E (||grad D(x)|| - target)^2 with x a sample of (1 - t) p_data + t p_g, each real or fake, no blend.

    References:
      Grewal et al., Variance Regularizing Adversarial Learning, 2017, on alternatives to weight clipping
      (arXiv:1707.00309).
    """
    return critic_penalty(
        "mixture_penalty",
        lambda key, real, fake: penalties.mixture(key, real, fake, t),
        lambda closure, x: penalties.norm_penalty(closure, x, target, one_sided),
        weight,
        every=every,
        critic=critic,
    )


def dragan_penalty(
    weight: Weight = 10.0,
    *,
    target: float = 1.0,
    scale: float = 0.5,
    every: int = 1,
    critic: str = "critic",
) -> Term:
    """lambda E (||grad D(x + delta)|| - target)^2 around the data (Kodali et al., 2017, section 2.4).

    delta = scale std(x) u, u ~ U[0, 1] in every coordinate, with the standard deviation of the whole batch.
    """
    return critic_penalty(
        "dragan_penalty",
        lambda key, real, fake: penalties.dragan_point(key, real, scale),
        lambda closure, x: penalties.norm_penalty(closure, x, target),
        weight,
        every=every,
        critic=critic,
    )


def max_penalty(weight: Weight = 10.0, *, every: int = 1, critic: str = "critic") -> Term:
    """lambda max ||grad D(x_hat)||^2 over the batch's interpolates: one slope bounds the Lipschitz constant.

    References:
      Zhou et al., Lipschitz Generative Adversarial Nets, 2019, section 4 (arXiv:1902.05687).
    """
    return critic_penalty(
        "max_penalty",
        penalties.interpolates,
        penalties.max_squared_norm,
        weight,
        every=every,
        critic=critic,
    )


def r1(gamma: Weight = 10.0, *, every: int = 1, critic: str = "critic", own_step: bool = False) -> Term:
    """gamma/2 E ||grad D(x)||^2 at real samples (Mescheder et al., 2018, equation (9))."""
    return critic_penalty(
        "r1",
        lambda key, real, fake: real,
        penalties.zero_centred_penalty,
        gamma,
        every=every,
        critic=critic,
        own_step=own_step,
    )


def r2(gamma: Weight = 10.0, *, every: int = 1, critic: str = "critic", own_step: bool = False) -> Term:
    """gamma/2 E ||grad D(x)||^2 at fake samples (Mescheder et al., 2018, equation (10))."""
    return critic_penalty(
        "r2",
        lambda key, real, fake: fake,
        penalties.zero_centred_penalty,
        gamma,
        every=every,
        critic=critic,
        own_step=own_step,
    )
