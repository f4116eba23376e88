"""Dirac-GAN: eigenvalues and trajectories of every objective.

Claims:
- Eigenvalues of a round's Jacobian equal the closed forms to 1e-6, for all objectives, simultaneous and
  alternating.
- Simultaneous play of the minimax game leaves the equilibrium: the radius grows to at least 1.5 times its start.
- Alternating play of it circles: the last turn's mean radius is that of the first to within 1 %.
- No objective without a regulariser converges at a linear rate, WGAN, clipped WGAN and WGAN-GP among them,
  whether players move simultaneously or alternate: of the radius at half time at least half is left at the end.
- R1, R2 and instance noise reach it in either way of playing, consensus, symplectic adjustment and extragradient
  in simultaneous play: radii fall to 1e-3 of the start's.
- Near it, R1's radius shrinks at the rate of the closed form: the measured exponent is within 2 %.

Data at 0, G = theta, D(x) = psi x: the smallest GAN, all of whose local behaviour has a closed form, and the
counter-example of Mescheder et al. Every objective whose slopes at 0 are known is linearised through the
library's own train step, simultaneous and alternating, for a step size h, a penalty gamma and an instance noise
sigma that the seed draws; trajectories of 2,000 rounds of gradient descent (h = .1) start from a point that the
seed draws at radius 1. Clipping is to [-1, 1], the gradient penalty's weight is 1 and its target 1; gamma of R1
and R2 is 1.5, instance noise has deviation 1, consensus and symplectic adjustment have weight 1; extragradient
plays the WGAN.

Expected and not found: that all these stay at .2 of the start's radius or more. -log D, least squares and the
relativistic games do come nearer, in alternating play to .1 in 2,000 rounds: the linear part turns in circles,
and what is left, of third order, pulls inwards ever more slowly. WGAN-GP comes to rest elsewhere: at psi = 0 and
|theta| = 2, where the penalty's pull towards slope 1 and the data's cancel.

Paper: Mescheder et al., Which Training Methods for GANs do actually Converge?, 2018, sections 2 and 4
(arXiv:1801.04406); Mescheder et al., The Numerics of GANs, 2017 (arXiv:1705.10461).

    python -m experiments.studies dirac        # two minutes on one core

Nothing is scaled. Float64.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.studies.framework.study import Claim, Numbers, Result, Study
from gan_jax import field as fields
from gan_jax import pictures
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, InputTransform, Objective, Player
from gan_jax.network import Network
from gan_jax.objectives import add_terms, r1, r2, with_transforms
from gan_jax.objectives.f_gan import f_gan
from gan_jax.objectives.gan import gan
from gan_jax.objectives.hinge import hinge
from gan_jax.objectives.least_squares import least_squares
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.relativistic import relativistic
from gan_jax.objectives.wgan import wgan
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.optim import clip_params
from gan_jax.schedule import Schedule, alternating, fresh_turns, simultaneous
from gan_jax.training.step import init_state, make_train_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PRIOR = gaussian(1)
STEP = 0.1
ROUNDS = 2000
SHOWN, REACH, COLUMNS = 600, 2.2, 6
CLIP = 1.0
SCHEDULES: dict[str, Callable[[], Schedule]] = {"simultaneous": simultaneous, "alternating": alternating}
R1_GAMMA = 1.5
"""Above 1: one real eigenvalue governs the decay, which at 1 is double."""


def two_nodes(sigma: float) -> InputTransform:
    """Instance noise on the points +sigma and -sigma: its expectation is exact on two examples."""

    def apply(inputs: Any, key: Any, step: Any, objective_state: Any) -> Any:
        x, *rest = inputs
        signs = jnp.where(jnp.arange(x.shape[0]) % 2 == 0, 1.0, -1.0)[:, None]
        return (x + sigma * signs, *rest)

    return InputTransform(name="two_nodes", apply=apply)


def closed_forms(gamma: float, sigma: float) -> dict[str, tuple[Objective, float, float]]:
    """Objectives, and b, c of t^2 + b t + c, whose roots are the eigenvalues of the continuous field."""
    forms = {
        "minimax": (gan(PRIOR), 0.0, 1 / 4),
        "-log D": (non_saturating(PRIOR), 0.0, 1 / 4),
        "WGAN": (wgan(PRIOR), 0.0, 1.0),
        "least squares": (least_squares(PRIOR, a=-1.0, b=1.0, c=1.0), 0.0, 1.0),
        "hinge": (hinge(PRIOR), 0.0, 1.0),
        "relativistic": (relativistic(PRIOR, average=False), 0.0, 1 / 4),
        "relativistic average": (relativistic(PRIOR), 0.0, 1.0),
        "instance noise": (with_transforms(gan(PRIOR), two_nodes(sigma)), sigma**2 / 2, 1 / 4),
        "R1": (add_terms(gan(PRIOR), r1(gamma)), gamma, 1 / 4),
        "R2": (add_terms(gan(PRIOR), r2(gamma)), gamma, 1 / 4),
    }
    slopes = {"kl": math.exp(-2), "reverse_kl": 1.0, "pearson": 1.0, "neyman": 1.0, "squared_hellinger": 1.0}
    slopes |= {"jeffrey": 1.0, "jensen_shannon": 1 / 4, "total_variation": 1 / 4}
    return forms | {f"f-GAN {name}": (f_gan(PRIOR, divergence=name), 0.0, c) for name, c in slopes.items()}


def game_of(
    objective: Objective, step: float, schedule: Schedule, field: Any = None, clip: float | None = None
) -> Game:
    """The Dirac-GAN, by gradient descent; psi is clipped to [-clip, clip]."""

    def theta(params: Any, model_state: Any, z: Any, train: bool = False, key: Any = None) -> Any:
        return jnp.broadcast_to(params, (z.shape[0], 1)), model_state

    def psi_x(params: Any, model_state: Any, x: Any, train: bool = False, key: Any = None) -> Any:
        return params * x[:, 0], model_state

    return Game(
        players={
            "generator": Player(Network(init=lambda key: (jnp.zeros(()), ()), apply=theta), optax.sgd(step)),
            "critic": Player(
                Network(init=lambda key: (jnp.zeros(()), ()), apply=psi_x),
                optax.sgd(step) if clip is None else optax.chain(optax.sgd(step), clip_params(clip)),
            ),
        },
        objective=objective,
        schedule=schedule,
        field=field,
    )


def round_of(game: Game) -> Callable[[Any], Any]:
    """One round as a map of the point (psi, theta)."""
    step = make_train_step(game)
    turns = fresh_turns(game.schedule)
    batches = {"x": jnp.zeros((turns, 2, 1) if turns > 1 else (2, 1))}
    state = init_state(game, jax.random.key(0))

    def play(point: Any) -> Any:
        values = {"critic": point[0], "generator": point[1]}
        players = {name: player._replace(params=values[name]) for name, player in state.players.items()}
        after, _ = step(state._replace(players=players), batches)
        return jnp.stack([after.players["critic"].params, after.players["generator"].params])

    return play


def roots(b: float, c: float) -> np.ndarray:
    """The roots of t^2 + b t + c, by imaginary, then real part."""
    root = complex(b * b - 4 * c) ** 0.5
    return _in_order(np.array([(-b - root) / 2, (-b + root) / 2]))


def _in_order(values: np.ndarray) -> np.ndarray:
    return values[np.lexsort((values.real.round(9), values.imag.round(9)))]


def eigenvalues(seed: int, quick: bool) -> Numbers:
    """The largest difference of an eigenvalue from its closed form, over all objectives, and those of some."""
    draw = np.random.default_rng(seed)
    h, gamma, sigma = draw.uniform(0.05, 0.4), draw.uniform(0.2, 2.5), draw.uniform(0.3, 1.8)
    errors, real, imaginary = {}, {}, {}
    with jax.enable_x64(True):
        for name, (objective, b, c) in closed_forms(gamma, sigma).items():
            for how, schedule in SCHEDULES.items():
                jacobian = jax.jacrev(round_of(game_of(objective, h, schedule())))(jnp.zeros(2))
                found = _in_order(np.linalg.eigvals(np.asarray(jacobian)).astype(complex))
                # Simultaneous: 1 + h t. Alternating: trace 2 - h b - h^2 c and determinant 1 - h b of two shears.
                form = (
                    1 + h * roots(b, c) if how == "simultaneous" else roots(h * b + h * h * c - 2, 1 - h * b)
                )
                errors[f"{name}, {how}"] = float(np.abs(found - _in_order(form)).max())
                real[f"{name}, {how}"] = found.real
                imaginary[f"{name}, {how}"] = found.imag
    return {"h": h, "gamma": gamma, "sigma": sigma, "errors": errors, "real": real, "imaginary": imaginary}


@functools.cache
def ways() -> dict[str, tuple[Objective, Any, float | None]]:
    """The games whose trajectories are drawn: objective, field, and the bound to which psi is clipped."""
    minimax = gan(PRIOR)
    plain = closed_forms(R1_GAMMA, 1.0)
    return {
        **{name: (objective, None, None) for name, (objective, _, _) in plain.items()},
        "WGAN, clipped": (wgan(PRIOR), None, CLIP),
        "WGAN-GP": (wgan_gp(PRIOR, penalty=1.0), None, None),
        "consensus": (minimax, fields.consensus(1.0), None),
        "symplectic": (minimax, fields.symplectic_adjustment(1.0, align=False), None),
        "extragradient": (wgan(PRIOR), fields.extragradient(), None),
    }


REGULARISED = ("instance noise", "R1", "R2")
FIELDS = ("consensus", "symplectic", "extragradient")
REACHING = (
    *((name, how) for name in REGULARISED for how in SCHEDULES),
    *((name, "simultaneous") for name in FIELDS),
)


@functools.cache
def course(name: str, how: str) -> Callable[[Any], Any]:
    """`point [2] -> points [ROUNDS, 2]`, (psi, theta) through training."""
    objective, field, clip = ways()[name]
    play = round_of(game_of(objective, STEP, SCHEDULES[how](), field, clip))

    def body(point: Any, _: None) -> tuple[Any, Any]:
        return play(point), point

    return jax.jit(lambda point: jax.lax.scan(body, point, None, length=ROUNDS)[1])


def trajectories(seed: int, quick: bool) -> Numbers:
    """Radii along every way of playing, and R1's decay against the closed form."""
    angle = np.random.default_rng(1000 + seed).uniform(0, 2 * np.pi)
    numbers: Numbers = {"last": {}, "half": {}, "late": {}, "paths": {}}
    with jax.enable_x64(True):
        for name in ways():
            for how in SCHEDULES:
                path = np.asarray(course(name, how)(jnp.array([np.cos(angle), np.sin(angle)])))
                # What has left the range of float64 is infinitely far.
                radius = np.nan_to_num(np.linalg.norm(path, axis=1), nan=np.inf)
                numbers["last"][f"{name}, {how}"] = radius[-1]
                numbers["half"][f"{name}, {how}"] = radius[ROUNDS // 2 - 200 : ROUNDS // 2].max()
                numbers["late"][f"{name}, {how}"] = radius[-200:].max()
                if seed == 0:
                    near = radius[:SHOWN] < 2 * REACH
                    numbers["paths"][f"{name}, {how}"] = path[:SHOWN][near][::3].round(2)
                if (name, how) == ("minimax", "alternating"):
                    # A turn around the circle takes 2 pi / (h / 2) rounds.
                    turn = round(4 * np.pi / STEP)
                    numbers["drift"] = abs(radius[-turn:].mean() / radius[:turn].mean() - 1)
                if (name, how) == ("R1", "simultaneous"):
                    numbers["r1_rate"] = float(np.log(radius[600] / radius[200]) / 400)
    numbers["r1_form"] = float(np.log(np.abs(1 + STEP * roots(R1_GAMMA, 1 / 4)).max()))
    return numbers


def figure(results: Sequence[Result]) -> Figure:
    """Every objective's trajectories from one seed, and the eigenvalues in the plane."""
    paths = results[0]["trajectories"]["paths"]
    panels: list[pictures.Chart | None] = []
    for name in ways():
        drawn: dict[str, Any] = {
            how: tuple(np.asarray(paths[f"{name}, {how}"]).reshape(-1, 2).T) for how in SCHEDULES
        }
        panels.append(
            pictures.curves(
                {**drawn, "equilibrium": ([0.0], [0.0])},
                x_label="psi",
                y_label="theta",
                title=name.replace("_", " "),
                x_limits=(-REACH, REACH),
                y_limits=(-REACH, REACH),
                equal=True,
                points={"equilibrium"},
            )
        )
    panels += [None] * (-len(panels) % COLUMNS)
    rows = [
        pictures.Row(tuple(panels[first : first + COLUMNS]), height=2.4, shared_legend=True)
        for first in range(0, len(panels), COLUMNS)
    ]
    found = results[0]["eigenvalues"]
    circle = np.linspace(0, 2 * np.pi, 400)
    values: dict[str, Any] = {"unit circle": (np.cos(circle), np.sin(circle))}
    for how in SCHEDULES:
        names = [name for name in found["real"] if name.endswith(how)]
        values[how] = tuple(
            np.concatenate([found[part][name] for name in names]) for part in ("real", "imaginary")
        )
    plane = pictures.curves(
        values,
        x_label="real part",
        y_label="imaginary part",
        title=f"Eigenvalues of a round, h = {found['h']:.3g}",
        x_limits=(0.3, 1.15),
        y_limits=(-0.425, 0.425),
        equal=True,
        points=set(SCHEDULES),
    )
    radii = [
        pictures.dot_plot(
            {
                name.replace("_", " "): [
                    min(max(result["trajectories"]["late"][f"{name}, {how}"], 1e-6), 1e6)
                    for result in results
                ]
                for name in ways()
            },
            x_label="largest radius, last 200 rounds (1e-6 to 1e6)",
            title=f"{how.capitalize()} play, every seed",
            log=True,
            marks=[1.0],
        )
        for how in SCHEDULES
    ]
    errors = {
        f"seed {seed}": [max(error, 1e-17) for error in result["eigenvalues"]["errors"].values()]
        for seed, result in enumerate(results)
    }
    closed_form = pictures.dot_plot(
        errors,
        x_label="|eigenvalue - closed form|",
        title="Every objective; 1e-6 is claimed",
        log=True,
        marks=[1e-6],
    )
    return pictures.figure(
        *rows,
        pictures.Row(tuple(radii), height=4.6),
        pictures.Row((plane, closed_form), height=3.8),
        width=12.0,
    )


def last(name: str, how: str, result: Result) -> float:
    """The last radius over the first, which is 1."""
    return result["trajectories"]["last"][f"{name}, {how}"]


def decay(result: Result) -> float:
    """The least share of the radius at half time that is left at the end, of what is not regularised."""
    names = [name for name in ways() if name not in (*REGULARISED, *FIELDS)]
    late, half = result["trajectories"]["late"], result["trajectories"]["half"]
    return min(late[f"{name}, {how}"] / half[f"{name}, {how}"] for name in names for how in SCHEDULES)


STUDY = Study(
    module=__name__,
    doc=__doc__,
    place=11,
    cases={"eigenvalues": eigenvalues, "trajectories": trajectories},
    seeds=5,
    quick_seeds=1,
    claims=(
        Claim(
            effect=lambda result: max(result["eigenvalues"]["errors"].values()),
            at_most=1e-6,
            quick=1e-6,
            every_seed=True,
        ),
        Claim(
            effect=functools.partial(last, "minimax", "simultaneous"),
            at_least=1.5,
            quick=1.5,
        ),
        Claim(
            effect=lambda result: result["trajectories"]["drift"],
            at_most=0.01,
            quick=0.02,
        ),
        Claim(effect=decay, at_least=0.5, quick=0.5, every_seed=True),
        Claim(
            effect=lambda result: max(last(name, how, result) for name, how in REACHING),
            at_most=1e-3,
            quick=1e-3,
            every_seed=True,
        ),
        Claim(
            effect=lambda result: abs(
                result["trajectories"]["r1_rate"] / result["trajectories"]["r1_form"] - 1
            ),
            at_most=0.02,
            quick=0.02,
            every_seed=True,
        ),
    ),
    figure=figure,
)
