"""One round as a pure function of the state and its batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp

from gan_jax.functional.options import check_key
from gan_jax.game import Diagnostic, Game, Player, TurnContext, check_game
from gan_jax.keys import named_key
from gan_jax.play import apply_turn
from gan_jax.schedule import Schedule, Turn, check_schedule, fresh_turns
from gan_jax.state import PlayerState, TrainState
from gan_jax.types import Array, Batch, Key, Metrics, Tree

TrainStep: TypeAlias = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
BatchAt: TypeAlias = Callable[[Array | int], Batch]
"""The batch of the i-th fresh turn of a round."""


def init_state(game: Game, key: Key) -> TrainState:
    """The state before the first round.

    Args:
      game: the game.
      key: a PRNG key, which determines the run.

    Returns:
      A state with initialised players, moving averages equal to them (as copies, so that the state can be donated;
      of parameters in less than 32 bits in float32), and step and cursor 0.

    Raises:
      ValueError: if `game` is no game, or `key` no key.
    """
    check_game("init_state", game)
    check_key("init_state", key)
    players = {}
    for name, player in game.players.items():
        initial = player.network.init(named_key(key, name))
        params, model_state = jax.tree.map(_strongly_typed, initial)
        begin = game.objective.players[name].initial_state
        players[name] = PlayerState(
            params=params,
            model_state=model_state,
            opt_state=player.optimizer.init(params),
            objective_state={
                entry: jax.tree.map(_strongly_typed, make(params)) for entry, make in begin.items()
            },
        )
    ema = {
        name: _begun_average(game.players[name], players[name])
        for name in sorted(game.players)
        if game.players[name].ema is not None
    }
    # The counters are separate arrays: donating a buffer twice is an error.
    return TrainState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.copy(key), players, ema)


def _begun_average(player: Player, state: PlayerState) -> tuple[Tree, Tree]:
    """A moving average before the first round.

    What is averaged of float16 and bfloat16 is kept in float32: a decay of .999 moves an average by less than they
    represent.
    """
    averaged = player.network.running_statistics(state.model_state)
    return (
        jax.tree.map(_wide, state.params),
        jax.tree.map(
            lambda leaf, average: _wide(leaf) if average else jnp.copy(leaf), state.model_state, averaged
        ),
    )


def _wide(leaf: Array) -> Array:
    narrow = jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4
    return leaf.astype(jnp.float32) if narrow else jnp.copy(leaf)


def _strongly_typed(leaf: Array) -> Array:
    """Makes a leaf strongly typed, as it is after a step; with a weak type the step would compile twice."""
    leaf = jnp.asarray(leaf)
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.astype(leaf.dtype)


def make_train_step(
    game: Game, *, schedule: Schedule | None = None, diagnostics: Sequence[Diagnostic] = ()
) -> TrainStep:
    """One round of the game: `(state, batches [T, B, ...]) -> (state, metrics)`.

    Args:
      game: the game.
      schedule: the turns of the round; by default the game's `schedule`, without its phases.
      diagnostics: see `game.Diagnostic`.

    Returns:
      A pure function to jit. `batches` has one batch for each of the T fresh turns of the schedule, stacked along
      the first axis; if a round takes a single batch (T = 1), it is that batch, `[B, ...]`. Metrics are means over
      the turns that report them.

    Raises:
      ValueError: if `game` is no game, or the schedule does not fit it.
    """
    check_game("make_train_step", game)
    if schedule is not None:
        check_schedule(schedule, tuple(game.players))
    schedule = game.schedule if schedule is None else schedule
    turns = fresh_turns(schedule)

    def train_step(state: TrainState, batches: Batch) -> tuple[TrainState, Metrics]:
        if turns == 1:
            return play_round(game, schedule, state, lambda i: batches, diagnostics)
        for path, leaf in jax.tree_util.tree_leaves_with_path(batches):
            if leaf.shape[0] != turns:
                raise ValueError(
                    f"A round of this schedule takes T = {turns} batches, stacked along the first axis: expected "
                    f"batches{jax.tree_util.keystr(path)} of shape [{turns}, B, ...], got {leaf.shape}."
                )
        return play_round(game, schedule, state, lambda i: jax.tree.map(lambda x: x[i], batches), diagnostics)

    return train_step


def play_round(
    game: Game,
    schedule: Schedule,
    state: TrainState,
    batch_at: BatchAt,
    diagnostics: Sequence[Diagnostic] = (),
) -> tuple[TrainState, Metrics]:
    """Plays one pass through `schedule`; a repeated block of turns is a `lax.scan`."""
    key = jax.random.fold_in(state.key, state.step)
    players = state.players
    totals: dict[str, list[Array]] = {}
    counts: dict[str, int] = {}
    place, batch_index = 0, -1

    for repeats, block in fold(schedule):
        fresh = fresh_turns(block)

        block_round = functools.partial(
            _play_block, game, block, state.step, key, place, batch_index, batch_at, diagnostics
        )
        if repeats == 1:
            players, metrics = block_round(players, 0)
        else:
            players, metrics = jax.lax.scan(block_round, players, jnp.arange(repeats, dtype=jnp.int32))
            metrics = jax.tree.map(lambda m: jnp.sum(m, axis=0), metrics)
        for turn_metrics in metrics:
            for name, value in turn_metrics.items():
                totals.setdefault(name, []).append(value)
                counts[name] = counts.get(name, 0) + repeats
        place += repeats * len(block)
        batch_index += repeats * fresh

    after = state._replace(
        step=state.step + 1,
        cursor=state.cursor + fresh_turns(schedule),
        players=players,
        ema=_average(game, state, players),
    )
    return after, {name: sum(values[1:], values[0]) / counts[name] for name, values in totals.items()}


def _play_block(
    game: Game,
    block: Schedule,
    step: Array,
    round_key: Key,
    place: int,
    batch_index: int,
    batch_at: BatchAt,
    diagnostics: Sequence[Diagnostic],
    players: dict[str, PlayerState],
    repeat: Array | int,
) -> tuple[dict[str, PlayerState], list[Metrics]]:
    """Plays a block of turns once; `place` and `batch_index` are those before its first repetition."""
    metrics = []
    index = batch_index + repeat * fresh_turns(block)
    for offset, turn in enumerate(block):
        index = index + turn.fresh
        key = jax.random.fold_in(round_key, place + repeat * len(block) + offset)
        context = TurnContext(game, players, batch_at(index), step, key)
        with jax.named_scope(f"turn/{'+'.join(turn.players)}"):
            players, turn_metrics = _play_turn(turn, context, diagnostics)
        metrics.append(turn_metrics)
    return players, metrics


def _play_turn(
    turn: Turn, context: TurnContext, diagnostics: Sequence[Diagnostic]
) -> tuple[dict[str, PlayerState], Metrics]:
    """Plays a turn; in rounds in which it is not due nothing changes, and its metrics are zero.

    In the others they are multiplied by its interval, as `field.loss_of_turn` does with those of terms.
    """
    scale = 1 if turn.terms else turn.every

    def play() -> tuple[dict[str, PlayerState], Metrics]:
        players, metrics = apply_turn(turn, context, diagnostics)
        return players, metrics if scale == 1 else {name: scale * value for name, value in metrics.items()}

    def skip() -> tuple[dict[str, PlayerState], Metrics]:
        _, shapes = jax.eval_shape(play)
        return dict(context.players), jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    if turn.every == 1:
        return play()
    return jax.lax.cond(context.step % turn.every == 0, play, skip)


def fold(schedule: Schedule) -> list[tuple[int, Schedule]]:
    """Splits a schedule into `(repeats, block)` pairs with the longest possible repetitions.

    >>> from gan_jax.schedule import turn
    >>> C, G = turn("critic"), turn("generator")
    >>> [(n, len(block)) for n, block in fold(20 * (C, G) + 2 * (C,))]
    [(20, 2), (2, 1)]
    """
    blocks: list[tuple[int, Schedule]] = []
    start = 0
    while start < len(schedule):
        best = (1, 1)
        for length in range(1, (len(schedule) - start) // 2 + 1):
            block = schedule[start : start + length]
            repeats = 1
            while schedule[start + repeats * length : start + (repeats + 1) * length] == block:
                repeats += 1
            if repeats > 1 and repeats * length > best[0] * best[1]:
                best = (repeats, length)
        repeats, length = best
        blocks.append((repeats, schedule[start : start + length]))
        start += repeats * length
    return blocks


def _average(game: Game, state: TrainState, players: dict[str, PlayerState]) -> dict[str, tuple[Tree, Tree]]:
    """Exponential moving averages of parameters and running statistics; all other model state is the player's."""
    averages = {}
    for name, (params, model_state) in state.ema.items():
        player, now = game.players[name], players[name]
        rate = ema_decay(player, state.step)
        averaged = player.network.running_statistics(now.model_state)
        averages[name] = (
            jax.tree.map(functools.partial(_mix, rate), params, now.params),
            jax.tree.map(
                lambda old, new, average, rate=rate: _mix(rate, old, new) if average else new,
                model_state,
                now.model_state,
                averaged,
            ),
        )
    return averages


def ema_decay(player: Player, step: Array) -> Array:
    """The decay of a player's moving average in round `step`.

    A decay that is a number d is approached from below, min(d, (1 + t) / (10 + t)), so that the average is not held
    by the initial weights while it is young; a function of the round is taken as it is.
    """
    assert player.ema is not None
    if callable(player.ema):
        return player.ema(step)
    rounds = jnp.asarray(step, jnp.float32)
    return jnp.minimum(player.ema, (1 + rounds) / (10 + rounds))


def _mix(rate: Array | float, old: Array, new: Array) -> Array:
    if not jnp.issubdtype(new.dtype, jnp.inexact):
        return new
    return (rate * old + (1 - rate) * new.astype(old.dtype)).astype(old.dtype)
