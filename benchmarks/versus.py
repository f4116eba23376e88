"""What the comparisons with PyTorch share: both sides of a game, whether they are the same game, and the table."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from benchmarks import harness
from benchmarks.games import Spec
from gan_jax.tables import text_table

Game = TypeVar("Game", bound=Spec)
Bar = Callable[[Spec], float]
"""The ratio that a game is to reach."""


def ours(game: Spec, name: str = "gan_jax") -> harness.Worker:
    """Our program of a game."""
    return harness.Worker(name, "benchmarks.jax_worker", game.to_json())


def torchs(game: Spec, python: str) -> harness.Worker:
    """PyTorch's program of a game."""
    return harness.Worker("torch", "benchmarks.torch_worker", game.to_json(), python=python)


@contextlib.contextmanager
def both(game: Spec, python: str) -> Iterator[tuple[harness.Worker, harness.Worker]]:
    """Ours and PyTorch's program of a game.

    Raises:
      BenchmarkError: if they have different numbers of parameters.
    """
    with ours(game) as mine, torchs(game, python) as other:
        if mine.description["parameters"] != other.description["parameters"]:
            raise harness.BenchmarkError(
                f"The two sides of {game.label} are different games: ours has "
                f"{mine.description['parameters']} parameters, PyTorch's {other.description['parameters']}."
            )
        yield mine, other


class Parity(NamedTuple):
    """What both sides make of one round from the same parameters on the same draws.

    Attributes:
      losses: the largest difference of a turn's loss.
      parameters: the largest difference of a parameter after the round.
      counts: the arithmetic of each player's turn by the mathematics, by XLA's count and by PyTorch's.
    """

    losses: float
    parameters: float
    counts: tuple[Mapping[str, float], Mapping[str, float], Mapping[str, float]]


def parity(game: Spec, python: str) -> Parity:
    """Plays one round on both sides from the same parameters on the same draws, and counts what they compute."""
    played = game.replayable
    with both(played, python) as (mine, other):
        first = mine.ask("replay")
        second = other.ask("replay", **first)
        counts = (played.turns, mine.ask("flops"), other.ask("flops"))
    losses = max(abs(a - b) for a, b in zip(first["losses"], second["losses"], strict=True))
    return Parity(losses, second["difference"], counts)


def check(game: Spec, python: str) -> list[str]:
    """A line of `CHECKED`: the game, and its `parity` with GFLOP of each player's turn."""
    found = parity(game, python)
    turns = [
        " / ".join(f"{count[name] / 1e9:.4f}" for count in found.counts) for name in ("critic", "generator")
    ]
    return [game.label, f"{found.losses:.1e}", f"{found.parameters:.1e}", *turns]


CHECKED = [
    "game",
    "losses differ",
    "parameters differ",
    "critic's turn: GFLOP by hand / XLA / torch",
    "generator's turn",
]
MEASURED = [
    "game",
    "gan_jax rounds/s",
    "torch rounds/s",
    "ratio",
    "CPU-time ratio",
    "GFLOP/s",
    "pairs",
    "bar",
]


def row(game: Spec, result: harness.Comparison, bar: float) -> list[str]:
    """A line of `MEASURED`."""
    return [
        game.label,
        f"{result.rates[0]:.4g}",
        f"{result.rates[1]:.4g}",
        str(result.ratio),
        str(result.cpu_ratio),
        f"{game.flops * result.rates[0] / 1e9:.0f}",
        harness.pairs_cell(result),
        harness.verdict(result, bar),
    ]


def arguments(description: str | None, *, check: bool = True, **plan: Any) -> argparse.ArgumentParser:
    """The flags of every comparison with PyTorch; `plan` are defaults, `check` adds that flag."""
    parser = harness.arguments(description, **plan)
    if check:
        parser.add_argument("--check", action="store_true", help="compare the two sides' first round instead")
    parser.add_argument("--only", nargs="*", metavar="GAME", help="some of the games")
    parser.add_argument(
        "--torch-optimizer",
        choices=("fused", "foreach", "default"),
        default="default",
        help="which of PyTorch's implementations; fused is the fastest where there is one",
    )
    return parser


def chosen(parser: argparse.ArgumentParser, flags: argparse.Namespace, games: Sequence[Game]) -> list[Game]:
    """The games that `--only` names, all without it, with the flags' settings."""
    known = [game.label for game in games]
    harness.check_only(parser, flags.only, known)
    return [
        dataclasses.replace(game, threads=flags.threads, torch_optimizer=flags.torch_optimizer)
        for game in games
        if not flags.only or game.label in flags.only
    ]


def print_checks(games: Sequence[Spec], python: str) -> None:
    """Prints the table of `check`."""
    print(text_table([CHECKED, *(check(game, python) for game in games)]))


def measure(games: Sequence[Spec], flags: argparse.Namespace, bar: Bar) -> dict[str, dict[str, Any]]:
    """Compares every game with PyTorch and prints the table.

    Returns:
      What is worth keeping of each comparison, by the game's label.
    """
    rows, results = [MEASURED], {}
    for game in games:
        with both(game, flags.torch_python) as (mine, other):
            result = harness.compare(mine, other, harness.plan_of(flags))
        rows.append(row(game, result, bar(game)))
        results[game.label] = {**result.to_json(), "bar": bar(game), "gflop_a_round": game.flops / 1e9}
        print(f"{game.label}: {result.ratio}", file=sys.stderr, flush=True)
    print(text_table(rows))
    return results


def memory_above_import(comparison: harness.Comparison) -> tuple[float, float]:
    """The peak memory of each program in MB above that after its imports, which its description has."""
    first, second = (
        report["peak_mb"] - description["import_mb"]
        for report, description in zip(comparison.reports, comparison.descriptions, strict=True)
    )
    return first, second


def mean_ratio(results: dict[str, dict[str, Any]]) -> float:
    """The geometric mean of the games' median ratios."""
    return harness.geometric_mean([result["ratio"][0] for result in results.values()])
