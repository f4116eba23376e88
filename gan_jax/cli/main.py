"""Train a GAN; evaluate, sample, explore or export what was trained; compare sets of images; sweep settings.

    {program}
    {program} --config=ring --config.objective=wgan_gp --workdir=runs/ring
    {program} --mode=evaluate --workdir=runs/ring --checkpoints=all
    {program} --mode=sample --workdir=runs/ring
    {program} --mode=explore --workdir=runs/ring
    {program} --mode=export --workdir=runs/ring --format=onnx
    {program} --mode=describe --config=ring
    {program} --mode=compare --real=FOLDER --fake=FOLDER
    {program} --config=ring --sweep=config.objective=gan,wgan_gp --jobs=2
    {program} new my.py

A work directory that holds a run brings its configuration, and its experiment if that is one of the installation.
"""

from __future__ import annotations

import logging as python_logging
import sys
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from gan_jax.cli import command_line, errors, finding, mode_flags, new_experiment, program, request
from gan_jax.memory import collect_garbage_less_often, trim_after_compiling
from gan_jax.runs import terminal

PLAIN = (
    "workdir",
    "override",
    "checkpoint",
    "num_samples",
    "coordinator",
    "num_processes",
    "process_id",
    "until",
    "prepare",
    "profile",
)
"""Flags that are fields of a request under the same name, beside those of `request.EVALUATION`."""


_INTERRUPTED = 130
"""The status of a command that Ctrl-C ends, by the custom of shells."""


def main() -> None:
    """The command `gan-jax`, and what `launch.py` runs.

    A user's mistake ends it with one line and status 2, Ctrl-C with one line and 130 (training is saved first).
    """
    terminal.guard()
    try:
        if sys.argv[1:2] == ["new"]:
            new_experiment.new([request.at_home(argument) for argument in sys.argv[2:]])
            return
        define_flags()
        # What a --flagfile holds is as good as on the command line, --config and --workdir too.
        given = flags.FLAGS.read_flags_from_files(sys.argv[1:], force_gnu=False)
        sys.argv[1:] = request.expand_homes(given)
        define_config()
        app.run(launch, flags_parser=parse)
    except errors.user_errors() as error:
        errors.fail(error)
    except KeyboardInterrupt:
        terminal.tell(f"{program.name()}: interrupted.", sys.stderr)
        sys.exit(_INTERRUPTED)


class _Plain(python_logging.Formatter):
    """`warning: message`: the time, process and line of a log are for `--verbosity`."""

    def format(self, record: python_logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"


def define_flags() -> None:
    """Defines the flags of the launcher; those of the configuration are defined by `define_config`."""
    known = set(flags.FLAGS)
    flags.DEFINE_enum("mode", "train", list(command_line.MODES), "What to do.")
    flags.DEFINE_string(
        "workdir", None, "The run's directory; training makes a new one under runs/ by default."
    )
    flags.DEFINE_bool("override", False, "Go on although the configuration has changed.")
    flags.DEFINE_integer("checkpoint", None, "The round to evaluate or sample; the newest by default.")
    flags.DEFINE_integer("num_samples", None, "How many samples are drawn to show or to evaluate.")
    flags.DEFINE_integer(
        "until", None, "The round --mode=replay stops at; by default the round that the log names."
    )
    flags.DEFINE_multi_string(
        "sweep",
        None,
        "config.FIELD=VALUE,VALUE: train and evaluate a run for every combination, then compare them.",
    )
    flags.DEFINE_integer("jobs", 1, "--sweep: how many runs at a time.")
    flags.DEFINE_string("slurm", None, "--sweep: write an array job for SLURM to this file, and run nothing.")
    flags.DEFINE_integer("profile", None, "Trace three rounds from this one on, into WORKDIR/profile.")
    flags.DEFINE_bool("prepare", False, "First download and prepare --config.data=tfds:NAME.")
    flags.DEFINE_string("coordinator", None, "Several processes: HOST:PORT of process 0.")
    flags.DEFINE_integer("num_processes", None, "Several processes: how many; 1 is a single process.")
    flags.DEFINE_integer("process_id", None, "Several processes: which one this is, from 0.")
    for name, text in (request.EVALUATION | request.COMPARISON).items():
        flags.DEFINE_string(name, None, f"{mode_flags.listed(mode_flags.MODES_OF[name])}: {text}")
    for name in set(flags.FLAGS) - known:  # --help lists the flags of the main program only
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    main_module = sys.modules["__main__"]
    main_module.__doc__ = (__doc__ or "").format(program=" ".join(program.command()))


def define_config() -> None:
    """Defines --config; its library reads the overrides' types off the experiment at once."""
    config = finding.load(request.experiment_of(sys.argv)).get_config()
    arguments = request.without(sys.argv, "config")
    request.check_fields(arguments, config)
    names = ", ".join(config.keys())
    text = f"An experiment's name, or a Python file. Its fields, set by --config.x=...: {names}."
    config_flags.DEFINE_config_dict("config", config, text, sys_argv=arguments)
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["config"])


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; an error is raised rather than printed with the usage."""
    try:
        return flags.FLAGS(request.without(argv, "config"))
    except BrokenPipeError:  # `--help | head`: the flag prints the help itself
        terminal.stop_writing(sys.stdout)
        sys.exit(1)


def launch(argv: list[str]) -> None:
    """Carries out the mode that the flags name."""
    if len(argv) > 1:
        raise errors.UsageError(f"unexpected argument {argv[1]!r}: flags start with --.")
    trim_after_compiling()
    collect_garbage_less_often()
    values = flags.FLAGS
    if not values["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().setFormatter(_Plain())
    for name in ("workdir", "slurm", "coordinator", *request.EVALUATION, *request.COMPARISON):
        if values[name].value == "" and name != "plot":  # an empty one draws no figure
            raise errors.UsageError(f"--{name}= has no value: give one, or leave the flag out.")
    holder = values["config"]
    overrides = tuple(config_flags.get_override_values(holder))
    mode_flags.check_flags(
        mode_flags.SWEEP if values.sweep else values.mode,
        [name for name in mode_flags.MODES_OF if values[name].present],
        overrides,
    )
    if values.sweep:
        _sweep(holder.value)
        return
    plain: dict[str, Any] = {name: values[name].value for name in (*PLAIN, *request.EVALUATION)}
    command_line.run(
        values.mode,
        request.Request(
            experiment=str(request.experiment_of(sys.argv)),
            config=holder.value,
            overrides=overrides,
            config_given=request.given(sys.argv, "config") is not None,
            comparison={name: values[name].value for name in request.COMPARISON},
            **plain,
        ),
    )


def _sweep(config: Any) -> None:
    values = flags.FLAGS
    if values.mode != "train" or values.num_processes or values.coordinator or values.profile is not None:
        raise errors.UsageError(
            "--sweep trains and evaluates runs of one process each: leave out --mode, --profile and the flags of "
            "several processes."
        )
    from gan_jax.cli import sweeping

    sweeping.sweep(
        sys.argv,
        values.sweep,
        config=config,
        workdir=values.workdir,
        jobs=values.jobs,
        slurm=values.slurm,
    )
