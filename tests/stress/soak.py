"""Trains long, with evaluation, pictures and checkpoints on, and watches memory, pace and disk.

    python -m tests.stress.soak --rounds=200000

Fails where memory at the end is more than 3 % above that after warming up, where rounds take more than 10 % more
processor time against a yardstick (what else runs on the machine makes both longer), or where the directory holds
more checkpoints or pictures than it is to keep.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from gan_jax.training.experiment import Experiment
from tests.stress.record import record

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WARM = 0.1
GRID = np.ones((64, 64), np.float32)
KEPT, PICTURES = Experiment.keep, Experiment.keep_pictures


def resident_memory(process):
    """Bytes of a process's resident memory."""
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    return 0


def processor_seconds(process):
    """Seconds of processor time that a process has taken: pace by them is no matter of what else runs."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def yardstick():
    """Processor seconds of the same little work, which other load on the same cores makes longer too."""
    began = time.process_time()
    total = 0
    for number in range(100_000):
        total += number
    for _ in range(50):
        GRID @ GRID
    return time.process_time() - began


def last_round(metrics):
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - 8192))
            lines = [line for line in file.read().split(b"\n") if line.startswith(b'{"step"')]
        return json.loads(lines[-1])["step"]
    except (OSError, ValueError, IndexError):
        return 0


def disk(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def soak(workdir, rounds, arguments=()):
    """Runs the ring and samples it; `[(round, bytes, processor seconds, the yardstick's)]`.

    400 logs, 200 evaluations and checkpoints, 1,000 pictures.
    """
    command = [sys.executable, "launch.py", "--config=experiments/ring.py", f"--workdir={workdir}"]
    cadences = {"log": 400, "checkpoint": 200, "evaluate": 200, "sample": 2 * PICTURES}
    process = subprocess.Popen(
        [
            *command,
            f"--config.rounds={rounds}",
            *(f"--config.{name}_every={max(1, rounds // count)}" for name, count in cadences.items()),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    said = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout))
    reader.start()
    seen = []
    while process.poll() is None:
        time.sleep(0.5)
        try:
            step = last_round(workdir / "metrics.jsonl")
            if step and (not seen or step > seen[-1][0]):
                seen.append((step, resident_memory(process), processor_seconds(process), yardstick()))
        except OSError:
            break
    process.wait()
    reader.join()
    if process.returncode:
        raise SystemExit("".join(said))
    return seen


def part(seen, low, high, rounds):
    return [s for s in seen if low * rounds <= s[0] <= high * rounds]


def pace(samples):
    """Processor seconds a round over some samples."""
    return (samples[-1][2] - samples[0][2]) / (samples[-1][0] - samples[0][0])


def pace_by_yardstick(samples):
    """The same, in yardsticks of the time."""
    return pace(samples) / statistics.mean(s[3] for s in samples)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=512)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        began = time.monotonic()
        seen = soak(workdir, given.rounds, [f"--config.batch_size={given.batch}"])
        seconds = time.monotonic() - began
        early, late = (part(seen, *of, given.rounds) for of in ((WARM, 2 * WARM), (1 - WARM, 1)))
        warm, end = (statistics.median(s[1] for s in of) for of in (early, late))
        found = {
            "rounds": given.rounds,
            "batch": given.batch,
            "seconds": round(seconds),
            "memory after warming up, MiB": round(warm / 2**20, 1),
            "memory growth": round(end / warm - 1, 4),
            "processor ms a round after warming up": round(1e3 * pace(early), 4),
            "growth of processor time a round": round(pace(late) / pace(early) - 1, 4),
            "the same against a yardstick": round(pace_by_yardstick(late) / pace_by_yardstick(early) - 1, 4),
            "checkpoints kept": len(list((workdir / "checkpoints").iterdir())),
            "pictures kept": len(list((workdir / "samples").iterdir())),
            "MiB on disk": {
                path.name: round(disk(path) / 2**20, 2)
                if path.is_dir()
                else round(path.stat().st_size / 2**20, 2)
                for path in sorted(workdir.iterdir())
            },
        }
    print(json.dumps(found, indent=1))
    record("soak", f"{given.rounds} rounds", found, "python -m tests.stress.soak")
    if found["memory growth"] > 0.03 or found["the same against a yardstick"] > 0.1:
        raise SystemExit("The run grew or slowed down.")
    if found["checkpoints kept"] > KEPT or found["pictures kept"] > PICTURES:
        raise SystemExit("The run kept too much.")


if __name__ == "__main__":
    main()
