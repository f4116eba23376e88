"""Writes the table of objectives: `python -m gan_jax.objectives > docs/objectives.md`."""

from __future__ import annotations

import ast
import inspect
import pathlib
import textwrap
from collections.abc import Callable, Sequence

from gan_jax.functional import ada, augment, noise, packing
from gan_jax.game import CriticRole, GeneratorRole, Role
from gan_jax.objectives import _catalogue, _penalties, _regularizers, _terms

ROOT = pathlib.Path(inspect.getfile(_catalogue)).resolve().parents[2]
HEADER = """# Objectives

Made by `python -m gan_jax.objectives > docs/objectives.md` from the code; a test compares the two.

Every objective also passes the contract test (`tests/objectives/test_contract.py`): finite under `jit`, `vmap` over
seeds and `pmap`, one trace, every parameter of the player that moves and no other player's. What it takes and what
it refuses is found by constructing the combination; a refusal is an error when the objective is constructed. A loss
for `top_k` has to be a mean over examples, which is found in the first trace of a round: `cat_gan`, `cramer` and
`mmd_gan` refuse it there.

Some games need no file: a conditional GAN (Mirza & Osindero, 2014, arXiv:1411.1784) is any objective with
`condition=label_condition`, which passes the label to both networks; a projection critic (Miyato & Koyama, 2018,
arXiv:1802.05637) is a network of such a game (`projection=` in the critics of `gan_jax.networks`). Instance noise,
packing and augmentation are `with_transforms(objective, ...)`; unrolling is `unrolled(objective, steps)`;
consensus, symplectic adjustment, extragradient and Runge-Kutta are the `field` of a `Game`.
"""


def importing_tests(name: str) -> list[str]:
    """The test files that import an objective, by their syntax trees."""
    importing = []
    for path in sorted((ROOT / "tests" / "objectives").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(
                "gan_jax.objectives"
            ):
                continue
            if node.module == f"gan_jax.objectives.{name}" or (
                node.module == "gan_jax.objectives" and name in [alias.name for alias in node.names]
            ):
                importing.append(path.relative_to(ROOT).as_posix())
                break
    return importing


def formula(doc: str) -> str:
    """The indented lines of a module's docstring: its equations, with whatever stands between them."""
    paragraphs = [p for p in doc.split("\n\n") if p.startswith("    ")]
    return textwrap.dedent("\n".join(paragraphs))


def references(doc: str) -> str:
    """The paragraph under `References:` in a factory's docstring, on one line."""
    _, _, text = doc.partition("References:\n")
    return " ".join(text.split("\n\n")[0].split())


def section(name: str) -> str:
    """One objective's part of the page."""
    objective = _catalogue.example(name)
    doc = inspect.getdoc(_catalogue.module(name)) or ""
    refused = [m for m in _catalogue.MODIFIERS if _catalogue.refusal(objective, m)]
    taken = [m for m in _catalogue.MODIFIERS if m not in refused]
    tests = [f"`{path}`" for path in importing_tests(name)]
    lines = [
        f"## `{name}`",
        "",
        doc.split("\n\n")[0].replace("\n", " "),
        "",
        *(["```text", formula(doc), "```", ""] if formula(doc) else []),
        f"- file: `gan_jax/objectives/{name}.py`",
        f"- source: {references(inspect.getdoc(_catalogue.factory(name)) or '')}",
        f"- players: {', '.join(f'`{n}` ({role_text(p.role)})' for n, p in objective.players.items())}",
        f"- losses: of the critic's {'features' if objective.on_features else 'scores'}"
        + (", which are logits" if objective.logits else ""),
        f"- proven in: {', '.join(tests) or 'the examples of its file'}",
        f"- takes: {', '.join(taken)}",
        f"- refuses: {', '.join(refused) or 'nothing'}",
    ]
    return "\n".join(lines)


def role_text(role: Role) -> str:
    """A short description of a role."""
    if isinstance(role, GeneratorRole):
        return f"generator of `{role.target}`"
    if isinstance(role, CriticRole):
        return f"critic of `{role.generator}`"
    return "auxiliary"


def modifiers() -> str:
    """A list of the terms and input transforms, each with the first line of its docstring."""
    makers = [
        (name, maker)
        for module in (_penalties, _regularizers, _terms, ada, augment, noise, packing)
        for name, maker in vars(module).items()
        if inspect.isfunction(maker) and maker.__module__ == module.__name__ and is_maker(maker)
    ]
    return "\n".join(f"- `{name}`: {(maker.__doc__ or '').splitlines()[0]}" for name, maker in sorted(makers))


def is_maker(function: Callable[..., object]) -> bool:
    """Tells whether a function returns a term or an input transform."""
    return inspect.signature(function).return_annotation in ("Term", "InputTransform")


def page(names: Sequence[str] = _catalogue.OBJECTIVES) -> str:
    """The whole page, or that of some objectives."""
    table = "\n".join(
        f"| [`{name}`](#{name}) | {', '.join(_catalogue.example(name).players)} |" for name in names
    )
    sections = "\n\n".join(section(name) for name in names)
    parts = [
        HEADER,
        f"| objective | players |\n| --- | --- |\n{table}\n",
        f"## Terms and input transforms\n\n{modifiers()}\n",
        f"{sections}\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
