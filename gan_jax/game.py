"""A game: players, each with a network, an optimiser and a loss, who move in turns.

Functions live in frozen dataclasses (never pytrees, never hashed by value); arrays live in NamedTuples
(always pytrees). A mistake that can be found without playing is an error when the game is constructed.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax

from gan_jax.keys import named_key
from gan_jax.network import Network
from gan_jax.outputs import ForwardOutputs, LossOutput
from gan_jax.schedule import Schedule, Turn, check_schedule
from gan_jax.state import Players
from gan_jax.types import Array, Batch, Key, Metrics, Tree

# ---------------------------------------------------------------------------------------------------------
# The arguments of a loss and its result


@dataclasses.dataclass(frozen=True, eq=False)
class TurnContext:
    """The argument of a loss: the game, its state, and the batch and the key of the turn.

    Attributes:
      game: networks, objective and optimisers.
      players: every player's state.
      batch: the turn's batch, leaves `[B, ...]`.
      step: the round, an int32 scalar.
      turn_key: the turn's PRNG key, shared by its players, so that all use the same z. Draw with `key(name)`.
      lazy: whether terms with an interval are computed in their rounds only, and multiplied by it there; where a
        state is evaluated, they are what they are in any round.
    """

    game: Game
    players: Players
    batch: Batch
    step: Array
    turn_key: Key
    lazy: bool = True

    def key(self, name: str) -> Key:
        """Derives a key for one purpose: the same name gives the same draw in every loss of the turn."""
        return named_key(self.turn_key, name)

    def with_players(self, players: Players) -> TurnContext:
        """The same turn at another point."""
        return dataclasses.replace(self, players=players)

    def with_key(self, key: Key) -> TurnContext:
        """The same turn with other draws."""
        return dataclasses.replace(self, turn_key=key)


def loss_output(
    context: TurnContext,
    player: str,
    losses: Array,
    *,
    model_state: Tree = None,
    outputs: ForwardOutputs | None = None,
    metrics: Mapping[str, Array] | None = None,
) -> LossOutput:
    """Wraps the values of a player's loss as the result of a `LossFn`.

    Args:
      context: the argument of the loss.
      player: whose loss it is.
      losses: `[B]` (or `[B, ...patches]`, which are averaged), one loss per example; or a scalar.
      model_state: the player's new model state; unchanged if `None`.
      outputs: intermediate results for terms and diagnostics.
      metrics: scalars to be logged next to `loss`.

    Returns:
      The mean loss with its metrics, outputs and states.
    """
    losses = jnp.asarray(losses)
    if losses.ndim > 1:
        losses = jnp.mean(losses, axis=tuple(range(1, losses.ndim)))
    value = jnp.mean(losses)
    state = context.players[player]
    return LossOutput(
        value=value,
        contributions=(losses,),
        metrics={**(metrics or {}), "loss": value},
        outputs=(outputs or ForwardOutputs())._replace(losses=losses),
        model_state=state.model_state if model_state is None else model_state,
        objective_state=state.objective_state,
    )


class LossFn(Protocol):
    """A player's loss, differentiated with respect to that player's parameters only."""

    def __call__(self, context: TurnContext, /) -> LossOutput: ...


Grads: TypeAlias = dict[str, Tree]


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """The gradients that the players of a turn follow from a point, possibly modified.

    Attributes:
      gradients: `(turn, context) -> ({player: grads}, {player: LossOutput})`.
      check: raises a `ValueError` for a game that the field does not support; called when the game is constructed.
    """

    gradients: Callable[[Turn, TurnContext], tuple[Grads, dict[str, LossOutput]]]
    check: Callable[[Game], None] = lambda game: None

    def __call__(self, turn: Turn, context: TurnContext) -> tuple[Grads, dict[str, LossOutput]]:
        """The gradients and the results of the losses, by player."""
        return self.gradients(turn, context)


class PlayedTurn(NamedTuple):
    """A turn that was played: the argument of a diagnostic.

    Attributes:
      turn: the turn of the schedule.
      context: the turn's context; its `players` are the states before the turn.
      after: the players' states after the turn.
      grads: the gradients passed to the optimisers, by player.
      losses: the results of the losses, by player.
    """

    turn: Turn
    context: TurnContext
    after: Players
    grads: Mapping[str, Tree]
    losses: Mapping[str, LossOutput]


class Diagnostic(Protocol):
    """A function of a played turn that returns scalars (or small vectors), named `player/metric`.

    It is not called for turns that minimise only terms (`regularization_turn`).
    """

    def __call__(self, played: PlayedTurn, /) -> Metrics: ...


# ---------------------------------------------------------------------------------------------------------
# The objective


Condition: TypeAlias = Callable[[Batch], tuple[Array, ...]]
"""Reads extra inputs of a network from the batch."""


def unconditional(batch: Batch) -> tuple[Array, ...]:
    """No extra inputs."""
    return ()


@dataclasses.dataclass(frozen=True)
class GeneratorRole:
    """The role of a player that makes samples.

    Attributes:
      target: the batch's entry whose distribution the samples imitate.
      condition: reads the generator's extra inputs from a batch; they follow the latent.
    """

    target: str = "x"
    condition: Condition = unconditional


@dataclasses.dataclass(frozen=True)
class CriticRole:
    """The role of a player that scores examples.

    Attributes:
      generator: the player whose samples it scores.
      target: the batch's entry that holds its real examples.
    """

    generator: str = "generator"
    target: str = "x"


@dataclasses.dataclass(frozen=True)
class AuxiliaryRole:
    """The role of a player that neither makes samples nor scores them: another player's loss uses its network."""


