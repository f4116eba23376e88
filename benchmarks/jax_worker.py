"""Our side of every game, as a worker: the library's own games played by the launcher's program."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import harness
from gan_jax.data.arrays import from_arrays
from gan_jax.data.source import Source
from gan_jax.data.toy import from_toy, ring
from gan_jax.distributed.layout import make_layout
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Objective, Player, TurnContext
from gan_jax.keys import named_key
from gan_jax.memory import trim_after_compiling
from gan_jax.network import Network, parameter_count
from gan_jax.networks import (
    DCGANCritic,
    DCGANGenerator,
    MLPCritic,
    MLPGenerator,
    PatchCritic,
    R3GANCritic,
    R3GANGenerator,
    ResNetCritic,
    ResNetGenerator,
    StyleGAN2Critic,
    StyleGAN2Generator,
    UNet,
    dcgan,
    from_linen,
    stylegan2_generator,
)
from gan_jax.networks.layer_noise import constant_noise, noise_from
from gan_jax.objectives import stylegan2
from gan_jax.objectives.hinge import hinge
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.pix2pix import pix2pix
from gan_jax.objectives.r3gan import r3gan
from gan_jax.objectives.wgan import optimizer as wgan_optimizer
from gan_jax.objectives.wgan import wgan
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.optim import lazy_adam
from gan_jax.play import apply_turn
from gan_jax.schedule import Turn, alternating, fresh_turns, turn
from gan_jax.state import TrainState
from gan_jax.training.rollout import stack_rounds
from gan_jax.training.step import init_state
from gan_jax.types import Tree

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "non_saturating": non_saturating,
    "wgan": wgan,
    "wgan_gp": wgan_gp,
    "hinge": hinge,
    "r3gan": r3gan,
}
BETAS = {"wgan_gp": (0.0, 0.9), "r3gan": (0.0, 0.99)}
"""Of Adam, by objective."""
CLIP = 0.01
BEGUN = 0.1
"""The scale of the numbers that replace zeros in the parameters of a replayed round."""


def build(spec: dict[str, Any]) -> tuple[Game, Source]:
    """The game that a `games.Spec` describes, and its data."""
    builders = {
        "Ring": build_ring,
        "Digits": build_digits,
        "DCGAN": build_dcgan,
        "SNGAN": build_sngan,
        "Pix2Pix": build_pix2pix,
        "R3GAN": build_r3gan,
        "StyleGAN2": build_stylegan2,
    }
    return builders[spec["kind"]](spec)


def build_ring(spec: dict[str, Any]) -> tuple[Game, Source]:
    """See `games.Ring`."""
    widths = (spec["width"], spec["width"])
    generator = MLPGenerator(output_shape=(2,), widths=widths)
    critic = MLPCritic(widths=widths, activation="relu")
    toy = ring(modes=spec["modes"], radius=spec["radius"], sigma=spec["sigma"])
    source = from_toy(toy, spec["batch_size"], seed=spec["seed"])
    return make_game(spec, generator, critic, (2,)), source


def build_digits(spec: dict[str, Any]) -> tuple[Game, Source]:
    """The default experiment itself, whose numbers `games.Digits` repeats."""
    from experiments import digits

    config = digits.get_config()
    config.r1 = spec["r1"]  # by default -1, which is this for the default objective
    for name in ("objective", "batch_size", "latent", "width", "ema"):
        if config[name] != spec[name]:
            raise ValueError(
                f"experiments/digits.py has {name} = {config[name]}, benchmarks.games.Digits {spec[name]}: "
                "repeat the experiment's numbers there."
            )
    experiment = digits.build(config)
    return experiment.game, experiment.source


def build_dcgan(spec: dict[str, Any]) -> tuple[Game, Source]:
    """See `games.DCGAN`; the images are noise, which costs as much as any."""
    shape = (spec["size"], spec["size"], spec["channels"])
    dtype = _dtype(spec)
    generator = DCGANGenerator(size=spec["size"], channels=spec["channels"], width=spec["width"], dtype=dtype)
    critic = DCGANCritic(width=spec["width"], norm=spec["critic_norm"], dtype=dtype)
    source = from_arrays({"x": _noise(spec, spec["channels"])}, spec["batch_size"], seed=spec["seed"])
    return make_game(spec, generator, critic, shape), source


def build_sngan(spec: dict[str, Any]) -> tuple[Game, Source]:
    """See `games.SNGAN`; the images are noise."""
    shape = (spec["size"], spec["size"], spec["channels"])
    dtype = _dtype(spec)
    generator = ResNetGenerator(
        size=spec["size"], channels=spec["channels"], width=spec["width"], dtype=dtype
    )
    critic = ResNetCritic(width=spec["width"], norm="spectral", dtype=dtype)
    source = from_arrays({"x": _noise(spec, spec["channels"])}, spec["batch_size"], seed=spec["seed"])
    return make_game(spec, generator, critic, shape), source


def build_pix2pix(spec: dict[str, Any]) -> tuple[Game, Source]:
    """See `games.Pix2Pix`; the pairs are noise."""
    pairs = {"x": _noise(spec, spec["channels"]), "condition": _noise(spec, 1)}
    x, condition = (jnp.zeros((2, *pairs[name].shape[1:])) for name in ("x", "condition"))
    adam = optax.adam(spec["learning_rate"], b1=0.5)
    game = Game(
        players={
            "critic": Player(
                from_linen(PatchCritic(width=spec["width"], dtype=_dtype(spec)), x, condition), adam
            ),
            "generator": Player(
                from_linen(
                    UNet(channels=spec["channels"], width=spec["width"], dtype=_dtype(spec)), condition
                ),
                adam,
            ),
        },
        objective=pix2pix(),
        schedule=alternating(1),
    )
    return game, from_arrays(pairs, spec["batch_size"], seed=spec["seed"])


def build_r3gan(spec: dict[str, Any]) -> tuple[Game, Source]:
    """See `games.R3GAN`; the images are noise."""
    shape = (spec["size"], spec["size"], spec["channels"])
    shared = {name: spec[name] for name in ("width", "blocks", "group_size")}
    generator = R3GANGenerator(size=spec["size"], channels=spec["channels"], dtype=_dtype(spec), **shared)
    critic = R3GANCritic(dtype=_dtype(spec), **shared)
    source = from_arrays({"x": _noise(spec, spec["channels"])}, spec["batch_size"], seed=spec["seed"])
    return make_game(spec, generator, critic, shape), source


def build_stylegan2(spec: dict[str, Any]) -> tuple[Game, Source]:
    """See `games.StyleGAN2`; the images are noise."""
    if (spec["r1_every"], spec["path_every"]) != tuple(stylegan2.INTERVALS.values()):
        raise ValueError(
            f"The library's intervals are {stylegan2.INTERVALS}: repeat them in benchmarks.games."
        )
    shape = (spec["size"], spec["size"], spec["channels"])
    shared: dict[str, Any] = {"width": spec["width"], "most": spec["most"], "dtype": _dtype(spec)}
    module = StyleGAN2Generator(
        size=spec["size"],
        channels=spec["channels"],
        style=spec["style"],
        layers=spec["layers"],
        mixing=spec["mixing"],
        **shared,
    )
    critic = from_linen(StyleGAN2Critic(**shared), jnp.zeros((2, *shape)))
    generator = stylegan2_generator(module, jnp.zeros((2, spec["latent"])))
    rate = spec["learning_rate"]
    objective = stylegan2.stylegan2(gaussian(spec["latent"]), gamma=spec["r1"], path=spec["path"])
    game = Game(
        players={
            "critic": Player(critic, lazy_adam(rate, every=spec["r1_every"])),
            "generator": Player(generator, lazy_adam(rate, every=spec["path_every"]), ema=spec["ema"]),
        },
        objective=objective,
        schedule=stylegan2.schedule(objective),
    )
    return game, from_arrays({"x": _noise(spec, spec["channels"])}, spec["batch_size"], seed=spec["seed"])


def _dtype(spec: dict[str, Any]) -> Any:
    """The dtype of the networks' computation; `None` for float32."""
    return jnp.bfloat16 if spec.get("dtype") == "bfloat16" else None


