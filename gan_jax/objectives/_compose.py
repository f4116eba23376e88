"""What objectives are made of: two players' losses from two formulas, terms that add to them, unrolling.

`two_player` turns `critic_loss(real, fake)` and `generator_loss(real, fake)` into an `Objective`;
`add_terms` adds penalties and further terms to any objective; `prepared` lets every critic see its inputs
through packing, noise or augmentation; `unrolled` lets a player look ahead through its opponent's steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from gan_jax.functional.batch import named_key
from gan_jax.functional.priors import Prior
from gan_jax.game import Game, Objective, Turn
from gan_jax.play import apply_turn
from gan_jax.types import Array, Aux, Batch, LossFn, Moment, Players, Prepare, Tree

ScoreLoss = Callable[[Array, Array], Array]
"""`(real scores [B], fake scores [B]) -> [B]` where the loss is a mean over examples, else a scalar."""
Condition = Callable[[Batch], tuple[Array, ...]]
"""Further inputs of both networks, read off the batch."""


def unconditional(batch: Batch) -> tuple[Array, ...]:
    """No further inputs."""
    return ()


def label_condition(batch: Batch) -> tuple[Array, ...]:
    """The label y `[B]`, given to generator and critic."""
    return (batch["y"],)


def batch_size(batch: Batch) -> int:
    """B of the batch's `x`."""
    return jax.tree.leaves(batch["x"])[0].shape[0]


def as_mapping(out: Any) -> dict[str, Array]:
    """A critic's output as a mapping, its heads in float32 (or wider): losses are not computed in bf16."""
    heads = dict(out) if isinstance(out, Mapping) else {"score": out}
    return {name: at_least_float32(head) for name, head in heads.items()}