Role: TypeAlias = GeneratorRole | CriticRole | AuxiliaryRole


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlayerObjective:
    """One player's part of an objective.

    Attributes:
      role: what the player does in the game.
      loss: what it minimises.
      initial_state: the initial objective state of its losses, by name, each `params -> initial value`.
      step_terms: terms with an optimiser step of their own, by name; see `Term.own_step`.
    """

    role: Role
    loss: LossFn
    initial_state: Mapping[str, Callable[[Tree], Tree]] = dataclasses.field(default_factory=dict)
    step_terms: Mapping[str, LossFn] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputTransform:
    """A transform of the critic's inputs, real and fake alike: packing, noise, augmentation.

    Attributes:
      name: identifies the transform in messages.
      apply: `(inputs, key, step, objective_state) -> inputs`. The inputs are the critic's `(x, *conditions)`, each
        `[B, ...]`; real and fake get different keys; `step` is the round and `objective_state` the critic's.
      packs: the number of examples that are concatenated into one input of the critic, `[B / packs, ...]`.
      reads_state: the entry of the critic's objective state that it needs, if any (adaptive augmentation keeps its
        probability there).
    """

    name: str
    apply: Callable[[tuple[Array, ...], Key, Array, Mapping[str, Tree]], tuple[Array, ...]]
    packs: int = 1
    reads_state: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TermRecord:
    """The properties of an added term that a game checks.

    Attributes:
      player: the player whose loss it was added to.
      name: the name under which it is logged.
      uncoupled_critic: a critic that must not couple the examples of its batch, since the term is a formula of
        single examples' scores or gradients.
      single_examples: the term reads the critic's outputs for single examples, so inputs cannot be packed.
      own_step: the term has an optimiser step of its own, which a turn of the schedule takes.
    """

    player: str
    name: str
    uncoupled_critic: str | None = None
    single_examples: bool = False
    own_step: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Objective:
    """What every player minimises.

    Attributes:
      players: each player's role and loss, by name.
      prior: draws the generator's latent, `(key, n) -> z`; `None` where a condition is its only input.
      transforms: applied in order to the critics' inputs, real and fake alike.
      terms: the terms that were added to the losses; each player's terms have different names.
      logits: the critic's loss is softplus(-real) + softplus(fake), so its score is the log-odds of being real.
      on_features: the losses compare the critic's features, not its score.
      checks: extra checks of a game with this objective; each raises a `ValueError` if a part does not fit.

    Raises:
      ValueError: if the prior is no function of a key and a number of latents.
    """

    players: Mapping[str, PlayerObjective]
    prior: Callable[[Key, int], Tree] | None = None
    transforms: tuple[InputTransform, ...] = ()
    terms: tuple[TermRecord, ...] = ()
    logits: bool = False
    on_features: bool = False
    checks: tuple[Callable[[Game], None], ...] = ()

    def __post_init__(self) -> None:
        if self.prior is not None and not _is_prior(self.prior):
            name = getattr(self.prior, "__name__", None) or repr(self.prior)
            hint = f": call {name} with its size" if callable(self.prior) else ""
            raise ValueError(
                f"An objective's prior is a function (key, n) -> z, as gaussian(16) returns it; got {name}{hint}."
            )

    @property
    def packs(self) -> int:
        """The number of examples in one input of the critic."""
        count = 1
        for transform in self.transforms:
            count *= transform.packs
        return count

    def with_role(self, role: type) -> tuple[str, ...]:
        """The names of the players with a role of this type, in order."""
        return tuple(name for name, player in self.players.items() if isinstance(player.role, role))

    def with_player(self, name: str, **changes: Any) -> Objective:
        """Returns the objective with fields of one player's `PlayerObjective` replaced."""
        changed = dataclasses.replace(self.players[name], **changes)
        return dataclasses.replace(self, players={**self.players, name: changed})


