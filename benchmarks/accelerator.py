"""Everything that only a card can say, in a few minutes: run this once where a GPU or TPU is at hand.

    python -m benchmarks.accelerator_stages reference          # beforehand, on a CPU; carry the file along
    python -m benchmarks.accelerator --minutes 8 --out DIR
    python -m benchmarks.accelerator --stages rates,seeds      # again, only what changed

On a CPU in small, to see beforehand that nothing fails; the stage `parity` needs a reference of the same size:

    python -m benchmarks.accelerator_stages reference --small --folder DIR
    python -m benchmarks.accelerator --small --reference DIR --out DIR

Each stage is a process with a limit of its own. `accelerator-<card>.json` is written after each, with the card, the
driver, versions and flags, what each stage found beside its bar, and which stages were left out and why. Beside the
package's own dependencies the stages `torch` (a DCGAN, R3GAN and StyleGAN2 in float32 and bfloat16) and `inception`
(features of 10,000 images) need PyTorch to compare with.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.harness import RESULTS

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMITS = {
    "memory": 40,
    "parity": 90,
    "determinism": 90,
    "rates": 130,
    "torch": 300,
    "hand_written": 60,
    "toys": 60,
    "seeds": 50,
    "streamed": 50,
    "inception": 100,
}
"""The stages in their order, with the seconds that each may take."""
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Of stages whose card is used by several processes."""
ENVIRONMENTS = {"reference": {"JAX_PLATFORMS": "cpu"}, "torch": SHARED, "inception": SHARED}
"""The variables of a stage's environment."""


class Ended(NamedTuple):
    """How a command ended: its status, `None` if it was cut off, and what it wrote."""

    status: int | None
    output: str
    errors: str


def finished(command: Sequence[str], *, seconds: float, **environment: str) -> Ended:
    """Runs a command for at most so many seconds, and ends it with all processes that it started."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Ended(None, *process.communicate())
    return Ended(process.returncode, output, errors)


def run_stage(name: str, *, seconds: float, small: bool, folder: pathlib.Path) -> dict[str, Any]:
    """Runs a stage in a process of its own.

    Returns:
      What it printed last, with `seconds`; with `failed`, why it gave nothing, or not everything.
    """
    command = [sys.executable, "-m", "benchmarks.accelerator_stages", name, f"--folder={folder}"]
    began = time.monotonic()
    ended = finished(
        [*command, *(["--small"] if small else [])], seconds=seconds, **ENVIRONMENTS.get(name, {})
    )
    took = {"seconds": round(time.monotonic() - began, 1)}
    found = last_printed(ended.output)
    if ended.status is None:
        return {**found, "failed": f"it took more than {seconds:.0f} s"}
    if ended.status:
        return {
            **found,
            "failed": (ended.errors.strip().splitlines() or ["it printed nothing"])[-1][:500],
            **took,
        }
    return {**found, **took}


def last_printed(output: str) -> dict[str, Any]:
    """The last line that is a JSON object.

    >>> last_printed('noise' + chr(10) + '{"ratio": 2}' + chr(10) + '{"rat'), last_printed("")
    ({'ratio': 2}, {})
    """
    for line in reversed(output.splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            if isinstance(found := json.loads(line), dict):
                return found
    return {}


def file_of(card: dict[str, Any], small: bool) -> str:
    """The name of the results' file.

    >>> file_of({"kind": "NVIDIA H100 80GB HBM3"}, small=False)
    'accelerator-nvidia-h100-80gb-hbm3.json'
    """
    name = re.sub(r"[^a-z0-9]+", "-", str(card.get("kind", "unknown")).lower()).strip("-")
    return f"accelerator-{name}{'-small' if small else ''}.json"


def main() -> None:
    """Runs the stages that are asked for and that the time allows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", default=",".join(LIMITS), help="with commas between them; all by default")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything (default: 8)")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=RESULTS,
        help="the folder of the results (default: benchmarks/results)",
    )
    parser.add_argument(
        "--reference",
        type=pathlib.Path,
        default=ROOT,
        help="the folder of the CPU's values (default: the repository)",
    )
    parser.add_argument("--small", action="store_true", help="tiny games, on any machine")
    flags = parser.parse_args()
    wanted = flags.stages.split(",")
    if unknown := set(wanted) - LIMITS.keys():
        parser.error(f"--stages takes some of {', '.join(LIMITS)}; got {', '.join(sorted(unknown))}")
    until = time.monotonic() + 60 * flags.minutes
    card = run_stage("card", seconds=120, small=flags.small, folder=flags.reference)
    if "failed" in card:
        sys.exit(f"No card can be described: {card['failed']}")
    flags.out.mkdir(parents=True, exist_ok=True)
    path = flags.out / file_of(card, flags.small)
    stages: dict[str, Any] = json.loads(path.read_text())["stages"] if path.is_file() else {}
    failed = []
    for name in wanted:
        left = until - time.monotonic()
        if left < 5:
            stages[name] = {"skipped": f"no time was left of {flags.minutes:g} minutes"}
        else:
            limit = min(left, LIMITS[name] * (10 if flags.small else 1))
            stages[name] = run_stage(name, seconds=limit, small=flags.small, folder=flags.reference)
        failed += [name] if "failed" in stages[name] else []
        command = f"python -m benchmarks.accelerator --minutes {flags.minutes:g}"
        path.write_text(json.dumps({"command": command, "card": card, "stages": stages}, indent=1) + "\n")
        print(f"{name}: {json.dumps(stages[name])}", flush=True)
    sys.exit(f"Failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
