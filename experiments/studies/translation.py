"""Image-to-image: L1 with a game against L1 by itself, in inpainting and from edges.

Claims:
- The lower parts that L1 by itself draws are told from real ones: the kernel test (MMD) has p at most .01.
- Those of L1 and the game are not told from real ones: p is at least .05.
- They are nearer to the real ones: their squared MMD is at most .75 of that of L1 by itself.
- They vary as real ones do: their total variance is at least .8 of the real one.
- L1 by itself varies less: its share of the real variance is smaller than the game's by at least .05.
- It is smaller by at least .1.
- The price is small: their own L1 to the true picture is at most 1.4 times that of L1 by itself.
- From edges too the game's pictures are nearer to the real ones: at most .75 of the squared MMD.
- Both tasks beat noise: the game's squared MMD is at most a tenth of uniform noise's and of an untrained
  network's.

Inpainting: MNIST-5k, 4,000 digits to learn from and 1,000 held back; given are the upper 8 of 28 rows of a digit,
the others are grey; the lower 20 rows of what is drawn are judged. Edges: Fashion-MNIST, its first 5,000 pictures
split in the same way; given are the edges of a picture, the whole of what is drawn is judged. U-Net of width 16,
four halvings, with dropout for noise; PatchGAN of width 32 with one strided layer, batch normalisation in both;
-log D and lambda = 10 times L1, 2,000 rounds, or L1 by itself by the same network, 8,000 rounds, which take the
same processor time; Adam(5e-4, b1 = .5), batch 32. Tests are of 500 true pictures against 500 drawn for others,
all of them held back, so that the two sets are independent. Controls: uniform noise and an untrained network in
the place of what is drawn, and other true pictures. The bounds were chosen after one pilot run, of a seed that is
not among these, but for the game's p-value, which had been left out: it was .004, and is stated now as a claim
that does not hold.

What was expected and does not reproduce: that the game's pictures are nearer to the real ones by the kernel test.
They were, with .40 of the squared MMD, where L1 by itself had as many rounds as the game; at equal processor time
it has four times as many, and then the game has 1.1 to 2.2 times its squared MMD for digits, .6 to 1.5 times for
garments. What the game adds is variance: .96 of the real one where L1 has .80. A difference of .1 was expected
there and is .16, with an interval from .09; the bound of .05 was set after that. On scikit-learn's 8 x 8 digits
(halves, 1,297 pairs, 3,000 rounds) the game is no nearer to the real ones either.

Paper: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017, sections 3 and 4.2
(arXiv:1611.07004); Pathak et al., Context Encoders, 2016 (arXiv:1604.07379), for inpainting.

    python -m gan_jax.data.prepare fashion_mnist --from=/usr/share/datasets/fashion-mnist
    python -m experiments.studies translation        # 17 minutes on two cores
    python launch.py --config=experiments/translation.py --config.data=pairs:path/to/facades \\
        --config.size=256 --config.layers=3 --config.width=64

Scaled: pictures of 28 x 28 and narrow networks where the paper has photographs of 256 x 256, and lambda = 10 for
its 100; the last command is the paper's scale. --quick plays some hundred rounds of inpainting, for which nothing
has to be prepared, too few for the game's pictures to be better than L1's: it claims that L1's are told from real
ones and that the game's beat noise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.framework.image_text import as_text, from_text
from experiments.studies.framework.study import Claim, Numbers, Result, Study
from experiments.studies.framework.training import no_game, play, start
from gan_jax import pictures
from gan_jax.data import from_arrays, load
from gan_jax.data.arrays import decode
from gan_jax.data.derive import split_off, with_edges
from gan_jax.data.source import Source
from gan_jax.evaluation.sampling import sample
from gan_jax.game import Game, Objective, Player
from gan_jax.metrics.two_sample import mmd_test
from gan_jax.networks import PatchCritic, UNet, from_linen
from gan_jax.objectives import add_terms, reconstruction
from gan_jax.objectives.pix2pix import image_condition, patches, pix2pix
from gan_jax.schedule import alternating, turn
from gan_jax.state import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, GIVEN, HELD_BACK, SHOWN = 28, 8, 1000, 16
IMAGES = 5000
GAME_ROUNDS, L1_ROUNDS = 2000, 8000
GREY = 128
"""What stands where nothing is given."""
TASKS = ("inpainting", "edges")
FIRST_ROW = {"inpainting": GIVEN, "edges": 0}
"""The first row that is judged."""


def l1_alone() -> Objective:
    """The generator's L1, and nothing for a critic to do."""
    nothing = no_game(
        None,
        condition=image_condition,
        read=patches,
        realness=lambda real, fake: (jnp.mean(real, axis=(1, 2)), jnp.mean(fake, axis=(1, 2))),
    )
    return add_terms(nothing, reconstruction(1.0))


