"""Every objective as a game of an experiment's networks: what it needs of networks and data, and how it is played.

Most of it stands in the objective itself: players and their roles, what generators are conditional on, terms,
whether losses are of features. `RECIPES` lists what does not: heads of the critic, labelled examples, and the
schedules and optimisers of the papers.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan_jax.data.source import Source
from gan_jax.field import accumulated
from gan_jax.functional.codes import Code
from gan_jax.functional.f_divergences import F_DIVERGENCES
from gan_jax.functional.priors import Prior
from gan_jax.game import (
    AuxiliaryRole,
    CriticRole,
    Game,
    GeneratorRole,
    InputTransform,
    Objective,
    Player,
)
from gan_jax.image_schedules import ImageSchedules, cosine_ramp
from gan_jax.keys import named_key
from gan_jax.network import Network, rematerialized
from gan_jax.networks import MLPCritic, from_linen
from gan_jax.objectives import (
    MissingEntryError,
    Term,
    add_terms,
    autoencoder_critic,
    label_condition,
    stylegan2,
    unrolled,
    with_transforms,
)
from gan_jax.objectives import r1 as r1_term
from gan_jax.objectives import r2 as r2_term
from gan_jax.objectives._catalogue import OBJECTIVES, factory
from gan_jax.objectives.wgan import CLIP, LEARNING_RATE, N_CRITIC, optimizer, warm_up
from gan_jax.optim import ema_half_life, lazy_adam, learning_rate_schedule, round_of_update
from gan_jax.schedule import Schedule, fresh_turns, regularization_turn, turn
from gan_jax.training.experiment import ExperimentError, choose
from gan_jax.training.step import init_state, make_train_step
from gan_jax.types import Array, Key, Tree

from .configuration import DEFAULT

FEATURES = 16
"""Dimensions of the feature space in which MMD-GAN and the Cramer GAN compare distributions."""
CODE_NUMBERS = 2
"""Continuous parts of InfoGAN's code, beside its categories."""
MOST_CLASSES = 10_000
"""Classes that a network may have without there being half as many examples."""
META_WIDTHS = (28,)
"""Hidden layers of VRAL's meta-discriminators, which see one score at a time."""

USUAL_EMA = 0.999
"""The decay of moving averages where the configuration has `ema=-1` and nothing else says."""

Struct: TypeAlias = jax.ShapeDtypeStruct

# ---------------------------------------------------------------------------------------------------------
# What an objective needs


@dataclasses.dataclass(frozen=True)
class Play:
    """How an objective is played where the configuration does not say.

    Attributes:
      n_critic: turns of the critics in a round.
      learning_rate: `None` is the experiment's.
      b1, b2: of Adam.
    """

    n_critic: int = 1
    learning_rate: float | None = None
    b1: float = 0.5
    b2: float = 0.999


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a game of an objective needs that the objective's own record does not say.

    Attributes:
      make: the factory.
      translates: generators make images of images; the factory takes no prior.
      critic: `k -> options of the critic's network`, its heads; k is what `classes` counts.
      classes: what k is: the classes of the data's `labels`, or `categories`, which the configuration may name.
      code: the latent begins with a code of k categories, the factory's option `code`.
      critic_conditional: whether critics are given the generator's condition too.
      autoencoder: the power of the reconstruction error where the critic is an autoencoder, else 0.
      labelled: labelled examples of each class by default, where batches may have a labelled part; `None` where
        they may not.
      labelled_options: the factory's options where batches have one.
      options: the factory's options by the fields of the configuration that set them.
      play: the paper's schedule and optimiser.
      clip: weights of critics are clipped to [-clip, clip], and RMSProp takes Adam's place; `None` clips nothing.
      phases: of the game.
      intervals: the rounds from one step to the next of each term that has an optimiser step of its own.
      weights: the factory's options by default, each a function of an example's shape and of the batch size.
    """

    make: Callable[..., Objective]
    translates: bool = False
    critic: Callable[[int], Mapping[str, Any]] = lambda k: {}
    classes: str = ""
    code: bool = False
    critic_conditional: bool = True
    autoencoder: int = 0
    labelled: int | None = None
    labelled_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    play: Play = Play()
    clip: float | None = None
    phases: tuple[tuple[Callable[[int], bool], Schedule], ...] = ()
    intervals: Mapping[str, int] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, Callable[[Sequence[int], int], float]] = dataclasses.field(default_factory=dict)


def _plain() -> dict[str, Recipe]:
    """Every module of `gan_jax.objectives`, and the forms of those that are families."""
    recipes = {name: Recipe(make=factory(name)) for name in OBJECTIVES}
    relativistic, f_gan = factory("relativistic"), factory("f_gan")
    recipes["relativistic"] = Recipe(make=functools.partial(relativistic, average=False))
    recipes["relativistic_average"] = Recipe(make=relativistic)
    for name in F_DIVERGENCES:
        recipes[f"f_gan_{name}"] = Recipe(make=functools.partial(f_gan, divergence=name))
    return recipes


def code_of(k: int) -> Code:
    """InfoGAN's code of k categories: a category and two numbers, as the paper has it for MNIST."""
    return Code(categories=(k,), continuous=CODE_NUMBERS)


