"""gan_jax: functional GAN training on JAX and Flax.

A game, and three lines:

>>> import jax, optax
>>> import gan_jax as gj
>>> game = gj.Game(
...     networks={
...         "critic": gj.from_linen(gj.MLPCritic(widths=(32,)), jax.numpy.zeros((1, 2))),
...         "generator": gj.from_linen(gj.MLPGenerator(output_shape=(2,), widths=(32,)), jax.numpy.zeros((1, 8))),
...     },
...     objective=gj.non_saturating(gj.gaussian(8)),
...     optimizers={"critic": optax.adam(1e-3), "generator": optax.adam(1e-3)},
...     schedule=gj.alternating(n_critic=1),
... )
>>> batches = {"x": gj.toy.ring().sample(jax.random.key(1), 2 * 64).reshape(2, 64, 2)}

>>> state = gj.init_state(game, jax.random.key(0))
>>> state, metrics = jax.jit(gj.make_train_step(game))(state, batches)
>>> int(state.step), sorted(metrics)
(1, ['critic/loss', 'generator/loss'])

Many rounds a dispatch, on data that the device draws or holds:

>>> state, history = gj.rollout(game, gj.from_toy(gj.toy.ring(), batch_size=64), state, rounds=20)
>>> history["generator/loss"].shape
(20,)
>>> gj.sample(game, state, jax.random.key(2), n=5).shape
(5, 2)
"""

from gan_jax.data import Source, from_arrays, from_toy, load, toy
from gan_jax.functional.priors import gaussian, uniform
from gan_jax.game import Game, Network, Objective, TrainState, Turn, alternating, simultaneous, turn
from gan_jax.networks import DCGANCritic, DCGANGenerator, MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import Term, add_terms, prepared, two_player, unrolled
from gan_jax.objectives.gan import gan
from gan_jax.objectives.least_squares import least_squares
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.wgan import wgan
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.optim import clip_params
from gan_jax.training.evaluate import sample
from gan_jax.training.rollout import rollout
from gan_jax.training.step import init_state, make_train_step

__all__ = [
    "DCGANCritic",
    "DCGANGenerator",
    "Game",
    "MLPCritic",
    "MLPGenerator",
    "Network",
    "Objective",
    "Source",
    "Term",
    "TrainState",
    "Turn",
    "add_terms",
    "alternating",
    "clip_params",
    "from_arrays",
    "from_linen",
    "from_toy",
    "gan",
    "gaussian",
    "init_state",
    "least_squares",
    "load",
    "make_train_step",
    "non_saturating",
    "prepared",
    "rollout",
    "sample",
    "simultaneous",
    "toy",
    "turn",
    "two_player",
    "uniform",
    "unrolled",
    "wgan",
    "wgan_gp",
]