WAYS = {"L1": l1_alone, "L1 and game": lambda: pix2pix(l1=10.0)}
ROUNDS = {"L1": L1_ROUNDS, "L1 and game": GAME_ROUNDS}
QUICK_ROUNDS = {"L1": 400, "L1 and game": 200}
CONTROLS = ("noise", "untrained", "real")


@functools.cache
def pairs(task: str, quick: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Pictures with their conditions: to learn from, and held back."""
    name = "tfds:fashion_mnist" if task == "edges" and not quick else "mnist5k"
    arrays = {key: array[:IMAGES] for key, array in load(name).items()}
    if task == "edges":
        return split_off(with_edges(arrays), HELD_BACK)
    given = arrays["x"].copy()
    given[:, GIVEN:] = GREY
    return split_off({**arrays, "condition": given}, HELD_BACK)


@functools.cache
def game_of(way: str, task: str, quick: bool) -> tuple[Game, Source]:
    """The game of one way; L1 by itself has no turn of a critic."""
    image = jnp.zeros((2, SIDE, SIDE, 1))
    adam = optax.adam(5e-4, b1=0.5)
    game = Game(
        players={
            "critic": Player(from_linen(PatchCritic(layers=1, width=32), image, image), adam),
            "generator": Player(from_linen(UNet(channels=1, width=16, depth=4), image), adam),
        },
        objective=WAYS[way](),
        schedule=alternating() if way == "L1 and game" else (turn("generator"),),
    )
    training, _ = pairs(task, quick)
    return game, from_arrays({name: training[name] for name in ("x", "condition")}, 32)


def run(seed: int, quick: bool, way: str, task: str) -> Numbers:
    """How what is drawn compares with true pictures; --quick plays inpainting only."""
    if quick and task == "edges":
        return {}
    game, source = game_of(way, task, quick)
    state, _ = play(game, source, seed, (QUICK_ROUNDS if quick else ROUNDS)[way])
    return compared(drawn_by(game, state, task, quick, seed), task, quick, seed)


def drawn_by(game: Game, state: TrainState, task: str, quick: bool, seed: int) -> np.ndarray:
    """What a network draws of the conditions held back; what is given stands in it."""
    given, true = held_back(task, quick)
    drawn = sample(
        game, state, jax.random.key(400 + seed), HELD_BACK, condition_batch=lambda n: {"condition": given[:n]}
    )
    first = FIRST_ROW[task]
    return np.concatenate([true[:, :first], drawn[:, first:]], axis=1)


def held_back(task: str, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Conditions and true pictures, `[HELD_BACK, SIDE, SIDE, 1]` in [-1, 1], in a random order."""
    _, held = pairs(task, quick)
    order = np.random.default_rng(99).permutation(HELD_BACK)
    given, true = (np.asarray(decode(jnp.asarray(held[name][order]))) for name in ("condition", "x"))
    return given, true


def compared(drawn: np.ndarray, task: str, quick: bool, seed: int) -> Numbers:
    """MMD, its p-value, variance and L1 of what is drawn of the conditions held back."""
    given, true = held_back(task, quick)
    first = FIRST_ROW[task]
    order = np.random.default_rng(seed).permutation(HELD_BACK)
    real, fake = true[order[: HELD_BACK // 2], first:], drawn[order[HELD_BACK // 2 :], first:]
    test = mmd_test(real, fake, seed=seed)
    numbers: Numbers = {
        "mmd": test.statistic,
        "p_value": test.p_value,
        "variance": fake.var(axis=0).sum() / real.var(axis=0).sum(),
        "l1": np.abs(drawn - true)[:, first:].mean(),
    }
    if seed == 0:
        numbers |= {
            "given": as_text(given[:SHOWN]),
            "true": as_text(true[:SHOWN]),
            "drawn": as_text(drawn[:SHOWN]),
        }
    return numbers


def control(seed: int, quick: bool, name: str, task: str) -> Numbers:
    """The same of noise, of an untrained network, or of other true pictures."""
    game, _ = game_of("L1", task, quick)
    _, true = held_back(task, quick)
    draw = np.random.default_rng(500 + seed)
    drawn = {
        "noise": lambda: draw.uniform(-1, 1, size=true.shape).astype(np.float32),
        "untrained": lambda: drawn_by(game, start(game, seed), task, quick, seed),
        "real": lambda: np.roll(true, 1, axis=0),
    }[name]()
    return compared(drawn, task, quick, seed)


def case(name: str, task: str) -> str:
    """The case's name."""
    return f"{task}, {name}"


def figure(results: Sequence[Result]) -> Figure:
    """Given, drawn by either way, and true, for both tasks; the seeds' numbers."""
    rows = []
    played = [task for task in TASKS if results[0][case("L1", task)]]
    for task in played:
        shown = results[0][case("L1", task)]
        strips = {
            f"{task}: given": shown["given"],
            **{way: results[0][case(way, task)]["drawn"] for way in WAYS},
            "true": shown["true"],
        }
        for title, lines in strips.items():
            grid = pictures.image_grid(from_text(lines, SIDE), SHOWN, gap=2)
            rows.append(pictures.Row((pictures.image(grid, title=title),), height=0.9))
    dots = []
    for key, label, log in (
        ("mmd", "squared MMD to real ones", True),
        ("p_value", "p-value of the kernel test", True),
        ("variance", "variance (share of the real one)", False),
        ("l1", "L1 to the true picture", False),
    ):
        values = {
            case(name, task): [max(r[case(name, task)][key], 1e-5) for r in results]
            for task in played
            for name in (*WAYS, *CONTROLS)
        }
        marks = {"variance": [1.0], "p_value": [0.05]}.get(key, [])
        dots.append(pictures.dot_plot(values, x_label=label, log=log, marks=marks))
    return pictures.figure(
        *rows,
        pictures.Row(tuple(dots[:2]), height=2.8),
        pictures.Row(tuple(dots[2:]), height=2.8),
    )


def of(result: Result, task: str, name: str, key: str) -> float:
    """A number of a case."""
    return result[case(name, task)][key]


def over_l1(task: str, key: str) -> Callable[[Result], float]:
    """The game's number over that of L1 by itself."""
    return lambda r: of(r, task, "L1 and game", key) / of(r, task, "L1", key)


def over_noise(result: Result) -> float:
    """The game's squared MMD over the lesser of noise's and of an untrained network's, the larger of both tasks."""
    return max(
        of(result, task, "L1 and game", "mmd")
        / min(of(result, task, name, "mmd") for name in ("noise", "untrained"))
        for task in TASKS
        if result[case("L1 and game", task)]
    )


GAME = "L1 and game"

STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=13.05,
    cases={
        **{case(way, task): functools.partial(run, way=way, task=task) for task in TASKS for way in WAYS},
        **{
            case(name, task): functools.partial(control, name=name, task=task)
            for task in TASKS
            for name in CONTROLS
        },
    },
    controls=[case(name, task) for task in TASKS for name in CONTROLS],
    seeds=3,
    claims=(
        Claim(
            effect=lambda r: of(r, "inpainting", "L1", "p_value"), at_most=0.01, quick=0.01, every_seed=True
        ),
        Claim(effect=lambda r: of(r, "inpainting", GAME, "p_value"), at_least=0.05, reproduces=False),
        Claim(effect=over_l1("inpainting", "mmd"), at_most=0.75, reproduces=False),
        Claim(effect=lambda r: of(r, "inpainting", GAME, "variance"), at_least=0.8),
        Claim(
            effect=lambda r: of(r, "inpainting", GAME, "variance") - of(r, "inpainting", "L1", "variance"),
            at_least=0.05,
        ),
        Claim(
            effect=lambda r: of(r, "inpainting", GAME, "variance") - of(r, "inpainting", "L1", "variance"),
            at_least=0.1,
            reproduces=False,
        ),
        Claim(effect=over_l1("inpainting", "l1"), at_most=1.4, quick=2.0),
        Claim(effect=over_l1("edges", "mmd"), at_most=0.75, reproduces=False),
        Claim(effect=over_noise, at_most=0.1, quick=0.8),
    ),
    figure=figure,
)
