"""A result names the code that computed it: every definition that its study reaches, and nothing else."""

import ast
import hashlib

import numpy as np
import pytest
from sklearn import datasets

from experiments import studies
from experiments.studies.__main__ import main
from experiments.studies.framework import provenance, reached, running

FILES = {
    "gan_jax/__init__.py": "from gan_jax.rooms import used\nfrom gan_jax.unused import never\n",
    "gan_jax/rooms/__init__.py": "from gan_jax.rooms.deep import used\nfrom gan_jax.rooms.other import other\n",
    "gan_jax/rooms/deep.py": "from . import helper\ndef used():\n    return helper.one()\ndef beside(): 7\n",
    "gan_jax/rooms/helper.py": """
TABLE = {}
def one():
    return _two()
def _two(a: Kind = 2):
    return 1
TABLE.update(x=3)
class Kind: ...
""",
    "gan_jax/lazy/__init__.py": """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from gan_jax.lazy.slow import slow
__getattr__ = lambda name: None
""",
    "gan_jax/lazy/slow.py": "def slow():\n    return 8\n",
    "gan_jax/rooms/other.py": "other = 2\n",
    "gan_jax/unused.py": "never = 3\n",
    "gan_jax/typed.py": "class Typed: ...\n",
    "gan_jax/later.py": "x = 4\n",
    "gan_jax/pictures/__init__.py": "from gan_jax.pictures.dots import dots\n",
    "gan_jax/pictures/dots.py": "def dots(): ...\n",
    "gan_jax/data/images.py": "def read_images(): return 12\n",
    "experiments/studies/__init__.py": "",
    "experiments/studies/some.py": """'''A study.'''
from typing import TYPE_CHECKING
import numpy as np
import gan_jax as gj
import gan_jax.lazy
from gan_jax.pictures import dots
from experiments.studies.framework.study import Study
if TYPE_CHECKING:
    from gan_jax.typed import Typed
def case(seed):
    from gan_jax import later
    from gan_jax.data.images import read_images
    return read_images if seed < 0 else seed * gj.used() + later.x + gan_jax.lazy.slow()  # a sum
def figure(results):
    return dots(gj.other)
STUDY = Study(
    module=__name__, cases={
        "case": case for seed in "a variable of its own"},
    figure=figure, claims=(lambda r: r > 11,))
""",
}
STUDY = "experiments.studies.some"


