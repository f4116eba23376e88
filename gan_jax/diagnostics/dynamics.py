"""Where the players are heading: how opposed their interests are, rotation and attraction, distance travelled.

All of these are probes, evaluated at a log and on one batch. The field is v, the gradients of all players by their
own parameters, put together; players move along -v.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gan_jax.diagnostics.norms import difference, ratio, tree_cosine, tree_norm
from gan_jax.field import gradient_field
from gan_jax.game import Game, TrainState, Turn, parameter_count, with_player
from gan_jax.types import Array, Batch, Metrics, Moment, Players, Tree

MOST_PARAMETERS = 1000
"""The largest game whose Jacobian is formed."""
POSITIONS = tuple(np.linspace(0.6, 1.1, 11).tolist())
"""Where on the path from start (0) to now (1) its angle is taken."""


def opposition(game: Game, start: TrainState, state: TrainState, batch: Batch, moment: Moment) -> Metrics:
    """How the players' interests agree: `player/cosine_to_other`, a probe.

    The cosine between the gradients, by this player's parameters, of its own loss and of the other's: -1 in a
    zero-sum game, 0 where the other does not care or one gradient is 0.
    """
    metrics: Metrics = {}
    for name in game.players:

        def gradient_of(loss_of: str, name: str = name) -> Tree:
            def loss(params: Tree) -> Array:
                players = with_player(state.players, name, params=params)
                return game.objective.losses[loss_of](game, players, batch, moment)[0]

            return jax.grad(loss)(state.players[name].params)

        own = gradient_of(name)
        for other in game.players:
            if other != name:
                metrics[f"{name}/cosine_to_{other}"] = tree_cosine(own, gradient_of(other))
    return metrics


def field_jacobian(game: Game, players: Players, batch: Batch, moment: Moment) -> Array:
    """The Jacobian of the game's field v at the players' parameters, `[n, n]`.

    Rows and columns are the parameters of all players, in the order of `game.players` and of each tree's leaves.

    Raises:
      ValueError: for a game of more than `MOST_PARAMETERS` parameters.
    """
    params = {name: players[name].params for name in game.players}
    check_small(parameter_count(params))
    # One vector a player: a dict of them would be put in the order of the names.
    pieces = [ravel_pytree(params[name]) for name in game.players]
    ends = np.cumsum([vector.size for vector, _ in pieces])

    def of(vector: Array) -> Array:
        parts = jnp.split(vector, ends[:-1])
        moved = {name: back(part) for name, part, (_, back) in zip(params, parts, pieces, strict=True)}
        v = field_at(game, players, moved, batch, moment)
        return jnp.concatenate([ravel_pytree(v[name])[0] for name in params])

    # Reverse mode: the fast convolutions have no other.
    return jax.jacrev(of)(jnp.concatenate([vector for vector, _ in pieces]))


def check_small(number: int) -> None:
    """Raises a ValueError where a game of `number` parameters is too large for its Jacobian to be formed."""
    if number > MOST_PARAMETERS:
        raise ValueError(
            f"The field's Jacobian is formed for games of up to {MOST_PARAMETERS} parameters, this one has "
            f"{number}: take a smaller game, or the diagnostics 'path' and 'opposition' instead of 'eigenvalues'."
        )


def field_at(
    game: Game, players: Players, params: dict[str, Tree], batch: Batch, moment: Moment
) -> dict[str, Tree]:
    """The game's field of all players, at these parameters."""
    here = {name: players[name]._replace(params=params[name]) for name in game.players}
    return (game.field or gradient_field)(game, Turn(game.players), here, batch, moment)[0]


def eigenvalues(game: Game, start: TrainState, state: TrainState, batch: Batch, moment: Moment) -> Metrics:
    """Eigenvalues of the Jacobian of -v, the players' motion, for small games; a probe.

    Real parts below 0 everywhere mean that small enough simultaneous steps converge; eigenvalues near the
    imaginary axis mean that the players circle each other (Mescheder et al., 2018, section 3).

    Returns:
      `field/eigenvalues_real` and `field/eigenvalues_imaginary`, both `[n]`, by ascending real, then imaginary
      part; `field/largest_real_part`; `field/rotation`, the largest |imaginary| over |eigenvalue|.

    Raises:
      ValueError: as `field_jacobian`.
    """
    values = jnp.linalg.eigvals(-field_jacobian(game, state.players, batch, moment))
    order = jnp.lexsort((values.imag, values.real))
    values = values[order]
    return {
        "field/eigenvalues_real": values.real,
        "field/eigenvalues_imaginary": values.imag,
        "field/largest_real_part": jnp.max(values.real),
        "field/rotation": jnp.max(ratio(jnp.abs(values.imag), jnp.abs(values))),
    }


def path_angles(
    game: Game,
    begin: Players,
    end: Players,
    batch: Batch,
    moment: Moment,
    positions: Sequence[float] = POSITIONS,
) -> tuple[Array, Array]:
    """The path angle and path norm between two points of a game.

    At x_a = a x' + (1 - a) x, the angle's cosine is <x' - x, v(x_a)> / (||x' - x|| ||v(x_a)||). Where training
    ends in a point that attracts, it jumps from -1 to 1 at a = 1; where players circle about it, there is a bump.

    Args:
      game: the game.
      begin: x; the end of an earlier stretch of training.
      end: x'; statistics and memories are taken from here.
      batch: the examples on which v is taken.
      moment: when.
      positions: the a, A of them.

    Returns:
      Cosines `[A]`, 0 where v is 0, and ||v(x_a)|| `[A]`.

    References:
      Berard et al., A Closer Look at the Optimization Landscapes of Generative Adversarial Networks, 2020,
      section 4 (arXiv:1906.04848).
    """
    first, last = ({name: side[name].params for name in game.players} for side in (begin, end))
    direction = difference(last, first)

    def at(position: Array) -> tuple[Array, Array]:
        here = jax.tree.map(lambda a, b: (position * b + (1 - position) * a).astype(b.dtype), first, last)
        v = field_at(game, end, here, batch, moment)
        return tree_cosine(direction, v), tree_norm(v)

    return jax.lax.map(at, jnp.asarray(positions, jnp.float32))


def path(game: Game, start: TrainState, state: TrainState, batch: Batch, moment: Moment) -> Metrics:
    """`field/path_angle` and `field/path_norm`, `[11]`, from the first round to now; see `path_angles`; a probe."""
    angle, norm = path_angles(game, start.players, state.players, batch, moment)
    return {"field/path_angle": angle, "field/path_norm": norm}


def distances(game: Game, start: TrainState, state: TrainState, batch: Batch, moment: Moment) -> Metrics:
    """How far players are from where they were, over the length of where they were; a probe.

    Returns:
      `player/distance_to_start` of every player; `player/distance_to_average` of those that keep a moving average.
    """
    metrics: Metrics = {}
    for name, player in state.players.items():
        began = start.players[name].params
        metrics[f"{name}/distance_to_start"] = _distance(player.params, began)
        if name in state.ema:
            metrics[f"{name}/distance_to_average"] = _distance(player.params, state.ema[name][0])
    return metrics


def _distance(here: Tree, there: Tree) -> Array:
    return ratio(tree_norm(difference(here, there)), tree_norm(there))
