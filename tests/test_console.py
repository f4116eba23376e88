"""The command `gan-jax`: the launcher of an installed package, from any folder."""

import ast
import configparser
import functools
import logging
import pathlib
import subprocess
import sys

import pytest
from absl import flags

import gan_jax
import gan_jax.metrics
from gan_jax.cli import command_line, finding, main, mode_flags, program
from gan_jax.runs.config import write_config
from gan_jax.runs.workdir import Workdir
from gan_jax.training.experiment import ExperimentError
from tests.console import called

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY = ("--config.width=8", "--config.batch_size=16", "--config.rounds=2")


def test_every_flag_has_its_modes():
    before = set(flags.FLAGS)
    main.define_flags()
    defined = set(flags.FLAGS) - before
    flags.FLAGS.remove_flag_values(defined)
    everywhere = {"mode", "coordinator", "num_processes", "process_id"}
    assert defined == {*mode_flags.MODES_OF, *everywhere}
    assert {mode for modes in mode_flags.MODES_OF.values() for mode in modes} == {
        *command_line.MODES,
        "sweep",
    }


@pytest.fixture
def console(tmp_path, monkeypatch, capsys):
    """`(*arguments) -> (exit code, stdout, stderr)` of `gan-jax` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    return functools.partial(called, monkeypatch, capsys)


@pytest.mark.full
def test_an_experiment_of_ones_own_is_begun_and_trained_in_an_empty_folder(console, tmp_path):
    code, out, err = console("new", "my.py")
    assert (code, err) == (0, "")
    assert "gan-jax --config=my.py" in out
    assert (tmp_path / "my.py").read_text() == (ROOT / "experiments" / "template.py").read_text()
    code, out, err = console("--config=my.py", *TINY, "--workdir=run")
    assert code == 0, err
    assert (tmp_path / "run" / "checkpoints" / "2" / "manifest.json").exists()
    code, _, err = console("--mode=evaluate", "--workdir=run")
    assert code == 2, "its work directory does not bring its code"
    assert err.startswith("gan-jax: ")
    assert f"--config={tmp_path / 'my.py'}" in err
    code, _, err = console("--mode=sample", "--workdir=run")
    assert code == 0, f"samples are of the stored model, which needs no code: {err}"


@pytest.mark.full
def test_a_shipped_experiment_is_known_by_name_and_goes_on_by_the_same_command(console, tmp_path):
    code, _, err = console("--config=digits", *TINY, "--config.latent=4", "--workdir=run")
    assert code == 0, err
    assert program.command() == ["gan-jax"]
    code, _, err = console("--mode=sample", "--workdir=run", "--num_samples=3")
    assert code == 0, err
    assert (tmp_path / "run" / "samples" / "sampled_00000002.png").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("new",), "name the file to write: gan-jax new my.py"),
        (("new", "a.py", "b.py"), "name the file to write"),
        (("new", "my.txt"), "my.txt does not end in .py"),
        (("new", "there.py"), "there.py is there already"),
        (("new", "nowhere/my.py"), "cannot write nowhere/my.py"),
        (("--config=imagse",), "did you mean 'images'?"),
        (("--wrkdir=x",), "see gan-jax --help"),
        (("--config=games",), "is not an experiment"),
        (("--label=3",), "--label is for --mode=sample, interpolate or project, not for --mode=train"),
        (("--out=x", "--config=ring"), "--out is for --mode=sample, interpolate, project, export or explore"),
        (("--mode=sample", "--sweep=config.seed=0,1"), "--sweep trains and evaluates runs"),
        (("--sweep=config.seed=0,1", "--label=3"), "not for --sweep, which trains and evaluates"),
        (("--mode=evaluate", "--jobs=2"), "--jobs is for --sweep, not for --mode=evaluate"),
        (("--mode=evaluate", "--workdir=x", "--out=y"), "not for --mode=evaluate"),
        (("--mode=interpolate", "--config.seed=3"), "--config.seed means nothing for --mode=interpolate"),
        (("--mode=sample", "--workdir=x", "--label=3", "--config.seed=3"), "means nothing for a model"),
        (("--mode=compare", "--workdir=x", "--real=a", "--fake=b"), "not for --mode=compare"),
        (
            ("--mode=compare", "--real=a", "--fake=b", "--num_samples=9"),
            "--num_samples is of samples of runs",
        ),
        (("--mode=explore", "--config=ring", "--out=x", "--port=0"), "--port is of a page that is served"),
        (("--mode=explore", "--config=ring", "--onnxruntime_web=x"), "--onnxruntime_web is for --out"),
    ],
)
def test_a_mistake_is_one_line(arguments, expected, console, tmp_path):
    (tmp_path / "there.py").write_text("mine = 1\n")
    code, _, err = console(*arguments)
    assert code == 2
    assert expected in err
    assert err.startswith("gan-jax: ")
    assert len(err.splitlines()) == 1
    assert (tmp_path / "there.py").read_text() == "mine = 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["there.py"]


def test_help_that_nobody_reads_to_its_end_is_no_error(monkeypatch):
    closed = []

    def parsed(arguments):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(main.flags, "FLAGS", parsed)
    monkeypatch.setattr(main.terminal, "stop_writing", closed.append)
    with pytest.raises(SystemExit, match="1"):
        main.parse(["gan-jax", "--help"])
    assert closed == [sys.stdout]


def test_a_warning_of_the_log_is_plain_text():
    record = logging.LogRecord("absl", logging.WARNING, "images.py", 74, "Skipped %d of %d", (5, 30), None)
    assert main._Plain().format(record) == "warning: Skipped 5 of 30"


@pytest.mark.parametrize("content", ["--config=ring\n--config.modes=3\n--config.seed=5\n", "--workdir=run\n"])
def test_a_file_of_flags_is_as_good_as_the_command_line(console, tmp_path, monkeypatch, content):
    """The experiment is the one that the file names, or that of the work directory that it names."""
    launched = []
    monkeypatch.setattr(command_line, "run", lambda mode, request: launched.append((mode, request)))
    write_config(Workdir(tmp_path / "run"), {"modes": 3}, experiment="experiments/ring.py")
    (tmp_path / "flags").write_text(content)
    code, _, err = console("--flagfile=flags", "--mode=describe")
    assert code == 0, err
    ((mode, request),) = launched
    assert mode == "describe"
    assert request.experiment.endswith("ring.py")
    code, _, err = console("--flagfile=none")
    assert code == 2
    assert err.startswith("gan-jax: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import experiments_of_nobody\n",
            "mine.py imports 'experiments_of_nobody', which is not installed.$",
        ),
        ("def build(:\n", "mine.py, line 1: "),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ExperimentError, match=message):
        finding.load(tmp_path / "mine.py")


def test_beside_an_installed_package_only_its_own_experiments_are_its(tmp_path):
    """Another project's `experiments` among the installed packages is not run as this one's."""
    (tmp_path / "experiments").mkdir()
    assert finding._shipped(tmp_path) == tmp_path / "experiments", "a checkout"
    (tmp_path / "gan_jax_experiments").mkdir()
    assert finding._shipped(tmp_path) == tmp_path / "gan_jax_experiments"


def test_another_package_of_the_experiments_name_is_refused(monkeypatch, tmp_path):
    other = type(sys)("experiments")
    other.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "experiments", other)
    with pytest.raises(ExperimentError, match="Another package 'experiments' was imported"):
        finding.load(finding.EXPERIMENTS / "ring.py")


def test_records_of_an_experiments_file_find_their_annotations(tmp_path):
    """Dataclasses and Flax modules look postponed annotations up in the module that is registered."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from __future__ import annotations\nimport dataclasses\n\n"
        "@dataclasses.dataclass\nclass Record:\n    _: dataclasses.KW_ONLY\n    x: int = 3\n\n"
        "def get_config(): return Record()\n\ndef build(config): return config\n"
    )
    assert finding.load(mine).get_config().x == 3


