"""The gradient field of a game and its modifiers.

A field answers one question: with what gradients do the players of this turn move from this point? The plain
answer is each player's gradient of its own loss; a modifier takes a field and returns a field, so that every
one composes with every objective.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_jax.game import Game, PlayerState, Turn, with_player
from gan_jax.types import Array, Aux, Batch, Field, Key, Moment, Players, Tree

Grads = dict[str, Tree]


def gradient_field(
    game: Game, turn: Turn, players: Players, batch: Batch, moment: Moment
) -> tuple[Grads, dict[str, Aux]]:
    """Each player's gradient of its own loss, all taken at the same point: v_i = grad_i L_i."""
    grads, aux = {}, {}
    for name in turn.players:

        def loss(params: Tree, name: str = name) -> tuple[Array, Aux]:
            return game.objective.losses[name](game, with_player(players, name, params=params), batch, moment)

        grads[name], aux[name] = jax.grad(loss, has_aux=True)(players[name].params)
    return grads, aux


def advance(game: Game, players: Players, grads: Grads, fraction: float = 1.0) -> dict[str, PlayerState]:
    """The players after their optimisers' step along `grads`; `fraction` scales the update of the parameters."""
    moved = dict(players)
    for name, grad in grads.items():
        player = players[name]
        updates, opt_state = game.optimizers[name].update(grad, player.opt_state, player.params)
        if fraction != 1.0:
            updates = jax.tree.map(lambda u: fraction * u, updates)
        params = optax.apply_updates(player.params, updates)
        moved[name] = player._replace(params=params, opt_state=opt_state)
    return moved


def _everyone(
    game: Game, players: Players, batch: Batch, moment: Moment, field: Field
) -> tuple[Callable[[Grads], tuple[Grads, dict[str, Aux]]], Grads]:
    """The field of all players as a function of all parameters, and the parameters."""

    def of(params: Grads) -> tuple[Grads, dict[str, Aux]]:
        here = {name: players[name]._replace(params=params[name]) for name in game.players}
        return field(game, Turn(game.players), here, batch, moment)

    return of, {name: players[name].params for name in game.players}


def _dot(a: Tree, b: Tree) -> Array:
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)), start=jnp.zeros(()))


def _keep(turn: Turn, everyone: dict[str, Any]) -> dict[str, Any]:
    return {name: everyone[name] for name in turn.players}


def consensus(gamma: float, field: Field = gradient_field) -> Field:
    """Adds gamma grad (1/2 ||v||^2) = gamma J^T v to the field v, J its Jacobian.

    All players are evaluated, whoever's turn it is. Pulls eigenvalues of the Jacobian off the imaginary axis.

    Args:
      gamma: the weight of the consensus term, at least 0.
      field: what is modified.

    References:
      Mescheder et al., The Numerics of GANs, 2017, equation (9) (arXiv:1705.10461).
    """

    def modified(game: Game, turn: Turn, players: Players, batch: Batch, moment: Moment):
        of, params = _everyone(game, players, batch, moment, field)
        v, transpose, aux = jax.vjp(of, params, has_aux=True)
        (correction,) = transpose(v)
        grads = jax.tree.map(lambda g, c: g + gamma * c, v, correction)
        return _keep(turn, grads), _keep(turn, aux)

    return modified


def symplectic_adjustment(weight: float = 1.0, align: bool = True, field: Field = gradient_field) -> Field:
    """Adds lambda A^T v to the field v, A = (J - J^T) / 2 the antisymmetric part of its Jacobian.

    J v comes from a double vjp, since the fast convolutions have no forward mode. With `align` the sign of
    lambda is that of <v, grad H> <A^T v, grad H> / d + 0.1, with grad H = J^T v and d the number of parameters.

    References:
      Balduzzi et al., The Mechanics of n-Player Differentiable Games, 2018, Algorithm 1 (arXiv:1802.05642).
    """

    def modified(game: Game, turn: Turn, players: Players, batch: Batch, moment: Moment):
        of, params = _everyone(game, players, batch, moment, field)
        v, transpose, aux = jax.vjp(of, params, has_aux=True)
        _, transpose_twice = jax.vjp(lambda u: transpose(u)[0], v)
        (gradient_h,) = transpose(v)
        (j_v,) = transpose_twice(v)
        adjustment = jax.tree.map(lambda jt, j: (jt - j) / 2, gradient_h, j_v)
        scale = jnp.asarray(weight)
        if align:
            dimension = sum(leaf.size for leaf in jax.tree.leaves(v))
            sign = _dot(v, gradient_h) * _dot(adjustment, gradient_h) / dimension + 0.1
            scale = scale * jnp.where(sign < 0, -1.0, 1.0)
        grads = jax.tree.map(lambda g, a: g + scale * a, v, adjustment)
        return _keep(turn, grads), _keep(turn, aux)

    return modified


