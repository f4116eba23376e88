"""A run without a launcher, for notebooks: rounds in, state and history out; curves, pictures and saved states."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from etils import epath

from gan_jax.compiler import compiler_options
from gan_jax.data.source import Source
from gan_jax.distributed.seeds import goes_side_by_side, stacked, state_of
from gan_jax.evaluation.sampling import sample
from gan_jax.functional.options import check_count, check_on_host
from gan_jax.game import Game, check_game
from gan_jax.keys import named_key
from gan_jax.runs.checkpoint import CheckpointError, Checkpoints
from gan_jax.runs.progress import progress as progress_of
from gan_jax.schedule import fresh_turns
from gan_jax.state import TrainState, check_state, number_of_seeds
from gan_jax.training.rollout import rollout_program, stack_rounds
from gan_jax.training.step import init_state
from gan_jax.types import Batch, Metrics, Tree

if TYPE_CHECKING:
    from PIL.Image import Image

ROUNDS_PER_DISPATCH = 100
METRIC_SAMPLES = 1000
Metric = Callable[[np.ndarray], Any]
"""`samples [n, ...] -> number`, or several numbers by name."""


@functools.lru_cache(maxsize=32)
def _compiled(game: Game, source: Source, stacked_seeds: bool) -> Callable[..., tuple[TrainState, Metrics]]:
    program = rollout_program(game, source.get_batch)
    in_turn = stacked_seeds and not goes_side_by_side(source, jax.default_backend())
    return jax.jit(
        _over_seeds(program, in_turn) if stacked_seeds else program, compiler_options=compiler_options()
    )


def _over_seeds(
    program: Callable[..., tuple[TrainState, Metrics]],
    in_turn: bool,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """The program for the states of several seeds, one after the other or side by side."""

    def play(
        state: TrainState, device_data: Tree, host_batches: Tree, rounds: Any
    ) -> tuple[TrainState, Metrics]:
        def single(part: Any) -> tuple[TrainState, Metrics]:
            return program(TrainState(state.step, state.cursor, *part), device_data, host_batches, rounds)

        parts = (state.key, state.players, state.ema)
        after, history = jax.lax.map(single, parts) if in_turn else jax.vmap(single)(parts)
        return after._replace(step=after.step[0], cursor=after.cursor[0]), history

    return play


@functools.lru_cache(maxsize=4)
def _on_device(source: Source) -> Tree:
    return jax.device_put(source.for_device(source.device_data))


def rollout(
    game: Game,
    source: Source,
    state: TrainState,
    rounds: int,
    *,
    seeds: int | None = None,
    every: int | None = None,
    metrics: Mapping[str, Metric] | None = None,
    samples: int = METRIC_SAMPLES,
    condition_batch: Callable[[int], Batch] = lambda n: {},
    callback: Callable[[TrainState], None] | None = None,
    progress: bool = False,
    per_dispatch: int = ROUNDS_PER_DISPATCH,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Plays `rounds` rounds of the game's schedule, for notebooks: compiled once for a game and its data.

    Args:
      game: the game; its phases are the launcher's business and are not read here.
      source: the data; several seeds are given the same batches.
      state: where to start; not donated. A state of several seeds, which an earlier call returned, goes on as such.
      rounds: how many, at least 1.
      seeds: trains so many states at once: `state`, and those that `init_state` makes of keys derived from its own.
      every: the interval in rounds of `metrics` and `callback`, which are called at the end as well; without it at
        the end only.
      metrics: by name, functions of samples `[n, ...]` that return a number, or several by name.
      samples: n, drawn from the moving average where there is one, always of the same latents.
      condition_batch: see `sample`.
      callback: is given the state, for pictures and the like.
      progress: shows a bar with rate, losses and the time left.
      per_dispatch: K, rounds in one dispatch at most.

    Returns:
      The state after them, and every metric of the step as an array `[rounds]`; `metrics` are NaN in the rounds
      without. With several seeds arrays are `[seeds, rounds]`, and the state's leaves are stacked; `state_of` gives
      one seed's.

    Raises:
      ValueError: if an argument is of another kind, a number is no whole number of 1 or more, the call is
        traced, or `seeds` is given for a state that is not at its beginning.

    >>> from gan_jax.data.toy import from_toy, ring
    >>> import gan_jax as gj, optax
    >>> network = lambda module, n: gj.from_linen(module, jax.numpy.zeros((1, n)))
    >>> game = gj.Game(
    ...     players={
    ...         "critic": gj.Player(network(gj.MLPCritic(widths=(4,)), 2), optax.sgd(0.1)),
    ...         "generator": gj.Player(network(gj.MLPGenerator(output_shape=(2,), widths=(4,)), 3), optax.sgd(0.1)),
    ...     },
    ...     objective=gj.non_saturating(gj.gaussian(3)),
    ...     schedule=gj.alternating(),
    ... )
    >>> begin = gj.init_state(game, jax.random.key(0))
    >>> spread = {"spread": lambda samples: samples.std()}
    >>> state, history = rollout(game, from_toy(ring(), 8), begin, 4, seeds=2, every=2, metrics=spread)
    >>> history["critic/loss"].shape, np.isfinite(history["spread"]).tolist()
    ((2, 4), [[False, True, False, True], [False, True, False, True]])
    """
    check_on_host(
        "rollout",
        "call it outside (seeds=n trains n at once), or make_train_step(game) on batches of your own there",
        state,
    )
    check_game("rollout", game)
    check_state("rollout", state)
    if not isinstance(source, Source):
        raise ValueError(
            f"rollout takes a Source of data, as from_arrays or from_toy returns it; got {type(source).__name__}."
        )
    if not all(map(callable, (metrics or {}).values() if isinstance(metrics, Mapping | None) else [None])):
        raise ValueError(f"rollout(metrics=...) is functions of samples by name; got {metrics!r}.")
    counts = {"rounds": rounds, "per_dispatch": per_dispatch, "seeds": seeds, "every": every}
    for name, value in counts.items():
        if value is not None:
            check_count("rollout", name, value)
    state = _begin(game, state, seeds)
    several = number_of_seeds(state) is not None
    program, turns = _compiled(game, source, several), fresh_turns(game.schedule)
    device_data = _on_device(source)
    cursor, histories, played = int(state.cursor), [], 0
    measured: dict[str, dict[int, list[Any]]] = {}
    bar = progress_of(rounds, enabled=progress)
    with contextlib.closing(bar):
        while played < rounds:
            until = rounds if every is None else min(rounds, played + every - played % every)
            n = min(per_dispatch, until - played)
            host_batches = stack_rounds(source, cursor, turns, n, per_dispatch)
            state, history = program(state, device_data, host_batches, np.int32(n))
            histories.append({name: np.asarray(values[..., :n]) for name, values in history.items()})
            cursor += n * turns
            played += n
            bar.update(played, _losses(histories[-1]))
            if played == until:
                for name, values in _measure(game, state, metrics or {}, samples, condition_batch).items():
                    measured.setdefault(name, {})[played - 1] = values
                if callback is not None:
                    callback(state)
    joined = {name: np.concatenate([h[name] for h in histories], axis=-1) for name in histories[0]}
    return state, joined | {name: _sparse(at, rounds, several) for name, at in measured.items()}


