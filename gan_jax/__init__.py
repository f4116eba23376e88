"""gan_jax: functional GAN training on JAX and Flax.

A game, and three lines:

>>> import jax, optax
>>> import gan_jax as gj
>>> game = gj.Game(
...     players={
...         "critic": gj.Player(
...             gj.from_linen(gj.MLPCritic(widths=(32,)), jax.numpy.zeros((1, 2))), optax.adam(1e-3)
...         ),
...         "generator": gj.Player(
...             gj.from_linen(gj.MLPGenerator(output_shape=(2,), widths=(32,)), jax.numpy.zeros((1, 8))),
...             optax.adam(1e-3),
...         ),
...     },
...     objective=gj.non_saturating(gj.gaussian(8)),
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

from typing import TYPE_CHECKING

from gan_jax._lazy import imported_when_used
from gan_jax._version import __version__
from gan_jax.data import Source, from_arrays, from_toy, toy
from gan_jax.evaluation.sampling import sample
from gan_jax.functional.priors import gaussian, uniform
from gan_jax.game import Game, Objective, Player
from gan_jax.image_schedules import ImageSchedules, cosine_ramp
from gan_jax.network import Network
from gan_jax.networks import DCGANCritic, DCGANGenerator, MLPCritic, MLPGenerator, from_linen, from_nnx
from gan_jax.objectives import Term, add_terms, term, two_player, unrolled, with_transforms
from gan_jax.objectives.ac_gan import ac_gan
from gan_jax.objectives.began import began
from gan_jax.objectives.bgan import bgan
from gan_jax.objectives.cat_gan import cat_gan
from gan_jax.objectives.cramer import cramer
from gan_jax.objectives.cycle_gan import cycle_gan
from gan_jax.objectives.dragan import dragan
from gan_jax.objectives.ebgan import ebgan
from gan_jax.objectives.f_gan import f_gan
from gan_jax.objectives.gan import gan
from gan_jax.objectives.hinge import hinge
from gan_jax.objectives.info_gan import info_gan
from gan_jax.objectives.least_squares import least_squares
from gan_jax.objectives.mmd_gan import mmd_gan
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.pix2pix import pix2pix
from gan_jax.objectives.r3gan import r3gan
from gan_jax.objectives.relativistic import relativistic
from gan_jax.objectives.semi_supervised import semi_supervised
from gan_jax.objectives.vral import vral
from gan_jax.objectives.vral_parzen import vral_parzen
from gan_jax.objectives.wgan import wgan
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.objectives.zero_centred import zero_centred
from gan_jax.optim import clip_params, lazy_adam
from gan_jax.schedule import Turn, alternating, regularization_turn, simultaneous, turn
from gan_jax.state import TrainState
from gan_jax.training.step import init_state, make_train_step

if TYPE_CHECKING:
    from gan_jax.cli.loading import load_model
    from gan_jax.data.specs import load as load_data
    from gan_jax.distributed.seeds import state_of
    from gan_jax.evaluation.compare import compare
    from gan_jax.evaluation.standing import standing_statistics
    from gan_jax.models.model import Model
    from gan_jax.models.path_lengths import path_length
    from gan_jax.models.projection import project
    from gan_jax.runs.notebook import plot, restore, rollout, save, show

_when_used = imported_when_used(
    __name__,
    {
        "gan_jax.cli.loading": ["load_model"],
        "gan_jax.distributed.seeds": ["state_of"],
        "gan_jax.evaluation.compare": ["compare"],
        "gan_jax.evaluation.standing": ["standing_statistics"],
        "gan_jax.models.model": ["Model"],
        "gan_jax.models.path_lengths": ["path_length"],
        "gan_jax.models.projection": ["project"],
        "gan_jax.runs.notebook": ["plot", "restore", "rollout", "save", "show"],
    },
)


def __getattr__(name: str) -> object:
    if name in ("load", "load_data"):
        from gan_jax.data import load

        if name == "load":
            import warnings

            message = (
                "gan_jax.load reads data and is called load_data; a trained generator is read by load_model."
            )
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        return load
    return _when_used(name)


__all__ = [
    "DCGANCritic",
    "DCGANGenerator",
    "Game",
    "ImageSchedules",
    "MLPCritic",
    "MLPGenerator",
    "Model",
    "Network",
    "Objective",
    "Player",
    "Source",
    "Term",
    "TrainState",
    "Turn",
    "__version__",
    "ac_gan",
    "add_terms",
    "alternating",
    "began",
    "bgan",
    "cat_gan",
    "clip_params",
    "compare",
    "cosine_ramp",
    "cramer",
    "cycle_gan",
    "dragan",
    "ebgan",
    "f_gan",
    "from_arrays",
    "from_linen",
    "from_nnx",
    "from_toy",
    "gan",
    "gaussian",
    "hinge",
    "info_gan",
    "init_state",
    "lazy_adam",
    "least_squares",
    "load_data",
    "load_model",
    "make_train_step",
    "mmd_gan",
    "non_saturating",
    "path_length",
    "pix2pix",
    "plot",
    "project",
    "r3gan",
    "regularization_turn",
    "relativistic",
    "restore",
    "rollout",
    "sample",
    "save",
    "semi_supervised",
    "show",
    "simultaneous",
    "standing_statistics",
    "state_of",
    "term",
    "toy",
    "turn",
    "two_player",
    "uniform",
    "unrolled",
    "vral",
    "vral_parzen",
    "wgan",
    "wgan_gp",
    "with_transforms",
    "zero_centred",
]
