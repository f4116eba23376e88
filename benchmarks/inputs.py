"""What feeding data costs: runs against the same runs on one constant batch, and how soon images are on the device.

    python -m benchmarks.inputs                      # 20 pairs each, about ten minutes on a quiet machine
    python -m benchmarks.inputs --only digits load --no-save

`digits` is the default experiment, `images` a DCGAN of width 16 on 60,000 grey images on the device, `stream` the
same with the images left on disk. The bar is 1 / 1.05 of the constant batch's rate. `load` times 60,000 images of
`tfds:fashion_mnist` to the device in processes of their own, with an empty cache (bar: 15 s) and from the cache
(1 s); it is left out if that data set is not available.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks import harness
from experiments import digits, images
from gan_jax.data import DataError, load, open_source
from gan_jax.data.source import Source
from gan_jax.distributed.layout import make_layout
from gan_jax.game import Game
from gan_jax.schedule import fresh_turns
from gan_jax.tables import text_table
from gan_jax.training.rollout import stack_rounds
from gan_jax.training.step import init_state

BAR = 1 / 1.05
EXAMPLES = 60_000
FIRST_BAR, CACHED_BAR = 15.0, 1.0
CASES = ("digits", "images", "stream", "load")
LOAD = """
import time
import jax
from gan_jax.data import load
jax.block_until_ready(jax.device_put(0))
began = time.perf_counter()
arrays = load("tfds:fashion_mnist")
jax.block_until_ready(jax.device_put(arrays["x"]))
assert arrays["x"].shape == (60000, 28, 28, 1)
print(time.perf_counter() - began)
"""


def constant(source: Source) -> Source:
    """The source's first batch, again and again, ready on the device."""
    host_batch = jax.tree.map(lambda x: x[0], source.host_batches(0, 1))
    batch = jax.jit(source.get_batch)(source.device_data, host_batch)
    return Source(
        host_batches=lambda cursor, count: np.zeros(count, np.int32),
        get_batch=lambda device_data, host_batch: device_data,
        device_data=batch,
        batch_size=source.batch_size,
    )


def player(game: Game, source: Source, most: int) -> Callable[[int], Mapping[str, Any]]:
    """Plays as the launcher does: a compiled dispatch of `most` rounds after the other, metrics fetched."""
    layout = make_layout("jit")
    run, device_data = layout.compile(game, source), layout.place(source.device_data)
    turns = fresh_turns(game.schedule)
    held = [layout.place(init_state(game, jax.random.key(0)))]

    def play(rounds: int) -> Mapping[str, Any]:
        for start in range(0, rounds, most):
            n = min(most, rounds - start)
            host_batches = stack_rounds(source, int(held[0].cursor), turns, n, most)
            held[0], history = run(held[0], device_data, host_batches, n)
            losses = {name: np.asarray(values)[n - 1] for name, values in history.items()}
        return {"loss": float(losses["critic/loss"])}

    return play


def game_and_source(case: str, folder: pathlib.Path) -> tuple[Game, Source, int]:
    """A case's game, its data, and how many rounds a dispatch has."""
    if case == "digits":
        experiment = digits.build(digits.get_config())
        return experiment.game, experiment.source, 100
    noise = np.random.default_rng(0).integers(256, size=(EXAMPLES, 28, 28, 1), dtype=np.uint8)
    np.save(folder / "images.npy", noise)
    config = images.get_config()
    data = str(folder / "images.npy")
    config.update({"data": data, "objective": "non_saturating", "width": 16, "batch_size": 64})
    experiment = images.build(config)
    if case == "images":
        return experiment.game, experiment.source, 25
    streamed = open_source(config.data, config.batch_size, resident_limit=0)
    return experiment.game, streamed, 25


def compare(case: str, plan: harness.Plan) -> harness.Comparison:
    """A case against its constant batch."""
    with tempfile.TemporaryDirectory() as folder:
        game, source, most = game_and_source(case, pathlib.Path(folder))
        try:
            return harness.compare(
                harness.InProcess(case, player(game, source, most)),
                harness.InProcess("constant batch", player(game, constant(source), most)),
                plan,
            )
        finally:
            source.close()


def seconds_to_load(cache: str) -> float:
    """Seconds from the call of `load` to the images on the device, in a new process."""
    environment = {**os.environ, "GAN_JAX_CACHE": cache}
    done = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, cwd=harness.ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise harness.BenchmarkError(done.stderr)
    return float(done.stdout)


def measure_load() -> dict[str, Any] | None:
    """Three times with an empty cache and three times from it, medians; `None` without the data set."""
    try:
        load("tfds:fashion_mnist@test")
    except DataError as error:
        print(f"load: left out: {error}", file=sys.stderr)
        return None
    first, cached = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            first.append(seconds_to_load(cache))
            cached.append(seconds_to_load(cache))
    seconds = {"first": statistics.median(first), "cached": statistics.median(cached)}
    for name, bar in (("first", FIRST_BAR), ("cached", CACHED_BAR)):
        print(f"load, {name}: {seconds[name]:.2f} s, bar {bar} {'met' if seconds[name] <= bar else 'MISSED'}")
    return {**seconds, "first_bar": FIRST_BAR, "cached_bar": CACHED_BAR}


def main() -> None:
    """Runs the comparisons and prints their table."""
    parser = harness.arguments(__doc__, seconds=1.0, warm_up=3.0, pairs=20)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    flags = parser.parse_args()
    rows, results = [["case", "rounds/s", "constant batch", "ratio", "pairs", "bar"]], {}
    for case in CASES[:-1]:
        if case not in flags.only:
            continue
        result = compare(case, harness.plan_of(flags))
        rates = [f"{rate:.4g}" for rate in result.rates]
        rows.append(
            [
                case,
                *rates,
                str(result.ratio),
                harness.pairs_cell(result),
                harness.verdict(result, round(BAR, 3)),
            ]
        )
        results[case] = {**result.to_json(), "bar": round(BAR, 3)}
        print(f"{case}: {result.ratio}", file=sys.stderr, flush=True)
    if len(rows) > 1:
        print(text_table(rows))
    loaded = measure_load() if "load" in flags.only else None
    harness.save(flags, "inputs", {"cases": results, "load": loaded})


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    harness.run(main)
