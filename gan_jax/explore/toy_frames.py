"""A game of points at one moment: the samples, the critic's surface, and where the loss pushes samples."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.evaluation.sampling import generators_of, sample
from gan_jax.functional.batch import flatten
from gan_jax.game import CriticRole, Game, TurnContext
from gan_jax.keys import named_key
from gan_jax.models.programs import Program, group_of
from gan_jax.network import Network
from gan_jax.state import PlayerState, TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.types import Array, Batch

POINTS = 400
SURFACE = 40
"""The critic's surface has so many values a side."""
_MARGIN = 0.2


@dataclasses.dataclass(frozen=True)
class Extent:
    """The part of the plane that is shown."""

    left: float
    right: float
    bottom: float
    top: float

    @classmethod
    def around(cls, points: np.ndarray) -> Extent:
        """A square around points `[n, 2]`, with a margin.

        >>> Extent.around(np.array([[0.5, -1.0], [-0.5, 1.0]]))
        Extent(left=-1.4, right=1.4, bottom=-1.4, top=1.4)
        """
        low, high = points.min(axis=0), points.max(axis=0)
        centre, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-3) * (1 + 2 * _MARGIN)
        (x, y) = centre.tolist()
        return cls(x - half, x + half, y - half, y + half)

    def grid(self, side: int) -> np.ndarray:
        """The centres of `side` x `side` cells, `[side^2, 2]`, the lowest row first.

        >>> Extent(0.0, 2.0, 0.0, 2.0).grid(2).tolist()
        [[0.5, 0.5], [1.5, 0.5], [0.5, 1.5], [1.5, 1.5]]
        """
        steps = (np.arange(side) + 0.5) / side
        x = self.left + (self.right - self.left) * steps
        y = self.bottom + (self.top - self.bottom) * steps
        return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)


class FrameMaker:
    """Draws the states of one game of points.

    Args:
      experiment: whose generator makes points of the plane.
      extent: the part of the plane.
      batch: a batch of its data, for losses that compare with real examples.
    """

    def __init__(self, experiment: Experiment, extent: Extent, batch: Batch):
        game = experiment.game
        self._experiment, self._extent = experiment, extent
        self._player = generators_of(game)[0]
        self._critic = next(
            (
                name
                for name in game.objective.with_role(CriticRole)
                if _scores_points(game.players[name].network)
            ),
            None,
        )
        self._arrows = int(np.sqrt(len(jax.tree.leaves(batch["x"])[0])))
        """Arrows a side: as many as a batch has examples, so that losses of whole batches are what they are."""
        self._push = jax.jit(functools.partial(push, game, self._player))
        self._batch = batch
        if self._critic is not None:
            self._score = jax.jit(functools.partial(_scores, game.players[self._critic].network))

    def frame(self, state: TrainState, losses: Mapping[str, float] | None = None) -> dict[str, Any]:
        """What the page draws.

        Args:
          state: the state of the game.
          losses: of the last round, by player.

        Returns:
          `round`, `points`, `losses`, the critic's `surface` from 0 to 1 with its `range`, `None` of a
          critic that compares the points of its batch, the `field` with the
          root mean square length of its arrows at the samples, `push`; and how many `modes` are covered, of how
          many.
        """
        experiment = self._experiment
        drawn = sample(
            experiment.game,
            state,
            named_key(jax.random.key(experiment.seed), "picture"),
            POINTS,
            player=self._player,
            ema=False,
            condition_batch=experiment.condition_batch,
        )
        frame: dict[str, Any] = {
            "round": int(state.step),
            "points": _rounded(drawn),
            "losses": {name: float(value) for name, value in (losses or {}).items()},
            **self._surface(state),
            **self._field(state, drawn),
        }
        if (modes := experiment.evaluations.get("modes")) is not None:
            found = modes(drawn)
            frame["modes"] = [found["modes_covered"], found["modes"]]
        return frame

    def _surface(self, state: TrainState) -> dict[str, Any]:
        if self._critic is None:
            return {"surface": None}
        part = state.players[self._critic]
        scores = np.asarray(self._score(part.params, part.model_state, self._extent.grid(SURFACE)))
        low, high = float(scores.min()), float(scores.max())
        shown = (scores - low) / (high - low) if high > low else np.full_like(scores, 0.5)
        return {"surface": np.round(shown, 2).tolist(), "range": [low, high]}

    def _field(self, state: TrainState, drawn: np.ndarray) -> dict[str, Any]:
        batch, side = self._batch, self._arrows
        rows = len(jax.tree.leaves(batch["x"])[0])
        arrows = self._push(state, batch, _repeated(self._extent.grid(side), rows))[: side * side]
        at_samples = self._push(state, batch, _repeated(drawn, rows))
        lengths = np.square(np.asarray(at_samples)).sum(axis=1)
        return {
            "field": [[float(f"{value:.3g}") for value in arrow] for arrow in np.asarray(arrows).tolist()],
            "push": float(np.sqrt(lengths.mean())),
        }


def push(game: Game, player: str, state: TrainState, batch: Batch, points: Array) -> Array:
    """Where a generator's loss pushes samples at `points [B, 2]`: minus its gradient by each, `[B, 2]`.

    The generator is replaced by a network whose parameters are its samples, so that the loss is the objective's
    own, its input transforms and terms included.
    """
    free = Network(init=lambda key: (points, ()), apply=_free_points)
    players = {**game.players, player: dataclasses.replace(game.players[player], network=free, ema=None)}
    freed = dataclasses.replace(game, players=players)
    key = named_key(jax.random.fold_in(state.key, state.step), "picture")

    def loss(points: Array) -> Array:
        before = state.players[player]
        at = {**state.players, player: PlayerState(points, (), before.opt_state, before.objective_state)}
        context = TurnContext(freed, at, batch, state.step, key)
        return freed.objective.players[player].loss(context).value

    return -len(points) * jax.grad(loss)(points)


def _free_points(params: Any, model_state: Any, *inputs: Any, train: bool, key: Any = None) -> Any:
    return params, model_state


def _scores_points(network: Network) -> bool:
    """Whether a critic has a score of a point alone: it takes no condition, and compares no points of a batch."""
    if network.inputs is None:
        return True
    if len(network.inputs) != 1 or not network.couples_batch:
        return len(network.inputs) == 1
    variables: Any = jax.eval_shape(network.init, jax.random.key(0))

    def call(weights: Any, key: Any, points: Array) -> Array:
        params, model_state = weights["variables"]
        return _scores(network, params, model_state, points)

    return group_of(Program(call, {"variables": variables}, network.inputs)) == 1


def _scores(network: Network, params: Any, model_state: Any, points: Array) -> Array:
    out, _ = network.apply(params, model_state, points, train=False, key=jax.random.key(0))
    score = out["score"] if isinstance(out, Mapping) else out
    return jnp.mean(flatten(score), axis=1)


def _repeated(points: np.ndarray, rows: int) -> np.ndarray:
    return np.resize(points, (rows, *points.shape[1:]))


def _rounded(points: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in point] for point in points.tolist()]
