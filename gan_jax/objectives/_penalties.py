"""Penalties on a critic's gradient by its inputs, as terms that add to any objective (`add_terms`).

Where an objective has input transforms T (augmentation, noise, packing), a penalty is of x -> D(T(x)), the critic
as a function of the images themselves: its points are made of raw real and fake examples, and T draws what it drew
for the loss, for the fake examples in R2 and for the real ones elsewhere. The authors' codes of StyleGAN2-ADA and
R3GAN compute R1 and R2 in this way. The papers of the other penalties have no transforms; what their generators
learn from is the slope of the same function, so theirs is its slope too. With `at="transformed"` points are made of
what the critic was shown, and its gradient is by that. Of packs, norms are over all examples of a pack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from gan_jax.functional import penalties
from gan_jax.functional.options import check_number
from gan_jax.objectives._forward import (
    check_uncoupled,
    features,
    judge,
    score,
    transform_inputs,
    transform_name,
)
from gan_jax.objectives._term import Term, TermContext, Weight
from gan_jax.types import Array, Key

Point: TypeAlias = Callable[[Key, Array, Array], Array]
"""Where a penalty looks: `(key, real, fake) -> x`, all `[B, ...]`."""
Penalty: TypeAlias = Callable[[penalties.Critic, Array], Array]
"""`(critic closure, x [B, ...]) -> [B]`, or a scalar."""
At: TypeAlias = Literal["raw", "transformed"]
"""Whether a penalty is of the critic's gradient by raw examples, or by what the transforms make of them."""
Kind: TypeAlias = Literal["real", "fake"]
"""Whose draws of the transforms, and whose conditions, go with a penalty's points."""


class _Examples(NamedTuple):
    """What a penalty's points are made of, and the critic's outputs at a point."""

    real: Array
    fake: Array
    outputs: Callable[[Array], Mapping[str, Array]]


def _examples(c: TermContext, critic: str, at: At, kind: Kind) -> _Examples:
    view = c.real if kind == "real" else c.fake

    def outputs(inputs: tuple[Array, ...]) -> Mapping[str, Array]:
        return judge(c, inputs, c.players[critic].model_state, "closure", critic)[0]

    if at == "transformed":
        return _Examples(c.real.x, c.fake.x, lambda x: outputs((x, *view.inputs[1:])))
    objective = c.game.objective
    # The draws with which the loss was computed: the term's key would give others.
    loss, drawn_by = c.with_key(c.loss_key), transform_name(objective, critic, kind)

    def of_raw(x: Array) -> Mapping[str, Array]:
        inputs = (_unpacked(x, objective.packs), *view.conditions)
        return outputs(transform_inputs(loss, inputs, drawn_by, critic))

    return _Examples(_packed(c.real.raw, objective.packs), _packed(c.fake.raw, objective.packs), of_raw)


def _packed(x: Array, packs: int) -> Array:
    """`[B, ...]` as the examples of each score, `[B / packs, packs, ...]`."""
    return x if packs == 1 else x.reshape(-1, packs, *x.shape[1:])


def _unpacked(x: Array, packs: int) -> Array:
    return x if packs == 1 else x.reshape(-1, *x.shape[2:])


def _check(name: str, at: At, weight: Weight) -> None:
    if at not in ("raw", "transformed"):
        raise ValueError(
            f"{name}(at={at!r}): at is 'raw' or 'transformed', the examples that the slope is by."
        )
    check_number(name, "weight", weight, least=0)


def critic_penalty(
    name: str,
    point: Point,
    penalty: Penalty,
    weight: Weight,
    *,
    every: int = 1,
    critic: str = "critic",
    own_step: bool = False,
    at: At = "raw",
    kind: Kind = "real",
    coupled: bool = False,
) -> Term:
    """A penalty on the critic's gradient by its inputs, at points between or around real and fake.

    Args:
      name: under which it is logged.
      point: where to look.
      penalty: the formula.
      weight: lambda.
      every: lazy regularisation.
      critic: whose loss it joins.
      own_step: an optimiser step of its own, see `Term`.
      at: `raw`, the gradient is by examples before the input transforms; `transformed`, after them. The same where
        there are none.
      kind: `real` or `fake`: whose conditions, and whose draws of the transforms, go with the points.
      coupled: accept a critic that couples the examples of its batch (minibatch statistics); the gradient is then
        of the sum of the batch's scores.

    Raises:
      ValueError: if `at` is neither, or the weight is negative or not finite.
    """
    _check(name, at, weight)

    def value(c: TermContext) -> Array:
        if not coupled:
            check_uncoupled(c, critic, c.real.inputs, name)
        examples = _examples(c, critic, at, kind)
        x = point(c.key("point"), examples.real, examples.fake)
        return penalty(lambda x: score(examples.outputs(x)), x)

    return Term(
        name=name,
        player=critic,
        value=value,
        weight=weight,
        every=every,
        own_step=own_step,
        needs_score=True,
        uncoupled_critic=None if coupled else critic,
    )


