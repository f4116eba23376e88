"""Games of points side by side, played live: the lecture's demonstrations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.evaluation.batches import source_examples
from gan_jax.explore.toy_frames import Extent, FrameMaker
from gan_jax.game import Game
from gan_jax.runs.notebook import rollout
from gan_jax.schedule import Schedule
from gan_jax.state import TrainState
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state

REAL = 400
MOST_ROUNDS = 1000
"""Rounds in one answer."""
_DISPATCH = 50


@dataclasses.dataclass(frozen=True)
class Panel:
    """One of the games that a demonstration shows.

    Attributes:
      title: above it.
      fields: of the experiment's configuration, as they are changed for it.
    """

    title: str
    fields: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Demo:
    """Games that are played side by side.

    Attributes:
      name: of the demonstration.
      title: what it shows.
      text: what to look at.
      panels: the games.
      rounds: after which it ends.
      every: rounds between two frames of a recording.
    """

    name: str
    title: str
    text: str
    panels: tuple[Panel, ...]
    rounds: int = 2000
    every: int = 40


_QUICK = {"batch_size": 256, "latent": 16, "learning_rate": 1e-3}
_TRAINED = {"n_critic": 100, "learning_rate": 2e-4}
"""Critics near their optimum: their turns are many, and the generator moves little in a round."""
DEMOS = (
    Demo(
        "mode_collapse",
        "Mode collapse",
        "Both generators begin alike. The first finds one mode or two and hops between them; the second looks five "
        "steps of its critic ahead and spreads over the ring (Metz et al., 2017).",
        (
            Panel("non-saturating", {"objective": "non_saturating"}),
            Panel("non-saturating, unrolled by 5", {"objective": "non_saturating", "unroll": 5}),
        ),
    ),
    Demo(
        "vanishing_gradient",
        "Vanishing gradient",
        "Critics that take a hundred turns a round soon tell real from fake. The minimax loss log(1 - D) then "
        "hardly pushes samples, and -log D still does (Goodfellow et al., 2014; Arjovsky and Bottou, 2017): "
        "compare the pushes.",
        (
            Panel("minimax, log(1 - D)", {"objective": "gan", **_TRAINED}),
            Panel("non-saturating, -log D", {"objective": "non_saturating", **_TRAINED}),
        ),
        rounds=100,
        every=2,
    ),
    Demo(
        "wgan_against_gan",
        "WGAN against GAN",
        "The penalty holds the slope of the Wasserstein critic near one wherever samples are on their way to the "
        "data (Arjovsky et al., 2017; Gulrajani et al., 2017); nothing holds the slope of the GAN's classifier, "
        "which chases the samples from mode to mode.",
        (
            Panel("non-saturating GAN", {"objective": "non_saturating"}),
            Panel("WGAN-GP", {"objective": "wgan_gp"}),
        ),
    ),
)


class LiveGame:
    """A game that is played as it is watched.

    Args:
      experiment: the game and its data.
      extent: the part of the plane that is shown.
    """

    def __init__(self, experiment: Experiment, extent: Extent):
        self._experiment = experiment
        source = experiment.source
        first = jax.tree.map(lambda leaf: leaf[0], source.host_batches(0, 1))
        batch = jax.tree.map(
            jnp.asarray, source.get_batch(jax.tree.map(jnp.asarray, source.device_data), first)
        )
        self.frames = FrameMaker(experiment, extent, batch)
        self._games: dict[Schedule, Game] = {}
        self.restart()

    def restart(self) -> None:
        """Goes back to the initial state."""
        self._state = init_state(self._experiment.game, jax.random.key(self._experiment.seed))

    def play(self, rounds: int) -> dict[str, Any]:
        """Plays so many rounds, and returns the frame after them."""
        losses: dict[str, float] = {}
        if rounds:
            self._state, history = rollout(
                self._experiment.game,
                self._experiment.source,
                self._state,
                rounds,
                per_dispatch=_DISPATCH,
            )
            losses = {
                name.removesuffix("/loss"): float(values[-1])
                for name, values in history.items()
                if name.endswith("/loss")
            }
        return self.frames.frame(self._state, losses)


class ToyGames:
    """The demonstrations of an experiment of points.

    Args:
      build: `fields that are changed -> experiment`.
      fields: the names of the fields that its configuration has.
      own: the title of the configuration's own game.
      demos: shown where the configuration has the fields that they change.
    """

    def __init__(
        self,
        build: Callable[[Mapping[str, Any]], Experiment],
        fields: Sequence[str],
        own: str,
        demos: Sequence[Demo] = DEMOS,
    ):
        self._build = build
        self.experiment = build({})
        self.real = real_points(self.experiment)
        self.extent = Extent.around(self.real)
        single = Demo(
            "own", "This configuration", "The game of the configuration as it is.", (Panel(own, {}),)
        )
        needed = {name for demo in demos for panel in demo.panels for name in panel.fields} | set(_QUICK)
        self.demos = (*(demos if needed <= set(fields) else ()), single)
        self._live: dict[str, list[LiveGame]] = {}

    def demo(self, name: str) -> Demo:
        """A demonstration by its name.

        Raises:
          ValueError: if there is none of this name.
        """
        for demo in self.demos:
            if demo.name == name:
                return demo
        raise ValueError(
            f"The demonstrations are {', '.join(demo.name for demo in self.demos)}; got {name[:40]!r}."
        )

    def start(self, name: str) -> list[dict[str, Any]]:
        """The first frames of a demonstration's games, from the beginning."""
        demo = self.demo(name)
        if name not in self._live:
            changed = [{**(_QUICK if panel.fields else {}), **panel.fields} for panel in demo.panels]
            self._live[name] = [LiveGame(self._build(fields), self.extent) for fields in changed]
        for game in self._live[name]:
            game.restart()
        return self.play(name, 0)

    def play(self, name: str, rounds: int) -> list[dict[str, Any]]:
        """The frames after so many rounds more."""
        if name not in self._live:
            self.start(name)
        return [game.play(rounds) for game in self._live[name]]

    def recording(self, name: str) -> list[list[dict[str, Any]]]:
        """All frames of a demonstration, by moment and game."""
        demo = self.demo(name)
        moments = demo.rounds // demo.every
        return [self.start(name), *(self.play(name, demo.every) for _ in range(moments))]

    def frame_of(self, state: TrainState) -> dict[str, Any]:
        """The frame of a state of the configuration as it is, that of a checkpoint."""
        if "own" not in self._live:
            self._live["own"] = [LiveGame(self.experiment, self.extent)]
        return self._live["own"][0].frames.frame(state)

    def description(self, name: str, rounds: Sequence[int]) -> dict[str, Any]:
        """What the page is made of."""
        return {
            "kind": "points",
            "name": name,
            "real": np.round(self.real, 4).tolist(),
            "extent": dataclasses.asdict(self.extent),
            "rounds": list(rounds),
            "demos": [
                {
                    "name": demo.name,
                    "title": demo.title,
                    "text": demo.text,
                    "panels": [panel.title for panel in demo.panels],
                    "every": demo.every,
                }
                for demo in self.demos
            ],
        }


def real_points(experiment: Experiment) -> np.ndarray:
    """Some of the data, `[n, 2]`."""
    return source_examples(experiment.source, REAL)


def is_plane(experiment: Experiment) -> bool:
    """Whether an experiment is of points `[B, 2]`."""
    source = experiment.source
    if source.in_order:
        return False
    first = jax.tree.map(lambda leaf: leaf[0], source.host_batches(0, 1))
    batch = jax.eval_shape(source.get_batch, source.device_data, first)
    leaf = batch.get("x")
    return getattr(leaf, "shape", (0, 0))[1:] == (2,)