@pytest.fixture
def root(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_names_are_followed_to_what_they_are_defined_as(root):
    found = {(d.file.as_posix(), d.text.split("\n")[0]) for d in reached.reached(STUDY, root)}
    assert found == {
        ("experiments/studies/some.py", "({"),
        ("experiments/studies/some.py", "def case(seed):"),
        ("gan_jax/later.py", "x = 4"),
        ("gan_jax/lazy/slow.py", "def slow():"),
        ("gan_jax/rooms/deep.py", "def used():"),
        ("gan_jax/rooms/helper.py", "TABLE = {}"),
        ("gan_jax/rooms/helper.py", "TABLE.update(x=3)"),
        ("gan_jax/rooms/helper.py", "def _two(a: Kind = 2):"),
        ("gan_jax/rooms/helper.py", "def one():"),
    }


def test_of_a_module_without_a_study_all_is_reached(root):
    (root / "gan_jax/whole.py").write_text("from gan_jax import rooms\nx = rooms\ny = 2\n")
    found = {definition.text.split("\n")[0] for definition in reached.reached("gan_jax.whole", root)}
    assert {"x = rooms", "y = 2", "other = 2", "def used():"} <= found
    assert "def beside():" not in found


def changed(root, name, before, after):
    path = root / name
    path.write_text(path.read_text().replace(before, after))
    return provenance.digest(STUDY, root)


@pytest.mark.parametrize(
    ("name", "before", "after", "another"),
    [
        ("experiments/studies/some.py", "A study.", "A study, explained better.\n\nAt length.", False),
        ("experiments/studies/some.py", "  # a sum", "", False),
        ("experiments/studies/some.py", "def case", "\n\ndef case", False),
        ("gan_jax/pictures/dots.py", "...", "return 1", False),
        ("gan_jax/data/images.py", "12", "13", False),
        ("gan_jax/unused.py", "3", "5", False),
        ("gan_jax/rooms/other.py", "2", "5", False),
        ("gan_jax/typed.py", "...", "x = 1", False),
        ("gan_jax/rooms/deep.py", "7", "8", False),
        ("gan_jax/rooms/helper.py", "...", "x = 1", False),
        (
            "gan_jax/rooms/helper.py",
            "    return 1",
            "    if a < Kind.x:\n        raise ValueError\n    return 1",
            False,
        ),
        ("gan_jax/rooms/helper.py", "    return 1", "    if a:\n        a = 3\n    return 1", True),
        (
            "gan_jax/rooms/helper.py",
            "    return 1",
            "    if a:\n        raise ValueError\n    else:\n        a = 3\n    return 1",
            True,
        ),
        ("gan_jax/rooms/helper.py", "    return 1", "    if a:\n        raise ValueError", True),
        ("experiments/studies/some.py", "dots(gj.other)", "dots(gj.other, 2)", False),
        ("experiments/studies/some.py", "11", "12", False),
        ("experiments/studies/some.py", '"case":', '"again":', True),
        ("gan_jax/rooms/helper.py", "return 1", "return 2", True),
        ("gan_jax/rooms/helper.py", "= 2", "= 3", True),
        ("gan_jax/rooms/helper.py", "x=3", "x=4", True),
        ("gan_jax/lazy/slow.py", "8", "9", True),
        ("gan_jax/later.py", "4", "5", True),
        ("experiments/studies/some.py", "+", "-", True),
    ],
)
def test_other_code_has_another_digest_and_other_words_have_not(root, name, before, after, another):
    assert (provenance.digest(STUDY, root) != changed(root, name, before, after)) is another


def test_a_study_of_the_gallery_reads_its_objectives_and_no_launcher():
    found = reached.reached("experiments.studies.dirac", provenance.ROOT)
    files = {definition.file.as_posix() for definition in found}
    assert {"gan_jax/objectives/wgan.py", "gan_jax/field.py", "experiments/studies/dirac.py"} <= files
    assert not [file for file in files if file.startswith(("gan_jax/cli/", "gan_jax/runs/"))]


def test_a_launch_says_what_computed():
    found = provenance.launch("experiments.studies.dirac", "python -m experiments.studies dirac")
    assert found["code"] == provenance.digest("experiments.studies.dirac")
    assert found["machine"]["cores"] >= 1
    assert found["computation"]["matmul_precision"] == "highest"
    assert {"jax", "numpy", "python"} <= found["versions"].keys()
    assert provenance.identifier(found) == provenance.identifier(dict(found))
    assert provenance.identifier(found) != provenance.identifier({**found, "date": "1970-01-01"})


def test_what_is_old_is_said_and_what_is_unknown_is_an_error(tmp_path, capsys):
    now = provenance.digest("experiments.studies.dirac")
    stored = {
        "launches": {"a": {"code": now}, "b": {"code": "other"}},
        "runs": {"0": {"x": {"launch": "a"}, "y": {"launch": "b"}}},
    }
    running.write(tmp_path / "dirac.json", stored)
    asked = ["dirac", "theorems", "--check", f"--results={tmp_path}"]
    assert main(asked) == 0
    assert capsys.readouterr().out.splitlines() == [
        "dirac: 1 of 2 results are older than the code",
        "theorems: nothing is stored",
    ]
    stored["runs"]["1"] = {"x": {}}
    running.write(tmp_path / "dirac.json", stored)
    assert main(asked) == 1
    assert "dirac: of 1 of 3 results it is not recorded what computed them" in capsys.readouterr().out


def test_studies_are_listed_in_a_line_each_with_their_minutes(tmp_path, capsys):
    stored = {"runs": {"0": {"x": {"seconds": 61.0}, "y": {"seconds": 60.0}}}}
    running.write(tmp_path / "dirac.json", stored)
    assert main([f"--results={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(studies.names())
    assert (
        "dirac                   3 min  Dirac-GAN: eigenvalues and trajectories of every objective" in lines
    )


def test_a_function_that_reads_a_package_s_data_is_known_by_what_it_returns():
    """Of scikit-learn's digits the bytes count, which its own function gives too."""
    found = reached.reached("experiments.studies.latent_space", provenance.ROOT)
    digits = [definition.text for definition in found if definition.text.startswith("load_digits = ")]
    own = datasets.load_digits()
    x = np.round(own.images * (255 / 16)).astype(np.uint8)[..., None]
    expected = hashlib.sha256()
    for name, array in (("x", x), ("y", own.target.astype(np.int32))):
        expected.update(f"{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    assert digits == [f"load_digits = {expected.hexdigest()!r}"]


def test_a_refusal_that_is_caught_may_change_a_result():
    refuses = "if a:\n    raise ValueError\nb = 1\n"
    caught = (
        "try:\n"
        + "".join(f"    {line}\n" for line in refuses.splitlines())
        + "except ValueError:\n    b = 2\n"
    )
    assert len(reached.refusals(ast.parse(refuses))) == 1
    assert reached.refusals(ast.parse(caught)) == []
