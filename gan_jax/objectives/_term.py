"""Terms: penalties and other additions to one player's loss, for any objective."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from gan_jax.field import is_mean_over_examples
from gan_jax.functional.options import check_count, check_number
from gan_jax.game import LossFn, Objective, TermRecord, TurnContext, check_objective
from gan_jax.outputs import CriticView, ForwardOutputs, LossOutput
from gan_jax.precision import at_highest_precision
from gan_jax.types import Array, Key, Tree

Weight: TypeAlias = float | Callable[[Array], Array]
"""A number, or `round -> number`."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class TermContext(TurnContext):
    """The argument of a term: the turn's context and the forward outputs of the player's loss.

    Attributes:
      player: the player whose loss the term is added to.
      outputs: the loss's forward outputs.
      model_state: the player's model state after the loss's calls.
      loss_key: the key by which the loss drew; `turn_key` is the term's.
      state: the term's objective state; `None` if it keeps none.
    """

    player: str
    outputs: ForwardOutputs
    model_state: Tree
    loss_key: Key
    state: Tree = None

    @property
    def real(self) -> CriticView:
        """The critic's inputs and outputs for the real examples."""
        return _required(self.outputs.real, self.player, "view of real examples")

    @property
    def fake(self) -> CriticView:
        """The critic's inputs and outputs for the generator's samples."""
        return _required(self.outputs.fake, self.player, "view of fake examples")

    @property
    def samples(self) -> Array:
        """The generator's raw samples `[B, ...]`."""
        return _required(self.outputs.samples, self.player, "samples")

    @property
    def latent(self) -> Tree:
        """The generator's latent z."""
        return _required(self.outputs.latent, self.player, "latent")

    @property
    def losses(self) -> Array:
        """The loss of every example `[B]`, or a scalar, before terms were added."""
        return _required(self.outputs.losses, self.player, "losses")


def _required(value: Any, player: str, what: str) -> Any:
    if value is None:
        raise ValueError(f"A term reads the {what}, but the loss of {player!r} returns none.")
    return value


class Outcome(NamedTuple):
    """The result of a term's formula that also updates a state or logs metrics.

    Attributes:
      value: `[B]`, one number per example, or a scalar; unweighted.
      state: the term's new objective state, if it keeps one.
      metrics: scalars to be logged as `player/term/name`.
      model_state: the player's new model state, if the formula called its network in training mode.
    """

    value: Any
    state: Tree = None
    metrics: Mapping[str, Array] = {}
    model_state: Tree = None


