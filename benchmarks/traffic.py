"""What a round of data-parallel training sends between devices, and what published interconnects make of it.

    python -m benchmarks.traffic                  # a few minutes; writes benchmarks/results/traffic.json

Each kind of turn is compiled for eight simulated devices, and the collectives and their sizes are read off the
program. A device's program is the same for any number of devices, so is what it hands to each all-reduce, and a
bandwidth-optimal all-reduce of S bytes over n devices sends 2 (n - 1) / n S from each. Nothing here was timed on
the hardware named: the times are those sizes over its published bandwidth, without latency and without overlap.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.harness import RESULTS
from gan_jax.distributed.layout import make_layout
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.network import parameter_count
from gan_jax.networks import DCGANCritic, DCGANGenerator, ResNetCritic, ResNetGenerator, from_linen
from gan_jax.objectives.hinge import hinge
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.schedule import Turn, alternating
from gan_jax.tables import markdown_table
from gan_jax.training.step import init_state, make_train_step

DEVICES = (8, 64, 512, 4096)
COMPILED_FOR = 8
BYTES = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "s64": 8, "u64": 8, "pred": 1}
_COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
)
WIDTH_100M = 77
UTILISATION = 0.4
"""The share of its peak that a device is taken to reach."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A generator and a critic, with the examples that each device has of a batch."""

    name: str
    game: Game
    image: tuple[int, int, int]
    examples: int


@dataclasses.dataclass(frozen=True)
class Machine:
    """Published figures of one device.

    Attributes:
      flops: bf16 operations per second.
      group_bandwidth: the bytes per second that it sends to other devices of its group.
      group: the number of devices in a group.
      outer_bandwidth: the bytes per second that it sends to other groups.
    """

    name: str
    flops: float
    group_bandwidth: float
    group: int
    outer_bandwidth: float

    def seconds(self, size: float, devices: int) -> float:
        """The time to all-reduce `size` bytes: within groups, then between them with a part for each device."""
        inside, groups = min(devices, self.group), max(1, devices // self.group)
        within = (inside - 1) / inside / self.group_bandwidth
        between = (groups - 1) / groups / inside / self.outer_bandwidth
        return 2 * size * (within + between)


MACHINES = (
    # Google Cloud, TPU v5p: 459 TFLOP/s, 4,800 Gbit/s between chips, pods of 8,960 in one torus.
    Machine("TPU v5p", 459e12, 600e9, 8960, 600e9),
    # NVIDIA, DGX H100: 989 TFLOP/s, NVLink of 450 GB/s each way for 8 GPUs, 400 Gbit/s InfiniBand for each beyond.
    Machine("DGX H100", 989e12, 450e9, 8, 50e9),
)


def pairs() -> list[Pair]:
    """The DCGAN and the SNGAN ResNet of 32 x 32, and a ResNet pair of 100 million parameters of 128 x 128."""

    def pair(name: str, critic: Any, generator: Any, objective: Any, size: int, n_critic: int, examples: int):
        networks = {
            "critic": from_linen(critic, jnp.zeros((2, size, size, 3))),
            "generator": from_linen(generator, jnp.zeros((2, 128))),
        }
        game = Game(
            players={name: Player(network, optax.adam(2e-4, b1=0.5)) for name, network in networks.items()},
            objective=objective,
            schedule=alternating(n_critic),
        )
        return Pair(name, game, (size, size, 3), examples)

    normal = gaussian(128)
    return [
        pair("DCGAN", DCGANCritic(), DCGANGenerator(), non_saturating(normal), 32, 1, 64),
        pair(
            "ResNet",
            ResNetCritic(norm="spectral"),
            ResNetGenerator(size=32, width=256),
            hinge(normal),
            32,
            5,
            64,
        ),
        pair(
            "ResNet, 100M",
            ResNetCritic(width=WIDTH_100M, norm="spectral"),
            ResNetGenerator(size=128, width=WIDTH_100M),
            hinge(normal),
            128,
            1,
            32,
        ),
    ]


def lower_turn(pair: Pair, turn: Turn, devices: int) -> Any:
    """The lowered program of a round of only this turn, on this number of devices."""
    layout = make_layout("jit", jax.devices()[:devices])
    state = jax.eval_shape(lambda: init_state(pair.game, jax.random.key(0)))
    replicated, sharded = layout.replicated, NamedSharding(layout.mesh, PartitionSpec("data"))
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), state)
    batch = {"x": jax.ShapeDtypeStruct((pair.examples * devices, *pair.image), jnp.float32, sharding=sharded)}
    step = make_train_step(pair.game, schedule=(turn,))
    with jax.set_mesh(layout.mesh):
        return jax.jit(step, out_shardings=replicated).lower(state, batch)