def _features(k: int) -> dict[str, Any]:
    return {"heads": {"features": FEATURES}, "score_from": "features"}


def _classes(k: int) -> dict[str, Any]:
    return {"heads": {"classes": k}, "score_from": "classes"}


RECIPES: Mapping[str, Recipe] = {
    **_plain(),
    "ac_gan": Recipe(
        make=factory("ac_gan"),
        classes="labels",
        critic=lambda k: {"heads": {"classes": k}},
        critic_conditional=False,
    ),
    "began": Recipe(make=factory("began"), autoencoder=1),
    "cat_gan": Recipe(
        make=factory("cat_gan"),
        classes="categories",
        critic=_classes,
        labelled=0,
        labelled_options={"weight": 1.0},
    ),
    "cramer": Recipe(make=factory("cramer"), critic=_features, play=Play(5, 1e-4, 0.5, 0.9)),
    "cycle_gan": Recipe(
        make=factory("cycle_gan"),
        translates=True,
        critic_conditional=False,
        options={"cycle": "cycle", "identity": "identity"},
    ),
    "ebgan": Recipe(make=factory("ebgan"), autoencoder=2),
    "info_gan": Recipe(
        make=factory("info_gan"),
        classes="categories",
        code=True,
        critic=lambda k: {"heads": {"code": code_of(k).head_size}},
    ),
    "mmd_gan": Recipe(make=factory("mmd_gan"), critic=_features, play=Play(5, 1e-4, 0.5, 0.9)),
    "pix2pix": Recipe(make=factory("pix2pix"), translates=True, options={"l1": "l1"}),
    "r3gan": Recipe(make=factory("r3gan"), options={"r1": "gamma"}, play=Play(1, None, 0.0, 0.99)),
    "semi_supervised": Recipe(
        make=factory("semi_supervised"),
        classes="labels",
        critic=lambda k: {**_classes(k), "features": True},
        labelled=10,
    ),
    "stylegan2": Recipe(
        make=factory("stylegan2"),
        options={"r1": "gamma"},
        play=Play(1, stylegan2.LEARNING_RATE, stylegan2.B1, stylegan2.B2),
        intervals=stylegan2.INTERVALS,
        weights={"gamma": stylegan2.gamma_for},
    ),
    "wgan": Recipe(
        make=factory("wgan"), play=Play(N_CRITIC, LEARNING_RATE, 0.0, 0.0), clip=CLIP, phases=warm_up()
    ),
    "wgan_gp": Recipe(make=factory("wgan_gp"), play=Play(N_CRITIC, 1e-4, 0.0, 0.9)),
    "zero_centred": Recipe(make=factory("zero_centred"), options={"r1": "gamma_real", "r2": "gamma_fake"}),
}
"""Every objective by name, several forms of some."""

WEIGHTS = ("l1", "cycle", "identity")
"""Fields of a configuration that only some objectives have, -1 by default."""


def recipe_of(config: Any) -> Recipe:
    """The recipe of the configuration's objective.

    Raises:
      ExperimentError: if there is no such objective.
    """
    return choose("objective", config.objective, RECIPES)


