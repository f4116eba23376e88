"""A description of a run before it is begun: parameters, turns, terms, a round's operations, memory and time."""

from __future__ import annotations

import itertools
from collections import Counter

import jax
import jax.numpy as jnp

from gan_jax.data.source import Source
from gan_jax.evaluation.expected import bytes_of, expected_lines
from gan_jax.game import Game, TurnContext
from gan_jax.network import parameter_count
from gan_jax.networks.describe import describe_network
from gan_jax.play import apply_turn
from gan_jax.schedule import Schedule, Turn
from gan_jax.state import Players
from gan_jax.tables import text_table
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state
from gan_jax.types import Batch, Metrics


def describe_run(experiment: Experiment) -> str:
    """A text with the players' parameters, the schedule, the objective, and what a round costs and takes.

    Each kind of turn and the round are compiled for a single device, and rounds are played for two seconds.
    """
    game = experiment.game
    parts = [describe_network(player.network, name) for name, player in game.players.items()]
    parts.append("\n".join(_facts(experiment)))
    parts.append("\n".join(_costs(experiment)))
    parts.append("\n".join(expected_lines(experiment)))
    return "\n\n".join(parts)


def _facts(experiment: Experiment) -> list[str]:
    game, source = experiment.game, experiment.source
    state = jax.eval_shape(lambda: init_state(game, jax.random.key(0)))
    size = bytes_of(state._replace(key=()))
    examples = "drawn without end" if source.size is None else f"of {source.size:,} examples"
    terms = ", ".join(f"{term.player}/{term.name}" for term in game.objective.terms) or "none"
    transforms = ", ".join(transform.name for transform in game.objective.transforms) or "none"
    averages = ", ".join(name for name, player in game.players.items() if player.ema is not None) or "none"
    total = sum(parameter_count(player.params) for player in state.players.values())
    return [
        f"parameters  {total:,} of {len(game.players)} players",
        f"state       {size / 2**20:.3g} MiB with optimisers and averages",
        f"data        batches of {source.batch_size}, {examples}",
        f"turns       {schedule_text(game.schedule)}",
        *(f"phase       {schedule_text(schedule)}" for _, schedule in game.phases),
        f"objective   terms: {terms}; input transforms: {transforms}",
        f"averages    {averages}",
    ]


def schedule_text(schedule: Schedule) -> str:
    """A schedule on one line; `again` marks a turn on the preceding turn's batch.

    >>> from gan_jax.schedule import alternating, simultaneous
    >>> schedule_text(alternating(5)), schedule_text(simultaneous())
    ('5 x critic, generator', 'critic + generator')
    """
    names = (" + ".join(turn.players) + ("" if turn.fresh else " (again)") for turn in schedule)
    runs = ((name, len(list(group))) for name, group in itertools.groupby(names))
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in runs)


def _costs(experiment: Experiment) -> list[str]:
    """A line for each kind of turn, and one for the round."""
    game = experiment.game
    counts = Counter(turn.players for turn in game.schedule)
    rows, total = [], 0.0
    for players, count in counts.items():
        flops = turn_flops(game, experiment.source, Turn(players))
        total += count * flops
        rows.append([f"{count} x {' + '.join(players)}", f"{quantity(flops)}FLOP"])
    rows.append(["a round", f"{quantity(total)}FLOP"])
    return [
        text_table(rows),
        "As counted by the compiler on one device; the body of a loop inside a turn (unrolling) counts once.",
    ]


def turn_flops(game: Game, source: Source, turn: Turn) -> float:
    """The floating-point operations of a turn on a single batch, as the compiler counts them."""

    def play(players: Players, batch: Batch, seed: jax.Array) -> tuple[Players, Metrics]:
        context = TurnContext(game, players, batch, jnp.int32(0), jax.random.key(seed))
        return apply_turn(turn, context)

    players = jax.eval_shape(lambda: init_state(game, jax.random.key(0))).players
    host_batch = jax.tree.map(lambda x: x[0], source.host_batches(0, 1))
    batch = jax.eval_shape(source.get_batch, source.device_data, host_batch)
    compiled = jax.jit(play).lower(players, batch, jax.ShapeDtypeStruct((), jnp.int32)).compile()
    analysis = compiled.cost_analysis() or {}
    return float(analysis.get("flops", float("nan")))


def quantity(number: float) -> str:
    """A number with a metric prefix.

    >>> quantity(1_234_567.0), quantity(12.0)
    ('1.23 M', '12 ')
    """
    for power, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= power:
            return f"{number / power:.3g} {prefix}"
    return f"{number:.3g} "