def test_every_package_is_in_the_wheel_and_the_version_is_one():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    packages = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "gan_jax").rglob("__init__.py")}
    assert set(setup["options"]["packages"].split()) == packages | {finding.WHEEL_PACKAGE}
    assert f"version: {gan_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_shipped_experiments_import_each_other_by_their_place():
    """The wheel has them in a package of another name."""
    for path in (ROOT / "experiments").glob("*.py"):
        absolute = [
            node.module or ""
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.level == 0
        ]
        assert not [name for name in absolute if name.partition(".")[0] == "experiments"], path


IMPORTED_WHEN_USED = {
    "experiments.ring": ["gan_jax.networks.stylegan2"],
    "experiments.digits, gan_jax.evaluation.scoring": ["gan_jax.networks.stylegan2", "scipy.spatial"],
    "experiments.images, gan_jax.runs.loop": ["scipy.special"],
}


@pytest.mark.parametrize("modules", IMPORTED_WHEN_USED)
def test_the_launcher_imports_what_a_mode_needs_when_it_is_asked_for(modules):
    """Each of these takes a tenth of a second and more: the start of a training would pay for all."""
    code = f"import sys, gan_jax.cli.main, gan_jax.metrics, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expensive = ["gan_jax.explore", "gan_jax.cli.comparing", "gan_jax.cli.sweeping", "scipy.stats"]
    expensive += ["scipy.optimize", "matplotlib", "orbax.checkpoint", "tensorflow", "sklearn"]
    assert {*expensive, *IMPORTED_WHEN_USED[modules]} & set(done.stdout.split()) == set()


@pytest.mark.parametrize(
    "package", [gan_jax, gan_jax.data, gan_jax.metrics, gan_jax.networks], ids=lambda p: p.__name__
)
def test_every_name_of_a_package_is_found_and_one_that_it_lacks_is_named(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'wgann'"):
        package.wgann  # noqa: B018
