"""Keys are drawn by names, so every result depends on them: those of the source are the ones listed here."""

import ast
import functools
import pathlib
import zlib

import jax
import numpy as np
import pytest

from gan_jax.functional.noise import instance_noise
from gan_jax.keys import named_key
from gan_jax.objectives import with_transforms
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.training.step import init_state, make_train_step
from tests import helpers
from tests.objectives import cases

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHANGED = (
    "The names by which keys are drawn in {} are not those listed. Another name draws other numbers: the same seed "
    "would give other results, and a run would not resume as it began. Keep the old name; list new and moved ones."
)

# By file, the strings that reach `named_key` or name a term, directly or through the parameters of functions.
NAMES = {
    "experiments/games.py": ["decoder", "encoder"],
    "gan_jax/cli/comparing.py": ["evaluation"],
    "gan_jax/cli/exporting.py": ["picture"],
    "gan_jax/cli/sampling.py": ["picture"],
    "gan_jax/data/augment.py": ["labelled", "x"],
    "gan_jax/data/toy.py": ["angle", "height", "mode", "noise"],
    "gan_jax/evaluation/evaluate.py": ["evaluation"],
    "gan_jax/evaluation/path_lengths.py": ["path_length"],
    "gan_jax/evaluation/probing.py": ["probe"],
    "gan_jax/evaluation/sampling.py": ["latent", "picture"],
    "gan_jax/evaluation/standing.py": ["latent", "standing"],
    "gan_jax/explore/image_folder.py": ["picture"],
    "gan_jax/explore/toy_frames.py": ["picture"],
    "gan_jax/functional/ada.py": ["ada/noise"],
    "gan_jax/functional/codes.py": ["category/{}", "code", "continuous", "noise"],
    "gan_jax/functional/penalties.py": ["alpha"],
    "gan_jax/models/model.py": ["latent", "picture", "truncation"],
    "gan_jax/models/path_lengths.py": ["path_length"],
    "gan_jax/models/projection.py": ["picture", "projection"],
    "gan_jax/networks/layer_noise.py": ["constant_noise/{}"],
    "gan_jax/networks/layers.py": ["dropout", "noise", "params"],
    "gan_jax/networks/linen.py": ["params"],
    "gan_jax/networks/projected.py": ["params"],
    "gan_jax/networks/nnx.py": ["/", "params"],
    "gan_jax/networks/stylegan2.py": ["noise"],
    "gan_jax/objectives/_catalogue.py": ["fake"],
    "gan_jax/objectives/_compose.py": ["unrolled"],
    "gan_jax/objectives/_forward.py": [
        "critic",
        "fake",
        "generator",
        "latent",
        "prepare/{}/{}",
        "real",
        "{}/{}",
    ],
    "gan_jax/objectives/_penalties.py": [
        "closure",
        "critic",
        "dragan_penalty",
        "fake",
        "gradient_penalty",
        "max_penalty",
        "mixture_penalty",
        "point",
        "r1",
        "r2",
        "real",
    ],
    "gan_jax/objectives/_regularizers.py": [
        "approximate_penalty_{}",
        "critic",
        "direction",
        "orthogonal",
        "path_length",
        "perturbation",
        "real",
        "synthesis",
    ],
    "gan_jax/objectives/_term.py": ["term/{}"],
    "gan_jax/objectives/_terms.py": [
        "ada",
        "classification",
        "consistency",
        "consistency_{}",
        "delta",
        "feature_matching",
        "historical_averaging",
        "label_smoothing",
        "latent_consistency",
        "latent_diversity",
        "lecam",
        "mutual_information",
        "nudged",
        "real",
        "reconstruction",
        "top_k",
        "transform",
    ],
    "gan_jax/objectives/began.py": ["balance"],
    "gan_jax/objectives/cramer.py": ["surrogate_penalty"],
    "gan_jax/objectives/cycle_gan.py": ["fake", "real"],
    "gan_jax/objectives/ebgan.py": ["pulling_away"],
    "gan_jax/objectives/mmd_gan.py": ["witness_penalty"],
    "gan_jax/objectives/semi_supervised.py": ["labelled", "supervised"],
    "gan_jax/objectives/vral.py": ["meta_fake", "meta_real", "normal", "scores", "{}/normal"],
    "gan_jax/runs/notebook.py": ["evaluation"],
}

# The functions that draw by a name or make one, with the parameter that it comes by and its place.
STARTS = {
    "named_key": ("name", 1),
    "Term": ("name", 0),
    "make_rng": ("name", 0),
    "transform_name": ("kind", 2),
}
MAKERS = ("transform_name",)

PLAYERS = {
    "critic generator": set(cases.MODULES) - {"cycle_gan", "vral"},
    "critic generator meta_fake meta_real": {"vral"},
    "critic_a critic_b generator_ab generator_ba": {"cycle_gan"},
}


def strings(node):
    """All literal strings of an expression; what an f-string fills in is `{}`."""
    if isinstance(node, ast.JoinedStr):
        return {"".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)}
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    return set().union(*map(strings, ast.iter_child_nodes(node)))


