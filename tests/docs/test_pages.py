"""The pages' code runs as it stands there, and does what the page says of it."""

import ast
import functools
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gan_jax
import gan_jax.distributed
from gan_jax import field
from gan_jax.game import TurnContext
from gan_jax.schedule import turn
from tests.docs import pages
from tests.docs.pages import ROOT
from tests.tiers import full_except

FOLDERS = ("how_to", "tutorials")
PAGES = [page for folder in FOLDERS for page in sorted((ROOT / "docs" / folder).glob("*.md"))]
PAGES.append(ROOT / "docs" / "stylegan2.md")
TUTORIAL = ROOT / "docs" / "tutorials" / "toy_game.md"
SHORT = [page for page in PAGES if page != TUTORIAL]
"""Pages whose code is run with few rounds; the tutorial's results are those of its own number of rounds."""
LONG = {"compare", "model", "three_players", "parallelism", "stylegan2", "network", "evaluation"}
LONG |= {"own_objective", "own_network", "own_data", "pods"}
"""Pages whose code takes long to compile."""


@functools.cache
def names_of(page):
    """What a page's code defines, after it has run."""
    return pages.run(page, {"__name__": "page"}, rounds=3)


@pytest.fixture
def overlay(tmp_path, monkeypatch):
    """`page -> None`: its files become importable, from a directory beside the package."""
    before = set(sys.modules)

    def add(page):
        for block in pages.blocks(page, "python"):
            if block.file is not None:
                path = tmp_path / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
                package = sys.modules[".".join(path.parent.relative_to(tmp_path).parts)]
                monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])

    yield add
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            package, _, module = name.rpartition(".")
            delattr(sys.modules[package], module)
            del sys.modules[name]


@pytest.mark.parametrize(
    "page",
    full_except([page for page in SHORT if page.stem not in LONG], SHORT),
    ids=lambda page: page.stem,
)
def test_the_code_of_a_page_runs(page, overlay):
    overlay(page)
    assert names_of(page)


@pytest.mark.slow
def test_the_toy_tutorial_sees_what_it_says():
    found = pages.run(TUTORIAL, {"__name__": "page"})
    assert found["covered"]["modes_covered"] == 8
    assert found["covered"]["high_quality_share"] > 2 * found["plain"]["high_quality_share"]


@pytest.mark.full
def test_a_new_objective_is_one_file(tmp_path):
    """The page's commands, in a copy of the project that has the page's file and no other change."""
    page = ROOT / "docs" / "how_to" / "objective.md"
    ignored = shutil.ignore_patterns("__pycache__", "results", "stress")
    for part in ("gan_jax", "tests", "experiments", "docs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignored)
    for part in ("launch.py", "conftest.py", "setup.cfg"):
        shutil.copy(ROOT / part, tmp_path / part)
    (file,) = [block for block in pages.blocks(page, "python") if block.file]
    (tmp_path / file.file).write_text(file.text)
    (commands,) = pages.blocks(page, "sh")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-c", commands.text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.partition(" passed")[0].split()[-1])
    assert passed >= 5, done.stdout
    assert "## `margin`" in (tmp_path / "docs" / "objectives.md").read_text()
    assert list((tmp_path / "runs" / "margin" / "checkpoints").iterdir())


def test_the_page_on_experiments_shows_what_the_command_writes():
    page = ROOT / "docs" / "how_to" / "experiment.md"
    template = (ROOT / "experiments" / "template.py").read_text()
    assert pages.blocks(page, "python")[0].text == template


def code_lines(text):
    """How many lines of a program hold code: no comments, docstrings, blank lines."""
    tree = ast.parse(text)
    lines = set()
    for node in ast.walk(tree):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and not is_docstring:
            # A compound statement counts by its first line and by what it holds.
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno
            lines |= set(range(node.lineno, last + 1))
    written = text.splitlines()
    return sum(bool(written[line - 1].strip()) for line in lines)


def test_lines_of_code_are_counted():
    assert (
        code_lines('def f(\n    x,\n):\n    """Doc."""\n\n    # why\n    return [\n        x\n    ]\n') == 6
    )


def test_three_players_cost_at_most_a_third_more_lines_than_their_equations():
    blocks = pages.blocks(ROOT / "docs" / "how_to" / "three_players.md", "python")
    counted = {
        which: code_lines(block.text)
        for which in ("by hand", "objective")
        for block in blocks
        if block.text.startswith(f"# counted: {which}\n")
    }
    assert counted["by hand"] >= 15
    assert counted["objective"] <= 4 / 3 * counted["by hand"], counted


@pytest.mark.full
def test_three_players_have_the_gradients_of_their_equations():
    page = names_of(ROOT / "docs" / "how_to" / "three_players.md")
    prior = gan_jax.gaussian(page["LATENT"])
    players = {name: gan_jax.Player(network, optax.sgd(0.1)) for name, network in page["networks"].items()}
    game = gan_jax.Game(players=players, objective=page["bigan"](prior), schedule=page["game"].schedule)
    state = gan_jax.init_state(game, jax.random.key(3))
    batch, key = {"x": jax.random.normal(jax.random.key(4), (16, 2))}, jax.random.key(5)

    @jax.jit
    def ours(players):
        context = TurnContext(game, players, batch, jnp.int32(0), key)
        grads, losses = field.gradient_field(turn("critic", "generator", "encoder"), context)
        return grads, {name: output.value for name, output in losses.items()}

    grads, values = ours(state.players)
    now = {name: (player.params, player.model_state) for name, player in state.players.items()}
    for name, by_hand in page["losses_by_hand"](page["networks"], prior).items():
        (value, _), slope = jax.jit(by_hand)(now[name][0], now, key, batch["x"])
        np.testing.assert_allclose(values[name], value, rtol=1e-5)
        for found, theirs in zip(jax.tree.leaves(grads[name]), jax.tree.leaves(slope), strict=True):
            np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-6)
            assert np.any(theirs != 0)