# ---------------------------------------------------------------------------------------------------------
# What data offer


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """What an experiment's data offer a game.

    Attributes:
      name: for messages.
      examples: shapes of the entries that batches may have, two examples each: `x`, `y`, `condition`.
      labels: every label, or each class once; `None` where there are none.
    """

    name: str
    examples: Mapping[str, Struct]
    labels: np.ndarray | None = None

    def classes(self, what: str) -> int:
        """How many classes the labels have.

        Args:
          what: needs them, for messages.

        Raises:
          ExperimentError: if there are no labels, they are not integers from 0 on, or the highest is far above the
            number of examples.
        """
        labels = self.labels
        if labels is None:
            raise ExperimentError(f"{what} needs labels, and {self.name!r} has none.")
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            raise ExperimentError(
                f"Labels are integers [N] from 0 on; those of {self.name!r} are {labels.dtype} {labels.shape}, "
                f"{labels.min()} to {labels.max()}."
            )
        count = int(labels.max()) + 1
        if count > max(2 * len(labels), MOST_CLASSES):
            raise ExperimentError(
                f"Labels of {self.name!r} go up to {count - 1} and there are {len(labels)} of them: a network has "
                "a class for each number from 0 to the highest. Number the classes without gaps."
            )
        return count


def data_of(name: str, arrays: Mapping[str, np.ndarray]) -> Data:
    """What arrays of examples `[N, ...]` offer: `x`, and `y` and `condition` where they are."""
    shapes = {
        entry: Struct((2, *arrays[entry].shape[1:]), jnp.float32)
        for entry in ("x", "condition")
        if entry in arrays
    }
    if "y" in arrays:
        shapes["y"] = Struct((2,), jnp.int32)
    return Data(name, shapes, arrays.get("y"))


def count_classes(config: Any, data: Data) -> int:
    """The number k of classes or categories that the objective's critic has a head of; 0 where it has none.

    Raises:
      ExperimentError: if the data do not say how many there are.
    """
    recipe = recipe_of(config)
    if not recipe.classes:
        return 0
    given = config.get("categories", 0)
    if recipe.classes == "labels" or data.labels is not None:
        classes = data.classes(f"objective={config.objective}")
        if given and given < classes and labelled_per_class(config, data):
            raise ExperimentError(
                f"categories={given}, but the labelled examples are of {classes} classes: 0 takes as many."
            )
        return given or classes
    if not given:
        raise ExperimentError(
            f"objective={config.objective} has as many categories as the data have labels, and {data.name!r} has "
            "none: set --config.categories."
        )
    return given


def labelled_per_class(config: Any, data: Data) -> int:
    """How many labelled examples of each class are part of the data; 0 where batches have no labelled part.

    Raises:
      ExperimentError: if they cannot be shared among the classes.
    """
    recipe = recipe_of(config)
    if recipe.labelled is None or not (config.labelled or recipe.labelled):
        return 0
    classes = data.classes(f"objective={config.objective}")
    total = config.labelled or classes * recipe.labelled
    if total % classes:
        raise ExperimentError(
            f"labelled={total} examples cannot be shared equally among {classes} classes: take a multiple."
        )
    return total // classes


def entries_of(objective: Objective, data: Data) -> tuple[str, ...]:
    """Which of the data's entries an objective's generators imitate or are conditional on, in the data's order."""
    needed: set[str] = set()
    for name in objective.with_role(GeneratorRole):
        role = objective.players[name].role
        assert isinstance(role, GeneratorRole)
        try:
            given = role.condition(data.examples)
            needed |= {
                entry for entry, leaf in data.examples.items() if any(leaf is other for other in given)
            }
            needed |= {role.target} if data.examples[role.target] is not None else set()
        except (KeyError, MissingEntryError) as missing:
            wanted = missing.entry if isinstance(missing, MissingEntryError) else missing.args[0]
            raise ExperimentError(
                f"The {name} reads {wanted!r} of every batch, and {data.name!r} has only {sorted(data.examples)}."
            ) from missing
    return tuple(entry for entry in data.examples if entry in needed)


# ---------------------------------------------------------------------------------------------------------
# The objective


