"""The gradient field of a game and its modifiers.

A field answers one question: with what gradients do the players of this turn move from this point? The plain
answer is each player's gradient of its own loss; a modifier takes a field and returns a field, so that every
one composes with every objective.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_jax.dependence import MOST_EXAMPLES, is_per_example
from gan_jax.game import Field, Game, Grads, LossFn, TurnContext
from gan_jax.outputs import ForwardOutputs, LossOutput
from gan_jax.schedule import Turn
from gan_jax.state import Players, PlayerState, with_player
from gan_jax.types import Array, Key, Tree

Losses = dict[str, LossOutput]


def _gradients(turn: Turn, context: TurnContext) -> tuple[Grads, Losses]:
    grads, losses = {}, {}
    for name in turn.players:
        loss = functools.partial(_loss_at, loss_of_turn(context.game, turn, name), context, name)
        grads[name], losses[name] = jax.grad(loss, has_aux=True)(context.players[name].params)
    return grads, losses


def _loss_at(loss: LossFn, context: TurnContext, name: str, params: Tree) -> tuple[Array, LossOutput]:
    output = loss(context.with_players(with_player(context.players, name, params=params)))
    return output.value, output


gradient_field = Field(_gradients)
"""Each player's gradient of its own loss, all taken at the same point: v_i = grad_i L_i."""


def loss_of_turn(game: Game, turn: Turn, name: str) -> LossFn:
    """What a player minimises in a turn: its loss, or `turn.every` times the sum of the turn's terms."""
    part = game.objective.players[name]
    if not turn.terms:
        return part.loss

    def loss(context: TurnContext) -> LossOutput:
        outputs = [part.step_terms[term](context) for term in turn.terms]
        first = outputs[0]
        for other in outputs[1:]:
            first = first._replace(
                value=first.value + other.value,
                contributions=first.contributions + other.contributions,
                metrics={**first.metrics, **other.metrics},
                objective_state={**first.objective_state, **other.objective_state},
            )
        return first._replace(
            value=turn.every * first.value,
            contributions=tuple(turn.every * losses for losses in first.contributions),
            metrics={metric: turn.every * value for metric, value in first.metrics.items()},
        )

    return loss


def advance(game: Game, players: Players, grads: Grads, fraction: float = 1.0) -> dict[str, PlayerState]:
    """The players after their optimisers' step along `grads`; `fraction` scales the update of the parameters."""
    moved = dict(players)
    for name, grad in grads.items():
        player = players[name]
        updates, opt_state = game.players[name].optimizer.update(grad, player.opt_state, player.params)
        if fraction != 1.0:
            updates = jax.tree.map(lambda u: fraction * u, updates)
        params = optax.apply_updates(player.params, updates)
        moved[name] = player._replace(params=params, opt_state=opt_state)
    return moved


def _joint_field(field: Field, context: TurnContext) -> tuple[Callable[[Grads], tuple[Grads, Losses]], Grads]:
    """The field of all players as a function of all parameters, and the parameters."""
    names = tuple(context.game.players)

    def at(params: Grads) -> tuple[Grads, Losses]:
        players = {name: context.players[name]._replace(params=params[name]) for name in names}
        return field(Turn(names), context.with_players(players))

    return at, {name: context.players[name].params for name in names}


def _dot(a: Tree, b: Tree) -> Array:
    return sum(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)), start=jnp.zeros(()))


def _players_of_turn(turn: Turn, by_player: dict[str, Any]) -> dict[str, Any]:
    return {name: by_player[name] for name in turn.players}


def consensus(gamma: float, field: Field = gradient_field) -> Field:
    """Adds gamma grad (1/2 ||v||^2) = gamma J^T v to the field v, J its Jacobian.

    The losses of all players are evaluated, whoever's turn it is. The term pulls eigenvalues of the Jacobian off
    the imaginary axis.

    Args:
      gamma: the weight of the consensus term, at least 0.
      field: the field to modify.

    References:
      Mescheder et al., The Numerics of GANs, 2017, equation (9) (arXiv:1705.10461).
    """

    def modified(turn: Turn, context: TurnContext) -> tuple[Grads, Losses]:
        if turn.terms:  # a term's own step: there is no joint field of losses to correct
            return field(turn, context)
        at, params = _joint_field(field, context)
        v, transpose, losses = jax.vjp(at, params, has_aux=True)
        (correction,) = transpose(v)
        grads = jax.tree.map(lambda g, c: g + gamma * c, v, correction)
        return _players_of_turn(turn, grads), _players_of_turn(turn, losses)

    return Field(modified, field.check)


