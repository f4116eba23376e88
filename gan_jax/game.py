"""A game: named players, each with a network, an optimiser and a loss, who move in turns.

Functions live in frozen dataclasses (never pytrees, never hashed by value); arrays live in NamedTuples
(always pytrees). What can be known to be wrong about a game is an error when it is built.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from gan_jax.functional import dependence
from gan_jax.types import Array, Field, Key, LossFn, Prepare, Tree


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network as two pure functions.

    Attributes:
      init: `key -> (params, model_state)`.
      apply: `(params, model_state, *inputs, train, key) -> (out, model_state)`. With `train=False` the statistics come back
        as they went in. A critic's `out` is its score `[B]`, or a mapping with `score` and further heads.
      inputs: the input specification: shape and type of each input, with any batch; `None` where it is not known.
    """

    init: Callable[[Key], tuple[Tree, Tree]]
    apply: Callable[..., tuple[Any, Tree]]
    inputs: tuple[jax.ShapeDtypeStruct, ...] | None = None

    @functools.cached_property
    def couples_batch(self) -> bool | None:
        """Whether one example's output depends on the others of its batch (batch normalisation, minibatch layers).

        It is found from the traced program; `None` without an input specification. A per-example penalty has no
        meaning on a critic that couples its batch.
        """
        return None if self.inputs is None else dependence.couples_batch(self.init, self.apply, self.inputs)


def rematerialized(network: Network, policy: Callable[..., bool] | None = None) -> Network:
    """The network, its activations computed again in the backward pass instead of kept: memory for time.

    A turn then holds the activations of one call of the network at a time, not of all of them (real, fake, the
    penalty's). Within deep networks wrap the blocks (`flax.linen.remat`); for unrolled turns there is
    `unrolled(..., remat=True)`. XLA's CPU compiler finds the repeated work and keeps the activations all the same,
    except across the steps of a loop.

    Args:
      network: any.
      policy: what is kept all the same, of `jax.checkpoint_policies`; nothing by default.
    """

    def apply(
        params: Tree, model_state: Tree, *inputs: Any, train: bool, key: Key | None = None
    ) -> tuple[Any, Tree]:
        def call(
            params: Tree, model_state: Tree, inputs: tuple[Any, ...], key: Key | None
        ) -> tuple[Any, Tree]:
            return network.apply(params, model_state, *inputs, train=train, key=key)

        return jax.checkpoint(call, policy=policy)(params, model_state, inputs, key)

    return dataclasses.replace(network, apply=apply)


@dataclasses.dataclass(frozen=True)
class Turn:
    """One simultaneous update of the players it names; `fresh=False` plays on the preceding turn's batch."""

    players: tuple[str, ...]
    fresh: bool = True


Schedule = tuple[Turn, ...]


def turn(*players: str, fresh: bool = True) -> Turn:
    """One simultaneous update of `players`.

    >>> C, G = turn("critic"), turn("generator")
    >>> len(5 * (C,) + (G,))
    6
    """
    if not players or len(set(players)) != len(players):
        raise ValueError(f"A turn names one or more different players, got {players}.")
    return Turn(players, fresh)


def alternating(n_critic: int = 1, n_generator: int = 1) -> Schedule:
    """`n_critic` turns of the critic, then `n_generator` of the generator.

    Raises:
      ValueError: if either count is below 1.
    """
    if n_critic < 1 or n_generator < 1:
        raise ValueError(f"Counts of turns start at 1, got {n_critic} and {n_generator}.")
    return n_critic * (turn("critic"),) + n_generator * (turn("generator"),)