# ---------------------------------------------------------------------------------------------------------
# The game


@dataclasses.dataclass(frozen=True, eq=False)
class Player:
    """One player of a game.

    Attributes:
      network: its two pure functions.
      optimizer: an optax transformation.
      ema: the decay of an exponential moving average of parameters and running statistics, in [0, 1), or
        `round -> decay` (see `optim.ema_half_life`); `None` keeps no average. A number is warmed up, see
        `training.step.ema_decay`.
      role: set by the game from its objective; not to be given.

    Raises:
      ValueError: if the network is no `Network`, the optimiser no transformation, or the decay a number outside
        [0, 1).
    """

    network: Network
    optimizer: optax.GradientTransformation
    ema: float | Callable[[Array], Array] | None = None
    role: Role = dataclasses.field(default=AuxiliaryRole(), kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.network, Network):
            raise ValueError(
                "Player(network=...) takes a Network, as from_linen(module, inputs) returns it; got "
                f"{self.network!r}."
            )
        if not isinstance(self.optimizer, optax.GradientTransformation):
            raise ValueError(
                f"Player(optimizer=...) takes an optax transformation, as optax.adam(1e-3); got {self.optimizer!r}."
            )
        if self.ema is None or callable(self.ema):
            return
        if isinstance(self.ema, bool | str) or not 0 <= self.ema < 1:
            raise ValueError(f"The decay of a moving average must lie in [0, 1), got ema={self.ema!r}.")


def _is_prior(function: Any) -> bool:
    """Whether a function can be called as a prior; where only a call says so, that it draws two latents."""
    if not callable(function):
        return False
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function of another language
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    needed = [p for p in signature.parameters.values() if p.default is p.empty and p.kind not in _VARIADIC]
    if len(needed) != 1:
        return True
    try:  # `(key, n=16)` is a prior, and `uniform(dim, low=-1, high=1)` makes one
        drawn = jax.tree.leaves(jax.eval_shape(lambda key: function(key, 2), jax.random.key(0)))
    except Exception:  # whatever a function does with arguments that it is not made for
        return False
    return bool(drawn) and all(leaf.shape[:1] == (2,) for leaf in drawn)


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_objective(given: Any, where: str) -> None:
    """Checks that an objective is one, and not the function that makes it, or its name.

    Raises:
      ValueError: if it is none; `where` says what takes it.
    """
    if isinstance(given, Objective):
        return
    name = getattr(given, "__name__", None) or repr(given)
    hint = f": call {name} with its prior" if callable(given) else ""
    raise ValueError(f"{where} takes an objective, as hinge(gaussian(16)) returns it; got {name}{hint}.")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """Players, an objective and a schedule.

    Attributes:
      players: a `Player` for every player of the objective, by name.
      objective: what they minimise.
      schedule: the turns of a round.
      phases: `(round -> bool, schedule)` pairs read on the host; the first that holds replaces `schedule`.
      field: the gradient field; `None` is the plain one, `field.gradient_field`.

    Raises:
      ValueError: if players, networks, turns and terms do not match.
    """

    players: Mapping[str, Player]
    objective: Objective
    schedule: Schedule
    phases: tuple[tuple[Callable[[int], bool], Schedule], ...] = ()
    field: Field | None = None

    def __post_init__(self) -> None:
        check_objective(self.objective, "Game(objective=...)")
        for name, player in self.players.items():
            if not isinstance(player, Player):
                raise ValueError(
                    f"{name!r} is a Player(network, optimizer), got {type(player).__name__} {player!r}."
                )
        parts = self.objective.players
        if set(self.players) != set(parts):
            raise ValueError(
                f"The objective has losses for {sorted(parts)}, but players are given for {sorted(self.players)}: "
                "every player needs a loss, a network and an optimiser."
            )
        ordered = {
            name: dataclasses.replace(self.players[name], role=part.role) for name, part in parts.items()
        }
        object.__setattr__(self, "players", ordered)
        for schedule in (self.schedule, *(schedule for _, schedule in self.phases)):
            check_schedule(schedule, tuple(parts))
            self._check_terms(schedule)
        for name in self.objective.with_role(CriticRole):
            check_score(name, self.players[name].network)
        for term in self.objective.terms:
            critic = term.uncoupled_critic
            if critic is not None and self.players[critic].network.couples_batch:
                raise coupled_error(term.name, critic)
        for objective_check in self.objective.checks:
            objective_check(self)
        if self.field is not None:
            self.field.check(self)

    def _check_terms(self, schedule: Schedule) -> None:
        played = {(player, term) for t in schedule for player in t.players for term in t.terms}
        known = {(term.player, term.name) for term in self.objective.terms if term.own_step}
        if unknown := played - known:
            raise ValueError(
                f"A turn plays the terms {sorted(unknown)}, but those with their own step are {sorted(known)}: "
                "add them with own_step=True."
            )
        if missing := known - played:
            raise ValueError(
                f"The terms {sorted(missing)} have an optimiser step of their own, but no turn plays them: add "
                "regularization_turn(player, term, every=n) to the schedule."
            )


