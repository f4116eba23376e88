"""Train, evaluate, sample, describe or replay a GAN, or compare sets of images.

    python launch.py
    python launch.py --config=experiments/ring.py --config.objective=wgan_gp --workdir=runs/ring
    python launch.py --mode=evaluate --workdir=runs/ring --checkpoints=all
    python launch.py --mode=compare --real=FOLDER --fake=FOLDER

A work directory that holds a run brings its configuration; and its experiment, if that is one of experiments/.
"""

from __future__ import annotations

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from gan_jax.cli import command_line, errors, request  # noqa: E402
from gan_jax.runs import terminal  # noqa: E402
from gan_jax.training.experiment import load_module  # noqa: E402

MODE = flags.DEFINE_enum("mode", "train", list(command_line.MODES), "What to do.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run's directory; training makes a new one under runs/ by default."
)
OVERRIDE = flags.DEFINE_bool("override", False, "Go on although the configuration has changed.")
CHECKPOINT = flags.DEFINE_integer(
    "checkpoint", None, "The round to evaluate or sample; the newest by default."
)
NUM_SAMPLES = flags.DEFINE_integer("num_samples", None, "How many samples are drawn to show or to evaluate.")
UNTIL = flags.DEFINE_integer(
    "until", None, "The round --mode=replay stops at; by default the round that the log names."
)
PROFILE = flags.DEFINE_integer("profile", None, "Trace three rounds from this one on, into WORKDIR/profile.")
PREPARE = flags.DEFINE_bool("prepare", False, "First download and prepare --config.data=tfds:NAME.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "Several processes: HOST:PORT of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Several processes: how many; 1 is a single one.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Several processes: which one this is, from 0.")
EVALUATION = {name: flags.DEFINE_string(name, None, text) for name, text in request.EVALUATION.items()}
COMPARISON = {name: flags.DEFINE_string(name, None, text) for name, text in request.COMPARISON.items()}


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise errors.UsageError(f"unexpected argument {argv[1]!r}: flags start with --.")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    holder = flags.FLAGS["config"]
    command_line.run(
        MODE.value,
        request.Request(
            experiment=str(request.experiment_of(sys.argv)),
            program=sys.argv[0],
            config=holder.value,
            overrides=tuple(config_flags.get_override_values(holder)),
            config_given=request.given(sys.argv, "config") is not None,
            workdir=WORKDIR.value,
            override=OVERRIDE.value,
            checkpoint=CHECKPOINT.value,
            num_samples=NUM_SAMPLES.value,
            coordinator=COORDINATOR.value,
            num_processes=NUM_PROCESSES.value,
            process_id=PROCESS_ID.value,
            until=UNTIL.value,
            prepare=PREPARE.value,
            profile=PROFILE.value,
            comparison={name: flag.value for name, flag in COMPARISON.items()},
            **{name: flag.value for name, flag in EVALUATION.items()},
        ),
    )


def define_config() -> None:
    """Defines --config; its library reads the overrides' types off the experiment at once."""
    config = load_module(request.experiment_of(sys.argv)).get_config()
    arguments = request.without(sys.argv, "config")
    request.check_fields(arguments, config)
    names = ", ".join(config.keys())
    text = f"A name in experiments/, or a Python file. Its fields, set by --config.x=...: {names}."
    config_flags.DEFINE_config_dict("config", config, text, sys_argv=arguments)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; an error is raised rather than printed with the usage."""
    return flags.FLAGS(request.without(argv, "config"))


if __name__ == "__main__":
    terminal.guard()
    try:
        define_config()
        app.run(main, flags_parser=parse)
    except errors.user_errors() as error:
        errors.fail(error)