def variables(node):
    """The variables whose values are the value of an expression, or parts of its string."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.JoinedStr | ast.FormattedValue | ast.BoolOp | ast.IfExp):
        return set().union(*map(variables, ast.iter_child_nodes(node)))
    return set()


def callee(call):
    if isinstance(call.func, ast.Attribute):
        return "" if ast.unparse(call.func).startswith("jax.random") else call.func.attr
    return getattr(call.func, "id", "")


def parameters(function):
    """Each parameter's place and default (None where there is none); `self` is not counted."""
    positional = [*function.args.posonlyargs, *function.args.args]
    defaults = [None] * (len(positional) - len(function.args.defaults)) + function.args.defaults
    found = {argument.arg: default for argument, default in zip(positional, defaults, strict=True)}
    found.pop("self", None)
    places = {name: (place, default) for place, (name, default) in enumerate(found.items())}
    keywords = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return places | {argument.arg: (None, default) for argument, default in keywords}


def calls_of(tree):
    """The calls in a tree, each with the name of what it calls."""
    return [(callee(node), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def given(calls, takes_names):
    """The expressions that calls give for the parameters that are names."""
    for called, call in calls:
        for name, place in takes_names.get(called, {}).items():
            if place is not None and place < len(call.args):
                yield call.args[place]
            yield from (keyword.value for keyword in call.keywords if keyword.arg == name)


def iterated(function):
    """The loops' variables, and what they go through."""
    loops = [node for node in ast.walk(function) if isinstance(node, ast.For | ast.comprehension)]
    return {
        name.id: loop.iter for loop in loops for name in ast.walk(loop.target) if isinstance(name, ast.Name)
    }


@functools.cache
def names_by_file():
    files = [path for room in ("gan_jax", "experiments") for path in sorted((ROOT / room).rglob("*.py"))]
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in files}
    functions = [
        (file, node)
        for file, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    read = [(node, parameters(node), iterated(node), calls_of(node)) for _, node in functions]
    takes_names, before = {function: {name: place} for function, (name, place) in STARTS.items()}, None
    while before != (before := sum(map(len, takes_names.values()))):
        for function, taken, loops, calls in read:
            for expression in list(given(calls, takes_names)):
                used = variables(expression)
                for name in used | {n for u in used & loops.keys() for n in variables(loops[u])}:
                    if name in taken:
                        takes_names.setdefault(function.name, {})[name] = taken[name][0]
    found = {
        file: set().union(*map(strings, given(calls_of(tree), takes_names))) for file, tree in trees.items()
    }
    for file, function in functions:
        if function.name in MAKERS:
            made = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
            found[file] |= set().union(*map(strings, made))
        for name, (_, default) in parameters(function).items():
            if name in takes_names.get(function.name, {}) and default is not None:
                found[file] |= strings(default)
    return {file: sorted(names) for file, names in found.items() if names}


@pytest.mark.parametrize("file", NAMES)
def test_the_names_of_keys_are_frozen(file):
    assert names_by_file().get(file) == NAMES[file], CHANGED.format(file)


def test_no_other_file_names_keys():
    assert set(names_by_file()) == set(NAMES)


@pytest.mark.parametrize("name", cases.MODULES)
def test_the_names_of_players_are_frozen(name):
    """A player's parameters are drawn by its name."""
    assert name in PLAYERS[" ".join(sorted(cases.case(name).build().players))], CHANGED.format(name)


def crc(data):
    """CRC-32 bit by bit: the reversed polynomial 0xEDB88320, all ones before and after."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ (0xEDB88320 if rest & 1 else 0)
    return rest ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("123456789", 0xCBF43926),  # the polynomial's published check value
        ("latent", 0x6CF1FD73),
        ("critic/real", 0xECC066BB),
        ("term/gradient_penalty", 0x72EE81C9),
        ("prepare/0/fake", 0x4543B81A),
    ],
)
def test_a_key_is_folded_by_the_crc_of_its_name(name, number):
    assert crc(name.encode()) == number
    key = jax.random.key(0)
    found, expected = (
        jax.random.key_data(k) for k in (named_key(key, name), jax.random.fold_in(key, number))
    )
    np.testing.assert_array_equal(found, expected)


def test_a_round_draws_by_these_names_and_no_others(monkeypatch):
    """A penalised game with noise before its critic, from its parameters to the end of a round."""
    drawn, crc32 = [], zlib.crc32
    monkeypatch.setattr("gan_jax.keys.zlib.crc32", lambda data: drawn.append(data.decode()) or crc32(data))
    game = helpers.game(with_transforms(wgan_gp(helpers.PRIOR, penalty=1.0), instance_noise(0.1)))
    state = jax.eval_shape(lambda: init_state(game, jax.random.key(0)))
    assert drawn == ["critic", "generator"]
    drawn.clear()
    jax.eval_shape(make_train_step(game), state, helpers.batch(shape=(2,)))
    assert sorted(set(drawn)) == [
        "critic/closure",
        "critic/fake",
        "critic/real",
        "generator",
        "latent",
        "point",
        "prepare/0/fake",
        "prepare/0/real",
        "term/gradient_penalty",
    ]