def check_game(function: str, game: Any) -> None:
    """Checks that a game is one.

    Raises:
      ValueError: naming the function, and what was given.
    """
    if not isinstance(game, Game):
        raise ValueError(f"{function} takes a Game, got {type(game).__name__}.")


def coupled_error(term: str, critic: str) -> ValueError:
    """The error for a term of single examples on a critic that couples its batch."""
    return ValueError(
        f"The term {term!r} is a formula of single examples (such as a gradient penalty), but {critic!r} couples "
        "its batch (batch normalisation or a minibatch layer): use layer or spectral normalisation there."
    )


def check_score(name: str, network: Network) -> None:
    """Checks that a critic's score is floating, `[B]` or `[B, ...patches]`, and not `[B, 1]`.

    The last is what a dense layer of one unit returns: read as patches it would be averaged rightly by some losses,
    and broadcast against `[B]` to `[B, B]` by others.

    A network without a specification of its inputs is not checked.

    Raises:
      ValueError: if the score has another dtype or shape.
    """
    if network.inputs is None:
        return
    score = _score_shape(network)
    if score is not None:
        check_score_shape(name, score, jax.tree.leaves(network.inputs)[0].shape[0])


@functools.lru_cache(maxsize=256)
def _score_shape(network: Network) -> Any:
    """Shape and dtype of a network's score for the inputs that it specifies; `None` if it returns no score."""
    params, model_state = jax.eval_shape(network.init, jax.random.key(0))

    def call(params: Tree, model_state: Tree, inputs: tuple[Any, ...], key: Key) -> Any:
        return network.apply(params, model_state, *inputs, train=True, key=key)[0]

    out = jax.eval_shape(call, params, model_state, network.inputs, jax.random.key(0))
    return out.get("score") if isinstance(out, Mapping) else out


def check_score_shape(name: str, score: Any, batch: int) -> None:
    """Checks a score of a batch of this size; see `check_score`."""
    shape, dtype = getattr(score, "shape", None), getattr(score, "dtype", None)
    if (
        shape is None
        or dtype is None
        or not shape
        or shape[0] != batch
        or not jnp.issubdtype(dtype, jnp.floating)
    ):
        raise ValueError(
            f"The score of {name!r} must be floating, [B] or [B, ...patches]; for {batch} examples its network "
            f"returns {score if shape is None else f'{dtype}{list(shape)}'}."
        )
    if shape[1:] == (1,):
        raise ValueError(
            f"The score of {name!r} must be [B], or [B, ...patches], but for {batch} examples its network returns "
            f"{dtype}{list(shape)}: drop the last axis, score[:, 0]."
        )
