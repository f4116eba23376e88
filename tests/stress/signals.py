"""How soon the digits run stops when it is told to, and how soon it goes on when it is launched again.

    python -m tests.stress.signals --times=5

The default experiment is sent SIGTERM in the middle of training: seconds until the process has saved and ended. It
is launched again with its compiled programs kept: seconds from the launch to the first new line of the log, one
every ten rounds. Bars: 2 s and 6 s.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from tests.stress.kills import without_cache
from tests.stress.record import record
from tests.stress.soak import last_round

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def start(workdir, cache):
    return subprocess.Popen(
        [
            sys.executable,
            "launch.py",
            "--config.rounds=1000000",
            "--config.log_every=10",
            f"--workdir={workdir}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=without_cache(os.environ) | {"XDG_CACHE_HOME": str(cache)},
        cwd=ROOT,
    )


def wait_for_round(process, workdir, step):
    """Seconds until the log has a round after `step`."""
    began = time.monotonic()
    while last_round(workdir / "metrics.jsonl") <= step:
        if process.poll() is not None:
            raise SystemExit(process.communicate()[0])
        time.sleep(0.005)
    return time.monotonic() - began


def stop(process, number=signal.SIGTERM):
    """Seconds until a process that was sent a signal has ended."""
    process.send_signal(number)
    began = time.monotonic()
    said = process.communicate(timeout=60)[0]
    if process.returncode or "Go on with" not in said or "stopping after this dispatch" not in said:
        raise SystemExit(said)
    return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    rng, stopped, resumed = random.Random(0), [], []
    with tempfile.TemporaryDirectory() as folder:
        workdir, cache = pathlib.Path(folder) / "run", pathlib.Path(folder) / "cache"
        process = start(workdir, cache)
        wait_for_round(process, workdir, 0)
        for _ in range(given.times):
            time.sleep(rng.uniform(1, 3))
            stopped.append(round(stop(process), 2))
            before = last_round(workdir / "metrics.jsonl")
            process = start(workdir, cache)
            resumed.append(round(wait_for_round(process, workdir, before), 2))
        stop(process)
    found = {"SIGTERM to the end, s": stopped, "launch to the first new round, s": resumed}
    print(json.dumps(found, indent=1))
    record("signals", "digits", found, "python -m tests.stress.signals")
    if statistics.median(stopped) > 2 or statistics.median(resumed) > 6:
        raise SystemExit("Too slow.")


if __name__ == "__main__":
    main()