def objective_of(
    config: Any,
    data: Data,
    prior: Prior | None = None,
    *,
    conditional: bool = False,
    r1_default: float = 0.0,
    terms: Sequence[Term] = (),
    transforms: Sequence[InputTransform] = (),
    options: Mapping[str, Any] | None = None,
) -> Objective:
    """The configuration's objective with its penalties, unrolled by `config.unroll` turns.

    Args:
      config: the configuration.
      data: what it is played on.
      prior: of the latent; `None` in an experiment that translates images.
      conditional: generator and critic are given the label.
      r1_default: gamma of R1 where `r1` is -1, the objective's scores are log-odds and no other term is of the
        critic's gradient.
      terms: further ones.
      transforms: of what critics see.
      options: further ones of the factory, in place of those that the configuration's fields set.

    Raises:
      ExperimentError: if there is no such objective, the experiment or the data do not suit it, or it cannot take
        an option.
      ValueError: if it cannot take a term or a transform.
    """
    recipe = recipe_of(config)
    _check_options(config, recipe, prior, conditional)
    shape = data.examples["x"].shape[1:]
    given: dict[str, Any] = {
        option: weight(shape, config.batch_size) for option, weight in recipe.weights.items()
    }
    given |= {
        option: config[field]
        for field, option in recipe.options.items()
        if config.get(field, DEFAULT) != DEFAULT
    }
    if conditional:
        data.classes("conditional=true")
        given["condition"] = label_condition
    k = count_classes(config, data)
    if recipe.code:
        given["code"] = code_of(k)
    if recipe.labelled is not None and labelled_per_class(config, data):
        given |= recipe.labelled_options
    objective = recipe.make(*([] if recipe.translates else [prior]), **{**given, **(options or {})})
    objective = add_terms(objective, *_penalties(config, recipe, objective, r1_default), *terms)
    objective = with_transforms(objective, *transforms)
    for critic in objective.with_role(CriticRole):
        role = objective.players[critic].role
        assert isinstance(role, CriticRole)
        objective = unrolled(objective, config.unroll, player=role.generator, opponent=critic)
    return objective


def _check_options(config: Any, recipe: Recipe, prior: Prior | None, conditional: bool) -> None:
    """Refuses an experiment that does not suit an objective, and options that would change nothing."""
    name = config.objective
    if recipe.translates and prior is not None:
        raise ExperimentError(
            f"objective={name} translates images into images, as --config=experiments/translation.py does; this "
            "experiment makes examples of a latent."
        )
    if not recipe.translates and prior is None:
        translators = " or ".join(name for name, other in RECIPES.items() if other.translates)
        raise ExperimentError(
            f"objective={name} makes examples of a latent, as --config=experiments/digits.py, images.py and "
            f"ring.py do; this experiment translates images: choose {translators}."
        )
    for field in ("unroll", "n_critic", "learning_rate", "critic_learning_rate", "labelled", "categories"):
        if not math.isfinite(config.get(field, 0)):
            raise ExperimentError(f"{field} is a finite number, got {config[field]}.")
        if config.get(field, 0) < 0:
            raise ExperimentError(f"{field} is 0 or more, got {config[field]}.")
    for field in ("r1", "r2", *WEIGHTS):
        if config.get(field, 0) < 0 and config[field] != DEFAULT:
            raise ExperimentError(f"{field} is 0 or more, or -1 for the default; got {config[field]}.")
    untaken = [
        field for field in WEIGHTS if config.get(field, DEFAULT) != DEFAULT and field not in recipe.options
    ]
    untaken += ["labelled"] if config.get("labelled") and recipe.labelled is None else []
    untaken += ["categories"] if config.get("categories") and recipe.classes != "categories" else []
    if untaken:
        takes = {field: [other for other, r in RECIPES.items() if _takes(r, field)] for field in untaken}
        raise ExperimentError(
            f"objective={name} takes no "
            + "; no ".join(f"{field}, which is for {' and '.join(takes[field])}" for field in untaken)
            + "."
        )
    if conditional and recipe.labelled is not None:
        raise ExperimentError(
            f"conditional=true gives the critic the label that objective={name} has it find: leave it out."
        )
    if config.approximate and config.microbatches == 1:
        raise ExperimentError(
            "approximate=true is about microbatches, and microbatches is 1: set it, or neither."
        )


def _takes(recipe: Recipe, field: str) -> bool:
    if field == "labelled":
        return recipe.labelled is not None
    return recipe.classes == "categories" if field == "categories" else field in recipe.options


