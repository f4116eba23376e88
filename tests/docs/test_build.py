"""BUILD.md is so: its rooms, its dependencies, its names of draws."""

import ast
import configparser
import re

from gan_jax.runs import sealing
from tests.docs.pages import ROOT
from tests.test_layering import FILES, FILES_IN_ORDER, ROOMS

BUILD = (ROOT / "BUILD.md").read_text()
DISTRIBUTIONS = re.compile(r"^[\w-]+(?:\[\w+\])?", re.MULTILINE)


def section(title):
    """What stands under a heading of the third level."""
    _, _, rest = BUILD.partition(f"### {title}\n")
    assert rest, f"BUILD.md has no section {title!r}"
    return re.split(r"^##", rest, flags=re.MULTILINE)[0]


def first_column(text):
    """The first cells of a section's tables, without the heads."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    heads = {rows[i - 1] for i, row in enumerate(rows) if set(row) <= set("| -")}
    return [row.split("|")[1].strip() for row in rows if row not in heads and not set(row) <= set("| -")]


def listed_rooms():
    """`(module, its parent's indentation)` of the list of rooms, in order."""
    listing = re.search(r"```\n(launch\.py.*?)```", section("Rooms"), re.DOTALL)[1]
    found, packages = [], {0: ""}
    for line in listing.splitlines():
        indent = len(line) - len(line.lstrip())
        names = re.match(r"\s*((?:\w+(?:\.py|/)(?:, )?)+)", line)[1].split(", ")
        for name in names:
            module = packages[indent] + name.removesuffix("/").removesuffix(".py")
            if name.endswith("/"):
                packages[indent + 2] = f"{module}."
            found.append(module.removesuffix(".__init__"))
    return found


def test_rooms_are_listed_in_the_order_that_imports_keep():
    found = listed_rooms()
    rooms = [name for name in found if name.count(".") <= 1]
    assert [name for i, name in enumerate(rooms) if name not in rooms[:i]] == ROOMS
    for name, files in FILES_IN_ORDER.items():
        assert [m for m in found if m.startswith(f"{name}.")] == [f"{name}.{file}" for file in files]
    packages = {name for name in found if name in ("gan_jax", "experiments")}
    assert set(found) - packages <= set(FILES), "every file that is listed is there"


def test_every_dependency_has_its_reason():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = {DISTRIBUTIONS.match(line)[0] for line in setup["options"]["install_requires"].split()}
    named = [name for cell in first_column(section("Dependencies")) for name in cell.split(", ")]
    assert sorted(named) == sorted(required)


def literal(node):
    """A string, or an f-string with braces where it has values; `None` for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def names_of_draws(tree):
    """The literal names that keys are folded from: `named_key(key, name)` and `context.key(name)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            if getattr(node.func, "id", None) == "named_key":
                yield literal(node.args[1])
            elif (
                getattr(node.func, "attr", None) == "key" and getattr(node.func.value, "attr", "") != "random"
            ):
                yield literal(node.args[0])


def test_names_of_draws_are_those_of_the_code():
    """A draw that is not in the table, or is no more made, changes what was promised of results."""
    used = {name for path in FILES.values() for name in names_of_draws(ast.parse(path.read_text()))} - {None}
    cells = [cell for cell in first_column(section("Names of draws")) if "`" in cell]
    named = {re.sub(r"\{\w+\}", "{}", name) for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    by_variable = {"encoder", "decoder"}  # named_key(key, name) of a part
    assert named - by_variable == used


def test_the_format_of_checkpoints_is_the_codes():
    text = section("Checkpoints and their versions")
    assert f"`sealing.FORMAT` is {sealing.FORMAT}." in text
    for older in sealing.READ_FORMATS[:-1]:
        assert f"Format {older}" in text
