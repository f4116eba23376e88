"""Where the scripts of this folder leave what they have found: `tests/stress/results/<name>.json`, part by part."""

import json
import os
import pathlib
import platform

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def record(name, part, found, command):
    """Puts `found` in its part of the file, beside those of other calls."""
    path = RESULTS / f"{name}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    machine = {"system": platform.system(), "processors": os.cpu_count()}
    load = {"other load and own, processes at a time": round(os.getloadavg()[0], 1)}
    parts = known.get("parts", {}) | {part: {**found, **load}}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"command": command, "machine": machine, "parts": parts}, indent=1) + "\n")