def _penalties(config: Any, recipe: Recipe, objective: Objective, r1_default: float) -> list[Term]:
    """R1 and R2 on every critic, as far as the configuration asks for them and the objective has none itself."""
    penalised = any(term.uncoupled_critic is not None for term in objective.terms)
    defaults = {"r1": r1_default if objective.logits and not penalised else 0.0, "r2": 0.0}
    found = []
    for field, make in (("r1", r1_term), ("r2", r2_term)):
        gamma = defaults[field] if config[field] == DEFAULT else config[field]
        if gamma == 0 or field in recipe.options:
            continue
        if objective.on_features:
            raise ExperimentError(
                f"{field}={gamma} is a penalty on the gradient of a critic's score, and the losses of "
                f"objective={config.objective} are of its features: leave {field} at -1."
            )
        found += [make(gamma, critic=critic) for critic in objective.with_role(CriticRole)]
    return found


# ---------------------------------------------------------------------------------------------------------
# The networks


@dataclasses.dataclass(frozen=True, eq=False)
class Blocks:
    """What an experiment builds a game's networks with.

    Attributes:
      critic: `(x, *conditions, **heads) -> Network`, of shapes of two examples each; `heads` are the options of
        `networks.BaseCritic` for what comes out beside the score.
      generator: `(x, *inputs) -> Network`, which makes examples like x of its inputs.
      autoencoder: `(x, *conditions) -> Network`, which gives x back; `None` where no objective asks for one.
    """

    critic: Callable[..., Network]
    generator: Callable[..., Network]
    autoencoder: Callable[..., Network] | None = None


def networks_of(
    recipe: Recipe, objective: Objective, data: Data, blocks: Blocks, k: int
) -> dict[str, Network]:
    """The networks of an objective's players.

    Args:
      recipe: the objective's.
      objective: the objective itself.
      data: what it is played on.
      blocks: what networks are built with.
      k: classes or categories, see `Recipe`.
    """
    examples, networks = data.examples, {}
    for name, part in objective.players.items():
        role = part.role
        if isinstance(role, AuxiliaryRole):
            networks[name] = from_linen(MLPCritic(widths=META_WIDTHS, activation="relu"), jnp.zeros((2, 1)))
        elif isinstance(role, GeneratorRole):
            latents = (
                () if objective.prior is None else (jax.eval_shape(_latent(objective), jax.random.key(0)),)
            )
            networks[name] = blocks.generator(examples[role.target], *latents, *role.condition(examples))
        else:
            conditions = _condition(objective, role, data) if recipe.critic_conditional else ()
            networks[name] = _critic(recipe, objective, blocks, k, (examples[role.target], *conditions))
    return networks


def _latent(objective: Objective) -> Callable[[Key], Tree]:
    prior = objective.prior
    assert prior is not None
    return lambda key: prior(key, 2)


def _condition(objective: Objective, role: CriticRole, data: Data) -> tuple[Any, ...]:
    generator = objective.players[role.generator].role
    assert isinstance(generator, GeneratorRole)
    return generator.condition(data.examples)


def _critic(
    recipe: Recipe, objective: Objective, blocks: Blocks, k: int, inputs: tuple[Struct, ...]
) -> Network:
    if recipe.autoencoder:
        assert blocks.autoencoder is not None
        return autoencoder_critic(blocks.autoencoder(*inputs), power=recipe.autoencoder)
    critic = blocks.critic(*inputs, **recipe.critic(k))
    return without_score(critic) if objective.on_features else critic


def without_score(network: Network) -> Network:
    """A critic whose score nobody reads, without it: diagnostics would take it for what the losses are of."""

    def apply(
        params: Tree, model_state: Tree, *inputs: Array, train: bool, key: Key | None = None
    ) -> tuple[Any, Tree]:
        out, model_state = network.apply(params, model_state, *inputs, train=train, key=key)
        return {name: head for name, head in out.items() if name != "score"}, model_state

    return dataclasses.replace(network, apply=apply)


