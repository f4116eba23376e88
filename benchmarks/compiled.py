"""The project's programs compiled by the TPU's and the GPU's own compilers, without a TPU or a GPU.

    python -m benchmarks.compiled                    # for what is installed; hours of processor time
    python -m benchmarks.compiled --target v5e-4 --program dcgan --program ring
    python -m benchmarks.compiled --table            # what is stored, in Markdown

Each program is what a run compiles, a rollout at the sizes of a real run, and is read off its text
(`benchmarks/hlo.py`): kernels, convolutions, collectives and their bytes, memory, donated arrays, dtypes. All
results are stored in `benchmarks/results/compiled.json` after every program, each with digests of the code that
made it. What must hold of every program and does not (`broken`) is printed, and ends the command with status 1.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.harness import RESULTS
from benchmarks.hlo import Program, kernels
from benchmarks.targets import TARGETS, TargetError, devices_of
from experiments import images, ring, translation
from experiments.studies.framework.provenance import digest
from gan_jax.distributed.jit import jit_program
from gan_jax.distributed.layout import make_layout
from gan_jax.distributed.mesh import make_mesh
from gan_jax.distributed.pmap import pmap_program
from gan_jax.distributed.seeds import SEED_AXIS, join_sources, seeds_program, stacked
from gan_jax.distributed.transfer import host_batch_spec
from gan_jax.evaluation.sampling import BLOCK, sampler
from gan_jax.metrics.inception import InceptionV3
from gan_jax.runs.opening import initial
from gan_jax.schedule import fresh_turns
from gan_jax.tables import markdown_table
from gan_jax.training.experiment import Experiment
from gan_jax.training.rollout import stack_rounds

EXAMPLES = 50_000
"""The examples that lie on the device."""
ROUNDS = 10
"""The rounds that a dispatch may have."""
SEEDS = 8
STORED = RESULTS / "compiled.json"


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A program before it is compiled, and what is held against its text.

    Attributes:
      lowered: the program, by `jax.stages.Lowered`.
      donated: the number of arrays of the state, all of which are donated; 0 where none is.
      bfloat16: whether its convolutions are to be of bfloat16.
    """

    lowered: Any
    donated: int = 0
    bfloat16: bool = False


def _arrays(size: int, count: int = 1024) -> dict[str, np.ndarray]:
    return {"x": np.zeros((count, size, size, 3), np.uint8), "y": np.arange(count) % 10}


@contextlib.contextmanager
def _data(size: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "images.npz"
        arrays = _arrays(size)
        np.savez(path, x=arrays["x"], y=arrays["y"])
        yield str(path)


def image_experiment(size: int, batch: int, **fields: Any) -> Experiment:
    """An experiment of `experiments/images.py` on images of this size."""
    with _data(size) as path:
        config = images.get_config()
        config.update({"data": path, "objective": "non_saturating", "batch_size": batch, "diagnostics": ""})
        config.update(fields)
        return images.build(config)


def translation_experiment(size: int, batch: int) -> Experiment:
    """Edges to images by pix2pix."""
    with _data(size) as path:
        config = translation.get_config()
        config.update({"data": f"edges:{path}", "batch_size": batch, "diagnostics": "", "width": 64})
        return translation.build(config)


def ring_experiment(batch: int) -> Experiment:
    """WGAN-GP on the ring."""
    config = ring.get_config()
    config.update({"objective": "wgan_gp", "diagnostics": "", "batch_size": batch})
    return ring.build(config)


EXPERIMENTS: dict[str, Callable[[int], Experiment]] = {
    "ring": lambda n: ring_experiment(512 * n),
    "dcgan": lambda n: image_experiment(32, 64 * n, objective="wgan_gp", width=64, precision="float32"),
    "dcgan_batch_norm": lambda n: image_experiment(32, 64 * n, width=64, precision="float32"),
    "dcgan_group_statistics": lambda n: image_experiment(
        32, 64 * n, width=64, precision="float32", batch_norm_groups=n
    ),
    "dcgan_bfloat16": lambda n: image_experiment(32, 64 * n, width=64, precision="bfloat16"),
    "dcgan_8_pixels": lambda n: image_experiment(
        8, 8 * n, objective="wgan_gp", width=8, latent=16, precision="float32"
    ),
    "sngan": lambda n: image_experiment(
        32,
        64 * n,
        network="resnet",
        objective="hinge",
        critic_norm="spectral",
        width=128,
        precision="float32",
    ),
    "pix2pix": lambda n: translation_experiment(64, 16 * n),
    "r3gan": lambda n: image_experiment(
        32, 64 * n, network="r3gan", objective="r3gan", width=64, widest=256, precision="bfloat16"
    ),
    "stylegan2": lambda n: image_experiment(
        64, 16 * n, network="stylegan2", objective="stylegan2", width=32, precision="bfloat16"
    ),
}
"""By name, the experiment for a number of devices."""


def _shaped(tree: Any, shardings: Any) -> Any:
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def _resident(experiment: Experiment, sharding: NamedSharding) -> Any:
    """The shapes of `device_data` with as many examples as a real set has."""
    data = experiment.source.for_device(experiment.source.device_data)

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        leaf = np.asarray(leaf)
        full = (EXAMPLES, *leaf.shape[1:]) if leaf.ndim else ()
        return jax.ShapeDtypeStruct(full, leaf.dtype, sharding=sharding)

    return jax.tree.map(shape, data)


def _host_batches(source: Any, turns: int, sharding_of: Callable[[Any], NamedSharding]) -> Any:
    batches = stack_rounds(source, 0, turns, 1, ROUNDS)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding_of(x)), batches)


