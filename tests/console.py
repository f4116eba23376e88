"""The command `gan-jax`, called within the process of a test."""

import sys

from absl import flags

from gan_jax.cli import main


def called(monkeypatch, capsys, *arguments):
    """`(exit code, stdout, stderr)` of the command with these arguments; its flags are forgotten again."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/gan-jax", *arguments])
    before = set(flags.FLAGS)
    code = 0
    try:
        main.main()
    except SystemExit as leaving:
        code = leaving.code or 0
    finally:
        flags.FLAGS.remove_flag_values(set(flags.FLAGS) - before)
        flags.FLAGS.unparse_flags()
    return code, *capsys.readouterr()