def simultaneous() -> Schedule:
    """Both players move at once, from the same point and on the same batch."""
    return (turn("critic", "generator"),)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Objective:
    """Player name -> loss function, and what the losses remember.

    Attributes:
      losses: a `LossFn` for every player.
      objective_state: for players that remember something, `params -> dict` of initial memory by name.
      traits: what the losses promise or need: `mean` (a mean over examples, so microbatches average exactly),
        `logits` (the critic's loss is softplus(-real) + softplus(fake)), `per_example` (needs a critic that does
        not couple its batch), `latent`, `features`, `heads`, `packed`; `objectives._compose.TRAITS` says what each
        means.
      prepare: applied in order to the critic's inputs, real and fake alike.
      prior: draws the generator's latent, `(key, n) -> z`; `None` where a condition is its only input.
      terms: `player/name` of every term that was added, no name twice.
      checks: what else building a game asks of its parts; each raises a `ValueError` where they do not fit.
    """

    losses: Mapping[str, LossFn]
    objective_state: Mapping[str, Callable[[Tree], dict[str, Tree]]] = dataclasses.field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    prepare: tuple[Prepare, ...] = ()
    prior: Callable[[Key, int], Tree] | None = None
    terms: tuple[str, ...] = ()
    checks: tuple[Callable[[Game], None], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """Networks, an objective, optimisers and a schedule.

    Attributes:
      networks: a `Network` for every player of the objective.
      objective: the losses.
      optimizers: an optax transformation for every player.
      schedule: the turns of a round.
      phases: `(round -> bool, schedule)` pairs read on the host; the first that holds replaces `schedule`.
      ema: decay of an exponential moving average for the players that keep one: a float, or `round -> decay`.
      field: the gradient field; `None` is the plain one, `field.gradient_field`.

    Raises:
      ValueError: where players, networks, optimisers, turns or traits do not fit together.
    """

    networks: Mapping[str, Network]
    objective: Objective
    optimizers: Mapping[str, optax.GradientTransformation]
    schedule: Schedule
    phases: tuple[tuple[Callable[[int], bool], Schedule], ...] = ()
    ema: Mapping[str, float | Callable[[Array], Array]] = dataclasses.field(default_factory=dict)
    field: Field | None = None

    def __post_init__(self) -> None:
        names = set(self.objective.losses)
        for what, given in (("networks", self.networks), ("optimizers", self.optimizers)):
            if set(given) != names:
                raise ValueError(
                    f"The objective has losses for {sorted(names)}, but {what} are given for "
                    f"{sorted(given)}: every player needs a loss, a network and an optimiser."
                )
        if unknown := set(self.ema) - names:
            raise ValueError(f"ema names {sorted(unknown)}, but the players are {sorted(names)}.")
        for schedule in (self.schedule, *(schedule for _, schedule in self.phases)):
            _check_schedule(schedule, names)
        if "per_example" in self.objective.traits:
            coupled = [n for n in sorted(names) if "critic" in n and self.networks[n].couples_batch]
            if coupled:
                raise ValueError(
                    f"The objective has a per-example term (a gradient penalty, say), but {coupled} couple "
                    "their batch (batch normalisation or a minibatch layer): use layer or spectral "
                    "normalisation there."
                )
        for objective_check in self.objective.checks:
            objective_check(self)
        # A field that is not right for every game says so here (`field.accumulated`).
        if check := getattr(self.field, "check", None):
            check(self)

    @property
    def players(self) -> tuple[str, ...]:
        """The players' names, in the order of the objective's losses."""
        return tuple(self.objective.losses)


def _check_schedule(schedule: Schedule, names: set[str]) -> None:
    if not schedule:
        raise ValueError("A schedule has one turn or more.")
    for played in schedule:
        if unknown := set(played.players) - names:
            raise ValueError(f"A turn names {sorted(unknown)}, but the players are {sorted(names)}.")
    if not schedule[0].fresh:
        raise ValueError("The first turn of a round has no preceding batch: it must be fresh.")


def fresh_turns(schedule: Schedule) -> int:
    """How many batches one round of `schedule` consumes: T."""
    return sum(played.fresh for played in schedule)


class PlayerState(NamedTuple):
    """All that belongs to one player."""

    params: Tree
    model_state: Tree
    opt_state: Tree
    objective_state: dict[str, Tree]


class TrainState(NamedTuple):
    """All that a run is, between two rounds.

    Attributes:
      step: rounds played, int32.
      cursor: batches consumed, int32.
      key: the run's PRNG key, never changed: every draw folds in `step` and the turn's place.
      players: `{name: PlayerState}`.
      ema: `{name: (params, model_state)}` for the players that keep an average.
    """

    step: Array
    cursor: Array
    key: Key
    players: dict[str, PlayerState]
    ema: dict[str, tuple[Tree, Tree]]


def with_player(players: Mapping[str, PlayerState], name: str, **changes: Any) -> dict[str, PlayerState]:
    """`players` with fields of one of them replaced."""
    return {**players, name: players[name]._replace(**changes)}


def parameter_count(params: Tree) -> int:
    """How many numbers a parameter tree holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
