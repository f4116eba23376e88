"""What the experiments share: the two-player objectives by name, with the optimisers of their papers."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import optax

from gan_jax.diagnostics import DIAGNOSTICS, PROBES
from gan_jax.diagnostics.dynamics import check_small
from gan_jax.field import accumulated
from gan_jax.functional.f_divergences import F_DIVERGENCES
from gan_jax.functional.priors import Prior
from gan_jax.game import Game, Objective, Player
from gan_jax.network import Network, parameter_count, rematerialized
from gan_jax.objectives import unrolled
from gan_jax.objectives.bgan import bgan
from gan_jax.objectives.dragan import dragan
from gan_jax.objectives.f_gan import f_gan
from gan_jax.objectives.gan import gan
from gan_jax.objectives.hinge import hinge
from gan_jax.objectives.least_squares import least_squares
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.relativistic import relativistic
from gan_jax.objectives.vral_parzen import vral_parzen
from gan_jax.objectives.wgan import CLIP, LEARNING_RATE, N_CRITIC, optimizer, warm_up, wgan
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.objectives.zero_centred import zero_centred
from gan_jax.schedule import alternating
from gan_jax.training.experiment import ExperimentError, best_by, choose
from gan_jax.training.step import init_state

OBJECTIVES = {
    "bgan": bgan,
    "dragan": dragan,
    "gan": gan,
    "hinge": hinge,
    "least_squares": least_squares,
    "non_saturating": non_saturating,
    "relativistic": functools.partial(relativistic, average=False),
    "relativistic_average": relativistic,
    "vral_parzen": vral_parzen,
    "wgan": wgan,
    "wgan_gp": wgan_gp,
    "zero_centred": zero_centred,
} | {f"f_gan_{name}": functools.partial(f_gan, divergence=name) for name in F_DIVERGENCES}


class Play(NamedTuple):
    """How an objective is played: critic turns a round, and Adam's (or RMSProp's) step."""

    n_critic: int
    learning_rate: float
    b1: float
    b2: float


WASSERSTEIN = {
    "wgan": Play(N_CRITIC, LEARNING_RATE, 0.0, 0.0),
    "wgan_gp": Play(N_CRITIC, 1e-4, 0.0, 0.9),
}


def objective_of(config: Any, prior: Prior, **options: Any) -> Objective:
    """The objective named in the configuration, unrolled by `config.unroll` steps.

    Raises:
      ExperimentError: if there is no such objective, or the number of steps is negative.
    """
    if config.unroll < 0:
        raise ExperimentError(f"unroll is 0 or more steps, got {config.unroll}.")
    objective = choose("objective", config.objective, OBJECTIVES)(prior, **options)
    return unrolled(objective, config.unroll)


def play_of(config: Any, learning_rate: float, b1: float = 0.5, b2: float = 0.999) -> Play:
    """The objective's own way of playing (n_critic 5 for the Wasserstein games), as far as `config` leaves it at 0.

    Raises:
      ExperimentError: if a number is negative.
    """
    for name in ("n_critic", "learning_rate"):
        if config[name] < 0:
            raise ExperimentError(f"{name} is positive, or 0 for the objective's own; got {config[name]}.")
    own = WASSERSTEIN.get(config.objective, Play(1, learning_rate, b1, b2))
    return own._replace(
        n_critic=config.n_critic or own.n_critic, learning_rate=config.learning_rate or own.learning_rate
    )


def logging_fields(config: Any, game: Game) -> dict[str, Any]:
    """What of an experiment is looked at and kept, by the configuration: its `diagnostics` and `keep_best`.

    Args:
      config: `diagnostics` names any of `DIAGNOSTICS` and `PROBES`, with commas between; `keep_best` is read by
        `best_by`.
      game: the game in question.

    Returns:
      `diagnostics`, `probes` and `best`, fields of `Experiment`.

    Raises:
      ExperimentError: if there is no such name.
      ValueError: if one of them does not suit the game.
    """
    names = [name.strip() for name in config.diagnostics.split(",") if name.strip()]
    for name in names:
        choose("diagnostic", name, {**DIAGNOSTICS, **PROBES})
    if "eigenvalues" in names:
        shapes = jax.eval_shape(lambda: init_state(game, jax.random.key(0)))
        check_small(sum(parameter_count(player.params) for player in shapes.players.values()))
    return {
        "diagnostics": [DIAGNOSTICS[name] for name in names if name in DIAGNOSTICS],
        "probes": [PROBES[name] for name in names if name in PROBES],
        "best": best_by(config.keep_best),
    }


def run_fields(config: Any) -> dict[str, Any]:
    """An experiment's seed, length, cadence and layout, fields of `Experiment`, as the configuration names them."""
    names = (
        "seed",
        "rounds",
        "log_every",
        "checkpoint_every",
        "sample_every",
        "evaluate_every",
        "parallelism",
    )
    return {name: config[name] for name in names}


def two_player_game(
    config: Any, objective: Objective, *, critic: Network, generator: Network, play: Play
) -> Game:
    """The game of a critic and a generator with the objective's optimisers, schedule and warm-up.

    Memory for time where the configuration asks for it: `microbatches` of each batch one after the other
    (`approximate` where their mean is not the batch's gradient), `remat` of the networks' activations.
    """
    if config.objective == "wgan":
        optimizers = {
            "critic": optimizer(play.learning_rate, clip=CLIP),
            "generator": optimizer(play.learning_rate),
        }
    else:
        # Unrolling differentiates through Adam, whose square root has no derivative at zero.
        eps_root = 1e-8 if config.unroll else 0.0
        adam = optax.adam(play.learning_rate, b1=play.b1, b2=play.b2, eps_root=eps_root)
        optimizers = {"critic": adam, "generator": adam}
    networks = {"critic": critic, "generator": generator}
    if config.get("remat"):
        networks = {name: rematerialized(network) for name, network in networks.items()}
    averages = {"critic": None, "generator": config.ema or None}
    microbatches = config.get("microbatches", 1)
    return Game(
        players={
            name: Player(network, optimizers[name], averages[name]) for name, network in networks.items()
        },
        objective=objective,
        schedule=alternating(play.n_critic),
        phases=warm_up() if config.objective == "wgan" else (),
        field=None if microbatches == 1 else accumulated(microbatches, approximate=config.approximate),
    )
