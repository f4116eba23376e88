"""Building the experiment that a request names, with its data, for one seed or several."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from typing import Any

from gan_jax.cli import finding
from gan_jax.cli.errors import UsageError
from gan_jax.cli.request import Request
from gan_jax.data.errors import DataError
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import Experiment, ExperimentError

MAX_SEED = 2**32 - 1
"""Seeds are 32 bits wide in the programs."""
_OF_SEED = ("held_out", "condition_batch", "evaluation_batch", "picture", "probes")
"""Fields of an experiment that may depend on its seed, beside its source and its evaluations."""


def build(request: Request, config: Any) -> Experiment:
    """The experiment; whatever its file refuses is the user's to correct.

    Raises:
      UsageError, ExperimentError, DataError: each with a line for the user.
    """
    module = finding.load(pathlib.Path(request.experiment))
    try:
        if request.prepare:
            prepare(config)
        return module.build(config)
    except DataError as error:
        if "data" in config and "data" not in request.overrides and _holds_run(request):
            raise DataError(
                f"{error} The run in {request.workdir} was trained on {config.data!r}: where it lies elsewhere "
                "now, name it by --config.data=..., to train on with --override."
            ) from error
        raise
    except ExperimentError:
        raise
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


def _holds_run(request: Request) -> bool:
    return request.workdir is not None and Workdir(request.workdir).config.exists()


def completed(request: Request, config: Any) -> Any:
    """The configuration with the choices made that it leaves open, by the experiment's `resolve` if it has one.

    A choice may depend on the device. A run records it, and has the same networks on another device.
    """
    module = finding.load(pathlib.Path(request.experiment))
    return module.resolve(config) if hasattr(module, "resolve") else config


def prepare(config: Any) -> None:
    """Prepares the TFDS data set that `config.data` names, unless it is there.

    Raises:
      UsageError: if it names none.
      DataError: if it cannot be downloaded or prepared.
    """
    from gan_jax.data.prepare import prepare as prepare_data
    from gan_jax.distributed import hosts

    _, found, name = str(config.get("data", "")).rpartition("tfds:")
    if not found:
        raise UsageError(f"--prepare is for --config.data=tfds:NAME; data is {config.get('data')!r}.")
    name = name.partition("@")[0]
    with hosts.all_succeed():
        if hosts.first():
            prepare_data(name)
    prepare_data(name)  # where the processes do not share a disk


def build_seeds(request: Request, config: Any) -> Experiment:
    """The experiment, with the data of all its seeds where the configuration asks for several.

    All seeds play the first one's game, in one program; their data, `_OF_SEED` and evaluations are their own.

    Raises:
      UsageError: if the number of seeds is below 1, or a seed is out of range; and as `build`.
    """
    check_seeds(config)
    seeds = config.get("seeds", 1)
    if seeds == 1:
        return build(request, config)
    split_cpu(seeds)
    built = []
    for place in range(seeds):
        seed_config = config.copy_and_resolve_references()
        seed_config.seed = config.seed + place
        built.append(build(request, seed_config))
    return dataclasses.replace(
        built[0],
        extra_sources=tuple(extra.source for extra in built[1:]),
        extra_fields=tuple(_own_fields(built[0], extra) for extra in built[1:]),
    )


def _own_fields(first: Experiment, extra: Experiment) -> dict[str, Any]:
    """How an extra seed is evaluated: against what it held out itself, since it is trained on what others did.

    Features of real examples that are the first seed's too are extracted once for both.
    """
    from gan_jax.evaluation.scoring import Against

    evaluations = {
        name: each.beside(first.evaluations.get(name)) if isinstance(each, Against) else each
        for name, each in extra.evaluations.items()
    }
    return {**{name: getattr(extra, name) for name in _OF_SEED}, "evaluations": evaluations}


def check_seeds(config: Any) -> None:
    """Checks how many seeds there are, and that each is one.

    Raises:
      UsageError: if there is none, or one is out of range.
    """
    seeds, first = config.get("seeds", 1), config.get("seed", 0)
    if seeds < 1:
        raise UsageError(f"seeds is 1 or more, got {seeds}.")
    if not 0 <= first <= MAX_SEED - (seeds - 1):
        last = f", and so is the last of {seeds}, seed + {seeds - 1}" if seeds > 1 else ""
        raise UsageError(f"seed is 0 to {MAX_SEED}{last}; got {first}.")


def split_cpu(seeds: int) -> None:
    """Makes the CPU several devices, as many as it has cores as far as they divide `seeds`.

    Two seeds at a time on two cores are faster than one on both; two halves of a batch are not. Nothing is changed
    where `XLA_FLAGS` says how many devices there are, where this is one of several processes, and where JAX has
    begun already.
    """
    import jax

    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if jax.distributed.is_initialized():
        return
    devices = max(n for n in range(1, min(seeds, available_cores()) + 1) if seeds % n == 0)
    if devices == 1:
        return
    with contextlib.suppress(RuntimeError):  # where JAX has begun already
        jax.config.update("jax_num_cpu_devices", devices)


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
