"""Kills a run at random moments, launches it again, and compares it with one that was left alone, bit for bit.

python -m tests.stress.kills                                # eight variants, seven kills each
python -m tests.stress.kills --kills=50 --variant="four seeds"
"""

import argparse
import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import jax
import numpy as np

from gan_jax.runs.checkpoint import Checkpoints, CheckpointWarning
from gan_jax.runs.metrics_log import read_metrics
from gan_jax.runs.opening import initial
from gan_jax.runs.workdir import Workdir
from tests.stress import experiment as stress
from tests.stress.record import record

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXPERIMENT = "tests/stress/experiment.py"


@dataclasses.dataclass(frozen=True)
class Variant:
    """How the run lies and where its data are."""

    devices: int = 1
    stream: bool = False
    seeds: int = 1

    def arguments(self):
        return (f"--config.stream={self.stream}", f"--config.seeds={self.seeds}")


VARIANTS = {
    "one device": Variant(),
    "eight devices": Variant(devices=8),
    "streamed data": Variant(stream=True),
    "eight devices, streamed data": Variant(devices=8, stream=True),
    "four seeds": Variant(seeds=4),
    "four seeds on eight devices": Variant(devices=8, seeds=4),
    "four seeds, streamed data": Variant(seeds=4, stream=True),
    "four seeds on eight devices, streamed data": Variant(devices=8, seeds=4, stream=True),
}


def without_cache(environment):
    """The variables without those that say where compiled programs lie: the launcher's own way holds."""
    cache = "JAX_COMPILATION_CACHE_DIR"
    return {name: value for name, value in environment.items() if name != cache}


def start(variant, workdir, rounds, cache=None):
    """A launch; with a `cache` of its own it compiles what an earlier launch has not."""
    flags = f"--xla_force_host_platform_device_count={variant.devices}"
    environment = {**os.environ, "XLA_FLAGS": flags}
    if cache is not None:
        environment = without_cache(environment) | {"XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "launch.py", f"--config={EXPERIMENT}", f"--workdir={workdir}"]
    return subprocess.Popen(
        [*command, f"--config.rounds={rounds}", *variant.arguments()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def finish(variant, workdir, rounds, cache=None):
    process = start(variant, workdir, rounds, cache)
    out, _ = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"{workdir} ended with {process.returncode}: {out}")
    return out


def state_of(variant, workdir, step):
    config = stress.get_config()
    config.seeds, config.stream = variant.seeds, variant.stream
    built = stress.build(config)
    built = dataclasses.replace(built, extra_sources=(built.source,) * (variant.seeds - 1))
    target = initial(built)[2]
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = checkpoints.restore(target, step, shardings=one).state
    built.source.close()
    return jax.device_get(state._replace(key=jax.random.key_data(state.key)))


def log_of(workdir):
    return [{k: v for k, v in line.items() if k != "time"} for line in read_metrics(Workdir(workdir))]


def kill_at_random(variant, folder, kills, rounds, rng, log=print):
    """Kills `kills` times, in as many runs as that takes; every run ends as the one that was left alone.

    The programs that killed runs compile are kept apart from those of the run left alone: compiling, and the
    writing of the cache, are killed too.

    Returns:
      For each kill: the seconds after the launch, the last round in the log, and the last good checkpoint.

    Raises:
      AssertionError: if a run ends otherwise.
    """
    began = time.monotonic()
    finish(variant, folder / "alone", rounds, folder / "cache of the run left alone")
    seconds = time.monotonic() - began
    expected, lines = state_of(variant, folder / "alone", rounds), log_of(folder / "alone")
    done, run, moments, cache = 0, 0, [], folder / "cache"
    while done < kills:
        workdir, run = folder / f"killed-{run}", run + 1
        while done < kills:
            process, wait = start(variant, workdir, rounds, cache), rng.uniform(0.0, 1.1 * seconds)
            try:
                process.communicate(timeout=wait)
                break  # it came to its end
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                done += 1
                logged = log_of(workdir) if (workdir / "metrics.jsonl").exists() else []
                moments.append(
                    {
                        "seconds": round(wait, 2),
                        "logged": logged[-1]["step"] if logged else None,
                        "checkpoint": Checkpoints(workdir / "checkpoints").latest_valid(),
                    }
                )
                log(f"  kill {done}: {moments[-1]}")
        finish(variant, workdir, rounds, cache)
        found = state_of(variant, workdir, rounds)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)
        assert log_of(workdir) == lines
    return {"seconds alone": round(seconds, 1), "runs": run, "kills": moments}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=7, help="for each variant")
    parser.add_argument("--variant", default="all", choices=["all", *VARIANTS])
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore", CheckpointWarning)  # a save that was cut
    for name in VARIANTS if given.variant == "all" else [given.variant]:
        print(f"{name}: {given.kills} kills", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rng = random.Random(f"{given.seed} {name}")
            found = kill_at_random(VARIANTS[name], pathlib.Path(folder), given.kills, given.rounds, rng)
        record("kills", name, {"rounds": given.rounds, **found}, "python -m tests.stress.kills")
        print(
            f"{name}: every one of {found['runs']} runs ended as the one left alone, bit for bit, its log too."
        )


if __name__ == "__main__":
    main()