def _noise(spec: dict[str, Any], channels: int) -> np.ndarray:
    shape = (spec["examples"], spec["size"], spec["size"], channels)
    return np.random.default_rng(spec["seed"]).integers(256, size=shape, dtype=np.uint8)


def make_game(spec: dict[str, Any], generator: nn.Module, critic: nn.Module, shape: tuple[int, ...]) -> Game:
    """A two-player game with the optimisers of the objective's paper."""
    objective = spec["objective"]
    if objective == "wgan":
        optimizers = {"generator": wgan_optimizer(), "critic": wgan_optimizer(clip=CLIP)}
    else:
        b1, b2 = BETAS.get(objective, (0.5, 0.999))
        adam = optax.adam(spec["learning_rate"], b1=b1, b2=b2)
        optimizers = {"generator": adam, "critic": adam}
    options = {"gamma": spec["r1"]} if objective == "r3gan" else {}
    networks: dict[str, Network] = {
        "generator": from_linen(generator, jnp.zeros((2, spec["latent"]))),
        "critic": from_linen(critic, jnp.zeros((2, *shape))),
    }
    return Game(
        players={name: Player(network, optimizers[name]) for name, network in networks.items()},
        objective=OBJECTIVES[objective](gaussian(spec["latent"]), **options),
        schedule=alternating(spec["n_critic"]),
    )


