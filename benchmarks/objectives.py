"""Objectives' rounds against hand-written steps of the same mathematics, and what unrolling costs.

    python -m benchmarks.objectives                          # all, about 12 minutes on a quiet machine
    python -m benchmarks.objectives --check                  # do both sides play the same game?
    python -m benchmarks.objectives --only wgan_gp unrolled --pairs 3 --seconds 0.5 --no-save

Eight Gaussians on a circle, z of 2, perceptrons of 2 x 128 ReLU, batch 256, every player one turn a round,
Adam(1e-4, .5) (RMSProp and clipping for WGAN), a hundred rounds in one dispatch. By hand
(`benchmarks.hand_written`): the formulas on plain arrays in one jitted `fori_loop`, with the same draws, optimisers
and options of the compiler. An objective is compared once it is written by hand, in `hand_written.HANDS`.
Bar: a round within 1.2 times the hand-written one's, a ratio of .833. `unrolled` plays the ring experiment with
`--config.unroll=5` against itself without; a round costs at most 8 times as much, a ratio of .125.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import harness
from benchmarks.hand_written import HANDS, Draw, Hand
from experiments import games
from experiments import ring as ring_experiment
from experiments.games import Struct
from gan_jax.compiler import compiler_options
from gan_jax.data.source import Source
from gan_jax.data.toy import from_toy, ring
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Objective, Player
from gan_jax.keys import named_key
from gan_jax.network import Network
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import wgan
from gan_jax.objectives._catalogue import factory
from gan_jax.runs.notebook import rollout
from gan_jax.schedule import fresh_turns
from gan_jax.tables import text_table
from gan_jax.training.step import init_state
from gan_jax.types import Batch, Tree

BATCH, LATENT, MODES, WIDTHS = 256, 2, 8, (128, 128)
PER_DISPATCH = 100
MEASURED = ["round", "gan_jax rounds/s", "by hand rounds/s", "ratio", "CPU-time ratio", "pairs", "bar"]
BAR, UNROLLED_BAR = 1 / 1.2, 1 / 8
PRIOR = gaussian(LATENT)
FORMS: dict[str, dict[str, Any]] = {
    "relativistic:standard": {"average": False},
    "f_gan:jensen_shannon": {"divergence": "jensen_shannon"},
    "f_gan:squared_hellinger": {"divergence": "squared_hellinger"},
    "cat_gan": {"weight": 1.0},
}
"""Options of the factories where they are not the defaults."""


# --- the library's side -------------------------------------------------------------------------------------


def critic(x: Struct, *conditions: Struct, **heads: Any) -> Network:
    """A critic of points, and of what they are conditional on."""
    module = MLPCritic(widths=WIDTHS, activation="relu", **heads)
    return from_linen(module, x, *conditions)


def perceptron(x: Struct, *inputs: Struct) -> Network:
    """Latents, labels or points to points like x."""
    labels = any(jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in inputs)
    module = MLPGenerator(output_shape=x.shape[1:], widths=WIDTHS, num_classes=MODES if labels else None)
    return from_linen(module, *inputs)


BLOCKS = games.Blocks(critic, perceptron, autoencoder=lambda x: perceptron(x, x))
POINTS = Struct((2, 2), jnp.float32)
DATA = games.Data(
    "the ring", {"x": POINTS, "y": Struct((2,), jnp.int32), "condition": POINTS}, labels=np.arange(MODES)
)


def objective_of(name: str) -> Objective:
    """The objective of a row."""
    recipe, options = games.RECIPES[name.partition(":")[0]], FORMS.get(name, {})
    make = factory(name.partition(":")[0])
    if recipe.translates:
        return make(**options)
    return make(LATENT, code=games.code_of(MODES)) if recipe.code else make(PRIOR, **options)


def game_of(name: str) -> Game:
    """The library's game of a row."""
    recipe, objective = games.RECIPES[name.partition(":")[0]], objective_of(name)
    if recipe.clip is not None:
        optimizers = {"critic": wgan.optimizer(clip=recipe.clip), "generator": wgan.optimizer()}
    else:
        optimizers = dict.fromkeys(objective.players, optax.adam(1e-4, b1=0.5))
    networks = games.networks_of(recipe, objective, DATA, BLOCKS, MODES)
    return Game(
        players={player: Player(network, optimizers[player]) for player, network in networks.items()},
        objective=objective,
        schedule=games.schedule_of(objective),
    )