def extragradient(field: Field = gradient_field) -> Field:
    """The field at the point to which the turn's own optimisers would have led: v(x - h v(x)).

    The step size is that of `game.optimizers`, so none is given twice; the look-ahead is exact for SGD.

    References:
      Korpelevich, The extragradient method, 1976; Gidel et al., A Variational Inequality Perspective on GANs,
      2018, equations (14) and (15) (arXiv:1802.10551).
    """

    def modified(game: Game, turn: Turn, players: Players, batch: Batch, moment: Moment):
        grads, _ = field(game, turn, players, batch, moment)
        return field(game, turn, advance(game, players, grads), batch, moment)

    return modified


def runge_kutta(order: int = 4, field: Field = gradient_field) -> Field:
    """The averaged slope of Heun's method (order 2) or the classical Runge-Kutta method (order 4).

    The step size is that of `game.optimizers`; exact for SGD. Statistics and metrics are those of the first slope.

    Raises:
      ValueError: if the order is neither 2 nor 4.

    References:
      Qin et al., Training GANs by Solving Ordinary Differential Equations, 2020, section 3.2 (arXiv:2010.15040).
    """
    if order not in (2, 4):
        raise ValueError(f"runge_kutta has order 2 or 4, got {order}.")

    def modified(game: Game, turn: Turn, players: Players, batch: Batch, moment: Moment):
        def slope(direction: Grads, fraction: float) -> Grads:
            return field(game, turn, advance(game, players, direction, fraction), batch, moment)[0]

        k1, aux = field(game, turn, players, batch, moment)
        if order == 2:
            k2 = slope(k1, 1.0)
            return jax.tree.map(lambda a, b: (a + b) / 2, k1, k2), aux
        k2 = slope(k1, 0.5)
        k3 = slope(k2, 0.5)
        k4 = slope(k3, 1.0)
        return jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4), aux

    return modified


def accumulated(microbatches: int, *, approximate: bool = False, field: Field = gradient_field) -> Field:
    """The mean of the field over `microbatches` parts of the batch, one after the other: less memory, one update.

    Microbatch i of n takes the examples i, i + n, ... and their latents out of the whole batch's draw, so that the
    mean is the batch's own field where losses are means over independent examples.

    Args:
      microbatches: n, which divides every batch.
      approximate: play also what the mean is not exact for: batch normalisation (its statistics are then those of a
        microbatch), unrolling, noise inside a loss or a network (drawn for each microbatch anew), losses over the
        whole batch, memories, another field.
      field: what is averaged.

    Raises:
      ValueError: if n is below 1; when a game is built or traced, unless `approximate`, if the mean is not exact
        for it; when it is traced, if n does not divide a batch.

    >>> accumulated(4).microbatches
    4
    """
    if microbatches < 1:
        raise ValueError(f"A batch is divided into 1 or more microbatches, got {microbatches}.")
    return field if microbatches == 1 else _Accumulated(microbatches, approximate, field)