def collectives(program: str) -> tuple[collections.Counter[str], int]:
    """The number of collectives of each kind in a compiled program, and the bytes that they transfer."""
    counts: collections.Counter[str] = collections.Counter()
    size = 0
    for shapes, kind in _COLLECTIVE.findall(program):
        counts[kind] += 1
        for dtype, dimensions in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            size += BYTES[dtype] * math.prod(int(n) for n in dimensions.split(",") if n)
    return counts, size


def measure(pair: Pair) -> dict[str, Any]:
    """A round's turns, collectives, bytes and operations, for each device."""
    shapes = jax.eval_shape(lambda: init_state(pair.game, jax.random.key(0))).players
    parameters = {name: parameter_count(player.params) for name, player in shapes.items()}
    turns = collections.Counter(pair.game.schedule)
    counts: collections.Counter[str] = collections.Counter()
    compiled_bytes = gradient_bytes = flops = 0.0
    for turn, times in turns.items():
        unoptimised = {"xla_backend_optimization_level": 0}
        program = lower_turn(pair, turn, COMPILED_FOR).compile(compiler_options=unoptimised)
        number_by_kind, size = collectives(program.as_text())
        for kind, number in number_by_kind.items():
            counts[kind] += times * number
        compiled_bytes += times * size
        gradient_bytes += times * sum(4 * parameters[player] for player in turn.players)
        flops += times * lower_turn(pair, turn, 1).cost_analysis()["flops"]
    return {
        "pair": pair.name,
        "parameters": parameters,
        "turns": {"+".join(turn.players): times for turn, times in turns.items()},
        "examples a device": pair.examples,
        "collectives a round": dict(counts),
        "bytes a round, as compiled here": int(compiled_bytes),
        "bytes a round, gradients": int(gradient_bytes),
        "operations a device and round": flops,
    }


def predicted(row: dict[str, Any]) -> list[dict[str, Any]]:
    """For each number of devices: bytes sent by each a round, and seconds and efficiency on each machine."""
    size, flops = row["bytes a round, gradients"], row["operations a device and round"]
    lines = []
    for devices in DEVICES:
        line: dict[str, Any] = {
            "devices": devices,
            "bytes sent by each": int(2 * size * (devices - 1) / devices),
        }
        for machine in MACHINES:
            sending, computing = machine.seconds(size, devices), flops / (UTILISATION * machine.flops)
            line[machine.name] = {
                "microseconds": round(1e6 * sending, 1),
                "efficiency": round(computing / (computing + sending), 3),
            }
        lines.append(line)
    return lines


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    machines = [machine.name for machine in MACHINES]
    head = ["pair", "parameters", "turns", "all-reduces", *(f"{n:,} devices" for n in DEVICES)]
    head += [f"{machine}, {n:,}" for machine in machines for n in (DEVICES[0], DEVICES[-1])]
    lines = [head]
    for row in rows:
        by_devices = {line["devices"]: line for line in row["devices"]}
        cells = [
            row["pair"],
            f"{sum(row['parameters'].values()) / 1e6:.1f} M",
            " + ".join(str(times) for times in row["turns"].values()),
            str(row["collectives a round"]["all-reduce"]),
            *(megabytes(by_devices[n]["bytes sent by each"]) for n in DEVICES),
        ]
        for machine in machines:
            for n in (DEVICES[0], DEVICES[-1]):
                line = by_devices[n][machine]
                cells.append(f"{line['microseconds'] / 1e3:.2f} ms, {line['efficiency']:.0%}")
        lines.append(cells)
    return markdown_table(lines)


def megabytes(size: float) -> str:
    """Bytes in MB of 10^6."""
    return f"{size / 1e6:.1f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", COMPILED_FOR)
    rows = []
    for pair in pairs():
        row = measure(pair)
        rows.append({**row, "devices": predicted(row)})
        print(json.dumps(row, indent=1), flush=True)
    machines = [dataclasses.asdict(machine) for machine in MACHINES]
    content = {"command": "python -m benchmarks.traffic", "utilisation": UTILISATION, "machines": machines}
    (RESULTS / "traffic.json").write_text(json.dumps({**content, "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
