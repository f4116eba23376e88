"""The source distribution and the wheel: what is in them works from them."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

from docs._notebooks import notebook as tutorial

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


ROUNDS = (2, 1)
"""In place of the thousands of the notebooks."""


def run_notebooks(sources, installed, empty):
    """Runs the code of every notebook with the unpacked wheel, in an empty folder; how many pictures it shows.

    Jupyter's own `display` is replaced by one that checks that it is given a PNG.
    """
    jupyter = installed.parent / "jupyter" / "IPython"
    jupyter.mkdir(parents=True)
    (jupyter / "__init__.py").write_text("version_info = (9, 0)\n")
    (jupyter / "display.py").write_text(
        "def Image(data):\n    assert data[:4] == b'\\x89PNG'\n    return data\n\n\n"
        "def display(picture):\n    print('shown')\n"
    )
    notebooks = [json.loads(path.read_text("utf-8")) for path in sorted(sources.glob("experiments/*.ipynb"))]
    tutorials = sorted((sources / "docs" / "tutorials").glob("*.md"))
    assert notebooks
    assert len(tutorials) == 6
    shown = 0
    for notebook in [*notebooks, *(tutorial(page.read_text("utf-8")) for page in tutorials)]:
        code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
        short = re.sub(r"for rounds in \([\d, ]+\):", f"for rounds in {ROUNDS}:", code)
        short = re.sub(r"^ROUNDS = \d+$", "ROUNDS = 2", short, flags=re.MULTILINE)
        needed = [str(installed), *([str(jupyter.parent)] if "IPython" in code else [])]
        paths = f"import os, sys; sys.path[:0] = {needed!r}\n"
        paths += f"os.environ['PYTHONPATH'] = {str(installed)!r}\n"  # of the processes that it starts
        shown += run(sys.executable, "-P", "-c", paths + short, cwd=empty).count("shown")
        assert not list(empty.iterdir()), "and leaves no file"
    return shown


@pytest.mark.slow
def test_the_wheel_built_from_the_source_distribution_works_where_nothing_else_is(tmp_path):
    """Sources are packed from what git tracks, the wheel from the sources; both are used from an empty folder."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    tracked = run("git", "ls-files", "-z", cwd=ROOT).split("\0")[:-1]
    for name in tracked:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "venv", tmp_path / "builder", cwd=tmp_path)
    builder = tmp_path / "builder" / "bin" / "python"
    run(builder, "-m", "pip", "install", "-q", "setuptools>=77", cwd=tmp_path)
    build = "from setuptools import build_meta as b; b.build_{}('.')"
    run(builder, "-c", build.format("sdist"), cwd=checkout)
    (sdist,) = (path.name for path in checkout.glob("*.tar.gz"))
    with tarfile.open(checkout / sdist) as packed:
        packed.extractall(tmp_path, filter="data")
    sources = tmp_path / sdist.removesuffix(".tar.gz")
    assert {"launch.py", "experiments", "tests", "README.md", "LICENSE"} <= {
        p.name for p in sources.iterdir()
    }
    run(builder, "-c", build.format("wheel"), cwd=sources)
    (wheel,) = (path.name for path in sources.glob("*.whl"))
    with zipfile.ZipFile(sources / wheel) as packed:
        packed.extractall(tmp_path / "installed")
    ours = {name for name in tracked if name.startswith("gan_jax/")}
    found = {
        str(p.relative_to(tmp_path / "installed")) for p in (tmp_path / "installed").rglob("*") if p.is_file()
    }
    assert ours <= found
    shipped = {name for name in found if name.startswith("gan_jax_experiments/")}
    launchable = {name for name in tracked if name.startswith("experiments/") and name.count("/") == 1}
    assert shipped == {f"gan_jax_{name}" for name in launchable if name.endswith(".py")}, "and no results"
    empty = tmp_path / "empty"
    empty.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r}); import gan_jax; print(gan_jax.__file__);"
        "from gan_jax.metrics.classifier import load_classifier; import pathlib;"
        "load_classifier(pathlib.Path(gan_jax.__file__).parent / 'metrics/weights/digits.npz')"
    )
    assert str(tmp_path / "installed") in run(sys.executable, "-P", "-c", code, cwd=empty)
    shown = run_notebooks(sources, tmp_path / "installed", empty)
    assert shown == len(ROUNDS), "a picture after every stage"
    run(sys.executable, sources / "launch.py", "--config.rounds=2", f"--workdir={empty / 'run'}", cwd=empty)
    assert (empty / "run" / "checkpoints" / "2").exists()
    console = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r}); sys.argv[0] = 'gan-jax';"
        "from gan_jax.cli.main import main; main()"
    )
    for named, workdir in (("images", "by_name"), ("my.py", "of_ones_own")):
        if named == "my.py":
            run(sys.executable, "-P", "-c", console, "new", "my.py", cwd=empty)
        small = ("--config.data=digits", "--config.width=4", "--config.rounds=2")
        run(
            sys.executable,
            "-P",
            "-c",
            console,
            f"--config={named}",
            *small,
            f"--workdir={workdir}",
            cwd=empty,
        )
        assert (empty / workdir / "checkpoints" / "2").exists()