def _losses(history: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Every player's loss in the last round, by player; of several seeds the mean."""
    return {
        name.removesuffix("/loss"): float(values[..., -1].mean())
        for name, values in history.items()
        if name.endswith("/loss")
    }


def _begin(game: Game, state: TrainState, seeds: int | None) -> TrainState:
    """The state of one seed or of several."""
    there = number_of_seeds(state)
    if seeds is None or there == seeds:
        return state
    if there is not None:
        raise ValueError(f"The state is of {there} seeds, got seeds={seeds}.")
    if seeds == 1:
        return state
    if int(state.step):
        raise ValueError(
            f"seeds={seeds} begin together: give the state before the first round, not that of {int(state.step)}."
        )
    others = [init_state(game, jax.random.fold_in(state.key, i)) for i in range(1, seeds)]
    return stacked([state, *others])


def _states(state: TrainState) -> Iterator[TrainState]:
    count = number_of_seeds(state)
    if count is None:
        yield state
        return
    for place in range(count):
        yield state_of(state, place)


def _measure(
    game: Game,
    state: TrainState,
    metrics: Mapping[str, Metric],
    n: int,
    condition_batch: Callable[[int], Batch],
) -> dict[str, list[float]]:
    """Every metric's numbers, one for each seed."""
    found: dict[str, list[float]] = {}
    if not metrics:
        return found
    for single in _states(state):
        drawn = sample(game, single, named_key(single.key, "evaluation"), n, condition_batch=condition_batch)
        for name, metric in metrics.items():
            value = metric(drawn)
            if not isinstance(value, Mapping) and np.ndim(value) > 0:
                raise ValueError(
                    f"rollout(metrics=...): {name} returns numbers {np.shape(value)}: return one, or several by "
                    "name."
                )
            numbers: dict[str, Any] = {name: value}
            if isinstance(value, Mapping):
                numbers = {f"{name}/{part}": number for part, number in value.items()}
            for full, number in numbers.items():
                if np.ndim(number) == 0:
                    found.setdefault(full, []).append(float(number))
    if found.keys() & {f"{player}/loss" for player in game.players}:
        raise ValueError(
            f"rollout(metrics=...) has a metric by the name of a loss: {', '.join(sorted(found))}."
        )
    if lacking := [name for name, of in found.items() if len(of) != (number_of_seeds(state) or 1)]:
        raise ValueError(
            f"rollout(metrics=...): {', '.join(lacking)} is a number of some seeds only after round "
            f"{int(state.step.max())}: return NaN where there is none."
        )
    return found


def _sparse(at: Mapping[int, Sequence[float]], rounds: int, several: bool) -> np.ndarray:
    """Numbers at some rounds as an array of all, NaN elsewhere."""
    count = len(next(iter(at.values())))
    values = np.full((count, rounds), np.nan)
    for place, numbers in at.items():
        values[:, place] = numbers
    return values if several else values[0]


def plot(history: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> Image:
    """A picture of the curves of a history: losses in one chart, each metric in a chart of its own.

    Args:
      history: of `rollout`, arrays `[rounds]`, or `[seeds, rounds]`, which are drawn as mean and range.
      names: what to draw; by default the losses and everything that is not a number of every round.

    Returns:
      An image of Pillow, which a notebook shows and `save` writes.

    Raises:
      ValueError: if it is no history, there is no such name, or nothing finite to draw.
    """
    from PIL import Image as images

    from gan_jax.pictures import Row, curves, figure, to_array

    if not isinstance(history, Mapping) or not history:
        raise ValueError(f"plot draws the history of rollout, arrays by name; got {history!r}.")
    losses = [name for name in history if name.endswith("/loss")]
    sparse = [name for name, values in history.items() if np.isnan(np.asarray(values, float)).any()]
    wanted = list(names) if names is not None else [*losses, *(name for name in sparse if name not in losses)]
    if unknown := [name for name in wanted if name not in history]:
        raise ValueError(f"The history has no {', '.join(unknown)}; it has {', '.join(sorted(history))}.")
    together = [name for name in wanted if name in losses]
    groups = [(together, "loss")] if together else []
    groups += [([name], name) for name in wanted if name not in together]
    charts = [
        curves({name: _points(history[name]) for name in group}, x_label="round", y_label=label)
        for group, label in groups
    ]
    rows = [Row(tuple(charts[i : i + 3])) for i in range(0, len(charts), 3)]
    return images.fromarray(to_array(figure(*rows, width=3.6 * min(3, max(1, len(charts))))))


def _points(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rounds and the values of a metric, without the rounds in which it was not measured."""
    values = np.asarray(values, float)
    there = ~np.isnan(values).all(axis=0) if values.ndim == 2 else ~np.isnan(values)
    return np.flatnonzero(there) + 1, values[..., there]


def show(samples: np.ndarray, real: np.ndarray | None = None) -> Image:
    """A picture of samples: a grid of images `[N, H, W, C]`, uint8 or in [-1, 1], or points `[N, 2]`.

    Args:
      samples: images or points.
      real: points that those are drawn over; images have none.

    Returns:
      An image of Pillow, which a notebook shows and `save` writes.

    Raises:
      ValueError: for samples of another shape, and images of booleans or integers other than uint8.
    """
    from PIL import Image as images

    from gan_jax.pictures import Row, figure, image_grid, scatter, to_array

    samples = np.asarray(samples)
    if samples.ndim == 4:
        grid = image_grid(samples, scale=max(1, 56 // samples.shape[1]))
        return images.fromarray(grid[..., 0] if grid.shape[-1] == 1 else grid)
    if samples.ndim == 2 and samples.shape[1] == 2:
        chart = scatter(samples, real) if real is not None else scatter(samples)
        return images.fromarray(to_array(figure(Row((chart,), height=4.6), width=4.2)))
    raise ValueError(f"show draws images [N, H, W, C] or points [N, 2], got {samples.shape}.")


def save(path: epath.PathLike, game: Game, state: TrainState, *, keep: int = 3) -> None:
    """Saves a state of a loop of your own, completely or not at all, beside those of earlier rounds.

    Args:
      path: a directory, made if it is not there. What else is in it stays.
      game: whose state it is.
      state: of one seed, or of several.
      keep: how many of the newest rounds are kept.

    Raises:
      CheckpointError: if it cannot be written, or the directory holds a later round, which `restore` would give
        in place of this one, or one of another game, which goes when `keep` newer ones are there, or something
        of yours by the round's number.
      ValueError: if the state is not one of the game.
    """
    _check_state(game, state)
    step, path = int(state.step), os.path.expanduser(path)
    with Checkpoints(path, keep=keep) as checkpoints:
        if later := [other for other in checkpoints.steps() if other > step]:
            raise CheckpointError(
                f"{path} holds round {later[-1]}, and this state is of round {step}: it is of another run, or of a "
                "branch. Save it in a directory of its own, or delete what is there."
            )
        checkpoints.check_fits(state)  # else it would displace the rounds of another game
        checkpoints.save(step, state, blocking=True)


def restore(path: epath.PathLike, game: Game, *, round: int | None = None) -> TrainState:
    """The state that `save` has written, bit for bit, on one device.

    Args:
      path: the directory.
      game: with the same players, networks and optimisers.
      round: by default the newest that is undamaged.

    Raises:
      CheckpointError: if there is none, or it is the state of another game.
    """
    path = os.path.expanduser(path)
    with Checkpoints(path) as checkpoints:
        step = checkpoints.latest_valid() if round is None else round
        if step not in checkpoints.steps():
            what = "state" if round is None else f"state of round {round}"
            raise CheckpointError(f"There is no saved {what} in {path}.")
        assert step is not None
        key = checkpoints.manifest(step)["leaves"].get("key", {"shape": [], "dtype": "key<"})
        single = 0 if key["dtype"].startswith("key<") else 1
        seeds = key["shape"][0] if len(key["shape"]) > single else None
        return checkpoints.restore(_target(game, seeds), step).state


def _target(game: Game, seeds: int | None) -> TrainState:
    def make(key: Any) -> TrainState:
        state = init_state(game, key)
        return state if seeds is None else stacked([state] * seeds)

    return jax.eval_shape(make, jax.random.key(0))


def _check_state(game: Game, state: TrainState) -> None:
    expected = _target(game, number_of_seeds(state))
    shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)  # noqa: E731
    if shapes(expected) != shapes(state):
        raise ValueError("The state is not one of this game: its players, networks or optimisers are others.")
