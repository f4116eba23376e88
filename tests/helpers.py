"""Tiny pure networks and games: no Flax, so that they trace and compile fast.

`critic` and `generator` are one hidden tanh layer, written by hand; the last layers have no bias, since a bias
that shifts all scores alike has no gradient in a Wasserstein game. `dirac_game` is the Dirac-GAN of Mescheder
et al. (2018): data at 0, G = theta, D(x) = psi x.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan_jax.diagnostics.probe import ProbeContext
from gan_jax.functional import priors
from gan_jax.game import AuxiliaryRole, Game, Objective, Player, PlayerObjective, TurnContext, loss_output
from gan_jax.network import Network
from gan_jax.schedule import alternating, fresh_turns
from gan_jax.state import PlayerState, TrainState
from gan_jax.training.step import init_state, make_train_step

X_DIM, Z_DIM, WIDTH, CLASSES = 2, 3, 4, 3
B = 8


def normal(key, *shape, scale=1.0):
    return scale * jax.random.normal(key, shape)


def as_vector(x):
    """Inputs of any kind as `[B, D]`: labels one-hot, the rest flattened."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        x = jax.nn.one_hot(x, CLASSES)
    return x.reshape(x.shape[0], -1)


def spec(*sizes):
    """The specification of inputs `[2, size]`."""
    return tuple(jax.ShapeDtypeStruct((2, size), jnp.float32) for size in sizes)


def mlp(inputs, heads, *, hidden=WIDTH, couples_batch=False):
    """tanh features, linear heads `{name: size}`; size `None` gives `[B]`. Its state counts training calls."""

    def init(key):
        keys = jax.random.split(key, len(heads) + 1)
        params = {"hidden": {"w": normal(keys[0], inputs, hidden), "b": jnp.full(hidden, 0.1)}}
        for head_key, (name, size) in zip(keys[1:], heads.items(), strict=True):
            params[name] = normal(head_key, hidden, size or 1)
        return params, {"calls": jnp.zeros((), jnp.float32)}

    def apply(params, model_state, *inputs, train, key=None):
        x = jnp.concatenate([as_vector(i) for i in inputs], axis=-1)
        w, b = params["hidden"]["w"], params["hidden"]["b"]
        features = jnp.tanh(x.astype(w.dtype) @ w + b)
        if couples_batch:
            features = features - jnp.mean(features, axis=0)
        out = {"features": features}
        for name, size in heads.items():
            out[name] = features @ params[name]
            if size is None:
                out[name] = out[name][:, 0]
        return out, {"calls": model_state["calls"] + train}

    return Network(init=init, apply=apply, inputs=spec(inputs))


def critic(inputs=X_DIM, couples_batch=False, **heads):
    """A critic with a `score`, `features`, and extra heads by size."""
    return mlp(inputs, {"score": None, **heads}, couples_batch=couples_batch)


def generator(inputs=Z_DIM, outputs=X_DIM, couples_batch=False):
    """`[B, inputs] -> [B, outputs]`."""
    network = mlp(inputs, {"sample": outputs}, couples_batch=couples_batch)

    def apply(params, model_state, *inputs, train, key=None):
        out, model_state = network.apply(params, model_state, *inputs, train=train, key=key)
        return out["sample"], model_state

    return dataclasses.replace(network, apply=apply)


def networks():
    return {"critic": critic(), "generator": generator()}


def game(objective, *, networks_=None, lr=0.1, schedule=None, optimizer=optax.sgd, ema=None, **options):
    """A game of the toy networks, SGD unless another is given, one turn each."""
    made = networks_ or networks()
    averages = ema or {}
    return Game(
        players={name: Player(network, optimizer(lr), averages.get(name)) for name, network in made.items()},
        objective=objective,
        schedule=schedule or alternating(),
        **options,
    )


def batch(seed=0, n=B, dim=X_DIM, shape=()):
    """A batch of reals with labels; `shape` goes in front, as `[T]` for a round."""
    x, y = jax.random.split(jax.random.key(seed))
    return {
        "x": normal(x, *shape, n, dim) + 1.0,
        "y": jax.random.randint(y, (*shape, n), 0, CLASSES),
    }