def autoencoder(encoder: Network, decoder: Network) -> Network:
    """A critic's head `code` and a generator that makes x of it: `{"out": x_hat, "code": code}`."""

    def init(key: Key) -> tuple[Tree, Tree]:
        parts = {
            name: part.init(named_key(key, name))
            for name, part in (("encoder", encoder), ("decoder", decoder))
        }
        return {name: part[0] for name, part in parts.items()}, {
            name: part[1] for name, part in parts.items()
        }

    def apply(
        params: Tree, model_state: Tree, *inputs: Array, train: bool, key: Key | None = None
    ) -> tuple[Any, Tree]:
        def call(part: Network, name: str, *given: Array) -> tuple[Any, Tree]:
            part_key = None if key is None else named_key(key, name)
            return part.apply(params[name], model_state[name], *given, train=train, key=part_key)

        heads, encoder_state = call(encoder, "encoder", *inputs)
        out, decoder_state = call(decoder, "decoder", heads["code"])
        return {"out": out, "code": heads["code"]}, {"encoder": encoder_state, "decoder": decoder_state}

    return Network(init=init, apply=apply, inputs=encoder.inputs)


def coder(
    critic: Callable[..., Network], decoder: Callable[..., Network], size: int
) -> Callable[..., Network]:
    """The autoencoders `(x, *conditions) -> Network` of an experiment.

    Args:
      critic: as in `Blocks`; its head is the code.
      decoder: `(x, code) -> Network`, makes examples like x of codes.
      size: of the code.
    """

    def make(x: Struct, *conditions: Struct) -> Network:
        encoder = critic(x, *conditions, heads={"code": size}, score_from="code")
        return autoencoder(encoder, decoder(x, Struct((2, size), jnp.float32)))

    return make


# ---------------------------------------------------------------------------------------------------------
# The game


def schedule_of(
    objective: Objective, n_critic: int = 1, intervals: Mapping[str, int] | None = None
) -> Schedule:
    """A round: `n_critic` times the auxiliary players and then the critics, then the generators, each at once.

    Critics and generators are followed by the steps of their terms that have one, at their `intervals`.

    >>> from gan_jax.functional.priors import gaussian
    >>> [t.players for t in schedule_of(factory("vral")(gaussian(2)))]
    [('meta_real', 'meta_fake'), ('critic',), ('generator',)]
    """
    groups = [objective.with_role(role) for role in (AuxiliaryRole, CriticRole, GeneratorRole)]
    *judging, making = [(turn(*names),) if names else () for names in groups]
    steps = {
        role: tuple(
            regularization_turn(term.player, term.name, every=(intervals or {}).get(term.name, 1))
            for term in objective.terms
            if term.own_step and term.player in objective.with_role(role)
        )
        for role in (CriticRole, GeneratorRole)
    }
    return n_critic * (judging[0] + judging[1]) + steps[CriticRole] + making + steps[GeneratorRole]


def play_of(config: Any, learning_rate: float) -> Play:
    """How the configuration's objective is played; what the configuration leaves at 0 is the paper's.

    Args:
      config: the configuration.
      learning_rate: the experiment's, for objectives without one of their own.
    """
    play = recipe_of(config).play
    return dataclasses.replace(
        play,
        n_critic=config.n_critic or play.n_critic,
        learning_rate=config.learning_rate or play.learning_rate or learning_rate,
    )


def game_of(
    config: Any,
    objective: Objective,
    data: Data,
    blocks: Blocks,
    source: Source,
    *,
    learning_rate: float,
    schedules: ImageSchedules | None = None,
) -> Game:
    """The game of an objective with its optimisers, its schedule and its phases.

    Args:
      config: the configuration.
      objective: of `objective_of`.
      data: what it is played on.
      blocks: what networks are built with.
      source: of the batches.
      learning_rate: the experiment's, for objectives without one of their own.
      schedules: of the optimisers and, where `ema` is -1, of the moving averages, by images seen.

    Raises:
      ValueError: if networks, objective and options do not go together.
    """
    recipe, play = recipe_of(config), play_of(config, learning_rate)
    networks = networks_of(recipe, objective, data, blocks, count_classes(config, data))
    if config.remat:
        networks = {name: rematerialized(network) for name, network in networks.items()}
    generators = objective.with_role(GeneratorRole)
    schedule = schedule_of(objective, play.n_critic, recipe.intervals)
    game = Game(
        players={
            name: Player(
                network,
                _optimizer(config, recipe, play, objective, name, schedule, schedules),
                ema=_average(config, schedules) if name in generators else None,
            )
            for name, network in networks.items()
        },
        objective=objective,
        schedule=schedule,
        phases=recipe.phases,
        field=None
        if config.microbatches == 1
        else accumulated(config.microbatches, approximate=config.approximate),
    )
    if config.microbatches > 1:
        _trace(game, source)
    return game


