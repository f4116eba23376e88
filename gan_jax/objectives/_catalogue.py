"""A catalogue of all objectives and modifiers by name, and which of them are compatible."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

import gan_jax.objectives
from gan_jax.functional.codes import Code
from gan_jax.functional.noise import instance_noise
from gan_jax.functional.packing import packing
from gan_jax.functional.priors import gaussian
from gan_jax.game import CriticRole, Objective
from gan_jax.objectives import _penalties, _regularizers, _terms
from gan_jax.objectives._compose import unrolled, with_transforms
from gan_jax.objectives._term import Term, add_terms
from gan_jax.types import Array, Key

OBJECTIVES = tuple(
    module.name
    for module in pkgutil.iter_modules(gan_jax.objectives.__path__)
    if not module.name.startswith("_")
)
"""Every module of this package without a leading underscore; each has a factory of its name."""

Modifier = Callable[[Objective], Objective]
CODE = Code(categories=(2,), continuous=1)
LATENT_SIZE = 4


def module(name: str) -> ModuleType:
    """The module of an objective."""
    return importlib.import_module(f"gan_jax.objectives.{name}")


def factory(name: str) -> Callable[..., Objective]:
    """The factory of an objective."""
    return getattr(module(name), name)


ARGUMENTS: dict[str, Any] = {"prior": gaussian(LATENT_SIZE), "noise": LATENT_SIZE, "code": CODE}
"""What a factory may ask for without a default, by the parameter's name."""


def example(name: str) -> Objective:
    """An objective with its defaults and a small prior."""
    parameters = inspect.signature(factory(name)).parameters.values()
    return factory(name)(**{p.name: ARGUMENTS[p.name] for p in parameters if p.default is p.empty})


def judging_critic(objective: Objective) -> str:
    """The critic of an objective, the last if there are several."""
    return objective.with_role(CriticRole)[-1]


def judged_generator(objective: Objective) -> str:
    """The generator whose samples the `judging_critic` scores."""
    role = objective.players[judging_critic(objective)].role
    assert isinstance(role, CriticRole)
    return role.generator


def _half(key: Key, x: Array) -> Array:
    """A deterministic augmentation."""
    return x / 2


def _penalty(make: Callable[..., Term]) -> Modifier:
    return lambda objective: add_terms(objective, make(critic=judging_critic(objective)))


def _term(*terms: Term) -> Modifier:
    return lambda objective: add_terms(objective, *terms)


def _unrolled(remat: bool) -> Modifier:
    def modify(objective: Objective) -> Objective:
        player, opponent = judged_generator(objective), judging_critic(objective)
        return unrolled(objective, 2, player=player, opponent=opponent, remat=remat)

    return modify


MODIFIERS: dict[str, Modifier] = {
    "gradient_penalty": _penalty(_penalties.gradient_penalty),
    "one_sided_penalty": _penalty(functools.partial(_penalties.gradient_penalty, one_sided=True)),
    "mixture_penalty": _penalty(_penalties.mixture_penalty),
    "dragan_penalty": _penalty(_penalties.dragan_penalty),
    "max_penalty": _penalty(_penalties.max_penalty),
    "r1": _penalty(_penalties.r1),
    "lazy_r1": _penalty(functools.partial(_penalties.r1, every=4)),
    "r2": _penalty(_penalties.r2),
    "approximate_penalty": _penalty(_regularizers.approximate_penalty),
    "label_smoothing": _term(_terms.label_smoothing()),
    "feature_matching": _term(_terms.feature_matching()),
    "reconstruction_l1": _term(_terms.reconstruction()),
    "reconstruction_l2": _term(_terms.reconstruction(power=2)),
    "mutual_information": _term(
        *(_terms.mutual_information(CODE, player=p) for p in ("critic", "generator"))
    ),
    "classification": _term(_terms.classification()),
    "consistency": _term(_terms.consistency(_half), _terms.consistency(_half, on="fake")),
    "latent_consistency": _term(_terms.latent_consistency(), _terms.latent_diversity()),
    "lecam": _term(_terms.lecam()),
    "historical_averaging": lambda objective: add_terms(
        objective, *(_terms.historical_averaging(player=player) for player in objective.players)
    ),
    "path_length": lambda objective: add_terms(
        objective, _regularizers.path_length(player=judged_generator(objective))
    ),
    "orthogonal_regularization": lambda objective: add_terms(
        objective, _regularizers.orthogonal_regularization(player=judged_generator(objective))
    ),
    "top_k": _term(_terms.top_k()),
    "adaptive_augmentation": _term(_terms.adaptive_augmentation()),
    "instance_noise": lambda objective: with_transforms(objective, instance_noise(0.1)),
    "packing": lambda objective: with_transforms(objective, packing(2)),
    "unrolled": _unrolled(remat=False),
    "unrolled_remat": _unrolled(remat=True),
}
"""Modifiers of an objective with simple options, on its (last) critic and the generator whose samples it scores."""


def refusal(objective: Objective, modifier: str) -> str | None:
    """The reason why an objective refuses a modifier; `None` if it accepts it."""
    try:
        MODIFIERS[modifier](objective)
    except ValueError as error:
        return str(error)
    return None
