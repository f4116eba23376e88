"""What objectives are made of: two players' losses from two formulas, terms that add to them, unrolling.

`two_player` turns `critic_loss(real, fake)` and `generator_loss(real, fake)` into an `Objective`;
`add_terms` adds penalties and further terms to any objective; `prepared` lets every critic see its inputs
through packing, noise or augmentation; `unrolled` lets a player look ahead through its opponent's steps.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import named_key
from gan_jax.functional.priors import Prior
from gan_jax.game import Game, Objective, Turn
from gan_jax.objectives._look import Condition, Read, look, score, unconditional
from gan_jax.play import apply_turn
from gan_jax.types import Array, Aux, Batch, LossFn, Moment, Players, Prepare, Tree

ScoreLoss = Callable[[Array, Array], Array]
"""`(real scores [B], fake scores [B]) -> [B]` where the loss is a mean over examples, else a scalar."""


def two_player(
    critic_loss: ScoreLoss,
    generator_loss: ScoreLoss,
    *,
    prior: Prior | None,
    condition: Condition = unconditional,
    critic_condition: Condition | None = None,
    read: Read = score,
    scores: Callable[[Array, Array], tuple[Array, Array]] = lambda real, fake: (real, fake),
    traits: frozenset[str] = frozenset({"mean"}),
) -> Objective:
    """A critic against a generator.

    Args:
      critic_loss: what the critic minimises, of real and fake scores.
      generator_loss: what the generator minimises, of real and fake scores.
      prior: draws the latent z; `None` where the generator's only input is the condition.
      condition: further inputs of both networks, read off the batch.
      critic_condition: further inputs of the critic, where they are not the generator's.
      read: what the losses are of, where it is not the critic's score.
      scores: one number an example, higher for what looks more real, from what was read of real and fake.
      traits: see `Objective.traits`.

    Returns:
      An objective for the players `critic` and `generator`.
    """

    def player(name: str, score_loss: ScoreLoss) -> LossFn:
        def loss(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
            seen, *model_state = look(game, players, batch, moment, condition, critic_condition)
            real, fake = read(seen["real_out"]), read(seen["fake_out"])
            losses = score_loss(real, fake)
            if losses.ndim > 1:  # one value a patch: an example's loss is their mean
                losses = jnp.mean(losses, axis=tuple(range(1, losses.ndim)))
            total = jnp.mean(losses)
            own = dict(zip(("real", "fake"), scores(real, fake), strict=True))
            if name == "generator":
                del own["real"]
            return total, Aux(
                model_state=model_state[name == "critic"],
                objective_state=players[name].objective_state,
                scores=own,
                metrics={"loss": total},
                seen={**seen, "losses": losses},
            )

        return loss

    return Objective(
        losses={
            "critic": player("critic", critic_loss),
            "generator": player("generator", generator_loss),
        },
        traits=traits | LATENT if prior is not None else traits,
        prior=prior,
    )


LATENT = frozenset({"latent"})


class Outcome(NamedTuple):
    """What a term's formula gives.

    Attributes:
      value: the scalar to be added, unweighted.
      objective_state: the term's new memory, where it has one.
      metrics: what else is worth logging, as `player/term/name`.
      model_state: the player's statistics, where the formula called its network once more in training.
    """

    value: Array | float
    objective_state: Tree = None
    metrics: Mapping[str, Array] = {}
    model_state: Tree = None


class TermValue(Protocol):
    """A term of a player's loss, from what the loss saw: a scalar, `(scalar, new objective_state)` or an `Outcome`."""

    def __call__(self, game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Any: ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """Something added to one player's loss.

    Attributes:
      name: under which its value is logged, `player/name`, and its memory kept.
      player: whose loss it joins.
      value: the formula, unweighted; see `TermValue`.
      weight: a number, or `round -> number`.
      every: computed every so many rounds and then scaled by as much (lazy regularisation).
      objective_state: `params -> initial objective_state`.
      requires: traits the objective must have.
      conflicts: traits the objective must not have.
      adds: traits the objective has from now on.
      removes: traits the objective loses.
    """

    name: str
    player: str
    value: TermValue
    weight: float | Callable[[Array], Array] = 1.0
    every: int = 1
    objective_state: Callable[[Tree], Tree] | None = None
    requires: frozenset[str] = frozenset()
    conflicts: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()
    removes: frozenset[str] = frozenset()


def add_terms(objective: Objective, *terms: Term) -> Objective:
    """The objective with `terms` added to its players' losses, each logged under its own name.

    Raises:
      ValueError: if a term's player is not in the game, its name is taken, a trait it needs is missing, or one
        that it conflicts with is there.
    """
    for term in terms:
        objective = _add_term(objective, term)
    return objective


def _add_term(objective: Objective, term: Term) -> Objective:
    if term.player not in objective.losses:
        raise ValueError(
            f"The term {term.name!r} joins the loss of {term.player!r}, but the objective's players are "
            f"{sorted(objective.losses)}."
        )
    check_traits(objective, f"The term {term.name!r}", term.requires, term.conflicts)
    if term.every < 1:
        raise ValueError(f"The term {term.name!r} is computed every n >= 1 rounds, got {term.every}.")
    if (full_name := f"{term.player}/{term.name}") in objective.terms:
        raise ValueError(
            f"The loss of {term.player!r} already has a term named {term.name!r}: add it once, or rename one."
        )
    base = objective.losses[term.player]

    def loss(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
        total, aux = base(game, players, batch, moment)
        value, objective_state, metrics, model_state = _evaluate(term, game, players, batch, moment, aux)
        weight = term.weight(moment.step) if callable(term.weight) else term.weight
        total = total + weight * value
        named = {f"{term.name}/{name}": metric for name, metric in metrics.items()}
        kept = {} if term.objective_state is None else {term.name: objective_state}
        return total, aux._replace(
            model_state=model_state,
            objective_state={**aux.objective_state, **kept},
            metrics={**aux.metrics, **named, "loss": total, term.name: jnp.asarray(value)},
        )

    objective_state = dict(objective.objective_state)
    if term.objective_state is not None:
        before, begin = objective.objective_state.get(term.player, lambda params: {}), term.objective_state
        objective_state[term.player] = lambda params: {**before(params), term.name: begin(params)}
    return dataclasses.replace(
        objective,
        losses={**objective.losses, term.player: loss},
        objective_state=objective_state,
        traits=(objective.traits | term.adds) - term.removes,
        terms=(*objective.terms, full_name),
    )


def check_traits(
    objective: Objective, what: str, requires: frozenset[str], conflicts: frozenset[str]
) -> None:
    """Raises a `ValueError` where `objective` lacks a required trait or has one in conflict."""
    given = sorted(objective.traits)
    if missing := requires - objective.traits:
        raise ValueError(
            f"{what} needs an objective with the traits {sorted(missing)} ({_meanings(missing)}); this one has "
            f"{given}."
        )
    if clash := conflicts & objective.traits:
        raise ValueError(
            f"{what} does not go with the traits {sorted(clash)} ({_meanings(clash)}); the objective has {given}."
        )


TRAITS = {
    "mean": "its losses are means over examples",
    "latent": "its generator is given a latent z",
    "logits": "its critic's loss is softplus(-real) + softplus(fake)",
    "per_example": "it needs a critic that does not couple its batch",
    "features": "its losses are of the critic's features, not of scores",
    "heads": "it reads a head of the critic for every single example",
    "packed": "its critic sees packs of examples",
}
"""What the traits mean, for errors and the documentation."""


def _meanings(traits: frozenset[str]) -> str:
    return "; ".join(TRAITS.get(trait, trait) for trait in sorted(traits))


def _evaluate(term: Term, game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Outcome:
    """The term's outcome, its value scaled where it is lazy, its memory kept where it rests."""

    def now() -> Outcome:
        own = moment._replace(key=named_key(moment.key, f"term/{term.name}"))
        given = term.value(game, players, batch, own, aux)
        if not isinstance(given, Outcome):
            given = Outcome(*given) if isinstance(given, tuple) else Outcome(given)
        model_state = aux.model_state if given.model_state is None else given.model_state
        return Outcome(jnp.asarray(given.value), given.objective_state, dict(given.metrics), model_state)

    if term.every == 1:
        return now()

    def later() -> Outcome:
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(now))
        objective_state = (
            None if term.objective_state is None else players[term.player].objective_state[term.name]
        )
        return nothing._replace(objective_state=objective_state, model_state=aux.model_state)

    outcome = jax.lax.cond(moment.step % term.every == 0, now, later)
    return outcome._replace(value=term.every * outcome.value)


def prepared(objective: Objective, *prepare: Prepare) -> Objective:
    """The objective whose critics see real and fake inputs through `prepare`, in order, after what was there.

    A preparation may have `requires`, `conflicts` and `adds`, sets of traits as a `Term`'s.

    Raises:
      ValueError: if the objective lacks a trait that a preparation requires, or has one in conflict.
    """
    for one in prepare:
        name = type(one).__name__ if dataclasses.is_dataclass(one) else getattr(one, "__name__", "prepare")
        nothing: frozenset[str] = frozenset()
        requires, conflicts = getattr(one, "requires", nothing), getattr(one, "conflicts", nothing)
        check_traits(objective, f"The preparation {name!r}", requires, conflicts)
        traits = objective.traits | getattr(one, "adds", nothing)
        objective = dataclasses.replace(objective, prepare=(*objective.prepare, one), traits=traits)
    return objective


def unrolled(
    objective: Objective,
    steps: int,
    *,
    player: str = "generator",
    opponent: str = "critic",
    remat: bool = False,
) -> Objective:
    """Lets `player` minimise its loss as it will be after `steps` turns of its opponent.

    The opponent's turns are those of `objective`, on the turn's own batch, through `game.field` and the
    opponent's own optimiser; the gradient runs through all of them. Adam needs `eps_root=1e-8`, since its square
    root has no derivative at zero.

    Args:
      objective: the base; `steps=0` returns it unchanged.
      steps: K, at least 0.
      player: who looks ahead.
      opponent: whose turns are played.
      remat: recompute each turn in the backward pass instead of keeping it: memory for time.

    Raises:
      ValueError: if `steps` is negative or a player is not in the objective; when a game is built, if the
        opponent's optimiser has no derivative.

    References:
      Metz et al., Unrolled Generative Adversarial Networks, 2017, equations (4) to (8) (arXiv:1611.02163).
    """
    if steps < 0:
        raise ValueError(f"unrolled takes 0 or more steps, got {steps}.")
    if missing := {player, opponent} - set(objective.losses):
        raise ValueError(f"unrolled names {sorted(missing)}, but the players are {sorted(objective.losses)}.")
    if steps == 0:
        return objective
    base = objective.losses[player]

    def loss(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
        inner = dataclasses.replace(game, objective=objective)

        def look_ahead(state: Any, place: Array) -> tuple[Any, None]:
            key = jax.random.fold_in(named_key(moment.key, "unrolled"), place)
            ahead, _ = apply_turn(
                inner,
                Turn((opponent,)),
                {**players, opponent: state},
                batch,
                moment._replace(key=key),
            )
            return ahead[opponent], None

        step = jax.checkpoint(look_ahead) if remat else look_ahead
        state, _ = jax.lax.scan(step, players[opponent], jnp.arange(steps))
        return base(inner, {**players, opponent: state}, batch, moment)

    return dataclasses.replace(
        objective,
        losses={**objective.losses, player: loss},
        traits=objective.traits - {"mean"},
        checks=(*objective.checks, functools.partial(_check_differentiable, opponent)),
    )


def _check_differentiable(opponent: str, game: Game) -> None:
    """Raises a `ValueError` where the opponent's first step has no derivative at a gradient with a zero in it."""
    optimizer = game.optimizers[opponent]

    def step(gradient: Array) -> Array:
        params = {"alive": jnp.ones(()), "dead": jnp.ones(())}
        gradients = {"alive": jnp.ones(()), "dead": gradient}
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return updates["dead"]

    try:
        # Games are built inside of traces too.
        with jax.ensure_compile_time_eval():
            slope = float(jax.jit(jax.grad(step))(jnp.zeros(())))
    except Exception:  # an optimiser made for these very parameters, by their names or shapes
        return
    if not math.isfinite(slope):
        raise ValueError(
            f"unrolled differentiates through the optimiser of {opponent!r}, whose step has no derivative where a "
            "gradient is zero: the first dead unit would make the loss NaN. Give it an eps under the root: "
            "optax.adam(..., eps_root=1e-8)."
        )