def recipe_fields(
    config: Any, learning_rate: float, schedules: ImageSchedules | None = None
) -> dict[str, Any]:
    """What of the training is logged as it is in a round: the learning rates; `recipe`, a field of `Experiment`.

    Args:
      config: the configuration.
      learning_rate: the experiment's, for objectives without one of their own.
      schedules: of the optimisers, by images seen.
    """
    if schedules is not None:
        ramp = cosine_ramp(*schedules.learning_rate, images=schedules.images, batch_size=schedules.batch_size)
        return {"recipe": {"learning_rate": ramp}}
    play = play_of(config, learning_rate)
    rates = {"learning_rate": _rate(config, play, critic=False)}
    if config.critic_learning_rate:
        rates["critic_learning_rate"] = _rate(config, play, critic=True)
    by_round = {
        name: rate if callable(rate) else optax.constant_schedule(rate) for name, rate in rates.items()
    }
    return {"recipe": by_round}


def _rate(config: Any, play: Play, critic: bool) -> float | Callable[[Array], Array]:
    """The learning rate of the critics or of the other players, by round where it decays or is warmed up."""
    rate = (config.critic_learning_rate if critic else 0.0) or play.learning_rate
    assert rate is not None
    if config.decay == "constant" and config.warmup == 0:
        return rate
    return learning_rate_schedule(rate, decay=config.decay, rounds=config.decay_rounds, warmup=config.warmup)


def _average(config: Any, schedules: ImageSchedules | None) -> float | Callable[[Array], Array] | None:
    if config.ema_images:
        return ema_half_life(config.ema_images, config.batch_size, ramp=config.ema_ramp or None)
    if config.ema != DEFAULT:
        return config.ema or None
    return USUAL_EMA if schedules is None else schedules.average()


def _optimizer(
    config: Any,
    recipe: Recipe,
    play: Play,
    objective: Objective,
    player: str,
    schedule: Schedule,
    schedules: ImageSchedules | None,
) -> optax.GradientTransformation:
    critic = player in objective.with_role(CriticRole)
    if schedules is not None:
        if config.decay != "constant" or config.warmup or config.critic_learning_rate:
            raise ExperimentError(
                f"objective={config.objective} has its own schedules: leave decay, warmup and "
                "critic_learning_rate as they are; --config.learning_rate sets the first rate."
            )
        return schedules.optimizer(play.n_critic if critic else 1)
    rate = _rate(config, play, critic)
    if callable(rate):
        by_round, decays = rate, config.decay != "constant"
        until = max(config.decay_rounds if decays else 0, config.warmup + 1)
        round_of = round_of_update(player, schedule, recipe.phases, until)
        rate = lambda count: by_round(round_of(count))  # noqa: E731  an optimiser counts its updates
    # Unrolling differentiates through the optimiser, whose square root has no derivative at zero.
    if recipe.clip is not None:
        clip = recipe.clip if critic else None
        return optimizer(rate, clip=clip, differentiable=config.unroll > 0)
    adam = optax.adam
    own = [recipe.intervals[term.name] for term in objective.terms if term.own_step and term.player == player]
    if own:
        adam = functools.partial(lazy_adam, every=min(own))
    return adam(rate, b1=play.b1, b2=play.b2, eps_root=1e-8 if config.unroll else 0.0)


def _trace(game: Game, source: Source) -> None:
    """Traces a round: whether a loss is the mean of its microbatches is found only then, and it is said before any
    work is done."""
    turns = fresh_turns(game.schedule)
    host_batches = source.host_batches(0, turns)

    def play(key: Array) -> Any:
        batches = jax.vmap(functools.partial(source.get_batch, source.device_data))(host_batches)
        if turns == 1:
            batches = jax.tree.map(lambda x: x[0], batches)
        return make_train_step(game)(init_state(game, key), batches)

    jax.eval_shape(play, jax.random.key(0))