@dataclasses.dataclass(frozen=True, eq=False)
class _Accumulated:
    microbatches: int
    approximate: bool
    field: Field

    def check(self, game: Game) -> None:
        """Refuses a game whose batch is more than the mean of its microbatches."""
        if self.approximate:
            return
        coupled = sorted(name for name, network in game.networks.items() if network.couples_batch)
        if "mean" not in game.objective.traits:
            self._refuse(
                "the objective's losses are no means over independent examples (it lacks the trait 'mean')"
            )
        if coupled:
            self._refuse(f"{coupled} couple their batch (batch normalisation or a minibatch layer)")
        if game.objective.objective_state:
            self._refuse(
                f"{sorted(game.objective.objective_state)} keep objective state that every batch changes"
            )
        if self.field is not gradient_field:
            self._refuse("the field is not the plain gradient (modify the accumulated field instead)")

    def _refuse(self, why: str) -> None:
        raise ValueError(
            f"The mean of {self.microbatches} microbatches is not this game's gradient: {why}. Pass "
            "approximate=True to accumulate all the same, or use one microbatch."
        )

    def __call__(
        self, game: Game, turn: Turn, players: Players, batch: Batch, moment: Moment
    ) -> tuple[Grads, dict[str, Aux]]:
        self.check(game)
        parts = jax.tree.map_with_path(self._split, batch)
        if not self.approximate:
            self._refuse_noise(game, turn, players, jax.tree.map(lambda x: x[:, 0], parts), moment)

        def part(grads: Grads, i: Array) -> tuple[Grads, dict[str, Aux]]:
            own = moment._replace(key=jax.random.fold_in(moment.key, i)) if self.approximate else moment
            inner = dataclasses.replace(self._drawing(game, i), field=self.field)
            more, aux = self.field(inner, turn, players, jax.tree.map(lambda x: x[:, i], parts), own)
            return jax.tree.map(jnp.add, grads, more), aux

        nothing = {name: jax.tree.map(jnp.zeros_like, players[name].params) for name in turn.players}
        total, aux = jax.lax.scan(part, nothing, jnp.arange(self.microbatches))
        return jax.tree.map(lambda g: g / self.microbatches, total), {n: _merge(a) for n, a in aux.items()}

    def _split(self, path: Any, x: Array) -> Array:
        """`[B, ...]` to `[B / n, n, ...]`: the devices' shares of a batch stay where they are."""
        if x.shape[0] % self.microbatches:
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} of {x.shape[0]} examples cannot be divided into "
                f"{self.microbatches} microbatches: choose a batch size that is a multiple of {self.microbatches}."
            )
        return x.reshape(x.shape[0] // self.microbatches, self.microbatches, *x.shape[1:])

    def _drawing(self, game: Game, i: Array) -> Game:
        """The game whose latents are the i-th microbatch's of the whole batch's draw."""
        prior = game.objective.prior
        if prior is None or self.approximate:
            return game

        def part_of_draw(key: Key, n: int) -> Tree:
            whole = prior(key, n * self.microbatches)
            return jax.tree.map(lambda z: z.reshape(n, self.microbatches, *z.shape[1:])[:, i], whole)

        return _with_prior(game, part_of_draw)

    def _refuse_noise(self, game: Game, turn: Turn, players: Players, batch: Batch, moment: Moment) -> None:
        """Looks for draws in the program of each loss, its latents given."""
        prior = game.objective.prior
        if prior is not None:

            def nothing(key: Key, n: int) -> Tree:
                shapes = jax.eval_shape(lambda key: prior(key, n), key)
                return jax.tree.map(lambda z: jnp.zeros(z.shape, z.dtype), shapes)

            game = _with_prior(game, nothing)
        for name in turn.players:
            loss = jax.make_jaxpr(lambda *args, name=name: game.objective.losses[name](game, *args)[0])
            if any(primitive in _DRAWS for primitive in _primitives(loss(players, batch, moment))):
                self._refuse(f"the loss of {name!r}, or a network in it, draws noise beside the latents")


_DRAWS = {"random_bits", "random_gamma", "rng_uniform", "rng_bit_generator"}


def _with_prior(game: Game, prior: Callable[[Key, int], Tree]) -> Game:
    return dataclasses.replace(game, objective=dataclasses.replace(game.objective, prior=prior), field=None)


def _primitives(jaxpr: Any) -> Iterator[str]:
    """The names of all primitives of a program, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "eqns"):
                    yield from _primitives(inner)


def _merge(aux: Aux) -> Aux:
    """Aux of microbatches `[n, ...]` as that of their batch: what has examples in order, the rest averaged."""

    def mean(x: Array) -> Array:
        return jnp.mean(x, axis=0) if jnp.issubdtype(x.dtype, jnp.floating) else x[-1]

    def examples(x: Array) -> Array:
        return mean(x) if x.ndim == 1 else x.swapaxes(0, 1).reshape(math.prod(x.shape[:2]), *x.shape[2:])

    model_state, objective_state, metrics = jax.tree.map(
        mean, (aux.model_state, aux.objective_state, aux.metrics)
    )
    scores, seen = jax.tree.map(examples, (aux.scores, aux.seen))
    return Aux(model_state, objective_state, scores, metrics, seen)


def replica_mean(field: Field = gradient_field, axis: str = "data") -> Field:
    """The mean of the replicas' fields under `pmap`: gradients, statistics, memory and metrics, in one all-reduce.

    Each replica folds its index into the turn's key, else all would draw the same z. What the losses saw
    (`Aux.scores`, `Aux.seen`) stays the replica's own.
    """

    def averaged(game: Game, turn: Turn, players: Players, batch: Batch, moment: Moment):
        own = moment._replace(key=jax.random.fold_in(moment.key, jax.lax.axis_index(axis)))
        grads, aux = field(game, turn, players, batch, own)
        shared = {name: (a.model_state, a.objective_state, a.metrics) for name, a in aux.items()}
        grads, shared = mean_over_replicas((grads, shared), axis)
        aux = {
            name: a._replace(
                model_state=shared[name][0], objective_state=shared[name][1], metrics=shared[name][2]
            )
            for name, a in aux.items()
        }
        return grads, aux

    return averaged


def mean_over_replicas(tree: Tree, axis: str = "data") -> Tree:
    """The mean over `axis` of every floating leaf, in one collective; other leaves are alike on all replicas."""
    leaves, structure = jax.tree.flatten(tree)
    floating = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    for i, mean in zip(floating, jax.lax.pmean([leaves[i] for i in floating], axis), strict=True):
        leaves[i] = mean
    return jax.tree.unflatten(structure, leaves)