def _stock_conv(features: int, kernel: int, *, strides: int, weight: Any = None, **options: Any) -> nn.Module:
    return nn.Conv(features, (kernel, kernel), strides=(strides, strides), **options)


def _stock_transpose(
    features: int, kernel: int, *, strides: int, weight: Any = None, **options: Any
) -> nn.Module:
    return nn.ConvTranspose(features, (kernel, kernel), strides=(strides, strides), **options)


stock_flax = functools.partial(mock.patch.multiple, dcgan, Conv=_stock_conv, ConvTranspose=_stock_transpose)
"""A context in which the DCGAN is made of Flax's own convolutions."""


def player(
    game: Game, source: Source, state: TrainState, spec: dict[str, Any]
) -> Callable[[int], dict[str, float]]:
    """Plays rounds from where it stopped, and reports the last round's losses.

    Every round's metrics are computed and transferred, as in a run; stock convolutions are run turn by turn.
    """
    advance = _turn_by_turn if spec.get("convolutions") == "flax" else _as_launched
    step = advance(game, source, spec)
    held = [state]

    def play(rounds: int) -> dict[str, float]:
        held[0], metrics = step(held[0], rounds)
        jax.block_until_ready(held[0])
        return {name: round(float(values[-1]), 4) for name, values in metrics.items() if "loss" in name}

    return play


def _turn_by_turn(game: Game, source: Source, spec: dict[str, Any]) -> Callable[..., Any]:
    """A program for each turn without a loop, in which XLA's gradients of convolutions would be much slower."""

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def move(played: Turn, players: Any, device_data: Tree, host_batch: Tree, step: Any, key: Any) -> Any:
        return _move(game, played, players, source.get_batch(device_data, host_batch), step, key)

    device_data = jax.device_put(source.device_data)

    def play_round(state: TrainState, cursor: int) -> tuple[TrainState, dict[str, Any]]:
        players, metrics = state.players, {}
        key = jax.random.fold_in(state.key, state.step)
        for place, played in enumerate(game.schedule):
            host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(cursor + place, 1))
            turn_key = jax.random.fold_in(key, place)
            players, turn_metrics = move(played, players, device_data, host_batch, state.step, turn_key)
            metrics.update(turn_metrics)
        return state._replace(players=players, step=state.step + 1), metrics

    def step(state: TrainState, rounds: int) -> tuple[TrainState, dict[str, np.ndarray]]:
        for _ in range(rounds):
            state, metrics = play_round(state, int(state.step) * len(game.schedule))
        return state, {name: np.asarray(value)[None] for name, value in metrics.items()}

    return step


def _as_launched(game: Game, source: Source, spec: dict[str, Any]) -> Callable[..., Any]:
    layout = make_layout(spec["parallelism"])
    run, device_data = layout.compile(game, source), layout.place(source.device_data)
    turns, most = fresh_turns(game.schedule), spec["per_dispatch"]

    def step(state: TrainState, rounds: int) -> tuple[TrainState, dict[str, np.ndarray]]:
        cursor = int(state.cursor)
        state = layout.place(state)
        for start in range(0, rounds, most):
            n = min(most, rounds - start)
            host_batches = stack_rounds(source, cursor, turns, n, most)
            state, history = run(state, device_data, host_batches, n)
            metrics = {name: np.asarray(values[:n]) for name, values in history.items()}
            cursor += n * turns
        return state, metrics

    return step


def replay(game: Game, source: Source, state: TrainState) -> dict[str, Any]:
    """Plays the first round turn by turn and hands out its draws, so that PyTorch can play it too.

    Arrays that begin at zero are given other numbers, so that nothing of a network is left out. Noise between the
    layers is the constant noise.

    Returns:
      `start` and `after`, each player's parameters before and after the round (see `_by_path`); the `draws` and
      `losses` of every turn, of a regulariser's its value; the `noise` of every layer that adds some.
    """
    players = {name: player._replace(params=_begun(player.params)) for name, player in state.players.items()}
    start = {name: _by_path(player.params) for name, player in players.items()}
    draws, losses, batch_index = [], [], -1
    noise: dict[int, int] = {}

    def fixed(place: int, pixels: int) -> Any:
        noise[place] = pixels
        return constant_noise(place, pixels)

    for place, played in enumerate(game.schedule):
        batch_index += played.fresh
        host_batch = jax.tree.map(lambda leaf: leaf[0], source.host_batches(batch_index, 1))
        batch = source.get_batch(source.device_data, host_batch)
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), place)
        draws.append({name: _encode(value) for name, value in _draws(game, batch["x"], key).items()})
        with noise_from(fixed):
            players, metrics = jax.jit(functools.partial(_move, game, played))(
                players, batch, state.step, key
            )
        reported = metrics[f"{played.players[0]}/{(played.terms or ('loss',))[0]}"]
        losses.append(float(reported) / played.every)
    after = {name: _by_path(p.params) for name, p in players.items()}
    kept = {place: _encode(constant_noise(place, pixels)) for place, pixels in noise.items()}
    return {"start": start, "draws": draws, "losses": losses, "after": after, "noise": kept}


