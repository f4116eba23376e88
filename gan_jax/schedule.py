"""Schedules: the turns of a round, as tuples."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any, TypeAlias


@dataclasses.dataclass(frozen=True)
class Turn:
    """One simultaneous update of the players it names.

    Attributes:
      players: the names of the players that move.
      fresh: whether the turn draws a new batch; `False` uses the preceding turn's batch.
      terms: names of the players' terms with an optimiser step of their own (`Term.own_step`), which are minimised
        in place of the players' losses; empty for an ordinary turn.
      every: the turn is played in rounds 0, `every`, 2 `every`, ... There its metrics are multiplied by `every`,
        and in other rounds they are 0, so that their means over rounds are those over the turns.
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
        raise ValueError(f"A turn names one or more players, each once; got {players}.")
    if not all(isinstance(player, str) for player in players):
        raise ValueError(f"A turn names its players by strings, got {players}.")
    return Turn(players, fresh)


def regularization_turn(player: str, *terms: str, every: int) -> Turn:
    """A turn that minimises terms of a player's loss in a separate optimiser step (lazy regularisation).

    It uses the preceding turn's batch, and the terms are multiplied by `every`; see `Term.own_step` and
    `optim.lazy_adam`.

    Args:
      player: whose terms they are.
      *terms: their names.
      every: the turn is played once in so many rounds, at least 1.

    Raises:
      ValueError: if no term is named, or `every` is no whole number of 1 or more.

    References:
      Karras et al., Analyzing and Improving the Image Quality of StyleGAN, 2020, appendix B (arXiv:1912.04958).
    """
    if not terms:
        raise ValueError(f"regularization_turn({player!r}, ...) needs the name of at least one term.")
    _check_interval(every)
    return Turn((player,), fresh=False, terms=terms, every=every)


def alternating(n_critic: int = 1, n_generator: int = 1) -> Schedule:
    """A schedule of `n_critic` turns of the critic, then `n_generator` turns of the generator.

    Raises:
      ValueError: if either count is no whole number, or below 1.
    """
    if not is_count(n_critic) or not is_count(n_generator):
        raise ValueError(
            f"alternating needs at least one turn of each player, whole numbers; got n_critic={n_critic!r} and "
            f"n_generator={n_generator!r}."
        )
    return n_critic * (turn("critic"),) + n_generator * (turn("generator"),)


def simultaneous() -> Schedule:
    """A schedule of one turn in which both players move at once, from the same point and on the same batch."""
    return (turn("critic", "generator"),)


def is_count(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number of at least `least`; true and false are none.

    >>> is_count(2), is_count(2.0), is_count(float("nan")), is_count(0)
    (True, False, False, False)
    """
    try:
        return not isinstance(value, bool) and operator.index(value) >= least
    except TypeError:
        return False


def _check_interval(every: Any) -> None:
    if not is_count(every):
        raise ValueError(f"A turn is played every n >= 1 rounds, n a whole number; got every={every!r}.")


def fresh_turns(schedule: Schedule) -> int:
    """The number of batches that one round of `schedule` consumes, T."""
    return sum(played.fresh for played in schedule)


def check_schedule(schedule: Schedule, players: tuple[str, ...]) -> None:
    """Checks that a schedule names only these players and begins with a fresh turn.

    Raises:
      ValueError: if it does not.
    """
    if not isinstance(schedule, tuple | list):
        raise ValueError(
            f"A schedule is a tuple of turns, as in (turn('critic'), turn('generator')); got {schedule!r}."
        )
    if not schedule:
        raise ValueError("A schedule needs at least one turn.")
    for played in schedule:
        if not isinstance(played, Turn):
            raise ValueError(
                f"A schedule is a tuple of turns, as in (turn('critic'), turn('generator')); got {played!r}."
            )
        if not isinstance(played.players, tuple):
            raise ValueError(
                f"A turn names its players by a tuple, as in ('critic',); got {played.players!r}."
            )
        _check_interval(played.every)
        if unknown := set(played.players) - set(players):
            raise ValueError(f"A turn names {sorted(unknown)}, but the players are {sorted(players)}.")
    if not schedule[0].fresh:
        raise ValueError("The first turn of a round has no preceding batch: it must be fresh.")
