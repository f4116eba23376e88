"""The dynamics of a game: conflict between the players, rotation and attraction, distance travelled.

All of these are probes, evaluated at a log on one batch. The field v is the concatenation of each player's gradient
by its parameters; players move along -v.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from gan_jax.diagnostics.norms import difference, ratio, tree_cosine, tree_norm
from gan_jax.diagnostics.probe import ProbeContext
from gan_jax.field import gradient_field
from gan_jax.game import TurnContext
from gan_jax.network import parameter_count
from gan_jax.schedule import Turn
from gan_jax.state import Players, with_player
from gan_jax.types import Array, Metrics, Tree

MOST_PARAMETERS = 1000
"""The largest game whose Jacobian is formed."""
POSITIONS = tuple(np.linspace(0.6, 1.1, 11).tolist())
"""The positions on the path from the start (0) to the current point (1) at which its angle is evaluated."""


def opposition(context: ProbeContext) -> Metrics:
    """A probe of the agreement between the players' losses, `player/cosine_to_other`.

    It is the cosine between the gradients by this player's parameters of its loss and of the other's: -1 in a
    zero-sum game, 0 if the other's loss does not depend on them or a gradient is 0.
    """
    names = tuple(context.game.players)
    gradients = {(name, other): _gradient(context, name, other) for name in names for other in names}
    return {
        f"{name}/cosine_to_{other}": tree_cosine(gradients[name, name], gradients[name, other])
        for name in names
        for other in names
        if other != name
    }


def _gradient(context: TurnContext, name: str, other: str) -> Tree:
    """The gradient of another player's loss by this player's parameters."""

    def loss(params: Tree) -> Array:
        players = with_player(context.players, name, params=params)
        return context.game.objective.players[other].loss(context.with_players(players)).value

    return jax.grad(loss)(context.players[name].params)


def field_jacobian(context: TurnContext) -> Array:
    """The Jacobian of the game's field v at the players' parameters, `[n, n]`.

    Rows and columns are the parameters of all players, in the order of `game.players` and of each tree's leaves.

    Raises:
      ValueError: for a game of more than `MOST_PARAMETERS` parameters.
    """
    names = tuple(context.game.players)
    params = {name: context.players[name].params for name in names}
    check_small(parameter_count(params))
    # One vector per player: raveling a dict of all players would sort them by name.
    pieces = [ravel_pytree(params[name]) for name in names]
    ends = np.cumsum([vector.size for vector, _ in pieces])

    def field(vector: Array) -> Array:
        parts = jnp.split(vector, ends[:-1])
        moved = {name: back(part) for name, part, (_, back) in zip(params, parts, pieces, strict=True)}
        v = field_at(context, moved)
        return jnp.concatenate([ravel_pytree(v[name])[0] for name in params])

    # The fast convolutions have only reverse mode.
    return jax.jacrev(field)(jnp.concatenate([vector for vector, _ in pieces]))


def check_small(number: int) -> None:
    """Checks that a game of `number` parameters is small enough for its Jacobian to be formed.

    Raises:
      ValueError: if it has more than `MOST_PARAMETERS` parameters.
    """
    if number > MOST_PARAMETERS:
        raise ValueError(
            f"The field's Jacobian is formed for games of up to {MOST_PARAMETERS} parameters, this one has "
            f"{number}: use a smaller game, or the diagnostics 'path' and 'opposition' instead of 'eigenvalues'."
        )


def field_at(context: TurnContext, params: dict[str, Tree]) -> dict[str, Tree]:
    """The game's field of all players, at these parameters."""
    game = context.game
    players = {name: context.players[name]._replace(params=params[name]) for name in game.players}
    return (game.field or gradient_field)(Turn(tuple(game.players)), context.with_players(players))[0]


def eigenvalues(context: ProbeContext) -> Metrics:
    """A probe of the eigenvalues of the Jacobian of -v, the direction of motion, for small games.

    If all real parts are negative, small enough simultaneous steps converge; eigenvalues near the imaginary axis
    mean that the players rotate around each other (Mescheder et al., 2018, section 3).

    Returns:
      `field/eigenvalues_real` and `field/eigenvalues_imaginary`, both `[n]`, by ascending real, then imaginary
      part; `field/largest_real_part`; `field/rotation`, the largest |imaginary| over |eigenvalue|.

    Raises:
      ValueError: if the game has more than `MOST_PARAMETERS` parameters.
    """
    values = jnp.linalg.eigvals(-field_jacobian(context))
    order = jnp.lexsort((values.imag, values.real))
    values = values[order]
    return {
        "field/eigenvalues_real": values.real,
        "field/eigenvalues_imaginary": values.imag,
        "field/largest_real_part": jnp.max(values.real),
        "field/rotation": jnp.max(ratio(jnp.abs(values.imag), jnp.abs(values))),
    }


def path_angles(
    context: TurnContext,
    begin: Players,
    positions: Sequence[float] = POSITIONS,
) -> tuple[Array, Array]:
    """The path angle and path norm between two points of a game.

    At x_a = a x' + (1 - a) x, the angle's cosine is <x' - x, v(x_a)> / (||x' - x|| ||v(x_a)||). If training ends
    in an attracting point, it jumps from -1 to 1 at a = 1; if the players rotate around it, there is a bump.

    Args:
      context: its players are x', whose model and objective states are used; v is evaluated on its batch.
      begin: the players at x, an earlier point of training.
      positions: the values of a, A of them.

    Returns:
      Cosines `[A]`, 0 where v is 0, and ||v(x_a)|| `[A]`.

    References:
      Berard et al., A Closer Look at the Optimization Landscapes of Generative Adversarial Networks, 2020,
      section 4 (arXiv:1906.04848).
    """
    first, last = (
        {name: side[name].params for name in context.game.players} for side in (begin, context.players)
    )
    direction = difference(last, first)

    def at(position: Array) -> tuple[Array, Array]:
        params = jax.tree.map(lambda a, b: (position * b + (1 - position) * a).astype(b.dtype), first, last)
        v = field_at(context, params)
        return tree_cosine(direction, v), tree_norm(v)

    return jax.lax.map(at, jnp.asarray(positions, jnp.float32))


def path(context: ProbeContext) -> Metrics:
    """A probe of `field/path_angle` and `field/path_norm`, `[11]`, since the first round; see `path_angles`."""
    angle, norm = path_angles(context, context.start.players)
    return {"field/path_angle": angle, "field/path_norm": norm}


def distances(context: ProbeContext) -> Metrics:
    """A probe of the players' relative distances ||x - x_0|| / ||x_0|| to earlier parameters x_0.

    Returns:
      `player/distance_to_start` for every player; `player/distance_to_average` for those with a moving average.
    """
    metrics: Metrics = {}
    for name, player in context.state.players.items():
        began = context.start.players[name].params
        metrics[f"{name}/distance_to_start"] = _distance(player.params, began)
        if name in context.state.ema:
            metrics[f"{name}/distance_to_average"] = _distance(player.params, context.state.ema[name][0])
    return metrics


def _distance(params: Tree, reference: Tree) -> Array:
    return ratio(tree_norm(difference(params, reference)), tree_norm(reference))