def source_of() -> Source:
    """Labelled points, half as many in the entry `labelled`, and other points to condition on."""
    base = from_toy(ring(MODES), BATCH, labels=True)

    def get_batch(seed: Any, number: Any) -> Batch:
        other = base.get_batch(seed + 1, number)
        labelled = {name: leaf[: BATCH // 2] for name, leaf in base.get_batch(seed + 2, number).items()}
        return {**base.get_batch(seed, number), "condition": other["x"], "labelled": labelled}

    return dataclasses.replace(base, get_batch=get_batch)


class Ours:
    """The library's round, played by `rollout`."""

    def __init__(self, game: Game, source: Source) -> None:
        self._game, self._source = game, source
        self.state = init_state(game, jax.random.key(0))

    def __call__(self, rounds: int) -> dict[str, float]:
        """Plays `rounds` rounds and returns the last round's losses."""
        self.state, metrics = rollout(self._game, self._source, self.state, rounds, per_dispatch=PER_DISPATCH)
        return {name: round(float(values[-1]), 4) for name, values in metrics.items() if "loss" in name}


# --- by hand ------------------------------------------------------------------------------------------------


class ByHand:
    """The hand-written round, from the same parameters and on the same draws."""

    def __init__(self, name: str, game: Game, source: Source) -> None:
        state = init_state(game, jax.random.key(0))
        self.players = {name: plain(player.params) for name, player in state.players.items()}
        optimizers = hand_optimizers(name, tuple(game.players))
        steps = {player: optimizers[player].init(params) for player, params in self.players.items()}
        zero = dict.fromkeys(game.players, jnp.zeros(()))
        self._carry: Any = (state.step, self.players, steps, jnp.zeros(()), zero)
        play = hand_program(HANDS[name], game, source, optimizers, clips=name == "wgan")
        self._program = jax.jit(play, compiler_options=compiler_options())
        self._inputs = state.key, source.device_data

    def __call__(self, rounds: int) -> dict[str, float]:
        """Plays `rounds` rounds and returns the last round's losses."""
        for start in range(0, rounds, PER_DISPATCH):
            most = np.int32(min(PER_DISPATCH, rounds - start))
            self._carry = self._program(self._carry, *self._inputs, most)
            losses = jax.device_get(self._carry[-1])
        self.players = self._carry[1]
        return {f"{player}/loss": round(float(loss), 4) for player, loss in losses.items()}


def hand_optimizers(name: str, players: tuple[str, ...]) -> dict[str, optax.GradientTransformation]:
    """The optimisers by hand: WGAN's clipping is in the loop."""
    step = optax.rmsprop(wgan.LEARNING_RATE, decay=0.99) if name == "wgan" else optax.adam(1e-4, b1=0.5)
    return dict.fromkeys(players, step)


def hand_program(
    hand: Hand, game: Game, source: Source, optimizers: Mapping[str, Any], *, clips: bool
) -> Callable[..., Any]:
    """Rounds by hand in one loop: `(carry, key, device_data, n) -> carry`."""
    turns = fresh_turns(game.schedule)
    prior = game.objective.prior or (lambda key, n: jnp.zeros(()))

    def play(carry: Any, key: Any, device_data: Any, rounds: Any) -> Any:
        def play_round(_: Any, carry: Any) -> Any:
            step, players, steps, objective_state, losses = carry
            round_key = jax.random.fold_in(key, step)
            for place, played in enumerate(game.schedule):
                turn_key = jax.random.fold_in(round_key, place)
                batch = source.get_batch(device_data, step * turns + place)
                noise = hand.noise(turn_key, batch["x"])
                draw = Draw(batch, prior(named_key(turn_key, "latent"), BATCH), noise, objective_state)
                before = players
                for name in played.players:
                    loss = functools.partial(player_loss, hand, name, before, draw)
                    value, grads = jax.value_and_grad(loss)(before[name])
                    updates, opt_state = optimizers[name].update(grads, steps[name], before[name])
                    params = optax.apply_updates(before[name], updates)
                    if clips and name == "critic":
                        params = jax.tree.map(lambda p: jnp.clip(p, -wgan.CLIP, wgan.CLIP), params)
                    players, steps = {**players, name: params}, {**steps, name: opt_state}
                    losses = {**losses, name: value}
                if hand.next_state is not None and "critic" in played.players:
                    objective_state = hand.next_state(before, draw)
            return step + 1, players, steps, objective_state, losses

        return jax.lax.fori_loop(0, rounds, play_round, carry)

    return play


def player_loss(hand: Hand, name: str, players: Mapping[str, Any], draw: Draw, params: Any) -> Any:
    """A player's loss as a function of its parameters, which come last."""
    return hand.losses[name]({**players, name: params}, draw)


def plain(params: Tree) -> dict[str, Any]:
    """A perceptron's Flax parameters as `hand_written` has them."""
    trunk = params["trunk"]
    layers: dict[str, Any] = {
        "hidden": [(trunk[f"Dense_{i}"]["kernel"], trunk[f"Dense_{i}"]["bias"]) for i in range(len(trunk))]
    }
    last = {"out": params["out"]} if "out" in params else params["scores"]
    return layers | {name: (layer["kernel"], layer["bias"]) for name, layer in last.items()}


# --- the comparisons ----------------------------------------------------------------------------------------


def check(name: str, rounds: int = 3) -> tuple[float, float]:
    """The largest differences of the last losses and of the parameters after `rounds` rounds on both sides."""
    game, source = game_of(name), source_of()
    ours, hand = Ours(game, source), ByHand(name, game, source)
    first, second = ours(rounds), hand(rounds)
    after = {name: plain(player.params) for name, player in ours.state.players.items()}
    differences = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), after, hand.players)
    losses = [abs(first[key] - second[key]) / max(1.0, abs(first[key])) for key in second]
    return max(losses), max(jax.tree.leaves(differences))


