"""The stages of `benchmarks.accelerator`: each is a process that measures one thing and prints a line of JSON.

    python -m benchmarks.accelerator_stages memory --small

`--small` plays tiny games, so that every stage can be tried on a CPU; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import accelerator_torch, harness, objectives
from benchmarks.compiled import EXPERIMENTS, image_experiment, ring_experiment, translation_experiment
from benchmarks.traffic import MACHINES, operations
from gan_jax.data.stream import array_reader, from_reader
from gan_jax.distributed.jit import jit_program
from gan_jax.distributed.layout import make_layout
from gan_jax.distributed.seeds import make_seeds_layout
from gan_jax.field import gradient_field
from gan_jax.game import TurnContext
from gan_jax.precision import matmul_precision
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.opening import initial
from gan_jax.schedule import fresh_turns, turn
from gan_jax.training.experiment import Experiment
from gan_jax.training.rollout import stack_rounds
from gan_jax.types import Tree

ROOT = pathlib.Path(__file__).resolve().parent.parent
REFERENCE = "accelerator_reference.npz"
PARITY_ROUNDS = 10


def tiny(**fields: Any) -> Experiment:
    """Images of 8 x 8, networks 4 wide."""
    given = {"width": 4, "latent": 4, "precision": "float32", **fields}
    return image_experiment(8, given.pop("batch", 8), **given)


class Playing:
    """An experiment on the first device, its data sent: `playing(n)` plays n rounds and waits for them.

    Args:
      experiment: what is played.
      capacity: the most rounds in a dispatch.
      precision: of products, see `Experiment.matmul_precision`.
    """

    def __init__(self, experiment: Experiment, capacity: int = 10, precision: str = "default"):
        self._layout = make_layout("jit", jax.devices()[:1])
        game, source = experiment.game, experiment.source
        self._run = self._layout.compile(game, source)
        make, key, _ = initial(experiment)
        self.state = self._layout.begin(make, key)
        self._data = self._layout.place(source.for_device(source.device_data))
        turns = fresh_turns(game.schedule)
        self._batches = self._layout.send(stack_rounds(source, 0, turns, capacity, capacity))
        self._precision, self.capacity = precision, capacity

    def __call__(self, rounds: int) -> dict[str, float]:
        for start in range(0, rounds, self.capacity):
            count = min(self.capacity, rounds - start)
            with matmul_precision(self._precision):
                self.state, metrics = self._run(self.state, self._data, self._batches, count)
        fetched = jax.device_get(metrics)
        return {name: float(values[count - 1]) for name, values in fetched.items() if name.endswith("/loss")}


def ratio(first: Callable[[int], Any], second: Callable[[int], Any], small: bool) -> dict[str, Any]:
    """Rounds a second of two programs played in turn, A B A B, and the median of the pairs' ratios."""
    plan = harness.Plan(
        pairs=2 if small else 5, seconds=0.05 if small else 2.0, warm_up=0.0 if small else 1.0, tolerance=1.0
    )
    found = harness.compare(harness.InProcess("first", first), harness.InProcess("second", second), plan)
    return {"ratio": found.ratio[0], "rates": list(found.rates)}


def rate(play: Callable[[int], Any], small: bool) -> float:
    """Rounds a second."""
    play(1)
    rounds, until = 1, 0.05 if small else 3.0
    while True:
        began = time.perf_counter()
        play(rounds)
        seconds = time.perf_counter() - began
        if seconds > until:
            return rounds / seconds
        rounds = max(
            2 * rounds, int(1.5 * rounds * until / max(seconds, 1e-6)) if seconds > 0.01 else 2 * rounds
        )


# --- stages -------------------------------------------------------------------------------------------------


def card(small: bool) -> dict[str, Any]:
    """What is measured on."""
    device = jax.devices()[0]
    versions = {}
    for name in ("jax", "jaxlib", "jax-cuda13-plugin", "libtpu", "torch", "numpy", "flax", "optax"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        driver = ""
    return {
        "platform": device.platform,
        "kind": device.device_kind,
        "driver": driver,
        "versions": versions,
        "flags": os.environ.get("XLA_FLAGS", ""),
    }


def memory(small: bool) -> dict[str, Any]:
    """The peak of one DCGAN's rounds against what the compiler says; bar 1.3."""
    experiment = tiny() if small else EXPERIMENTS["dcgan_batch_norm"](1)
    layout = make_layout("jit", jax.devices()[:1])
    playing = Playing(experiment)
    program = jit_program(experiment.game, experiment.source, layout.mesh, experiment.game.schedule)
    with jax.set_mesh(layout.mesh):
        compiled = program.lower(
            playing.state, playing._data, playing._batches.batches, layout.place(np.int32(1))
        ).compile()
    analysis = compiled.memory_analysis()
    expected = (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )
    playing(10)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "analysed": expected,
        "peak": peak,
        "ratio": None if peak is None else peak / expected,
        "at most": 1.3,
    }


