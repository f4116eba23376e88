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


# Objectives whose players, conditions or heads differ from the default two networks.
SPECIAL: dict[str, Case] = {}


def case(name) -> Case:
    return SPECIAL.get(name) or Case(build=lambda: factory(name)(PRIOR))


def game(name, objective=None, **options) -> Game:
    """The objective's smallest game, every player moving once a round."""
    made = case(name)
    objective = objective or made.build()
    schedule = tuple(turn(player) for player in objective.losses)
    return helpers.game(objective, networks_=made.networks(), schedule=schedule, **options)