def symplectic_adjustment(weight: float = 1.0, align: bool = True, field: Field = gradient_field) -> Field:
    """Adds lambda A^T v to the field v, A = (J - J^T) / 2 the antisymmetric part of its Jacobian.

    J v comes from a double vjp, since the fast convolutions have no forward mode. With `align` the sign of
    lambda is that of <v, grad H> <A^T v, grad H> / d + 0.1, with grad H = J^T v and d the number of parameters.

    Args:
      weight: lambda, or its magnitude with `align`.
      align: whether the sign of lambda is chosen so that the adjustment helps to approach stable fixed points.
      field: the field to modify.

    References:
      Balduzzi et al., The Mechanics of n-Player Differentiable Games, 2018, Algorithm 1 (arXiv:1802.05642).
    """

    def modified(turn: Turn, context: TurnContext) -> tuple[Grads, Losses]:
        if turn.terms:  # a term's own step: there is no joint field of losses to correct
            return field(turn, context)
        at, params = _joint_field(field, context)
        v, transpose, losses = jax.vjp(at, params, has_aux=True)
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
        return _players_of_turn(turn, grads), _players_of_turn(turn, losses)

    return Field(modified, field.check)


def extragradient(field: Field = gradient_field) -> Field:
    """The field at the point that a step of the turn's optimisers would reach: v(x - h v(x)).

    The step size h is that of the players' optimisers; the extrapolation is exact for SGD.

    References:
      Korpelevich, The extragradient method, 1976; Gidel et al., A Variational Inequality Perspective on GANs,
      2018, equations (14) and (15) (arXiv:1802.10551).
    """

    def modified(turn: Turn, context: TurnContext) -> tuple[Grads, Losses]:
        grads, _ = field(turn, context)
        return field(turn, context.with_players(advance(context.game, context.players, grads)))

    return Field(modified, field.check)


def runge_kutta(order: int = 4, field: Field = gradient_field) -> Field:
    """The averaged slope of Heun's method (order 2) or the classical Runge-Kutta method (order 4).

    The step size is that of the players' optimisers, and the method is exact for SGD. Model states and metrics are
    those of the first slope.

    Args:
      order: 2 or 4.
      field: the field to modify.

    Raises:
      ValueError: if the order is neither 2 nor 4.

    References:
      Qin et al., Training GANs by Solving Ordinary Differential Equations, 2020, section 3.2 (arXiv:2010.15040).
    """
    if order not in (2, 4):
        raise ValueError(f"runge_kutta has order 2 or 4, got {order}.")

    def modified(turn: Turn, context: TurnContext) -> tuple[Grads, Losses]:
        def slope(direction: Grads, fraction: float) -> Grads:
            players = advance(context.game, context.players, direction, fraction)
            return field(turn, context.with_players(players))[0]

        k1, losses = field(turn, context)
        if order == 2:
            k2 = slope(k1, 1.0)
            return jax.tree.map(lambda a, b: (a + b) / 2, k1, k2), losses
        k2 = slope(k1, 0.5)
        k3 = slope(k2, 0.5)
        k4 = slope(k3, 1.0)
        return jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4), losses

    return Field(modified, field.check)


def accumulated(microbatches: int, *, approximate: bool = False, field: Field = gradient_field) -> Field:
    """Averages the field over `microbatches` parts of the batch in sequence: one update with less memory.

    Microbatch i of n takes the examples i, i + n, ... and their latents from the draw for the full batch, so that
    the mean equals the full batch's field if losses are means over independent examples. This is read off the
    program of every loss: each contribution to it must be `[B]`, with entry i a function of example i only.

    Args:
      microbatches: n, which divides every batch size.
      approximate: also accept games for which the mean is not exact: batch normalisation (its statistics are then
        those of a microbatch), unrolling, noise inside a loss or a network (drawn again for each microbatch),
        losses over the full batch, objective state, another field.
      field: the field to average.

    Raises:
      ValueError: if n is below 1; when a game is constructed or traced, unless `approximate`, if the mean is not
        exact for it; when it is traced, if n does not divide a batch size.
    """
    if microbatches < 1:
        raise ValueError(f"A batch is split into 1 or more microbatches, got {microbatches}.")
    if microbatches == 1:
        return field
    accumulation = _Accumulation(microbatches, approximate, field)
    return Field(accumulation.gradients, accumulation.check)


