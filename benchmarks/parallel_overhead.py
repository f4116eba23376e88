"""What dividing a batch over devices costs as extra work: processor time of eight simulated devices against one's.

    python -m benchmarks.parallel_overhead            # about five minutes; A B A B, medians

The DCGAN of 32 x 32 (width 64, -log D, one critic turn) plays the same global batch on one device and on eight,
each side in a process of its own on the same cores. Processor seconds of all threads are compared, not time: what
simulated devices wait for one another costs nothing here. Bar: 1.25.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

from benchmarks import harness

BAR = 1.25
WORKER = """
import json, sys, time
import jax
import numpy as np
import jax.numpy as jnp
import optax
from gan_jax import DCGANCritic, DCGANGenerator, Game, Player, alternating, from_linen, gaussian, non_saturating
from gan_jax.data import from_arrays
from gan_jax.training.rollout import stack_rounds
from gan_jax.distributed.layout import make_layout
from gan_jax.training.step import init_state

batch, rounds = int(sys.argv[1]), int(sys.argv[2])
networks = {
    "critic": from_linen(DCGANCritic(), jnp.zeros((2, 32, 32, 3))),
    "generator": from_linen(DCGANGenerator(), jnp.zeros((2, 128))),
}
game = Game(
    players={name: Player(network, optax.adam(2e-4, b1=0.5)) for name, network in networks.items()},
    objective=non_saturating(gaussian(128)),
    schedule=alternating(1),
)
images = np.random.default_rng(0).integers(0, 256, (2 * batch, 32, 32, 3), dtype=np.uint8)
source = from_arrays({"x": images}, batch)
layout = make_layout("jit")
run = layout.compile(game, source)
state = layout.begin(lambda key: init_state(game, key), jax.random.key(0))
device_data = layout.place(source.device_data)
host_batches = stack_rounds(source, 0, 2, rounds, rounds)

def play(state, rounds):
    state, metrics = run(state, device_data, host_batches, rounds)
    jax.block_until_ready((state, metrics))
    return state

state = play(state, 1)
print("ready", flush=True)
for line in sys.stdin:
    before = time.process_time()
    state = play(state, rounds)
    print((time.process_time() - before) / rounds, flush=True)
"""


class Worker:
    """A process that plays on so many devices and tells the processor seconds of a round."""

    def __init__(self, devices: int, batch: int, rounds: int):
        flags = f"--xla_force_host_platform_device_count={devices}"
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(batch), str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=harness.ROOT,
            env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        )
        self._said()

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise SystemExit("A worker ended; its error is above.")
        return line

    def seconds(self) -> float:
        """Plays once more."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return float(self._said())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="of a repetition")
    parser.add_argument("--no-save", action="store_true", help="write no JSON to benchmarks/results")
    flags = parser.parse_args()
    single, eight = (Worker(devices, flags.batch, flags.rounds) for devices in (1, 8))
    seconds: list[tuple[float, float]] = []
    for pair in range(flags.pairs + 1):
        if pair % 2:
            b, a = eight.seconds(), single.seconds()
        else:
            a, b = single.seconds(), eight.seconds()
        seconds.append((a, b))
    single.close()
    eight.close()
    ratios = [b / a for a, b in seconds[1:]]  # the first pair warms up
    result = {
        "processor seconds a round on one device": statistics.median(a for a, _ in seconds[1:]),
        "on eight": statistics.median(b for _, b in seconds[1:]),
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "pairs": flags.pairs,
        "bar": BAR,
    }
    print(json.dumps(result, indent=1))
    harness.save(flags, "parallel_overhead", result)


if __name__ == "__main__":
    main()