def feature_penalty(
    name: str,
    witness: Callable[[Array, Array, Array], Array],
    weight: Weight,
    *,
    every: int = 1,
    at: At = "raw",
) -> Term:
    """lambda E (||grad_x w(x_hat)|| - 1)^2 on interpolates, w a function of the critic's features.

    Args:
      name: under which it is logged.
      witness: `(features of x [n, D], of real [B, D], of fake [B, D]) -> w [n]`.
      weight: lambda.
      every: lazy regularisation.
      at: as in `critic_penalty`.
    """
    _check(name, at, weight)

    def value(c: TermContext) -> Array:
        check_uncoupled(c, "critic", c.real.inputs, name)
        examples = _examples(c, "critic", at, "real")
        x = penalties.interpolates(c.key("point"), examples.real, examples.fake)
        real, fake = features(c.real.outputs), features(c.fake.outputs)
        return penalties.norm_penalty(lambda x: witness(features(examples.outputs(x)), real, fake), x)

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
    at: At = "raw",
) -> Term:
    """lambda E (||grad D(x_hat)|| - target)^2 on interpolates of real and fake (Gulrajani et al., 2017, (3)).

    With `one_sided`, only norms above the target count. For a target t other than 1, TF-GAN divides this by t^2:
    its weight lambda is lambda / t^2 here.
    """
    check_number("gradient_penalty", "target", target, least=0)
    return critic_penalty(
        "gradient_penalty",
        penalties.interpolates,
        lambda closure, x: penalties.norm_penalty(closure, x, target, one_sided),
        weight,
        every=every,
        critic=critic,
        at=at,
    )


def mixture_penalty(
    weight: Weight = 10.0,
    *,
    t: float = 0.5,
    target: float = 1.0,
    one_sided: bool = False,
    every: int = 1,
    critic: str = "critic",
    at: At = "raw",
) -> Term:
    """lambda E (||grad D(x)|| - target)^2 with x a sample of (1 - t) p_data + t p_g, each real or fake, no blend.

    References:
      Grewal et al., Variance Regularizing Adversarial Learning, 2017, on alternatives to weight clipping
      (arXiv:1707.00309).
    """
    check_number("mixture_penalty", "target", target, least=0)
    check_number("mixture_penalty", "t", t, least=0, most=1)
    return critic_penalty(
        "mixture_penalty",
        lambda key, real, fake: penalties.mixture(key, real, fake, t),
        lambda closure, x: penalties.norm_penalty(closure, x, target, one_sided),
        weight,
        every=every,
        critic=critic,
        at=at,
    )


def dragan_penalty(
    weight: Weight = 10.0,
    *,
    target: float = 1.0,
    scale: float = 0.5,
    every: int = 1,
    critic: str = "critic",
    at: At = "raw",
) -> Term:
    """lambda E (||grad D(x + delta)|| - target)^2 around the data (Kodali et al., 2017, section 2.4).

    delta = a scale std(x) u, u ~ U[0, 1] in every coordinate, a ~ U[0, 1] for every example, with the standard
    deviation of the whole batch.
    """
    check_number("dragan_penalty", "target", target, least=0)
    check_number("dragan_penalty", "scale", scale, least=0)
    return critic_penalty(
        "dragan_penalty",
        lambda key, real, fake: penalties.dragan_point(key, real, scale),
        lambda closure, x: penalties.norm_penalty(closure, x, target),
        weight,
        every=every,
        critic=critic,
        at=at,
    )


def max_penalty(weight: Weight = 10.0, *, every: int = 1, critic: str = "critic", at: At = "raw") -> Term:
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
        at=at,
    )


def r1(
    gamma: Weight = 10.0,
    *,
    every: int = 1,
    critic: str = "critic",
    own_step: bool = False,
    at: At = "raw",
    coupled: bool = False,
) -> Term:
    """gamma/2 E ||grad D(x)||^2 at real samples (Mescheder et al., 2018, equation (9)).

    With `coupled` a critic may compare the examples of its batch, as StyleGAN2's does; see `critic_penalty`.
    """
    check_number("r1", "gamma", gamma, least=0)
    return critic_penalty(
        "r1",
        lambda key, real, fake: real,
        penalties.zero_centred_penalty,
        gamma,
        every=every,
        critic=critic,
        own_step=own_step,
        at=at,
        coupled=coupled,
    )


def r2(
    gamma: Weight = 10.0,
    *,
    every: int = 1,
    critic: str = "critic",
    own_step: bool = False,
    at: At = "raw",
    coupled: bool = False,
) -> Term:
    """gamma/2 E ||grad D(x)||^2 at fake samples (Mescheder et al., 2018, equation (10))."""
    check_number("r2", "gamma", gamma, least=0)
    return critic_penalty(
        "r2",
        lambda key, real, fake: fake,
        penalties.zero_centred_penalty,
        gamma,
        every=every,
        critic=critic,
        own_step=own_step,
        at=at,
        coupled=coupled,
        kind="fake",
    )
