"""Schedules: the turns of a round, as tuples."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias


@dataclasses.dataclass(frozen=True)
class Turn:
    """One simultaneous update of the players it names.

    Attributes:
      players: who moves.
      fresh: whether the turn draws a batch; `False` plays on the preceding turn's batch.
      terms: names of the players' terms with an optimiser step of their own (`Term.own_step`), to be played in
        place of the players' losses; empty for an ordinary turn.
      every: the turn is played in every so many rounds, from round 0 on.
    """

    players: tuple[str, ...]
    fresh: bool = True
    terms: tuple[str, ...] = ()
    every: int = 1


Schedule: TypeAlias = tuple[Turn, ...]


def turn(*players: str, fresh: bool = True) -> Turn:
    """One simultaneous update of `players`.

    Raises:
      ValueError: if no player is named, or one is named twice.

    >>> C, G = turn("critic"), turn("generator")
    >>> len(5 * (C,) + (G,))
    6
    """
    if not players or len(set(players)) != len(players):
        raise ValueError(f"A turn names one or more different players, got {players}.")
    if not all(isinstance(player, str) for player in players):
        raise ValueError(f"A turn names its players by strings, got {players}.")
    return Turn(players, fresh)


def regularization_turn(player: str, *terms: str, every: int) -> Turn:
    """An optimiser step of its own for terms of a player's loss, in every so many rounds (lazy regularisation).

    It plays on the preceding turn's batch, and the terms are multiplied by `every`; see `Term.own_step` and
    `optim.lazy_adam`.

    Raises:
      ValueError: if no term is named, or `every` is below 1.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, appendix B (arXiv:1912.04958).
    """
    if not terms:
        raise ValueError(f"regularization_turn({player!r}, ...) names one or more terms of this player.")
    if every < 1:
        raise ValueError(f"A turn is played every n >= 1 rounds, got {every}.")
    return Turn((player,), fresh=False, terms=terms, every=every)


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


def fresh_turns(schedule: Schedule) -> int:
    """How many batches one round of `schedule` consumes: T."""
    return sum(played.fresh for played in schedule)


def check_schedule(schedule: Schedule, players: tuple[str, ...]) -> None:
    """Checks that a schedule names these players only and begins with a fresh turn.

    Raises:
      ValueError: if it does not.
    """
    if not schedule:
        raise ValueError("A schedule has one turn or more.")
    for played in schedule:
        if not isinstance(played, Turn):
            raise ValueError(
                f"A schedule is a tuple of turns, as in (turn('critic'), turn('generator')); got {played!r}."
            )
        if unknown := set(played.players) - set(players):
            raise ValueError(f"A turn names {sorted(unknown)}, but the players are {sorted(players)}.")
    if not schedule[0].fresh:
        raise ValueError("The first turn of a round has no preceding batch: it must be fresh.")
