"""Imports point down the list of rooms and of a room's files, and each room knows only what it may."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = [
    "launch",
    "experiments",
    "gan_jax",
    "gan_jax.cli",
    "gan_jax.explore",
    "gan_jax.runs",
    "gan_jax.models",
    "gan_jax.evaluation",
    "gan_jax.distributed",
    "gan_jax.training",
    "gan_jax.pictures",
    "gan_jax.diagnostics",
    "gan_jax.metrics",
    "gan_jax.data",
    "gan_jax.networks",
    "gan_jax.objectives",
    "gan_jax.image_schedules",
    "gan_jax.functional",
    "gan_jax.play",
    "gan_jax.field",
    "gan_jax.optim",
    "gan_jax.game",
    "gan_jax.outputs",
    "gan_jax.state",
    "gan_jax.schedule",
    "gan_jax.network",
    "gan_jax.dependence",
    "gan_jax._dependence_rules",
    "gan_jax.keys",
    "gan_jax.processes",
    "gan_jax.precision",
    "gan_jax.compiler",
    "gan_jax.memory",
    "gan_jax.types",
    "gan_jax.own_pictures",
    "gan_jax.files",
    "gan_jax.tables",
    "gan_jax._lazy",
    "gan_jax._version",
]
FILES_IN_ORDER = {
    "gan_jax.cli": [
        "main",
        "new_experiment",
        "sweeping",
        "sweep_files",
        "sweep_grid",
        "sweep_report",
        "command_line",
        "training",
        "evaluating",
        "comparing",
        "sampling",
        "exploring",
        "exporting",
        "evaluation_file",
        "using",
        "loading",
        "opened_run",
        "changes",
        "building",
        "request",
        "mode_flags",
        "finding",
        "errors",
        "program",
    ],
    "gan_jax.explore": [
        "image_folder",
        "image_session",
        "toy_session",
        "toy_games",
        "toy_frames",
        "page_files",
        "server",
        "nearest",
        "latent_space",
        "onnx_web",
        "curves",
    ],
    "gan_jax.runs": [
        "notebook",
        "replay",
        "loop",
        "rounds",
        "profiling",
        "saving",
        "logging",
        "evaluating",
        "drawing",
        "finite",
        "part",
        "interval",
        "machine",
        "interrupts",
        "opening",
        "described_data",
        "portable_files",
        "replacing",
        "checkpoint",
        "across_processes",
        "steps",
        "sealing",
        "leaves",
        "retention",
        "writer",
        "trackers",
        "events",
        "metrics_log",
        "progress",
        "config",
        "provenance",
        "lock",
        "workdir",
        "files",
        "terminal",
        "strict_json",
    ],
    "gan_jax.models": [
        "card",
        "onnx_export",
        "projection",
        "path_lengths",
        "model",
        "portable",
        "programs",
        "walks",
    ],
    "gan_jax.evaluation": [
        "describe",
        "expected",
        "compare",
        "image_measures",
        "score_tables",
        "scoring",
        "sample_measures",
        "score_intervals",
        "floors",
        "path_lengths",
        "evaluate",
        "probing",
        "standing",
        "repetitions",
        "averages",
        "sampling",
        "batches",
        "comparison",
        "sides",
        "seed_statistics",
    ],
    "gan_jax.distributed": [
        "seeds",
        "layout",
        "pmap",
        "jit",
        "transfer",
        "fsdp",
        "mesh",
        "hosts",
        "service",
    ],
    "gan_jax.training": ["experiment", "rollout", "step"],
}
"""The files of the rooms that have many, top to bottom: imports point down inside a room too."""
HEAVY = {
    "tensorflow",
    "tensorflow_datasets",
    "matplotlib",
    "sklearn",
    "orbax",
    "torch",
    "tensorboardX",
    "grain",
}


def module_name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for folder in ("gan_jax", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
} | {"launch": ROOT / "launch.py"}


def room(module: str) -> str:
    fitting = [name for name in ROOMS if module == name or module.startswith(name + ".")]
    return max(fitting, key=len)


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"


def imports(tree: ast.AST, top_level: bool = False) -> set[str]:
    """The modules a file imports while running; `top_level` leaves out those inside functions."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if is_for_types_only(node) or (top_level and isinstance(node, ast.FunctionDef | ast.ClassDef)):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # Relative imports are the experiments': the wheel has them in a package of another name.
            base = f"experiments.{node.module}" if node.level else node.module
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        else:
            found |= imports(node, top_level)
    return found