def context(game, players=None, batch_=None, step=0, seed=7):
    """A turn of `game` at the players before the first round."""
    players = players_of(game) if players is None else players
    made = batch() if batch_ is None else batch_
    return TurnContext(game, players, made, jnp.asarray(step, jnp.int32), jax.random.key(seed))


def loss(player, game, players=None, batch_=None, step=0):
    """A player's loss, and all that it hands back."""
    output = game.objective.players[player].loss(context(game, players, batch_, step))
    return output.value, output


def changed_loss(objective, player, change):
    """The objective with what a player's loss hands back changed: `change(context, output) -> output`."""
    base = objective.players[player].loss
    return objective.with_player(player, loss=lambda context: change(context, base(context)))


def valued(output, value):
    """What a loss hands back, with another value."""
    return output._replace(value=value, metrics={**output.metrics, "loss": value})


def plain_objective(losses):
    """Players that minimise functions of `(players, batch)`, and nothing else."""

    def part(name, formula):
        def loss(context):
            return loss_output(context, name, formula(context.players, context.batch))

        return PlayerObjective(role=AuxiliaryRole(), loss=loss)

    return Objective(players={name: part(name, formula) for name, formula in losses.items()})


def probe_context(game, start, state, batch, key=None):
    """What a probe sees."""
    return ProbeContext(
        game=game,
        players=state.players,
        batch=batch,
        step=state.step,
        turn_key=jax.random.key(7) if key is None else key,
        start=start,
        state=state,
    )


def players_of(game, seed=0):
    """The players before the first round."""
    return init_state(game, jax.random.key(seed)).players


PRIOR = priors.gaussian(Z_DIM)


# --- the Dirac-GAN ------------------------------------------------------------------------------------------


def scalar_network(apply):
    """A network whose only parameter is one number."""
    return Network(init=lambda key: (jnp.zeros(()), ()), apply=apply)


def dirac_game(objective, *, lr, schedule, optimizer=optax.sgd, **options):
    def theta(params, model_state, z, train, key):
        return jnp.broadcast_to(params, (z.shape[0], 1)), model_state

    def psi_x(params, model_state, x, train, key):
        return params * x[:, 0], model_state

    return Game(
        players={
            "generator": Player(scalar_network(theta), optimizer(lr)),
            "critic": Player(scalar_network(psi_x), optimizer(lr)),
        },
        objective=objective,
        schedule=schedule,
        **options,
    )


def dirac_train_state(psi, theta):
    players = {
        "critic": PlayerState(psi, (), optax.sgd(0.1).init(psi), {}),
        "generator": PlayerState(theta, (), optax.sgd(0.1).init(theta), {}),
    }
    count = jnp.zeros((), jnp.int32)
    return TrainState(count, count, jax.random.key(0), players, {})


def dirac_jacobian(game, psi=0.0, theta=0.0, examples=2):
    """d (psi', theta') / d (psi, theta) of one round at a point, through the train step."""
    step = make_train_step(game)
    turns = fresh_turns(game.schedule)
    zeros = jnp.zeros((examples, 1) if turns == 1 else (turns, examples, 1))

    def round_(point):
        after, _ = step(dirac_train_state(point[0], point[1]), {"x": zeros})
        return jnp.stack([after.players["critic"].params, after.players["generator"].params])

    return jax.jacrev(round_)(jnp.array([psi, theta]))


def eigenvalues(matrix):
    """Sorted by imaginary, then real part."""
    return sorted(np.linalg.eigvals(np.asarray(matrix, np.float64)), key=lambda v: (v.imag, v.real))


def quadratic_roots(b, c):
    """The roots of t^2 + b t + c, sorted as `eigenvalues` are."""
    root = complex(b * b - 4 * c) ** 0.5
    return sorted([(-b - root) / 2, (-b + root) / 2], key=lambda v: (v.imag, v.real))
