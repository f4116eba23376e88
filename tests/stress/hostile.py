"""Opens work directories that somebody has prepared: nothing outside is touched, no code of theirs is run, and the
terminal is sent nothing but text.

    python -m tests.stress.hostile --times=40

Each is a good run with a few of: links for parts, steps, files of steps and temporary names; code beside the
configuration, or that a value of it names; escape sequences in names and values; values of other types; pipes for
files. It is launched in every mode, also where its files can be imported: it ends by itself, with 0 or one line.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

from tests.stress.record import record

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MODES = (
    ("train",),
    ("sample", "--num_samples=8"),
    ("sample", "--sample_seeds=0-3"),
    ("describe",),
    ("replay",),
    ("evaluate", "--num_samples=8"),
    ("interpolate",),
    ("export",),
)
TINY = ("--config.rounds=4", "--config.batch_size=8", "--config.latent=2", "--config.checkpoint_every=2")
RUNS = {
    "ring": ("--config=ring", *TINY),
    "images": (
        "--config=images",
        *TINY,
        "--config.data=digits",
        "--config.network=dcgan",
        "--config.width=4",
        "--config.sample_every=4",
    ),
}
VALUES = (
    "\x1b]0;owned\x07",
    "\x1b[2J\u202e",
    [],
    {},
    -1,
    2**40,
    True,
    None,
    0.5,
    "~nobody-of-this-name/x",
    ["a"],
)


def launch(*arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / "launch.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(cwd)])}
    return subprocess.run(command, capture_output=True, cwd=cwd, timeout=300, env=environment, check=False)


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def replaced(path, make):
    """Something else where a file or a folder lies, or nothing does."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)


def link_part(rng, run, outside):
    part = rng.choice(
        ["checkpoints", "samples", "tensorboard", "profile", "metrics.jsonl", "config.json", ".lock"]
    )
    replaced(run / part, lambda path: path.symlink_to(outside / part))


def link_step(rng, run, outside):
    step = rng.choice(["2", "4", "9", "2/manifest.json", "4/state", "4/amendment.json"])
    replaced(run / "checkpoints" / step, lambda path: path.symlink_to(outside / "checkpoints" / step))


def link_output(rng, run, outside):
    """Links where a mode writes what it makes."""
    for name in ("sampled", "walks_spherical", "exported_safetensors"):
        for path in (run / f"{name}_{step:08d}" for step in (2, 4)):
            path.symlink_to(outside / rng.choice(["checkpoints", "samples"]), target_is_directory=True)


def link_temporary(rng, run, outside):
    name = rng.choice(["config.json", "evaluation.json", "replay.jsonl"])
    for pid in range(1, 400):
        (run / f".{name}.{pid}.tmp").symlink_to(outside / "config.json")


def pipe(rng, run, outside):
    name = rng.choice(["config.json", "metrics.jsonl", "checkpoints/4/manifest.json"])
    replaced(run / name, os.mkfifo)


def edit(rng, run, change):
    try:
        saved = json.loads((run / "config.json").read_text()) if (run / "config.json").is_file() else None
    except ValueError:
        return
    if isinstance(saved, dict) and not (run / "config.json").is_symlink():
        change(saved)
        (run / "config.json").write_text(json.dumps(saved))


def other_value(rng, run, outside):
    def change(saved):
        fields = saved if rng.random() < 0.3 else saved.get("config")
        if isinstance(fields, dict) and fields:
            fields[rng.choice(sorted(fields))] = rng.choice(VALUES)

    edit(rng, run, change)


def code(rng, run, outside):
    evil = run / "evil.py"
    evil.write_text(
        f"import pathlib\npathlib.Path({str(outside / 'ran')!r}).touch()\n"
        "from experiments.ring import get_config, build\n"
    )
    name = rng.choice([str(evil), "evil.py", "./evil.py", "experiments/../evil.py", "evil\x1b[2J.py"])
    edit(rng, run, lambda saved: saved.update(experiment=name))


def function(rng, run, outside):
    """A function beside the configuration, which a value of this names: of a critic of images its features."""
    (run / "evil.py").write_text(f"import pathlib\npathlib.Path({str(outside / 'ran')!r}).touch()\nf = abs\n")

    def change(saved):
        fields = saved.get("config")
        if isinstance(fields, dict):
            texts = [name for name, value in fields.items() if isinstance(value, str)]
            name = "critic_features" if "critic_features" in fields else rng.choice(sorted(texts) or ["data"])
            fields[name] = "function:evil.f"

    edit(rng, run, change)


KINDS = (link_part, link_step, link_output, link_temporary, pipe, other_value, other_value, code, function)


def attack(good, folder, rng):
    """One prepared work directory and one launch.

    Raises:
      AssertionError: if it had an effect.
    """
    run, outside = folder / "run\x1b[2J", folder / "outside"
    shutil.copytree(good, run)
    shutil.copytree(good, outside)
    kinds = rng.sample(KINDS, rng.randint(1, 3))
    for kind in kinds:
        kind(rng, run, outside)
    before, mode = content(outside), rng.choice(MODES)
    done = launch(f"--mode={mode[0]}", *mode[1:], f"--workdir={run}", cwd=rng.choice([ROOT, run]))
    tried = f"{[kind.__name__ for kind in kinds]}, {' '.join(mode)}"
    what = f"{tried}: {done.returncode}, {done.stderr.decode()[-600:]}"
    assert content(outside) == before, what
    assert done.returncode in (0, 2), what
    assert b"Traceback" not in done.stderr, what
    assert not {b"\x1b", b"\x07"} & {bytes([byte]) for byte in done.stdout + done.stderr}, what
    return done.returncode


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, refused = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        for name, options in RUNS.items():
            first = launch(*options, f"--workdir={pathlib.Path(folder) / name}")
            assert first.returncode == 0, first.stderr.decode()
        for number in range(given.times):
            place = pathlib.Path(folder) / str(number)
            place.mkdir()
            good = pathlib.Path(folder) / rng.choice([*RUNS])
            refused += attack(good, place, rng) != 0
            shutil.rmtree(place)
    found = {"work directories": given.times, "refused in a line": refused, "with an effect": 0}
    print(json.dumps(found))
    record("hostile", "work directories", found, "python -m tests.stress.hostile")


if __name__ == "__main__":
    main()
