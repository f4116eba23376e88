"""Everything that only a card can say, in a few minutes: run this once where a GPU or TPU is at hand.

    python -m benchmarks.accelerator_stages reference          # beforehand, on a CPU; carry the file along
    python -m benchmarks.accelerator --minutes 8 --out DIR
    python -m benchmarks.accelerator --stages rates,seeds      # again, only what changed
    python -m benchmarks.accelerator --small                   # on a CPU in small, to see that nothing fails first

Each stage is a process with a limit of its own. `accelerator-<card>.json` is written after each, with the card, the
driver, versions and flags, what each stage found beside its bar, and which stages were left out and why. Beside the
package's own dependencies the stage `torch` needs PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from typing import Any

from benchmarks.harness import RESULTS

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMITS = {
    "memory": 40,
    "parity": 90,
    "determinism": 90,
    "rates": 130,
    "torch": 130,
    "hand_written": 60,
    "toys": 60,
    "seeds": 50,
    "streamed": 50,
    "inception": 60,
}
"""The stages in their order, with the seconds that each may take."""


def run_stage(name: str, *, seconds: float, small: bool, folder: pathlib.Path) -> dict[str, Any]:
    """Runs a stage in a process of its own.

    Returns:
      What it printed, with `seconds`; or with `failed`, why it gave nothing.
    """
    command = [sys.executable, "-m", "benchmarks.accelerator_stages", name, f"--folder={folder}"]
    platform = {"JAX_PLATFORMS": "cpu"} if name == "reference" else {}
    began = time.monotonic()
    try:
        done = subprocess.run(
            [*command, *(["--small"] if small else [])],
            cwd=ROOT,
            env={**os.environ, **platform},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"it took more than {seconds:.0f} s"}
    took = {"seconds": round(time.monotonic() - began, 1)}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["it printed nothing"])[-1][:500], **took}
    return {**json.loads(done.stdout.strip().splitlines()[-1]), **took}


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
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="the folder of the results")
    parser.add_argument("--reference", type=pathlib.Path, default=ROOT, help="the folder of the CPU's values")
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