def at_least_float32(x: Array) -> Array:
    """bf16 and f16 to float32; float32, float64 and integers as they are."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return x.astype(wide) if jnp.issubdtype(x.dtype, jnp.floating) else x


def generate(
    game: Game, players: Players, batch: Batch, moment: Moment, condition: Condition
) -> tuple[Array, Tree, Tree]:
    """The turn's fake samples: `(sample [B, ...], latent, the generator's new statistics)`."""
    prior = game.objective.prior
    inputs: tuple[Any, ...] = condition(batch)
    latent = None
    if prior is not None:
        latent = prior(named_key(moment.key, "latent"), batch_size(batch))
        inputs = (latent, *inputs)
    generator = players["generator"]
    sample, stats = game.networks["generator"].apply(
        generator.params, generator.stats, *inputs, train=True, key=named_key(moment.key, "generator")
    )
    return sample, latent, stats


def prepare_inputs(
    game: Game, players: Players, inputs: tuple[Array, ...], moment: Moment, name: str, critic: str = "critic"
) -> tuple[Array, ...]:
    """The critic's inputs as it will see them; `name` tells real from fake, which draw independently."""
    for place, prepare in enumerate(game.objective.prepare):
        inputs = prepare(
            inputs,
            key=named_key(moment.key, f"prepare/{place}/{name}"),
            step=moment.step,
            memory=players[critic].memory,
        )
    return inputs


def judge(
    game: Game,
    players: Players,
    inputs: tuple[Array, ...],
    stats: Tree,
    moment: Moment,
    name: str,
    critic: str = "critic",
) -> tuple[dict[str, Array], Tree]:
    """The critic's output on prepared inputs, and its statistics after the call."""
    out, stats = game.networks[critic].apply(
        players[critic].params, stats, *inputs, train=True, key=named_key(moment.key, f"{critic}/{name}")
    )
    return as_mapping(out), stats


def look(
    game: Game, players: Players, batch: Batch, moment: Moment, condition: Condition
) -> tuple[dict[str, Any], Tree, Tree]:
    """Everything a two-player loss needs: `(seen, the generator's and the critic's new statistics)`.

    What a player's loss does not use is dropped by the compiler.
    """
    sample, latent, generator_stats = generate(game, players, batch, moment, condition)
    conditions = condition(batch)
    real = prepare_inputs(game, players, (batch["x"], *conditions), moment, "real")
    fake = prepare_inputs(game, players, (sample, *conditions), moment, "fake")
    real_out, stats = judge(game, players, real, players["critic"].stats, moment, "real")
    fake_out, stats = judge(game, players, fake, stats, moment, "fake")
    seen = {
        "sample": sample,
        "real": real,
        "fake": fake,
        "real_out": real_out,
        "fake_out": fake_out,
    }
    if latent is not None:
        seen["latent"] = latent
    return seen, generator_stats, stats


def two_player(
    critic_loss: ScoreLoss,
    generator_loss: ScoreLoss,
    *,
    prior: Prior | None,
    condition: Condition = unconditional,
    traits: frozenset[str] = frozenset({"mean"}),
) -> Objective:
    """A critic against a generator.

    Args:
      critic_loss: what the critic minimises, of real and fake scores.
      generator_loss: what the generator minimises, of real and fake scores.
      prior: draws the latent z; `None` where the generator's only input is the condition.
      condition: further inputs of both networks, read off the batch.
      traits: see `Objective.traits`.

    Returns:
      An objective for the players `critic` and `generator`.
    """

    def player(name: str, score_loss: ScoreLoss) -> LossFn:
        def loss(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
            seen, generator_stats, critic_stats = look(game, players, batch, moment, condition)
            real, fake = seen["real_out"]["score"], seen["fake_out"]["score"]
            total = jnp.mean(score_loss(real, fake))
            return total, Aux(
                stats=critic_stats if name == "critic" else generator_stats,
                memory=players[name].memory,
                scores={"real": real, "fake": fake} if name == "critic" else {"fake": fake},
                metrics={"loss": total},
                seen=seen,
            )

        return loss

    return Objective(
        losses={
            "critic": player("critic", critic_loss),
            "generator": player("generator", generator_loss),
        },
        traits=traits,
        prior=prior,
    )


class TermValue(Protocol):
    """A term of a player's loss, from what the loss saw; with memory, also the term's new memory."""

    def __call__(self, game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux) -> Any: ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """Something added to one player's loss.

    Attributes:
      name: under which its value is logged, `player/name`, and its memory kept.
      player: whose loss it joins.
      value: the formula, unweighted; returns a scalar, or `(scalar, new memory)` where `memory` is given.
      weight: a number, or `round -> number`.
      every: computed every so many rounds and then scaled by as much (lazy regularisation).
      memory: `params -> initial memory`.
      requires: traits the objective must have.
      adds: traits the objective has from now on.
      removes: traits the objective loses.
    """

    name: str
    player: str
    value: TermValue
    weight: float | Callable[[Array], Array] = 1.0
    every: int = 1
    memory: Callable[[Tree], Tree] | None = None
    requires: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()
    removes: frozenset[str] = frozenset()


def add_terms(objective: Objective, *terms: Term) -> Objective:
    """The objective with `terms` added to its players' losses, each logged under its own name.

    Raises:
      ValueError: if a term's player is not in the game, its name is taken, or a trait it needs is missing.
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
    if missing := term.requires - objective.traits:
        raise ValueError(
            f"The term {term.name!r} needs an objective with the traits {sorted(missing)}; this one has "
            f"{sorted(objective.traits)}."
        )
    if term.every < 1:
        raise ValueError(f"The term {term.name!r} is computed every n >= 1 rounds, got {term.every}.")
    if (full_name := f"{term.player}/{term.name}") in objective.terms:
        raise ValueError(
            f"The loss of {term.player!r} already has a term named {term.name!r}: add it once, or rename one."
        )
    base = objective.losses[term.player]

    def loss(game: Game, players: Players, batch: Batch, moment: Moment) -> tuple[Array, Aux]:
        total, aux = base(game, players, batch, moment)
        value, memory = _evaluate(term, game, players, batch, moment, aux)
        weight = term.weight(moment.step) if callable(term.weight) else term.weight
        total = total + weight * value
        metrics = {**aux.metrics, "loss": total, term.name: value}
        return total, aux._replace(memory={**aux.memory, **memory}, metrics=metrics)

    memory = dict(objective.memory)
    if term.memory is not None:
        before, begin = objective.memory.get(term.player, lambda params: {}), term.memory
        memory[term.player] = lambda params: {**before(params), term.name: begin(params)}
    return dataclasses.replace(
        objective,
        losses={**objective.losses, term.player: loss},
        memory=memory,
        traits=(objective.traits | term.adds) - term.removes,
        terms=(*objective.terms, full_name),
    )


def _evaluate(
    term: Term, game: Game, players: Players, batch: Batch, moment: Moment, aux: Aux
) -> tuple[Array, dict[str, Tree]]:
    """The term's value (scaled where it is lazy) and its memory by name."""

    def now() -> tuple[Array, dict[str, Tree]]:
        own = moment._replace(key=named_key(moment.key, f"term/{term.name}"))
        value = term.value(game, players, batch, own, aux)
        if term.memory is None:
            return jnp.asarray(value, jnp.float32), {}
        return jnp.asarray(value[0], jnp.float32), {term.name: value[1]}

    if term.every == 1:
        return now()

    def later() -> tuple[Array, dict[str, Tree]]:
        kept = {} if term.memory is None else {term.name: players[term.player].memory[term.name]}
        return jnp.zeros(()), kept

    value, memory = jax.lax.cond(moment.step % term.every == 0, now, later)
    return term.every * value, memory


def critic_closure(
    game: Game,
    players: Players,
    moment: Moment,
    conditions: tuple[Array, ...] = (),
    critic: str = "critic",
) -> Callable[[Array], Array]:
    """The critic as `x [B, ...] -> score [B]` at its current parameters; its statistics stay as they are."""

    def score(x: Array) -> Array:
        out, _ = judge(game, players, (x, *conditions), players[critic].stats, moment, "closure", critic)
        return out["score"]

    return score


def prepared(objective: Objective, *prepare: Prepare) -> Objective:
    """The objective whose critics see real and fake inputs through `prepare`, in order, after what was there."""
    return dataclasses.replace(objective, prepare=(*objective.prepare, *prepare))


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
      ValueError: if `steps` is negative or a player is not in the objective.

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
    )
