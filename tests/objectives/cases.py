"""A smallest game for every objective: found by its module, built with the toy networks unless named here."""

import dataclasses
from collections.abc import Callable

from gan_jax import objectives
from gan_jax.functional.codes import Code
from gan_jax.game import Game, Objective
from gan_jax.objectives import _catalogue
from gan_jax.objectives._catalogue import factory, module
from gan_jax.schedule import regularization_turn, turn
from tests import helpers
from tests.helpers import PRIOR

MODULES = _catalogue.OBJECTIVES
__all__ = ["MODULES", "SPECIAL", "Case", "case", "factory", "game", "module"]


@dataclasses.dataclass
class Case:
    """What an objective needs beside two toy networks and `x`."""

    build: Callable[[], Objective]
    networks: Callable[[], dict] = helpers.networks
    batch: Callable[..., dict] = helpers.batch


def autoencoders():
    network = helpers.mlp(helpers.X_DIM, {"out": helpers.X_DIM})
    return {"critic": objectives.autoencoder_critic(network), "generator": helpers.generator()}


def feature_networks():
    return {"critic": helpers.mlp(helpers.X_DIM, {}), "generator": helpers.generator()}


def conditional_networks(**heads):
    """The generator is given a label; the critic is not."""
    return {
        "critic": helpers.critic(**heads),
        "generator": helpers.generator(helpers.Z_DIM + helpers.CLASSES),
    }


CODE = Code(categories=(2,), continuous=1)


def with_labelled(seed=0, n=helpers.B, shape=()):
    """Unlabelled examples, and half as many labelled ones of another draw."""
    labelled = helpers.batch(seed + 100, n=n // 2, shape=shape)
    return {"x": helpers.batch(seed, n=n, shape=shape)["x"], "labelled": labelled}


def with_condition(seed=0, n=helpers.B, shape=()):
    """A condition of the size of x beside it."""
    other = helpers.batch(seed + 100, n=n, shape=shape)["x"]
    return {"x": helpers.batch(seed, n=n, shape=shape)["x"], "condition": other}


def class_networks():
    network = helpers.mlp(helpers.X_DIM, {"classes": helpers.CLASSES})
    return {"critic": objectives.class_critic(network), "generator": helpers.generator()}


def vral_networks():
    metas = {name: helpers.critic(1) for name in ("meta_real", "meta_fake")}
    return {**helpers.networks(), **metas}


def translators():
    return {
        "critic_a": helpers.critic(),
        "critic_b": helpers.critic(),
        "generator_ab": helpers.generator(helpers.X_DIM),
        "generator_ba": helpers.generator(helpers.X_DIM),
    }


def image_to_image():
    return {"critic": helpers.critic(2 * helpers.X_DIM), "generator": helpers.generator(helpers.X_DIM)}


# Objectives whose players, conditions or heads differ from the default two networks.
SPECIAL: dict[str, Case] = {
    "ac_gan": Case(lambda: factory("ac_gan")(PRIOR), lambda: conditional_networks(classes=helpers.CLASSES)),
    "began": Case(lambda: factory("began")(PRIOR, rate=0.1), autoencoders),
    "cat_gan": Case(lambda: factory("cat_gan")(PRIOR, weight=1.0), class_networks, with_labelled),
    "cramer": Case(lambda: factory("cramer")(PRIOR), feature_networks),
    "cycle_gan": Case(lambda: factory("cycle_gan")(identity=5.0), translators, with_condition),
    "ebgan": Case(lambda: factory("ebgan")(PRIOR, pull_away=0.1, code="features"), autoencoders),
    "info_gan": Case(
        lambda: factory("info_gan")(helpers.Z_DIM, code=CODE),
        lambda: {
            "critic": helpers.critic(code=CODE.head_size),
            "generator": helpers.generator(CODE.size + helpers.Z_DIM),
        },
    ),
    "mmd_gan": Case(lambda: factory("mmd_gan")(PRIOR), feature_networks),
    "pix2pix": Case(lambda: factory("pix2pix")(), image_to_image, with_condition),
    "semi_supervised": Case(lambda: factory("semi_supervised")(PRIOR), class_networks, with_labelled),
    "vral": Case(lambda: factory("vral")(PRIOR), vral_networks),
}


def case(name) -> Case:
    return SPECIAL.get(name) or Case(build=lambda: factory(name)(PRIOR))


def game(name, objective=None, **options) -> Game:
    """The objective's smallest game, every player moving once a round, and the steps of terms that have one."""
    made = case(name)
    objective = objective or made.build()
    schedule = tuple(turn(player) for player in objective.players)
    schedule += tuple(
        regularization_turn(term.player, term.name, every=4) for term in objective.terms if term.own_step
    )
    return helpers.game(objective, networks_=made.networks(), schedule=schedule, **options)