def parse(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text())


def own_imports(module: str) -> set[str]:
    return {name for name in imports(parse(FILES[module])) if name in FILES and name != module}


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_down(module: str) -> None:
    here = ROOMS.index(room(module))
    up = [name for name in own_imports(module) if name != "gan_jax" and ROOMS.index(room(name)) < here]
    assert not up, f"{module} imports {up} from a room above it"


@pytest.mark.parametrize("here", sorted(FILES_IN_ORDER))
def test_imports_point_down_inside_a_room(here: str) -> None:
    order = [f"{here}.{name}" for name in FILES_IN_ORDER[here]]
    assert sorted(order) == sorted(m for m in FILES if m.startswith(f"{here}.")), "every file has its place"
    for place, module in enumerate(order):
        up = own_imports(module) & set(order[:place])
        assert not up, f"{module} imports {sorted(up)}, which stand above it"


def test_no_cycles_among_modules() -> None:
    graph = {module: own_imports(module) for module in FILES}
    # A package's __init__ re-exports: importing a sibling passes through it without using it.
    packages = {module for module, path in FILES.items() if path.name == "__init__.py"}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module in done:
            return
        for name in sorted(graph[module] - packages):
            visit(name, (*trail, module))
        done.add(module)

    for module in sorted(FILES):
        visit(module, ())


@pytest.mark.parametrize("module", sorted(m for m in FILES if m.startswith("gan_jax")))
def test_heavy_libraries_are_imported_where_they_are_used(module: str) -> None:
    roots = {name.partition(".")[0] for name in imports(parse(FILES[module]), top_level=True)}
    assert not roots & HEAVY


def test_a_single_file_reads_private_modules_of_jax() -> None:
    private = [
        module for module in FILES if any(n.startswith("jax._src") for n in imports(parse(FILES[module])))
    ]
    assert private == ["gan_jax.distributed.service"]


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        *(
            (f"gan_jax.runs.{name}", ("gan_jax.objectives", "gan_jax.networks", "gan_jax.functional"))
            for name in ("loop", "rounds", "replay", "part", "saving", "logging", "evaluating", "drawing")
        ),
        *(
            (f"gan_jax.distributed.{name}", ("gan_jax.objectives", "gan_jax.networks"))
            for name in ("mesh", "transfer", "fsdp", "jit", "pmap", "layout", "seeds")
        ),
        *(
            (f"gan_jax.runs.{name}", ("gan_jax.game", "gan_jax.objectives", "gan_jax.networks"))
            for name in ("checkpoint", "steps", "leaves", "sealing", "retention")
        ),
        ("launch", ("gan_jax.objectives", "gan_jax.networks", "jax", "numpy")),
    ],
)
def test_a_room_knows_only_what_it_may(module: str, forbidden: tuple[str, ...]) -> None:
    known = imports(parse(FILES[module]))
    assert not [n for n in known if any(n == f or n.startswith(f + ".") for f in forbidden)]


@pytest.mark.parametrize("module", sorted(m for m in FILES if m.startswith("gan_jax.distributed")))
def test_sharding_names_no_player(module: str) -> None:
    strings = {node.value for node in ast.walk(parse(FILES[module])) if isinstance(node, ast.Constant)}
    assert not strings & {"critic", "generator"}


def test_launch_is_short_and_has_no_maths() -> None:
    text = FILES["launch"].read_text()
    assert len(text.splitlines()) < 100
    assert not [
        n
        for n in ast.walk(parse(FILES["launch"]))
        if isinstance(n, ast.BinOp) and not isinstance(n.op, ast.Div)
    ]


def test_every_room_is_on_the_list() -> None:
    """A new folder or module of the package has to be given its place."""
    for path in (ROOT / "gan_jax").iterdir():
        if path.name.startswith(("_", ".")) or path.name == "py.typed":
            continue
        assert f"gan_jax.{path.stem}" in ROOMS, path
