"""What the launcher does with its flags: one of the modes, in one process or several."""

from __future__ import annotations

import os
import pathlib
import pkgutil
import sys
import traceback
from collections.abc import Mapping

from gan_jax.cli import program
from gan_jax.cli.building import build, check_seeds
from gan_jax.cli.errors import UsageError, explain, translated, user_errors
from gan_jax.cli.opened_run import open_run
from gan_jax.cli.request import Request, resolve
from gan_jax.runs.config import read_config
from gan_jax.runs.terminal import tell
from gan_jax.runs.workdir import Workdir


def describe(request: Request) -> None:
    """Prints what the experiment, or the run in the work directory, is made of and what a round costs."""
    from gan_jax.evaluation.describe import describe_run

    if request.workdir is not None and not request.config_given:
        read_config(Workdir(request.workdir))
    config = resolve(request)
    check_seeds(config)
    tell(describe_run(build(request, config)))


def replay(request: Request) -> None:
    """Plays the rounds before NaN or infinity again, and says what was not finite first."""
    from gan_jax.runs.replay import replay as play_again

    run = open_run(request)
    if run.changed and not request.override:
        raise UsageError(
            "the rounds would not be those that were played: restore what has changed, or pass --override."
        )
    play_again(run.experiment, run.workdir, checkpoint=request.checkpoint, until=request.until)


MODES: Mapping[str, str] = {
    "train": "gan_jax.cli.training:train",
    "evaluate": "gan_jax.cli.evaluating:evaluate",
    "sample": "gan_jax.cli.sampling:sample",
    "compare": "gan_jax.cli.comparing:compare",
    "describe": "gan_jax.cli.command_line:describe",
    "replay": "gan_jax.cli.command_line:replay",
    "interpolate": "gan_jax.cli.using:interpolate",
    "project": "gan_jax.cli.using:project",
    "export": "gan_jax.cli.exporting:export",
    "explore": "gan_jax.cli.exploring:explore",
}
"""Where each mode's function of a `Request` is: a module is imported when its mode is asked for."""


SEVERAL = ("train", "evaluate", "compare")
"""The modes for several processes."""


def run(mode: str, request: Request) -> None:
    """Carries out `mode`, one of `MODES`; where this is one of several processes, with them."""
    import jax

    from gan_jax.distributed import hosts

    keep_compiled_programs()
    given = request.coordinator, request.num_processes, request.process_id
    if not hosts.join(*given, by_itself=mode != "train"):
        with translated():
            pkgutil.resolve_name(MODES[mode])(request)
        return
    try:
        if mode not in SEVERAL:
            raise UsageError(f"--mode={mode} is for one process: start a single one (--num_processes=1).")
        if request.workdir is None and mode != "compare":
            raise UsageError("several processes need one --workdir, which all of them can reach.")
        pkgutil.resolve_name(MODES[mode])(request)
    except Exception as error:
        # Not by an orderly end: that would wait for processes which may be gone.
        known = hosts.explained(error)
        if not isinstance(known, user_errors()):
            tell(traceback.format_exc(), sys.stderr)
            hosts.leave(1)
        tell(f"{program.name()} (process {jax.process_index()}): {explain(known)}", sys.stderr)
        hosts.leave(2)


def keep_compiled_programs() -> None:
    """Turns the persistent compilation cache on, unless `JAX_COMPILATION_CACHE_DIR` says otherwise.

    It lies in `$XDG_CACHE_HOME/gan_jax`, `~/.cache/gan_jax` by default; an empty variable turns it off.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gan_jax"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
