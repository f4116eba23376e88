"""The page of objectives is what the code says now."""

import ast
import inspect
import pathlib
import re

import pytest

from gan_jax.objectives import __main__ as page
from gan_jax.objectives import _catalogue, _penalties, _terms
from gan_jax.objectives._catalogue import MODIFIERS, OBJECTIVES

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_what_the_page_says_is_what_the_code_says():
    """An objective that is not there yet is asked for by `.ci/run`: until then its file is enough."""
    committed = (ROOT / "docs" / "objectives.md").read_text()
    listed = re.findall(r"^## `(\w+)`$", committed, re.MULTILINE)
    assert committed == page.page(listed), "run: python -m gan_jax.objectives > docs/objectives.md"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_a_formula_a_source_and_a_test(name):
    section = page.section(name)
    assert "arXiv:" in section
    assert page.importing_tests(name) or ">>> " in inspect.getsource(_catalogue.module(name)), (
        f"no test imports {name}, and its file has no examples"
    )
    assert "```text" in section


def test_every_term_and_penalty_is_a_modifier():
    """Public functions of the two modules that return a Term are all in the catalogue."""
    makers = set()
    for module in (_terms, _penalties):
        for node in ast.parse(pathlib.Path(module.__file__).read_text()).body:
            if isinstance(node, ast.FunctionDef) and getattr(node.returns, "id", None) == "Term":
                makers.add(node.name)
    source = pathlib.Path(_catalogue.__file__).read_text()
    missing = {name for name in makers - {"critic_penalty", "feature_penalty"} if f".{name}" not in source}
    assert not missing
    assert len(MODIFIERS) >= len(makers)
