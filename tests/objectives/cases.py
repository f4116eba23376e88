"""A smallest game for every objective: found by its module, built with the toy networks unless named here."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable

from gan_jax import objectives
from gan_jax.game import Game, Objective, turn
from tests import helpers
from tests.helpers import PRIOR

MODULES = [m.name for m in pkgutil.iter_modules(objectives.__path__) if not m.name.startswith("_")]


@dataclasses.dataclass
class Case:
    """What an objective needs beside two toy networks and `x`."""

    build: Callable[[], Objective]
    networks: Callable[[], dict] = helpers.networks
    batch: Callable[..., dict] = helpers.batch


def module(name):
    return importlib.import_module(f"gan_jax.objectives.{name}")


def factory(name):
    return getattr(module(name), name)


def autoencoders():
    network = helpers.mlp(helpers.X_DIM, {"out": helpers.X_DIM})
    return {"critic": objectives.autoencoder_critic(network), "generator": helpers.generator()}


def feature_networks():
    return {"critic": helpers.mlp(helpers.X_DIM, {}), "generator": helpers.generator()}


# Objectives whose players, conditions or heads differ from the default two networks.
SPECIAL: dict[str, Case] = {
    "began": Case(lambda: factory("began")(PRIOR, rate=0.1), autoencoders),
    "ebgan": Case(lambda: factory("ebgan")(PRIOR, pull_away=0.1, code="features"), autoencoders),
    "mmd_gan": Case(lambda: factory("mmd_gan")(PRIOR), feature_networks),
    "cramer": Case(lambda: factory("cramer")(PRIOR), feature_networks),
}


def case(name) -> Case:
    return SPECIAL.get(name) or Case(build=lambda: factory(name)(PRIOR))


def game(name, objective=None, **options) -> Game:
    """The objective's smallest game, every player moving once a round."""
    made = case(name)
    objective = objective or made.build()
    schedule = tuple(turn(player) for player in objective.losses)
    return helpers.game(objective, networks_=made.networks(), schedule=schedule, **options)