def compare(name: str, plan: harness.Plan) -> harness.Comparison:
    """The library's round against the hand-written one, or the unrolled round against the plain one."""
    sides: dict[str, Callable[[int], dict[str, float]]]
    if name == "unrolled":
        sides = {"unroll=5": unrolled_ring(5), "unroll=0": unrolled_ring(0)}
    else:
        game, source = game_of(name), source_of()
        sides = {"gan_jax": Ours(game, source), "by hand": ByHand(name, game, source)}
    ours, other = (harness.InProcess(label, play) for label, play in sides.items())
    return harness.compare(ours, other, plan)


def unrolled_ring(steps: int) -> Ours:
    """The ring experiment's game with a generator that is unrolled over `steps` critic steps."""
    config = ring_experiment.get_config()
    config.unroll = steps
    made = ring_experiment.build(config)
    return Ours(made.game, made.source)


def bar_of(name: str) -> float:
    """The ratio that a row should reach."""
    return UNROLLED_BAR if name == "unrolled" else BAR


def main() -> None:
    """Runs the comparisons and prints their table."""
    known = ["unrolled", *HANDS]
    parser = harness.arguments(__doc__, torch=False, pairs=7, seconds=1.0, warm_up=1.0)
    parser.add_argument("--only", nargs="*", metavar="NAME", help=f"some of {', '.join(known)}")
    parser.add_argument("--check", action="store_true", help="compare what both sides compute instead")
    flags = parser.parse_args()
    harness.check_only(parser, flags.only, known)
    chosen = [name for name in known if not flags.only or name in flags.only]
    if flags.check:
        rows = [["objective", "losses differ", "parameters differ"]]
        for name in chosen:
            if name != "unrolled":
                rows.append([name, *(f"{difference:.1e}" for difference in check(name))])
        print(text_table(rows))
        return
    rows, results = [MEASURED], {}
    for name in chosen:
        result = compare(name, harness.plan_of(flags))
        bar = round(bar_of(name), 3)
        rates = [f"{rate:.4g}" for rate in result.rates]
        judged = harness.verdict(result, bar)
        rows.append(
            [name, *rates, str(result.ratio), str(result.cpu_ratio), harness.pairs_cell(result), judged]
        )
        results[name] = {**result.to_json(), "bar": bar}
        print(f"{name}: {result.ratio}", file=sys.stderr, flush=True)
    print(text_table(rows))
    if flags.only:
        print("nothing written: a part of the table is not the table")
    else:
        harness.save(flags, "objectives", {"rounds": results})


if __name__ == "__main__":
    harness.run(main)