TermValue: TypeAlias = Callable[[TermContext], "Array | float | Outcome"]
"""A term's formula: `[B]` where it is a mean over examples, else a scalar; or an `Outcome`."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """An addition to one player's loss.

    Attributes:
      name: the name under which its value is logged, `player/name`, and its state kept.
      player: the player whose loss it is added to.
      value: the formula, unweighted; see `TermValue`.
      weight: a number, or `round -> number`.
      every: the term is computed in rounds 0, `every`, 2 `every`, ... and multiplied by `every` (lazy
        regularisation). Further metrics of its own are not, and are 0 in other rounds: their means over rounds are
        1 / `every` of those over its own.
      own_step: the term is left out of the loss and has an optimiser step of its own, which a
        `regularization_turn` of the schedule takes; the turn has the interval, and `every` stays 1.
      initial_state: `params -> initial objective state`.
      needs_score: the losses must be of the critic's scores, not of its features.
      needs_features: the losses must be of the critic's features.
      needs_latent: the generator must have a latent input.
      needs_logits: the critic's loss must be softplus(-real) + softplus(fake).
      needs_losses: the player's loss must be a mean over independent examples, which is checked when it is traced.
      single_examples: the term reads the critic's outputs for single examples, so inputs cannot be packed.
      uncoupled_critic: a critic that must not couple the examples of its batch.
      exact: the player's loss is computed at the highest precision of products, since the term is a difference of
        outputs that are close together.

    Raises:
      ValueError: if the weight is not finite, `every` is not a whole number of 1 or more, or a term with a step of
        its own has another interval than that of its turn.
    """

    name: str
    player: str
    value: TermValue
    weight: Weight = 1.0
    every: int = 1
    own_step: bool = False
    initial_state: Callable[[Tree], Tree] | None = None
    needs_score: bool = False
    needs_features: bool = False
    needs_latent: bool = False
    needs_logits: bool = False
    needs_losses: bool = False
    single_examples: bool = False
    uncoupled_critic: str | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        check_number(self.name, "weight", self.weight)
        check_count(self.name, "every", self.every)
        if self.own_step and self.every != 1:
            raise ValueError(
                f"{self.name}(own_step=True, every={self.every}): a term with an optimiser step of its own is "
                "computed in the rounds of its turn, which multiplies it by its interval: leave every out, and "
                f"give it to regularization_turn({self.player!r}, {self.name!r}, every={self.every})."
            )


def term(
    name: str,
    *,
    player: str,
    weight: Weight = 1.0,
    every: int = 1,
    own_step: bool = False,
    initial_state: Callable[[Tree], Tree] | None = None,
    uncoupled_critic: str | None = None,
) -> Callable[[TermValue], Term]:
    """A decorator that makes a formula a `Term`, for `add_terms`.

    Args:
      name: the name under which its value is logged.
      player: the player whose loss it is added to.
      weight: a number, or `round -> number`.
      every: lazy regularisation, see `Term`.
      own_step: see `Term`.
      initial_state: `params -> initial state`, for a formula that returns an `Outcome` with the next one.
      uncoupled_critic: a critic that must not couple the examples of its batch.

    >>> from gan_jax.functional.priors import gaussian
    >>> from gan_jax.objectives.hinge import hinge
    >>> drift = term("drift", player="critic", weight=1e-3)(lambda c: jnp.mean(c.real.score**2))
    >>> [record.name for record in add_terms(hinge(gaussian(16)), drift).terms]
    ['drift']
    """

    def make(value: TermValue) -> Term:
        return Term(
            name=name,
            player=player,
            value=value,
            weight=weight,
            every=every,
            own_step=own_step,
            initial_state=initial_state,
            uncoupled_critic=uncoupled_critic,
        )

    return make


def add_terms(objective: Objective, *terms: Term) -> Objective:
    """Returns the objective with `terms` added to its players' losses, each logged under its name.

    Raises:
      ValueError: if what is added is no term, a term's player is not in the objective, its name is taken, or the
        objective lacks something that the term needs.
    """
    check_objective(objective, "add_terms")
    for added in terms:
        objective = _add_term(objective, added)
    return objective


def _add_term(objective: Objective, added: Term) -> Objective:
    if not isinstance(added, Term):
        raise ValueError(f"add_terms takes an objective and terms, as r1(10.0) returns them; got {added!r}.")
    if added.player not in objective.players:
        raise ValueError(
            f"The term {added.name!r} is added to the loss of {added.player!r}, but the objective's players are "
            f"{sorted(objective.players)}."
        )
    check_compatible(objective, added)
    if any((record.player, record.name) == (added.player, added.name) for record in objective.terms):
        raise ValueError(
            f"The loss of {added.player!r} already has a term named {added.name!r}: add it once, or rename one."
        )
    part = objective.players[added.player]
    finished = at_highest_precision if added.exact else lambda loss: loss
    initial = dict(part.initial_state)
    if added.initial_state is not None:
        initial[added.name] = added.initial_state
    if added.own_step:
        loss = part.loss
        step_terms: Mapping[str, LossFn] = {
            **part.step_terms,
            added.name: finished(_term_loss(part.loss, added)),
        }
    else:
        loss, step_terms = finished(_with_term(part.loss, added)), part.step_terms
    record = TermRecord(
        player=added.player,
        name=added.name,
        uncoupled_critic=added.uncoupled_critic,
        single_examples=added.single_examples,
        own_step=added.own_step,
    )
    changed = objective.with_player(added.player, loss=loss, initial_state=initial, step_terms=step_terms)
    return dataclasses.replace(changed, terms=(*objective.terms, record))


def check_compatible(objective: Objective, added: Term) -> None:
    """Checks that an objective has what a term needs.

    Raises:
      ValueError: if it lacks something; the message names it.
    """
    needs = (
        (added.needs_score and objective.on_features, "losses of scores; this one's are of features"),
        (added.needs_features and not objective.on_features, "losses of features; this one's are of scores"),
        (added.needs_latent and objective.prior is None, "a latent z; this one's generator has none"),
        (
            added.needs_logits and not objective.logits,
            "the critic's loss softplus(-real) + softplus(fake); this one's is another",
        ),
        (
            added.single_examples and objective.packs > 1,
            "single examples as critic inputs; this one packs them",
        ),
    )
    for unmet, what in needs:
        if unmet:
            raise ValueError(f"The term {added.name!r} needs an objective with {what}.")


def _with_term(base: LossFn, added: Term) -> LossFn:
    def loss(context: TurnContext) -> LossOutput:
        if added.needs_losses and not is_mean_over_examples(base, context):
            raise ValueError(
                f"The term {added.name!r} needs a loss that is a mean over independent examples; that of "
                f"{added.player!r} couples the examples of its batch."
            )
        output = base(context)
        outcome, state = _evaluate(added, context, output)
        weight = added.weight(context.step) if callable(added.weight) else added.weight
        value = jnp.mean(outcome.value)
        total = output.value + weight * value
        named = {f"{added.name}/{name}": metric for name, metric in outcome.metrics.items()}
        return output._replace(
            value=total,
            contributions=(*output.contributions, weight * outcome.value),
            metrics={**output.metrics, **named, "loss": total, added.name: value},
            model_state=outcome.model_state,
            objective_state={**output.objective_state, **state},
        )

    return loss


def _term_loss(base: LossFn, added: Term) -> LossFn:
    """A loss that is only the term's weighted value; it leaves the network's model state unchanged."""

    def loss(context: TurnContext) -> LossOutput:
        before = context.players[added.player]
        output = base(context)
        outcome, state = _evaluate(added, context, output)
        weight = added.weight(context.step) if callable(added.weight) else added.weight
        named = {f"{added.name}/{name}": metric for name, metric in outcome.metrics.items()}
        value = jnp.mean(outcome.value)
        return LossOutput(
            value=weight * value,
            contributions=(weight * outcome.value,),
            metrics={**named, added.name: value},
            outputs=output.outputs,
            model_state=before.model_state,
            objective_state={**before.objective_state, **state},
        )

    return loss


def _evaluate(added: Term, context: TurnContext, output: LossOutput) -> tuple[Outcome, dict[str, Tree]]:
    """The outcome, its value multiplied by `every` if it is lazy, and its new state by name if it keeps one."""
    before = context.players[added.player].objective_state.get(added.name)

    def compute() -> Outcome:
        term_context = TermContext(
            game=context.game,
            players=context.players,
            batch=context.batch,
            step=context.step,
            turn_key=context.key(f"term/{added.name}"),
            player=added.player,
            outputs=output.outputs,
            model_state=output.model_state,
            loss_key=context.turn_key,
            state=before,
        )
        result = added.value(term_context)
        outcome = result if isinstance(result, Outcome) else Outcome(result)
        value = jnp.asarray(outcome.value)
        if value.ndim > 1:
            value = jnp.mean(value, axis=tuple(range(1, value.ndim)))
        model_state = output.model_state if outcome.model_state is None else outcome.model_state
        return Outcome(value, outcome.state, dict(outcome.metrics), model_state)

    def skip() -> Outcome:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(compute))
        state = None if added.initial_state is None else before
        return zeros._replace(state=state, model_state=output.model_state)

    if added.every == 1 or not context.lazy:
        outcome = compute()
    else:
        outcome = jax.lax.cond(context.step % added.every == 0, compute, skip)
        outcome = outcome._replace(value=added.every * outcome.value)
    return outcome, {} if added.initial_state is None else {added.name: outcome.state}
