"""The README's code runs, and every path, command and flag that the documentation names is there."""

import functools
import importlib.util
import pkgutil
import re
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest

from gan_jax.cli import finding
from gan_jax.cli.command_line import MODES
from tests.docs import pages
from tests.docs.pages import ROOT

DOCUMENTS = [
    *(
        ROOT / name
        for name in ("README.md", "BUILD.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/GLOSSARY.md")
    ),
    *(
        ROOT / "docs" / f"{name}.md"
        for name in ("index", "first_hour", "troubleshooting", "migration", "speed")
    ),
    *sorted((ROOT / "docs" / "how_to").glob("*.md")),
    ROOT / "docs" / "stylegan2.md",
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
]
BY_NAME = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
ROOMS = sorted(path.stem for path in (ROOT / "gan_jax").iterdir() if not path.name.startswith(("_", ".")))
LIBRARY = re.compile(rf"^(?:gj|gan_jax|experiments|benchmarks|tests|{'|'.join(ROOMS)})(?:\.[A-Za-z_]\w*)+$")
FILES = (".json", ".jsonl", ".md", ".npz", ".py", ".typed")


@pytest.mark.full
def test_the_notebooks_example_runs_as_it_is_written():
    """With fewer rounds, and with two arrays of images for the comparison."""
    source = "\n".join(block.text for block in pages.blocks(ROOT / "README.md", "python"))
    assert source.count("rounds=3000") == 1
    images = np.random.default_rng(0).integers(0, 256, size=(2, 64, 4, 4, 1), dtype=np.uint8)
    namespace = {"real": images[0], "fake": images[1]}
    exec(compile(source.replace("rounds=3000", "rounds=3"), "README.md", "exec"), namespace)
    assert namespace["samples"].shape == (1000, 2)
    assert int(namespace["state"].step) == 3
    assert isinstance(namespace["state"].key, jax.Array)


def without_blocks(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


@BY_NAME
def test_every_link_leads_to_a_file(document):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", without_blocks(document.read_text())):
        if not target.startswith(("http:", "https:")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@BY_NAME
def test_every_path_is_there(document):
    """Backticked paths below the project's folders; braces stand for several, as in `test_{a,b}.py`."""
    for path in re.findall(
        r"`((?:gan_jax|experiments|benchmarks|tests|docs|\.ci)/[^` ]+)`", document.read_text()
    ):
        named = re.search(r"\{([\w,]+)\}", path)
        for choice in named[1].split(",") if named else [""]:
            one = path.replace(named[0], choice) if named else path
            assert (ROOT / one).exists(), f"{document.name} names {path}"


@BY_NAME
def test_every_name_of_the_library_is_there(document):
    """`gan_jax.x.y`, `gj.x` and `room.x` in backticks, with or without a call."""
    for code in re.findall(r"`([^`\n]+)`", without_blocks(document.read_text())):
        name = code.partition("(")[0]
        if not LIBRARY.match(name) or name.endswith(FILES):
            continue
        root, _, rest = name.partition(".")
        full = f"{'gan_jax' if root == 'gj' else f'gan_jax.{root}' if root in ROOMS else root}.{rest}"
        assert resolves(full), f"{document.name} names {code}"


def resolves(name):
    """Whether a dotted name is a module, an attribute of one, or a field of a record."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        record, _, field = name.rpartition(".")
        return field in getattr(pkgutil.resolve_name(record), "__dataclass_fields__", {})
    return True


def test_names_resolve_where_they_are_there():
    assert resolves("gan_jax.field")
    assert resolves("gan_jax.game.Player.network")
    assert not resolves("gan_jax.game.Player.networks")


OLD = re.compile(
    r"\b(?:Aux|Moment|feed_rounds|feed_parts|PlayerState\.stats|PlayerState\.memory|couples_batch=)\b"
    r"|\b(?:networks|optimizers)=|\bema=\{|\bprepared\(|\.(?:feed|fetch|resident)\b"
)


@BY_NAME
def test_names_that_are_gone_are_not_taught(document):
    if document.name != "CHANGELOG.md":
        assert not OLD.findall(document.read_text()), document.name


def commands(text):
    """The `python ...` commands of a document: lines of blocks, and backticked ones."""
    lines = [
        line
        for line in re.sub(r"\\\n\s*", " ", text).splitlines()
        if re.match(r"(?:[A-Z_]+=\S+ )?(?:python|gan-jax) ", line.strip())
    ]
    quoted = re.findall(r"`((?:[A-Z_]+=\S+ )?(?:python|gan-jax) [^`]+)`", text)
    for command in lines + quoted:
        words = shlex.split(command.strip(), comments=True)
        if "gan-jax" in words:
            yield ["launch.py", *words[words.index("gan-jax") + 1 :]]
        else:
            yield words[words.index("python") + 1 :]


@BY_NAME
def test_every_command_is_there(document):
    for words in commands(document.read_text()):
        if words[0] == "-m":
            if words[1] not in ("pip", "build", "venv"):
                assert importlib.util.find_spec(words[1]) is not None, words
        elif words[0] != "-c":
            assert words[0] == "launch.py"
            check_launch(words[1:])


@functools.cache
def launcher_flags():
    """The names of the launcher's flags, by its help: to import it here would define them for other tests too."""
    help_text = subprocess.run(
        [sys.executable, "launch.py", "--helpfull"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    return set(re.findall(r"^\s+--(?:\[no\])?(\w+)", help_text, re.MULTILINE))


def check_launch(arguments):
    """Each flag is the launcher's, each `--config.field` its experiment's, each mode one of the modes."""
    given = dict(
        argument.lstrip("-").partition("=")[::2] for argument in arguments if argument.startswith("--")
    )
    name = given.get("config", "digits")
    # `my.py` is what `gan-jax new my.py` makes.
    fields = finding.load(finding.named("template" if name == "my.py" else name)).get_config()
    for name, value in given.items():
        if name.startswith("config."):
            assert name.removeprefix("config.") in fields, arguments
        elif name != "config":
            assert name in launcher_flags(), arguments
        if name == "mode":
            assert value in MODES


def test_the_fields_of_the_table_are_those_of_its_experiments():
    rows = re.findall(
        r"^\| `(experiments/\w+\.py)`.*\| ([^|]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert len(rows) >= 4
    everywhere = re.search(r"All have (.*?) as well", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    for path, cell in rows:
        fields = finding.load(ROOT / path).get_config()
        named = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", cell) + everywhere)
        assert set(named) <= set(fields), path
