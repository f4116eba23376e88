"""A GAN of images with networks of its own: a file to copy and to change, `gan-jax new my.py`.

    gan-jax --config=my.py
    gan-jax --config=my.py --config.data=path/to/images --config.rounds=20000
    gan-jax --config=my.py --mode=evaluate --workdir=runs/my-1

`get_config` has the fields that `--config.NAME=VALUE` sets. `build` makes the game of them: its players with their
networks and optimisers, an objective, a schedule of turns, and the data. It is trained on scikit-learn's digits, in
half a minute on two cores, until another `data` is given.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

import gan_jax as gj
from gan_jax.objectives import r1
from gan_jax.pictures import image_grid
from gan_jax.training.experiment import Experiment


def get_config() -> ml_collections.ConfigDict:
    """The fields of the configuration, with their defaults."""
    return ml_collections.ConfigDict(
        {
            "data": "digits",
            "latent": 32,
            "width": 256,
            "learning_rate": 5e-4,
            "r1": 1.0,
            "ema": 0.995,
            "batch_size": 64,
            "seed": 0,
            "seeds": 1,
            "rounds": 8000,
            "log_every": 200,
            "checkpoint_every": 2000,
            "sample_every": 2000,
            "evaluate_every": 0,
        }
    )


class Critic(nn.Module):
    """Images `[B, H, W, C]` to scores `[B]`, higher for what looks more real."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = x.reshape(len(x), -1)
        for _ in range(2):
            h = nn.leaky_relu(nn.Dense(self.width)(h), 0.2)
        return nn.Dense(1)(h)[:, 0]


class Generator(nn.Module):
    """Latents `[B, d]` to images `[B, H, W, C]` in [-1, 1]."""

    width: int
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
        h = z
        for _ in range(2):
            h = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(self.width)(h)))
        size = self.shape[0] * self.shape[1] * self.shape[2]
        return jnp.tanh(nn.Dense(size)(h)).reshape(len(z), *self.shape)


def build(config: ml_collections.ConfigDict) -> Experiment:
    """The game and its data."""
    images = gj.load_data(config.data)["x"]
    shape = images.shape[1:]
    critic = gj.from_linen(Critic(config.width), jnp.zeros((2, *shape)))
    generator = gj.from_linen(Generator(config.width, shape), jnp.zeros((2, config.latent)))
    optimizer = optax.adam(config.learning_rate, b1=0.5)
    objective = gj.non_saturating(gj.gaussian(config.latent))
    game = gj.Game(
        players={
            "critic": gj.Player(critic, optimizer),
            "generator": gj.Player(generator, optimizer, ema=config.ema or None),
        },
        objective=gj.add_terms(objective, r1(config.r1)) if config.r1 else objective,
        schedule=gj.alternating(n_critic=1),
    )
    return Experiment(
        game=game,
        source=gj.from_arrays({"x": images}, config.batch_size, seed=config.seed, value_range="standard"),
        picture=lambda samples: image_grid(samples, columns=10, gap=2, scale=max(1, 48 // shape[0])),
        seed=config.seed,
        rounds=config.rounds,
        log_every=config.log_every,
        checkpoint_every=config.checkpoint_every,
        sample_every=config.sample_every,
        evaluate_every=config.evaluate_every,
    )
