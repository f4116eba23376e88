"""The launcher's flags that mean something in some modes only."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gan_jax.cli.errors import UsageError

SWEEP = "sweep"
"""What a launch with `--sweep` is here, in place of its mode: it trains and evaluates."""
_RUN = ("evaluate", "sample", "compare", "interpolate", "project", "export", "explore")
"""Modes that read the generator of a run."""
_BUILT = ("train", "evaluate", "sample", "describe", "replay")
"""Modes that build a run's experiment."""
MODES_OF: Mapping[str, tuple[str, ...]] = {
    "workdir": (
        "train",
        "evaluate",
        "sample",
        "describe",
        "replay",
        "interpolate",
        "project",
        "export",
        "explore",
    ),
    "override": _BUILT,
    "prepare": (*_BUILT, "explore"),
    "profile": ("train",),
    "track": ("train",),
    "sweep": (SWEEP,),
    "jobs": (SWEEP,),
    "slurm": (SWEEP,),
    "until": ("replay",),
    "checkpoint": (*_RUN, "replay"),
    "checkpoints": ("evaluate",),
    "num_samples": ("evaluate", "sample", "compare"),
    "data": ("evaluate",),
    "extractor": ("evaluate", "compare"),
    "metrics": ("evaluate", "compare"),
    "intervals": ("evaluate",),
    "protocol": ("evaluate", "compare"),
    "lpips": ("evaluate",),
    "player": _RUN,
    "weights": _RUN,
    "standing_statistics": _RUN,
    "sample_seeds": ("sample", "interpolate"),
    "label": ("sample", "interpolate", "project"),
    "truncation": ("sample", "interpolate"),
    "out": ("sample", "interpolate", "project", "export", "explore"),
    "walk": ("interpolate",),
    "walk_steps": ("interpolate",),
    "image": ("project",),
    "distance": ("project",),
    "format": ("export",),
    "license": ("export",),
    "port": ("explore",),
    "onnxruntime_web": ("explore",),
    "training_images": ("explore",),
    "real": ("compare",),
    "fake": ("compare",),
    "covariance": ("compare",),
    "neighbors": ("compare",),
    "size": ("compare",),
    "channels": ("compare",),
    "damaged": ("compare",),
    "save_stats": ("compare",),
    "held_out": ("compare",),
    "duplicates": ("compare",),
    "scores": ("compare",),
    "plot": ("compare",),
}
"""The modes in which a flag means something. What is not here means something in all: `mode`, `config`, and the
flags of several processes."""
CONFIGURED = (*_BUILT, "explore", SWEEP)
"""Modes in which `--config.FIELD=` means something; elsewhere a run has the configuration of its training."""


def check_flags(mode: str, given: Collection[str], fields: Collection[str] = ()) -> None:
    """Checks that the flags that were given mean something in a mode.

    Args:
      mode: the mode, or `SWEEP`.
      given: the names of the flags.
      fields: the names of the configuration's fields that were set.

    Raises:
      UsageError: naming the first flag that does not, and its modes.

    >>> check_flags("train", ["workdir", "label"])
    Traceback (most recent call last):
    gan_jax.cli.errors.UsageError: --label is for --mode=sample, interpolate or project, not for --mode=train.
    """
    this = "--sweep, which trains and evaluates" if mode == SWEEP else f"--mode={mode}"
    for name in given:
        modes = MODES_OF.get(name)
        if modes is None or mode in modes or (mode == SWEEP and {"train", "evaluate"} & {*modes}):
            continue
        raise UsageError(f"--{name} is for {listed(modes)}, not for {this}.")
    if fields and mode not in CONFIGURED:
        refuse_fields(fields, this)


def refuse_fields(fields: Collection[str], where: str) -> None:
    """Refuses fields of a configuration that would mean nothing.

    Raises:
      UsageError: if there are any.
    """
    for name in fields:
        raise UsageError(
            f"--config.{name} means nothing for {where}: what is read there has the configuration that it was "
            "trained with."
        )


def listed(modes: Collection[str]) -> str:
    """Modes as flags.

    >>> listed(["sample"]), listed(["sample", "project"]), listed([SWEEP])
    ('--mode=sample', '--mode=sample or project', '--sweep')
    """
    if SWEEP in modes:
        return "--sweep"
    *first, last = modes
    return f"--mode={', '.join(first)} or {last}" if first else f"--mode={last}"