def parity_experiments(small: bool) -> dict[str, Experiment]:
    """The games of `parity`, with SGD, whose rounds do not divide by small numbers."""
    made = {
        "ring": ring_experiment(16 if small else 128),
        "wgan_gp": tiny(objective="wgan_gp"),
        "sngan": tiny(network="resnet", objective="hinge", critic_norm="spectral"),
        "pix2pix": translation_experiment(16, 4),
        "r3gan": tiny(network="r3gan", objective="r3gan", widest=8),
    }
    found = {}
    for name, experiment in made.items():
        players = {
            player: dataclasses.replace(part, optimizer=optax.sgd(1e-3), ema=None)
            for player, part in experiment.game.players.items()
        }
        found[name] = dataclasses.replace(
            experiment, game=dataclasses.replace(experiment.game, players=players)
        )
        if small and len(found) == 2:
            break
    return found


def _vector(tree: Tree) -> np.ndarray:
    leaves = [np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def parity_values(
    experiment: Experiment, precision: str, params: Mapping[str, np.ndarray] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Every player's gradient on the first batch, and how ten rounds move its parameters; and the first parameters.

    Args:
      experiment: the game.
      precision: of products.
      params: the first parameters, each player's as a vector; their own by default.
    """
    make, key, _ = initial(experiment)
    state = jax.jit(make)(key)
    if params is not None:
        players = dict(state.players)
        for name, vector in params.items():
            leaves, structure = jax.tree.flatten(players[name].params)
            cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
            parts = [
                jnp.asarray(part.reshape(leaf.shape), leaf.dtype)
                for part, leaf in zip(np.split(vector, cuts), leaves, strict=True)
            ]
            players[name] = players[name]._replace(params=jax.tree.unflatten(structure, parts))
        state = state._replace(players=players)
    first = {name: _vector(player.params) for name, player in state.players.items()}
    source, turns = experiment.source, fresh_turns(experiment.game.schedule)
    host_batch = jax.tree.map(lambda x: x[0], source.host_batches(0, 1))
    found: dict[str, np.ndarray] = {}
    with matmul_precision(precision):
        for name in experiment.game.players:

            def gradient(players: Any, name: str = name) -> Any:
                batch = source.get_batch(source.device_data, host_batch)
                context = TurnContext(experiment.game, players, batch, state.step, jax.random.key(1))
                return gradient_field(turn(name), context)[0][name]

            found[f"gradient/{name}"] = _vector(jax.jit(gradient)(state.players))
        layout = make_layout("jit", jax.devices()[:1])
        run = layout.compile(experiment.game, source)
        batches = stack_rounds(source, 0, turns, PARITY_ROUNDS, PARITY_ROUNDS)
        after, _ = run(
            layout.place(state), layout.place(source.for_device(source.device_data)), batches, PARITY_ROUNDS
        )
    for name, player in after.players.items():
        found[f"rounds/{name}"] = _vector(player.params) - first[name]
    return found, first


def write_reference(path: pathlib.Path, small: bool) -> None:
    """The values of `parity` on a CPU, to be carried to the card."""
    arrays: dict[str, Any] = {}
    for name, experiment in parity_experiments(small).items():
        values, first = parity_values(experiment, "highest")
        arrays |= {f"{name}/values/{key}": value for key, value in values.items()}
        arrays |= {f"{name}/first/{player}": vector for player, vector in first.items()}
    np.savez(path, **arrays)


def parity(small: bool, folder: pathlib.Path) -> dict[str, Any]:
    """Relative distances from a CPU's values; at the highest precision gradients 1e-5 and ten rounds 1e-4.

    Raises:
      FileNotFoundError: if the CPU's values are not in the folder.
    """
    if not (folder / REFERENCE).exists():
        raise FileNotFoundError(
            f"{folder / REFERENCE} is not there: make it on a CPU with `python -m benchmarks.accelerator_stages "
            f"reference{' --small' if small else ''} --folder FOLDER`, and give --reference FOLDER."
        )
    with np.load(folder / REFERENCE, allow_pickle=False) as stored:
        reference = dict(stored)
    found: dict[str, Any] = {"at most": {"gradient": 1e-5, "rounds": 1e-4}}
    for name, experiment in parity_experiments(small).items():
        first = {
            key.rpartition("/")[2]: value
            for key, value in reference.items()
            if key.startswith(f"{name}/first/")
        }
        for precision in ("highest", "high", "default"):
            values, _ = parity_values(experiment, precision, first)
            for kind in ("gradient", "rounds"):
                distances = []
                for key, value in values.items():
                    if key.startswith(kind):
                        expected = reference[f"{name}/values/{key}"]
                        scale = max(float(np.linalg.norm(expected)), 1e-30)
                        distances.append(float(np.linalg.norm(value - expected)) / scale)
                found[f"{name}/{precision}/{kind}"] = max(distances)
    return found


def determinism(small: bool) -> dict[str, Any]:
    """Bits of two launches, of a run stopped by SIGTERM and of a seed among others, by deterministic operations."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    platform = jax.devices()[0].platform
    environment = {**os.environ, **({"XLA_FLAGS": flags} if platform == "gpu" else {})}
    rounds = 6 if small else 400

    def launch(folder: pathlib.Path, *more: str, stop: bool = False) -> str:
        command = [
            sys.executable,
            "launch.py",
            "--config=ring",
            f"--workdir={folder}",
            "--config.checkpoint_every=2",
        ]
        command += [f"--config.rounds={rounds}", "--config.batch_size=16", "--config.sample_every=0", *more]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if stop:
            until = time.monotonic() + 300
            while not list((folder / "checkpoints").glob("*/manifest.json")) and time.monotonic() < until:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=600)
        if code:
            raise RuntimeError(f"{' '.join(command)} ended with status {code}.")
        return digest_of(folder)

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        first, second = launch(folder / "a"), launch(folder / "b")
        launch(folder / "c", stop=True)
        resumed = launch(folder / "c")
        launch(folder / "d", "--config.seeds=2")
        alone, among = digest_of(folder / "a", params=True), digest_of(folder / "d", params=True, seed=0)
    return {"launches": first == second, "resumed": first == resumed, "seed among others": alone == among}


def digest_of(workdir: pathlib.Path, *, params: bool = False, seed: int | None = None) -> str:
    """The sha256 of the newest checkpoint's arrays, or of the players' parameters of one seed among several."""
    digest = hashlib.sha256()
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        step = checkpoints.latest_valid()
        assert step is not None
        names = sorted(checkpoints.manifest(step)["leaves"])
        names = [name for name in names if not params or ".params." in name]
        _, _, arrays = checkpoints.read(names, step)
    for name in names:
        digest.update(np.ascontiguousarray(arrays[name] if seed is None else arrays[name][seed]).tobytes())
    return digest.hexdigest()


def rates(small: bool) -> dict[str, Any]:
    """Rounds a second and the share of the peak: three networks with products by default, high and bfloat16."""
    if small:
        made: dict[str, Callable[..., Experiment]] = {"dcgan": tiny}
    else:
        made = {
            "dcgan 64": functools.partial(image_experiment, 64, 64, width=64),
            "r3gan 32": functools.partial(
                image_experiment, 32, 64, network="r3gan", objective="r3gan", width=64, widest=256
            ),
            "stylegan2 128": functools.partial(
                image_experiment, 128, 32, network="stylegan2", objective="stylegan2", width=32
            ),
            "resnet 128": functools.partial(
                image_experiment,
                128,
                128,
                network="resnet",
                objective="hinge",
                critic_norm="spectral",
                width=64,
            ),
        }
    peaks = next((m.flops for m in MACHINES if m.target.split("-")[0] in _target()), None)
    found: dict[str, Any] = {
        "at least": {"MFU of resnet 128 in bfloat16": 0.15, "bfloat16 against default": 1.5}
    }
    for name, make in made.items():
        count = operations(make(precision="float32"))
        kinds = [("default", "float32"), ("default", "bfloat16")]
        for precision, dtype in [*kinds, ("highest", "float32")] if name.startswith("dcgan") else kinds:
            rounds = rate(Playing(make(precision=dtype), precision=precision), small)
            share = None if peaks is None or precision == "highest" else rounds * count / peaks[dtype]
            found[f"{name}/{dtype}/{precision}"] = {"rounds/s": rounds, "FLOP a round": count, "MFU": share}
    return found


def _target() -> str:
    kind = jax.devices()[0].device_kind.lower()
    return "h100" if "h100" in kind or "h200" in kind else "v5e" if "v5 lite" in kind else kind


def hand_written(small: bool) -> dict[str, Any]:
    """Rounds against those of the same steps written by hand; bar .95."""
    plan = harness.Plan(
        pairs=2 if small else 5, seconds=0.05 if small else 1.5, warm_up=0.0 if small else 1.0, tolerance=1.0
    )
    names = ["wgan_gp"] if small else ["non_saturating", "wgan_gp", "hinge"]
    return {"at least": 0.95, **{name: objectives.compare(name, plan).ratio[0] for name in names}}


def toys(small: bool) -> dict[str, Any]:
    """The ring by rounds a dispatch, and eight seeds against one; the host's share at 100 at most 2 %."""
    made = ring_experiment(8 if small else 512)
    found: dict[str, Any] = {"at least": {"eight seeds against one": 5.0}, "at most": {"host's share": 0.02}}
    for capacity in (1, 10, 100):
        found[f"rounds/s, {capacity} a dispatch"] = rate(Playing(made, capacity), small)
    found["host's share"] = 1 - min(1.0, found["rounds/s, 10 a dispatch"] / found["rounds/s, 100 a dispatch"])
    alone, several = Playing(made, 100), Seeds(made, 8, True)
    found["eight seeds against one"] = 8 * ratio(several, alone, small)["ratio"]
    return found


class Seeds:
    """Several seeds of an experiment on the first device; `seeds(n)` plays n rounds of each."""

    def __init__(self, experiment: Experiment, count: int, side_by_side: bool, capacity: int = 10):
        source = experiment.source
        layout = make_seeds_layout([source] * count, devices=jax.devices()[:1], side_by_side=side_by_side)
        joined = layout.local_source(source)
        make, _, _ = initial(experiment)
        self._run = layout.compile(experiment.game, joined)
        self.state = layout.begin(make, [jax.random.key(seed) for seed in range(count)])
        self._data = layout.place(joined.device_data)
        turns = fresh_turns(experiment.game.schedule)
        self._batches, self.capacity = (
            layout.send(stack_rounds(joined, 0, turns, capacity, capacity)),
            capacity,
        )

    def __call__(self, rounds: int) -> dict[str, float]:
        for start in range(0, rounds, self.capacity):
            count = min(self.capacity, rounds - start)
            self.state, metrics = self._run(self.state, self._data, self._batches, count)
        jax.block_until_ready(metrics)
        return {}


def seeds(small: bool) -> dict[str, Any]:
    """Seeds of a DCGAN side by side against in sequence; above 1 the default for images should change."""
    made = tiny() if small else EXPERIMENTS["dcgan_batch_norm"](1)
    count = 2 if small else 8
    return {"side by side against in turn": ratio(Seeds(made, count, True), Seeds(made, count, False), small)}


def streamed(small: bool) -> dict[str, Any]:
    """Rounds of streamed against resident images of 64 x 64; bar .95."""
    made = tiny() if small else EXPERIMENTS["dcgan_batch_norm"](1)
    size, count = (8, 64) if small else (64, 4096)
    arrays = {"x": np.zeros((count, size, size, 3), np.uint8)}
    if not small:
        made = image_experiment(64, 64, width=64, precision="bfloat16")
    stream = from_reader(array_reader(arrays), count, made.source.batch_size)
    layout = make_layout("jit", jax.devices()[:1])
    turns, capacity = fresh_turns(made.game.schedule), 10
    run, state = layout.compile(made.game, stream), layout.begin(*initial(made)[:2])
    cursor = 0

    def play(rounds: int) -> dict[str, float]:
        nonlocal state, cursor
        ahead = layout.send(stack_rounds(stream, cursor, turns, capacity, capacity))
        for start in range(0, rounds, capacity):
            state, metrics = run(state, (), ahead, min(capacity, rounds - start))
            cursor += turns * capacity
            ahead = layout.send(stack_rounds(stream, cursor, turns, capacity, capacity))
        jax.block_until_ready(metrics)
        return {}

    try:
        return {"at least": 0.95, **ratio(play, Playing(made, capacity), small)}
    finally:
        stream.close()


STAGES: dict[str, Callable[[bool], dict[str, Any]]] = {
    "card": card,
    "memory": memory,
    "determinism": determinism,
    "rates": rates,
    "torch": accelerator_torch.rounds,
    "hand_written": hand_written,
    "toys": toys,
    "seeds": seeds,
    "streamed": streamed,
    "inception": accelerator_torch.inception,
}


def main() -> None:
    """Runs one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=[*STAGES, "parity", "reference"])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path())
    flags = parser.parse_args()
    if flags.stage == "reference":
        write_reference(flags.folder / REFERENCE, flags.small)
        found: dict[str, Any] = {}
    elif flags.stage == "parity":
        found = parity(flags.small, flags.folder)
    else:
        found = STAGES[flags.stage](flags.small)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
