"""Scores of critics that compare the examples of their batch: those of the network itself on all examples."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gj
from gan_jax.explore.image_session import has_features
from gan_jax.models.model import Model
from gan_jax.models.portable import FIXED_BATCH, PortableError, fixed_batch, from_files, to_files
from gan_jax.models.programs import WHOLE_BATCH, Program, Programs, _program, _scores, group_of, weight_names
from gan_jax.models.projection import project
from gan_jax.networks import StyleGAN2Critic
from tests.tiers import full

POINTS, IMAGES = (2,), (8, 8, 1)


def stylegan2(**fields):
    return StyleGAN2Critic(width=4, most=4, **fields)


def mlp(**fields):
    return gj.MLPCritic(widths=(8,), **fields)


@dataclasses.dataclass
class Made:
    """A critic by its network: its scores of a whole set, and models of its programs, rebuilt and from files."""

    module: object
    shape: tuple[int, ...]

    def __post_init__(self):
        self.network = gj.from_linen(self.module, jnp.zeros((1, *self.shape)))
        self.variables = self.network.init(jax.random.key(0))
        inputs = (jax.ShapeDtypeStruct((1, *self.shape), jnp.float32),)
        self.program = _program(_scores(self.network), self.variables, inputs)
        self.weights = dict(zip(weight_names(self.variables), jax.tree.leaves(self.variables), strict=True))
        generator = Program(lambda weights, key, z: z, {}, inputs)
        latent = lambda key: jnp.zeros((1000, *self.shape))  # noqa: E731
        self.programs = Programs(
            {"g": generator}, {"c": self.program}, {}, {}, latent, {"g": "c"}, (), differentiable=True
        )
        self.rebuilt = self.model(self.programs)

    def model(self, programs):
        weights = {"g": {}, "c": self.weights}
        return Model(programs, weights, player="g", round=1, kind="raw", config={}, seed=0)

    def read(self, change=lambda description: description):
        description, files = to_files(self.programs)
        return self.model(from_files(change(description), files.__getitem__))

    def itself(self, x):
        out, _ = self.network.apply(*self.variables, jnp.asarray(x), train=False, key=None)
        return np.asarray(out["score"] if isinstance(out, dict) else out)

    def examples(self, n):
        return np.random.default_rng(0).normal(size=(n, *self.shape)).astype(np.float32) * 3


@pytest.mark.parametrize(
    ("module", "shape", "group", "numbers"),
    [
        (mlp(minibatch="stddev"), POINTS, 4, (4, 8, 64, 252)),
        full(mlp(minibatch="discrimination"), POINTS, WHOLE_BATCH, (1, 5, 300)),
        full(stylegan2(), IMAGES, 4, (4, 68, 252)),
        (stylegan2(group=3), IMAGES, 3, (3, 66)),
        full(stylegan2(minibatch="none"), IMAGES, 1, (1, 2, 251)),
    ],
    ids=["mlp", "discrimination", "stylegan2", "stylegan2 of three", "stylegan2 alone"],
)
def test_scores_are_those_of_the_network_on_all_examples(module, shape, group, numbers):
    made = Made(module, shape)
    read = made.read()
    assert group_of(made.program) == read.critic_group == group
    for n in numbers:
        x = made.examples(n)
        for model in (made.rebuilt, read):
            np.testing.assert_allclose(model.scores(x), made.itself(x), rtol=1e-4, atol=1e-4)


def test_a_group_that_would_be_incomplete_is_refused():
    made = Made(mlp(minibatch="stddev"), POINTS)
    assert fixed_batch(made.read().critic) == FIXED_BATCH
    for model in (made.rebuilt, made.read()):
        for n, last, fix in ((1, 1, "4"), (2, 2, "4"), (250, 2, "248 or 252")):
            message = rf"groups of 4 neighbours, .* N = {n} would have {last}: .* 4, such as {fix}\.$"
            with pytest.raises(ValueError, match=message):
                model.scores(made.examples(n))


def test_other_neighbours_give_other_scores_and_other_groups_do_not():
    made = Made(mlp(minibatch="stddev"), POINTS)
    x = made.examples(12)
    scores = made.rebuilt.scores(x)
    np.testing.assert_allclose(made.rebuilt.scores(x[[*range(8, 12), *range(4)]])[4:], scores[:4], rtol=1e-5)
    assert np.abs(made.rebuilt.scores(x[::3])[0] - scores[0]) > 1e-2


def test_batch_normalisation_compares_nothing_in_evaluation():
    made = Made(mlp(norm="batch"), POINTS)
    assert made.network.couples_batch
    assert group_of(made.program) == 1
    assert made.rebuilt.scores(made.examples(3)).shape == (3,)


def most_that_divide(most):
    """Deviations from the mean of groups as StyleGAN2's critic makes them."""

    def call(x):
        group = max(n for n in range(1, most + 1) if len(x) % n == 0)
        grouped = x.reshape(-1, group, 2)
        return grouped - grouped.mean(1, keepdims=True)

    return call


@pytest.mark.parametrize(
    ("call", "group"),
    [
        (lambda x: x, 1),
        (lambda x: x.reshape(-1, 5, 2) - x.reshape(-1, 5, 2).mean(1, keepdims=True), 5),
        *((most_that_divide(group), group) for group in (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 32)),
        (lambda x: x - jnp.roll(x, 1, axis=0), WHOLE_BATCH),
        (lambda x: x.reshape(4, -1, 2) - x.reshape(4, -1, 2).mean(0), WHOLE_BATCH),  # not of neighbours
        (
            lambda x: x.reshape(-1, 11, 2).mean(1).repeat(11, 0),
            WHOLE_BATCH,
        ),  # which of its batches say nothing of
    ],
)
def test_groups_are_read_off_the_program(call, group):
    program = Program(
        lambda weights, key, x: {"score": call(x).reshape(x.shape)},
        {},
        (jax.ShapeDtypeStruct((1, 2), jnp.float32),),
    )
    assert group_of(program) == group


def test_programs_from_before_groups_were_written_are_for_their_batch_only():
    made = Made(mlp(minibatch="stddev"), POINTS)
    model = made.read(lambda description: {k: v for k, v in description.items() if k != "critic_groups"})
    x = made.examples(FIXED_BATCH)
    np.testing.assert_allclose(model.scores(x), made.itself(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(
        ValueError, match=r"its program is for 64 of them, got 8: give 64, or load the run with"
    ):
        model.scores(x[:8])
    for wrong in (5, -1, True, "4"):
        with pytest.raises(PortableError, match="damaged"):
            made.read(lambda description, wrong=wrong: {**description, "critic_groups": {"c": wrong}})


def test_an_image_alone_has_no_features():
    made = Made(stylegan2(features=True), IMAGES)
    assert not has_features(made.rebuilt)
    with pytest.raises(ValueError, match="an image alone has no features"):
        project(made.rebuilt, np.zeros(IMAGES, np.float32), steps=1, starts=2, distance="features")
    assert has_features(Made(stylegan2(features=True, minibatch="none"), IMAGES).rebuilt)