def rollout(name: str, devices: Sequence[jax.Device], parallelism: str = "jit") -> Lowered:
    """The rollout of an experiment, its batch growing with the devices."""
    experiment = EXPERIMENTS[name](len(devices))
    layout = make_layout(parallelism, devices)
    mesh, replicated = layout.mesh, layout.replicated
    state = initial(experiment)[2]
    turns = fresh_turns(experiment.game.schedule)
    batches = _host_batches(experiment.source, turns, lambda x: NamedSharding(mesh, host_batch_spec(x, mesh)))
    program = jit_program(experiment.game, experiment.source, mesh, experiment.game.schedule)
    with jax.set_mesh(mesh):
        lowered = program.lower(
            _shaped(state, layout.shardings(state)),
            _resident(experiment, replicated),
            batches,
            jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated),
        )
    return Lowered(lowered, len(jax.tree.leaves(state)), "bfloat16" in name)


def replicas(name: str, devices: Sequence[jax.Device]) -> Lowered:
    """The rollout of an experiment of drawn batches by `pmap`."""
    experiment = EXPERIMENTS[name](len(devices))
    mesh = make_layout("pmap", devices).mesh
    state = initial(experiment)[2]
    turns = fresh_turns(experiment.game.schedule)
    program = pmap_program(experiment.game, experiment.source, mesh, experiment.game.schedule, drawn=True)
    lowered = program.lower(
        jax.ShapeDtypeStruct((len(devices),), jnp.int32),
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state),
        experiment.source.for_device(experiment.source.device_data),
        stack_rounds(experiment.source, 0, turns, 1, ROUNDS),
        jax.ShapeDtypeStruct((), jnp.int32),
    )
    return Lowered(lowered, len(jax.tree.leaves(state)))


def seeds(name: str, devices: Sequence[jax.Device], side_by_side: bool) -> Lowered:
    """The rollout of several seeds of an experiment on one device."""
    experiment = EXPERIMENTS[name](1)
    mesh = make_mesh({SEED_AXIS: 1}, devices[:1])
    source, per_seed = join_sources([experiment.source] * SEEDS)
    over_seeds, replicated = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((SEED_AXIS,), ()))
    make, _, _ = initial(experiment)
    state = jax.eval_shape(lambda: stacked([make(jax.random.key(0))] * SEEDS))
    shardings = type(state)(
        replicated, replicated, *(jax.tree.map(lambda _: over_seeds, part) for part in state[2:])
    )
    batches = _host_batches(source, fresh_turns(experiment.game.schedule), lambda x: over_seeds)
    moved = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            (x.shape[2], *x.shape[:2], *x.shape[3:]), x.dtype, sharding=over_seeds
        ),
        batches,
    )
    program = seeds_program(experiment.game, source, mesh=mesh, per_seed=per_seed, side_by_side=side_by_side)
    lowered = program.lower(
        _shaped(state, shardings),
        _resident(experiment, replicated),
        moved,
        jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated),
    )
    return Lowered(lowered, len(jax.tree.leaves(state)))


def sampling(name: str, devices: Sequence[jax.Device]) -> Lowered:
    """The program that draws samples, a block on each device."""
    experiment = EXPERIMENTS[name](1)
    mesh = make_mesh({"data": len(devices)}, devices)
    replicated, rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    state = initial(experiment)[2].players["generator"]
    draw: Any = sampler(experiment.game, "generator", mesh, jax.random.key_impl(jax.random.key(0)))
    key_data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    assert experiment.game.objective.prior is not None
    prior = experiment.game.objective.prior
    latent = jax.eval_shape(lambda key: prior(key, BLOCK * len(devices)), jax.random.key(0))
    variables = (state.params, state.model_state)
    lowered = draw.lower(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), variables),
        jax.ShapeDtypeStruct(key_data.shape, key_data.dtype, sharding=replicated),
        jax.ShapeDtypeStruct((len(devices),), jnp.int32, sharding=rows),
        (jax.ShapeDtypeStruct(latent.shape, latent.dtype, sharding=rows),),
    )
    return Lowered(lowered)


