"""The page of a game of points: as a server answers it, and as a static folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gan_jax.explore.page_files import page_files
from gan_jax.explore.server import Answer, Query, Routes, as_json, whole
from gan_jax.explore.toy_games import MOST_ROUNDS, ToyGames
from gan_jax.runs.strict_json import dumps
from gan_jax.state import TrainState


@dataclasses.dataclass(frozen=True, eq=False)
class ToySource:
    """Where the page's games, checkpoints and curves come from.

    Attributes:
      name: what the page calls the run.
      games: the demonstrations.
      rounds: the rounds of the checkpoints.
      state: `round -> state`.
      digest: `round -> the digest of its checkpoint`.
      curves: `step -> records after it`, see `curves.records_after`; `None` where there is no run.
    """

    name: str
    games: ToyGames
    rounds: Callable[[], Sequence[int]]
    state: Callable[[int], TrainState]
    digest: Callable[[int], str]
    curves: Callable[[int], Mapping[str, Any]] | None

    def description(self, served: bool) -> dict[str, Any]:
        """What the page is made of."""
        return {
            **self.games.description(self.name, self.rounds()),
            "served": served,
            "logged": self.curves is not None,
        }

    def curves_after(self, step: int) -> Mapping[str, Any]:
        """The curves' records of the rounds after `step`."""
        return {"records": [], "last": -1} if self.curves is None else self.curves(step)


class ToySession:
    """Answers the page's questions; its games are trained by this process.

    Args:
      source: the run, or a configuration without one.
    """

    def __init__(self, source: ToySource):
        self._source = source
        self._frames: dict[int, tuple[str, dict[str, Any]]] = {}

    def routes(self) -> Routes:
        """What the page asks for, by method and path."""
        return {
            ("GET", "/explore.json"): self._describe,
            ("GET", "/now.json"): lambda query, body: as_json({"rounds": list(self._source.rounds())}),
            ("GET", "/checkpoint.json"): self._checkpoint,
            ("POST", "/start.json"): lambda query, body: as_json(
                self._source.games.start(query.get("demo", ""))
            ),
            ("POST", "/play.json"): self._play,
            ("GET", "/curves.json"): lambda query, body: as_json(
                self._source.curves_after(whole(query, "after", 0, 2**31) - 1)
            ),
        }

    def _describe(self, query: Query, body: bytes) -> Answer:
        return as_json(self._source.description(served=True))

    def _play(self, query: Query, body: bytes) -> Answer:
        rounds = whole(query, "rounds", 20, MOST_ROUNDS)
        return as_json(self._source.games.play(query.get("demo", ""), rounds))

    def _checkpoint(self, query: Query, body: bytes) -> Answer:
        step = whole(query, "round", 0, 2**31)
        if step not in self._source.rounds():
            raise ValueError(f"There is no checkpoint of round {step}.")
        digest = self._source.digest(step)
        if (
            self._frames.get(step, ("",))[0] != digest
        ):  # the run may have gone on from an earlier one meanwhile
            self._frames[step] = digest, self._source.games.frame_of(self._source.state(step))
        return as_json([self._frames[step][1]])


def toy_folder(source: ToySource) -> dict[str, bytes]:
    """The files of a static folder by name: every demonstration is recorded, and every checkpoint drawn."""
    games = source.games
    rounds = list(source.rounds())
    files = page_files()
    for demo in games.demos:
        frames = games.recording(demo.name)
        files[f"frames_{demo.name}.json"] = dumps(frames, name="frames").encode()
    checkpoints = [[games.frame_of(source.state(step))] for step in rounds]
    files["frames_checkpoints.json"] = dumps(checkpoints, name="frames").encode()
    files["curves.json"] = dumps(source.curves_after(-1), name="curves").encode()
    files["explore.json"] = dumps(source.description(served=False), name="explore").encode()
    return files