def _begun(params: Tree) -> Tree:
    """The parameters with small numbers for the arrays of zeros."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: leaf if np.any(leaf) else jnp.asarray(BEGUN * rng.normal(size=leaf.shape), leaf.dtype),
        params,
    )


def _draws(game: Game, x: Any, key: Any) -> dict[str, Any]:
    """A turn's draws under the names that the library folds in.

    Real samples, z, e of the interpolates and, of games with path lengths, their direction.
    """
    assert game.objective.prior is not None
    point = named_key(named_key(key, "term/gradient_penalty"), "point")
    latent = game.objective.prior(named_key(key, "latent"), x.shape[0])
    mix = jax.random.uniform(point, (x.shape[0],) + (1,) * (x.ndim - 1))
    draws = {"x": x, "latent": latent, "mix": mix}
    if any(term.name == "path_length" for term in game.objective.terms):
        half = (len(x[::2]), *x.shape[1:])
        along = named_key(named_key(key, "term/path_length"), "direction")
        draws["direction"] = jax.random.normal(along, (half[0], math.prod(half[1:]))).reshape(half)
    return draws


def _by_path(params: Tree) -> dict[str, Any]:
    """A player's parameters by their paths, with slashes between the names."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {"/".join(entry.key for entry in path): _encode(leaf) for path, leaf in leaves}


def _move(game: Game, played: Turn, players: Any, batch: Any, step: Any, key: Any) -> Any:
    return apply_turn(played, TurnContext(game, players, batch, step, key))


def _encode(x: Any) -> dict[str, Any]:
    x = np.asarray(x, np.float32)
    return {"shape": x.shape, "data": base64.b64encode(x.tobytes()).decode()}


def count_flops(game: Game, source: Source, state: TrainState) -> dict[str, float]:
    """XLA's own count of one turn of each player."""
    batch = source.get_batch(
        source.device_data, jax.tree.map(lambda leaf: leaf[0], source.host_batches(0, 1))
    )
    counts = {}
    for name in game.players:
        move = functools.partial(_moved_params, game, name)
        compiled = jax.jit(move).lower(state.players, batch, state.step, state.key).compile()
        cost = compiled.cost_analysis()
        assert cost is not None
        counts[name] = cost["flops"]
    return counts


def _moved_params(game: Game, name: str, players: Any, batch: Any, step: Any, key: Any) -> Any:
    return _move(game, turn(name), players, batch, step, key)[0][name].params


def gemm_peak(size: int = 2048, seconds: float = 1.0) -> dict[str, float]:
    """The rate of the fastest float32 matrix product in this process, in GFLOP/s."""
    a = jnp.ones((size, size))
    multiply = jax.jit(lambda a: a @ a)
    jax.block_until_ready(multiply(a))
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        jax.block_until_ready(multiply(a))
        best = min(best, time.perf_counter() - before)
    return {"gflops": 2e-9 * size**3 / best}


def main() -> None:
    """Serves rounds of the game that the first argument describes."""
    imported = harness.peak_memory()["peak_mb"]
    trim_after_compiling()
    spec = json.loads(sys.argv[1])
    if (platform := spec.get("platform", "cpu")) == "cpu":
        jax.config.update("jax_platforms", platform)
        jax.config.update("jax_num_cpu_devices", spec["devices"])
    with stock_flax() if spec.get("convolutions") == "flax" else contextlib.nullcontext():
        game, source = build(spec)
        # By one program that is dropped, as in a launch: networks keep those that make their own first parameters.
        state = jax.jit(functools.partial(init_state, game))(jax.random.key(spec["seed"]))
        harness.serve(
            {
                "jax": jax.__version__,
                "import_mb": imported,
                "devices": jax.device_count(),
                "parameters": {name: parameter_count(p.params) for name, p in state.players.items()},
            },
            player(game, source, state, spec),
            replay=lambda: replay(game, source, init_state(game, jax.random.key(spec["seed"]))),
            flops=lambda: count_flops(game, source, init_state(game, jax.random.key(0))),
            peak=gemm_peak,
        )


if __name__ == "__main__":
    main()