def inception(devices: Sequence[jax.Device]) -> Lowered:
    """The Inception network of FID on 256 images, over the devices."""
    mesh = make_mesh({"data": len(devices)}, devices)
    replicated, rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    network = InceptionV3()
    shapes: Any = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 299, 299, 3)))
    params = shapes["params"]
    x = jax.ShapeDtypeStruct((256, 299, 299, 3), jnp.float32, sharding=rows)
    placed = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=replicated), params)

    def run(params: Any, x: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            made: Any = network.apply({"params": params}, x)
            return made["features"]

    return Lowered(jax.jit(run).lower(placed, x))


PROGRAMS: dict[str, Callable[[Sequence[jax.Device]], Lowered]] = {
    **{name: functools.partial(rollout, name) for name in EXPERIMENTS},
    "sngan_fsdp": functools.partial(rollout, "sngan", parallelism="fsdp"),
    "ring_pmap": functools.partial(replicas, "ring"),
    "ring_seeds": functools.partial(seeds, "ring", side_by_side=True),
    "dcgan_seeds_in_turn": functools.partial(seeds, "dcgan_batch_norm", side_by_side=False),
    "dcgan_seeds_side_by_side": functools.partial(seeds, "dcgan_batch_norm", side_by_side=True),
    "dcgan_sampling": functools.partial(sampling, "dcgan_batch_norm"),
    "inception": inception,
}


def modules_of(name: str) -> tuple[str, ...]:
    """The modules that make a program: its experiment, and what compiles it.

    >>> modules_of("ring_pmap"), modules_of("inception")
    (('experiments.ring', 'gan_jax.distributed.pmap'), ('gan_jax.metrics.inception',))
    """
    if name == "inception":
        return ("gan_jax.metrics.inception",)
    experiment = "ring" if name.startswith("ring") else "translation" if name == "pix2pix" else "images"
    by_part = {"_pmap": "distributed.pmap", "_seeds": "distributed.seeds", "_sampling": "evaluation.sampling"}
    way = next((module for part, module in by_part.items() if part in name), "distributed.jit")
    return f"experiments.{experiment}", f"gan_jax.{way}"


def code_of(name: str) -> dict[str, str]:
    """The digest of the code of each of a program's modules and of all that it imports of this project."""
    return {module: _digest(module) for module in modules_of(name)}


_digest = functools.cache(digest)


def age(name: str, row: dict[str, Any]) -> str:
    """Whether a row was compiled from the code as it is: `current`, `older` or `unknown`."""
    if "code" not in row:
        return "unknown"
    return "current" if row["code"] == code_of(name) else "older"


def measured(lowered: Lowered, text: pathlib.Path | None = None) -> dict[str, Any]:
    """Compiles a program and reads off what it does; its text is written to a file where one is given."""
    began = time.perf_counter()
    compiled = lowered.lowered.compile()
    seconds = time.perf_counter() - began
    if text is not None:
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(compiled.as_text())
    program, memory = Program(compiled.as_text()), compiled.memory_analysis()
    convolutions = program.convolutions
    operands = collections.Counter(
        " x ".join(str(operand).partition("[")[0] for operand in convolution["operands"])
        for convolution in convolutions
    )
    work = program.round
    return {
        "compile seconds": round(seconds, 1),
        "kernels": kernels(work),
        "kernels by kind": dict(sorted(work.items())),
        "convolutions": dict(collections.Counter(str(convolution["kind"]) for convolution in convolutions)),
        "operands of convolutions": dict(operands),
        "dilated": [
            f"{convolution['kind']} {convolution['operands']} -> {convolution['result']}, "
            f"rhs_dilate={convolution['window']['rhs_dilate']}"
            for convolution in program.dilated
        ],
        "all-reduces": work["all-reduce"],
        "bytes all-reduced": work["bytes of all-reduce"],
        "bytes gathered": work["bytes of all-gather"],
        "temporary bytes": memory.temp_size_in_bytes,
        "argument bytes": memory.argument_size_in_bytes,
        "aliased bytes": memory.alias_size_in_bytes,
        "donated arrays": program.aliases,
        "arrays of the state": lowered.donated,
        "callbacks": program.callbacks,
        "float64": program.has_dtype("f64"),
        "flops": (compiled.cost_analysis() or {}).get("flops"),
    }


def broken(name: str, target: str, row: dict[str, Any]) -> list[str]:
    """What does not hold of a program that has to."""
    faults = []
    if row["callbacks"]:
        faults.append(f"it calls the host back: {row['callbacks']}")
    if row["float64"]:
        faults.append("it has arrays of float64")
    if row["donated arrays"] < row["arrays of the state"]:
        faults.append(
            f"{row['donated arrays']} of {row['arrays of the state']} arrays of the state are donated"
        )
    if unknown := [convolution for convolution in row["dilated"] if not is_known(convolution, name, target)]:
        faults.append(f"convolutions with dilated kernels: {unknown}")
    if name.endswith("bfloat16") and any("f32" in kind for kind in row["operands of convolutions"]):
        faults.append(f"convolutions of float32: {row['operands of convolutions']}")
    return faults


def is_known(dilated: str, name: str, target: str) -> bool:
    """Whether a convolution with a dilated kernel is one that is known.

    For a GPU, XLA writes the kernel's gradient of a strided layer as a forward convolution where the layer's output
    has at most 4 x 4 pixels, and every such gradient of several seeds side by side, which are grouped convolutions;
    for a TPU it does so with these where the output has 4 x 4 pixels. This is the reason why seeds of images are
    trained in sequence, in which a TPU's programs have no such convolution.
    """
    small = re.search(r",[1-4],[1-4],\d+\]'\] -> \['\w+\[\d+,4,4,\d+", dilated) is not None
    if target.startswith("h100"):
        return small or name.endswith("side_by_side")
    return small and name.endswith("side_by_side")


def main() -> None:
    """Compiles what is asked for and stores what is found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", action="append", choices=TARGETS, help="all by default")
    parser.add_argument("--program", action="append", choices=list(PROGRAMS), help="all by default")
    parser.add_argument("--text", type=pathlib.Path, help="a folder for the programs' texts as well")
    parser.add_argument("--missing", action="store_true", help="only what is not stored yet")
    parser.add_argument("--table", action="store_true", help="print what is stored and compile nothing")
    flags = parser.parse_args()
    if flags.table:
        print(table(read()["programs"]))
        return
    failed = False
    for target in flags.target or TARGETS:
        try:
            devices = devices_of(target)
        except TargetError as error:
            print(f"{target}: left out: {error}", file=sys.stderr)
            continue
        for name in flags.program or PROGRAMS:
            if flags.missing and target in read()["programs"].get(name, {}):
                continue
            code = code_of(name)  # before it is compiled, which takes minutes
            lowered = PROGRAMS[name](devices)
            row = measured(lowered, flags.text and flags.text / f"{name}-{target}.txt") | {"code": code}
            print(f"{name} for {target}: {row['compile seconds']} s, {row['kernels']} kernels", flush=True)
            for fault in broken(name, target, row):
                failed = True
                print(f"  {fault}", flush=True)
            store(name, target, row)
    print(table(read()["programs"]))
    sys.exit(failed)


def read() -> dict[str, Any]:
    """What is stored."""
    return json.loads(STORED.read_text()) if STORED.is_file() else {"programs": {}}


def store(name: str, target: str, row: dict[str, Any]) -> None:
    """Adds a row to what is stored, by other commands meanwhile too."""
    stored = read()
    stored["programs"].setdefault(name, {})[target] = row
    stored |= {
        "command": "python -m benchmarks.compiled",
        "versions": {**stored.get("versions", {}), **versions()},
    }
    STORED.write_text(json.dumps(stored, indent=1) + "\n")


def versions() -> dict[str, str]:
    """The versions of JAX and of the compilers that are installed."""
    found = {"jax": jax.__version__}
    for name in ("jaxlib", "libtpu", "jax-cuda13-plugin"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def table(programs: dict[str, dict[str, Any]]) -> str:
    """The stored programs in Markdown."""
    heading = ["program", "target", "kernels", "all-reduces", "MB reduced", "temporary MB", "dilated", "code"]
    rows = [heading]
    for name, by_target in programs.items():
        for target, row in by_target.items():
            rows.append(
                [
                    name,
                    target,
                    str(row["kernels"]),
                    str(row["all-reduces"]),
                    f"{row['bytes all-reduced'] / 1e6:.1f}",
                    f"{row['temporary bytes'] / 1e6:.0f}",
                    str(len(row["dilated"])),
                    age(name, row),
                ]
            )
    return markdown_table(rows)


if __name__ == "__main__":
    main()
