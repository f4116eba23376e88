"""What a round costs on 8 to 4,096 devices, from the programs that the TPU's and the GPU's compilers made.

    python -m benchmarks.traffic                  # a minute; writes benchmarks/results/traffic.json

`benchmarks.compiled` has compiled each program for a slice of four TPU v5e and for the eight H100 of a node, and
stored its kernels and all-reduces with their bytes. A device's program is the same for any number of devices that a
batch is sharded over. A round is taken to last as long as its arithmetic at a share of the published peak, a launch
for each kernel, a latency for each all-reduce, and its bytes over the published bandwidth, one after the other.
Nothing was timed on the hardware named: the figures say what a run is bound by, and what fails first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from benchmarks.compiled import EXPERIMENTS, read
from benchmarks.harness import RESULTS
from gan_jax.tables import markdown_table
from gan_jax.training.experiment import Experiment
from gan_jax.training.step import init_state, make_train_step

DEVICES = (8, 64, 256, 1024, 4096)
UTILISATION = 0.2
"""The share of its peak that a device's arithmetic reaches: that of ResNet-50 in MLPerf's training, 17 to 20 %."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """One kind of device, with the network between many.

    Attributes:
      target: the target of `benchmarks.compiled` whose program it runs.
      flops: published operations per second of products, bfloat16 and of float32 arrays by default.
      bandwidth: published bytes per second that a device sends inside a group.
      group: the devices of a group.
      outer_bandwidth: those that it sends to other groups.
      launch: seconds between the beginnings of two short kernels of a program (assumed).
      latency, hop: seconds of a small all-reduce inside a group, and more for each doubling beyond it (assumed).
    """

    name: str
    target: str
    flops: dict[str, float]
    bandwidth: float
    group: int
    outer_bandwidth: float
    launch: float
    latency: float
    hop: float

    def reducing(self, size: float, count: float, devices: int) -> tuple[float, float]:
        """The seconds of latency and of sending of `count` all-reduces of `size` bytes together."""
        if devices == 1:
            return 0.0, 0.0
        inside, groups = min(devices, self.group), max(1, devices // self.group)
        within = (inside - 1) / inside / self.bandwidth
        between = (groups - 1) / groups / inside / self.outer_bandwidth
        return count * (self.latency + self.hop * math.log2(groups)), 2 * size * (within + between)


MACHINES = (
    # Google Cloud, TPU v5e: 197 TFLOP/s, 1,600 Gbit/s between chips, 256 in a slice; hosts of 8 have 100 Gbit/s.
    Machine(
        "TPU v5e", "v5e-4", {"float32": 197e12, "bfloat16": 197e12}, 200e9, 256, 1.56e9, 0.5e-6, 10e-6, 30e-6
    ),
    # NVIDIA, DGX H100: 495 and 989 TFLOP/s, NVLink of 450 GB/s each way for 8 GPUs, 400 Gbit/s beyond for each.
    Machine("DGX H100", "h100-8", {"float32": 495e12, "bfloat16": 989e12}, 450e9, 8, 50e9, 2e-6, 15e-6, 8e-6),
)
PROGRAMS = ("dcgan_batch_norm", "dcgan_group_statistics", "dcgan_bfloat16", "dcgan", "sngan", "r3gan")


def operations(experiment: Experiment) -> float:
    """The operations of a round, counted in the programs of its turns before they are compiled."""
    place = SingleDeviceSharding(jax.devices()[0])

    def placed(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)

    state = placed(jax.eval_shape(lambda: init_state(experiment.game, jax.random.key(0))))
    host_batch = jax.tree.map(lambda x: x[0], experiment.source.host_batches(0, 1))
    batch = placed(jax.eval_shape(experiment.source.get_batch, experiment.source.device_data, host_batch))
    total = 0.0
    for turn in dict.fromkeys(experiment.game.schedule):
        step = make_train_step(experiment.game, schedule=(turn,))
        costs: Any = jax.jit(step).lower(state, batch).cost_analysis()
        total += experiment.game.schedule.count(turn) * costs["flops"]
    return total


@dataclasses.dataclass(frozen=True)
class Round:
    """What a round is, for one device.

    Attributes:
      operations: of its arithmetic.
      kernels, all_reduces, reduced: kernels, all-reduces and the bytes of these, as compiled.
      precision: `float32` or `bfloat16`.
      examples: of the batch on a device.
    """

    operations: float
    kernels: int
    all_reduces: int
    reduced: int
    precision: str
    examples: int

    def seconds(self, machine: Machine, devices: int, share: float = 1.0) -> dict[str, float]:
        """Where the time goes, in seconds; `share` of the operations remains where a batch is spread further."""
        latency, sending = machine.reducing(self.reduced, self.all_reduces, devices)
        return {
            "arithmetic": share * self.operations / (UTILISATION * machine.flops[self.precision]),
            "launches": self.kernels * machine.launch,
            "latency": latency,
            "sending": sending,
        }


def predicted(found: Round, machine: Machine) -> list[dict[str, Any]]:
    """For each number of devices the parts of a round and its efficiency, by weak and by strong scaling.

    Weak scaling keeps the examples of each device, strong scaling the whole batch, that of eight devices.
    Efficiency is the examples a second of a device, against those of one device that waits for nobody.
    """
    one, batch = sum(found.seconds(machine, 1).values()), DEVICES[0] * found.examples
    lines = []
    for devices in DEVICES:
        weak, strong = found.seconds(machine, devices), found.seconds(machine, devices, DEVICES[0] / devices)
        lines.append(
            {
                "devices": devices,
                "microseconds": {part: round(1e6 * seconds, 1) for part, seconds in weak.items()},
                "weak": round(one / sum(weak.values()), 3),
                "strong": round(one * DEVICES[0] / devices / sum(strong.values()), 3)
                if devices <= batch
                else None,
                "bound by": max(weak, key=lambda part: weak[part]),
            }
        )
    return lines


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [["program", "machine", "kernels", "all-reduces", "MB", "bound by", *(f"{n:,}" for n in DEVICES)]]
    for row in rows:
        scaling = [f"{line['weak']:.0%}, {percent(line['strong'])}" for line in row["devices"]]
        lines.append(
            [
                row["program"],
                row["machine"],
                str(row["kernels"]),
                str(row["all_reduces"]),
                f"{row['reduced'] / 1e6:.1f}",
                row["devices"][0]["bound by"],
                *scaling,
            ]
        )
    return markdown_table(lines)


def percent(share: float | None) -> str:
    """A share in percent; `-` where the batch has fewer examples than there are devices."""
    return "-" if share is None else f"{share:.0%}"


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    jax.config.update("jax_platforms", "cpu")
    compiled, rows = read()["programs"], []
    for name in PROGRAMS:
        if not any(machine.target in compiled.get(name, {}) for machine in MACHINES):
            continue
        experiment = EXPERIMENTS[name](1)
        count, examples = operations(experiment), experiment.source.batch_size
        for machine in MACHINES:
            if stored := compiled.get(name, {}).get(machine.target):
                precision = "bfloat16" if name in ("dcgan_bfloat16", "r3gan") else "float32"
                reduced = stored["bytes all-reduced"]
                found = Round(count, stored["kernels"], stored["all-reduces"], reduced, precision, examples)
                about = {"program": name, "machine": machine.name, **dataclasses.asdict(found)}
                rows.append({**about, "devices": predicted(found, machine)})
    machines = [dataclasses.asdict(machine) for machine in MACHINES]
    content = {"command": "python -m benchmarks.traffic", "utilisation": UTILISATION, "machines": machines}
    (RESULTS / "traffic.json").write_text(json.dumps({**content, "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