@dataclasses.dataclass(frozen=True, eq=False)
class _PartField(Field):
    """The field of a part of a turn's batch.

    Attributes:
      parts: in how many microbatches the batch is played.
      axis: the mapped axis of the replicas, each of which has a part; `None` where there are none.
    """

    parts: int = 1
    axis: str | None = None


def parts_of_turn(game: Game) -> int:
    """In how many microbatches and replicas together the turn's batch is; a loss of this game sees one of them."""
    if not isinstance(game.field, _PartField):
        return 1
    return game.field.parts * (1 if game.field.axis is None else jax.lax.axis_size(game.field.axis))


@dataclasses.dataclass(frozen=True, eq=False)
class _Accumulation:
    microbatches: int
    approximate: bool
    field: Field

    def check(self, game: Game) -> None:
        """Refuses a game that is known without tracing to differ from the mean of its microbatches."""
        if self.approximate:
            return
        coupled = sorted(name for name, player in game.players.items() if player.network.couples_batch)
        if coupled:
            self._refuse(f"{coupled} couple their batch (batch normalisation or a minibatch layer)")
        stateful = sorted(name for name, part in game.objective.players.items() if part.initial_state)
        if stateful:
            self._refuse(f"{stateful} keep objective state that every batch changes")
        if self.field is not gradient_field:
            self._refuse("the field is not the plain gradient (modify the accumulated field instead)")

    def _refuse(self, why: str) -> None:
        raise ValueError(
            f"The mean of {self.microbatches} microbatches is not this game's gradient: {why}. Pass "
            "approximate=True to accumulate anyway, or use one microbatch."
        )

    def gradients(self, turn: Turn, context: TurnContext) -> tuple[Grads, Losses]:
        """The mean of the microbatches' fields."""
        self.check(context.game)
        parts = jax.tree.map_with_path(self._split, context.batch)
        if not self.approximate:
            first = jax.tree.map(lambda x: x[:, 0], parts)
            for name in turn.players:
                self._check_loss(turn, name, dataclasses.replace(context, batch=first))

        part = _PartField(
            self.field.gradients,
            self.field.check,
            parts=self.microbatches * parts_of_turn(context.game),
            axis=self.field.axis if isinstance(self.field, _PartField) else None,
        )

        def microbatch(grads: Grads, i: Array) -> tuple[Grads, Losses]:
            key = jax.random.fold_in(context.turn_key, i) if self.approximate else context.turn_key
            inner = dataclasses.replace(
                context,
                game=dataclasses.replace(self._game_of_microbatch(context.game, i), field=part),
                batch=jax.tree.map(lambda x: x[:, i], parts),
                turn_key=key,
            )
            microbatch_grads, losses = self.field(turn, inner)
            return jax.tree.map(
                lambda total, g: total + g.astype(total.dtype), grads, microbatch_grads
            ), losses

        params = {name: context.players[name].params for name in turn.players}
        # In bfloat16 a sum of 512 equal numbers is that of 256.
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.promote_types(p.dtype, jnp.float32)), params)
        total, losses = jax.lax.scan(microbatch, zeros, jnp.arange(self.microbatches))
        grads = jax.tree.map(lambda g, p: (g / self.microbatches).astype(p.dtype), total, params)
        return grads, {name: _merge(output) for name, output in losses.items()}

    def _split(self, path: Any, x: Array) -> Array:
        """Reshapes `[B, ...]` to `[B / n, n, ...]`, which moves no example between devices."""
        if x.shape[0] % self.microbatches:
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} of {x.shape[0]} examples cannot be split into "
                f"{self.microbatches} microbatches: choose a batch size that is a multiple of {self.microbatches}."
            )
        return x.reshape(x.shape[0] // self.microbatches, self.microbatches, *x.shape[1:])

    def _game_of_microbatch(self, game: Game, i: Array) -> Game:
        """The game with a prior that returns the i-th microbatch's part of the full batch's latents."""
        prior = game.objective.prior
        if prior is None or self.approximate:
            return game

        def microbatch_prior(key: Key, n: int) -> Tree:
            drawn = prior(key, n * self.microbatches)
            return jax.tree.map(lambda z: z.reshape(n, self.microbatches, *z.shape[1:])[:, i], drawn)

        return _with_prior(game, microbatch_prior)

    def _check_loss(self, turn: Turn, name: str, context: TurnContext) -> None:
        """Refuses a loss whose program draws noise other than the latents, or couples the examples of its batch."""
        loss = loss_of_turn(context.game, turn, name)
        if not is_mean_over_examples(loss, context):
            self._refuse(
                f"the loss of {name!r} is not a mean over independent examples (it, or a term of it, couples the "
                "examples of the batch)"
            )
        if draws_noise(loss, context):
            self._refuse(f"the loss of {name!r}, or a network in it, draws noise other than the latents")


def is_mean_over_examples(loss: LossFn, context: TurnContext) -> bool:
    """Tells whether a loss is a mean of contributions that each depend on only one example and its latent.

    The answer is read off the loss's traced program; nothing is computed.
    """
    contributions, args = _as_program(loss, context)
    return is_per_example(contributions, *args, argnums=(0, 1))


def draws_noise(loss: LossFn, context: TurnContext) -> bool:
    """Tells whether a loss, or a network in it, draws random numbers other than the latents."""
    contributions, args = _as_program(loss, context)
    return any(primitive in _DRAWS for primitive in _primitives(jax.make_jaxpr(contributions)(*args)))


def _as_program(loss: LossFn, context: TurnContext) -> tuple[Callable[..., Tree], tuple[Tree, ...]]:
    """A loss's contributions as a function of `(batch, latents, players, key, step)`, and its arguments' shapes."""
    game, prior = context.game, context.game.objective.prior
    size = jax.tree.leaves(context.batch["x"])[0].shape[0]
    examples = size if size <= MOST_EXAMPLES else FEWER_EXAMPLES
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((examples, *x.shape[1:]), x.dtype), context.batch)
    latents = () if prior is None else jax.eval_shape(lambda key: prior(key, examples), context.turn_key)

    def contributions(batch: Tree, latents: Tree, players: Tree, key: Key, step: Array) -> Tree:
        traced_game = game if prior is None else _with_prior(game, lambda key, n: latents)
        return loss(TurnContext(traced_game, players, batch, step, key)).contributions

    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (context.players, context.turn_key, context.step)
    )
    return contributions, (batch, latents, *shapes)


FEWER_EXAMPLES = 60
"""The batch size at which a program for a larger batch is traced; a number with many divisors."""


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


def _merge(output: LossOutput) -> LossOutput:
    """Merges the outputs of microbatches `[n, ...]` into the batch's: examples in order, scalars averaged."""

    def mean(x: Array) -> Array:
        return jnp.mean(x, axis=0) if jnp.issubdtype(x.dtype, jnp.floating) else x[-1]

    def examples(x: Array) -> Array:
        return mean(x) if x.ndim == 1 else x.swapaxes(0, 1).reshape(math.prod(x.shape[:2]), *x.shape[2:])

    outputs, contributions = jax.tree.map(examples, (output.outputs, output.contributions))
    averaged = jax.tree.map(mean, output._replace(outputs=ForwardOutputs(), contributions=()))
    return averaged._replace(outputs=outputs, contributions=contributions)


def replica_mean(field: Field = gradient_field, axis: str = "data") -> Field:
    """Averages gradients, states and metrics over the replicas of a `pmap` in one all-reduce.

    Each replica folds its index into the turn's key; otherwise all would draw the same z. The forward outputs of
    the losses (`LossOutput.outputs`) remain local to each replica.

    Args:
      field: the field of one replica.
      axis: the name of the mapped axis.
    """

    def averaged(turn: Turn, context: TurnContext) -> tuple[Grads, Losses]:
        key = jax.random.fold_in(context.turn_key, jax.lax.axis_index(axis))
        grads, losses = field(turn, context.with_key(key))
        states = {
            name: (output.model_state, output.objective_state, output.metrics)
            for name, output in losses.items()
        }
        grads, states = mean_over_replicas((grads, states), axis)
        for name, (model_state, objective_state, metrics) in states.items():
            losses[name] = losses[name]._replace(
                model_state=model_state, objective_state=objective_state, metrics=metrics
            )
        return grads, losses

    return _PartField(averaged, field.check, axis=axis)


def mean_over_replicas(tree: Tree, axis: str = "data") -> Tree:
    """The mean over `axis` of every floating leaf, in one collective; other leaves are equal on all replicas."""
    leaves, structure = jax.tree.flatten(tree)
    floating = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    for i, mean in zip(floating, jax.lax.pmean([leaves[i] for i in floating], axis), strict=True):
        leaves[i] = mean
    return jax.tree.unflatten(structure, leaves)
