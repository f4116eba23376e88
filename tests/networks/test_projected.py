"""Projected critics: mixing by hand, what stays frozen, and what passes through."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import gan_jax as gj
from gan_jax.data import from_arrays
from gan_jax.evaluation.scoring import critic_features
from gan_jax.game import Game, Player
from gan_jax.metrics import extractor_named
from gan_jax.metrics.features import marked_as_given
from gan_jax.metrics.vgg16 import VGG16
from gan_jax.networks import DCGANGenerator, MLPCritic, ProjectedCritic, from_linen, projected_critic
from gan_jax.networks.projected import MixedFeatures
from gan_jax.objectives.hinge import hinge

KEY = jax.random.key(0)
LABEL = jax.ShapeDtypeStruct((3,), jnp.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Pools:
    """An image and its mean over each 2 x 2 pixels, times a weight, as features."""

    name: str = "pools"
    params: Any = None
    weights: str = "of pools"
    apply: Callable[..., Any] = lambda weight, x: {
        "pyramid": [weight * x, weight * x.reshape(-1, 4, 2, 4, 2, x.shape[-1]).mean((2, 4))]
    }


def pools(weight=2.0):
    return Pools(params=np.float32(weight))


def images(size=8, channels=2, n=3):
    return jax.random.uniform(KEY, (n, size, size, channels), minval=-1)


def variables(module, *inputs):
    return jax.jit(module.init)({"params": KEY}, *inputs)


def correlate(x, kernel):
    """The SAME correlation of `[H, W, I]` with `[3, 3, I, O]`, in loops over places."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    return np.array(
        [
            [
                np.tensordot(padded[row : row + 3, column : column + 3], kernel, 3)
                for column in range(x.shape[1])
            ]
            for row in range(x.shape[0])
        ]
    )


def test_scales_are_mixed_from_the_coarsest_to_the_finest():
    """P_2 = C_2 F_2, P_1 = C_1 F_1 + up(S_1 P_2): products by hand, enlarged by Pillow's bilinear filter."""
    x, module = images(), MixedFeatures(pools(), expansion=2)
    given = variables(module, x)
    mixed = module.apply(given, x)
    first, second, across = (
        np.asarray(given["projections"][name]) for name in ("channels_0", "channels_1", "scales_0")
    )
    for image, fine, coarse in zip(np.asarray(x), *map(np.asarray, mixed), strict=True):
        pooled = 2 * image.reshape(4, 2, 4, 2, 2).mean((1, 3))
        expected = pooled @ second[0, 0]
        np.testing.assert_allclose(coarse, expected, atol=1e-5)
        maps = correlate(expected, across)
        larger = np.stack(
            [
                np.asarray(
                    Image.fromarray(np.float32(maps[..., c])).resize((8, 8), Image.Resampling.BILINEAR)
                )
                for c in range(4)
            ],
            axis=-1,
        )
        np.testing.assert_allclose(fine, 2 * image @ first[0, 0] + larger, atol=1e-5)


def test_the_random_kernels_have_the_variance_of_kaimings_initialisation():
    given = variables(ProjectedCritic(pools(), expansion=64), images(channels=16))["projections"]["mixed"]
    for name, fan_in in (("channels_0", 16), ("channels_1", 16), ("scales_0", 9 * 1024)):
        kernel = np.asarray(given[name])
        assert kernel.var() == pytest.approx(2 / fan_in, rel=0.03)
        assert abs(kernel.mean()) < 0.03 * kernel.std()


@pytest.mark.parametrize(("mix", "kernels"), [("none", 0), ("channels", 2), ("scales", 3)])
def test_a_mix_has_its_kernels_and_every_map_its_critic(mix, kernels):
    given = jax.eval_shape(ProjectedCritic(pools(), mix=mix).init, KEY, images())
    assert len(given.get("projections", {}).get("mixed", ())) == kernels
    score, _ = jax.eval_shape(ProjectedCritic(pools(), mix=mix).init_with_output, KEY, images())
    assert score.shape == (3, 4, 4, 2)


def test_a_label_adds_the_inner_product_with_every_hidden_pixel():
    x, y = images(4), jnp.array([2, 0, 2])
    single = Pools(params=np.float32(1.0), apply=lambda weight, x: {"pyramid": [weight * x]})
    module = ProjectedCritic(single, mix="none", width=5, norm="none", num_classes=3)
    given = variables(module, x, y)
    kernels = {name: np.asarray(leaf["kernel"]) for name, leaf in given["params"].items()}
    score = module.apply(given, x, y)
    for image, label, logits in zip(np.asarray(x), y, np.asarray(score), strict=True):
        hidden = correlate(image, kernels["scale_0_in"])
        hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
        expected = (
            correlate(hidden, kernels["scale_0_out"])[..., 0] + hidden @ kernels["scale_0_embedding"][label]
        )
        np.testing.assert_allclose(logits[..., 0], expected, atol=1e-5)


def test_maps_of_fewer_than_four_pixels_are_left_out():
    vectors = Pools(apply=lambda w, x: {"pyramid": [x, x[:, :3, :3], x[:, :1, :1]]}, params=np.zeros(1))
    score, _ = jax.eval_shape(ProjectedCritic(vectors).init_with_output, KEY, images(5))
    assert score.shape == (3, 4, 4, 1)
    with pytest.raises(ValueError, match="smaller than 4 x 4"):
        jax.eval_shape(ProjectedCritic(vectors).init, KEY, images(3))


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (ProjectedCritic(extractor_named("pixels")), (images(),), "'pixels' have no maps"),
        (ProjectedCritic(pools(), mix="both"), (images(),), "Unknown mix 'both'"),
        (ProjectedCritic(pools(), num_classes=3), (images(),), "without a label"),
        (ProjectedCritic(pools()), (jnp.ones((2, 8)),), r"takes images \[B, H, W, C\]"),
    ],
)
def test_misfits_are_named(module, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, KEY, *inputs)


def game_of_digits():
    features, x, z = extractor_named("classifier:digits"), jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 4))
    return Game(
        players={
            "critic": Player(projected_critic(ProjectedCritic(features, width=4), x), optax.adam(1e-2)),
            "generator": Player(from_linen(DCGANGenerator(size=8, channels=1, width=4), z), optax.adam(1e-2)),
        },
        objective=hinge(gj.gaussian(4)),
        schedule=gj.alternating(),
    )


def test_a_round_moves_the_critics_and_the_generator_and_nothing_that_is_frozen():
    game, source = game_of_digits(), from_arrays({"x": np.asarray(images(8, 1, 16))}, batch_size=8)
    start = gj.init_state(game, KEY)
    state, _ = gj.rollout(game, source, start, rounds=2)
    before, after = start.players["critic"], state.players["critic"]
    for name in ("features", "projections"):
        for old, new in zip(
            jax.tree.leaves(before.model_state[name]), jax.tree.leaves(after.model_state[name]), strict=True
        ):
            np.testing.assert_array_equal(old, new)
    for player in ("critic", "generator"):
        for old, new in zip(
            jax.tree.leaves(start.players[player].params),
            jax.tree.leaves(state.players[player].params),
            strict=True,
        ):
            # A bias before a batch normalisation has no gradient but rounding's.
            assert old.size < 3 or not np.array_equal(old, new)


def test_the_frozen_weights_are_those_of_the_features():
    features = extractor_named("classifier:digits")
    critic = game_of_digits().players["critic"].network
    held = critic.init(KEY)[1]["features"]["mixed"]["weights"]
    for theirs, ours in zip(jax.tree.leaves(features.params), jax.tree.leaves(held), strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_gradients_pass_through_the_features_to_the_image():
    """Against central differences along a direction."""
    critic = game_of_digits().players["critic"].network
    params, held = critic.init(KEY)
    x, direction = images(8, 1), jax.random.normal(jax.random.key(1), (3, 8, 8, 1))

    @jax.jit
    def mean(x):
        return critic.apply(params, held, x)[0].mean()

    slope = float(jnp.vdot(jax.grad(mean)(x), direction))
    step = 2e-3
    differences = (mean(x + step * direction) - mean(x - step * direction)) / (2 * step)
    assert slope == pytest.approx(float(differences), rel=3e-2)
    assert abs(slope) > 1e-3


def test_a_score_by_the_critics_own_features_is_marked():
    game, features = game_of_digits(), extractor_named("classifier:digits")
    assert critic_features(game) == (features.weights,)
    marked = marked_as_given(features, critic_features(game))
    assert (marked.name, marked.weights) == ("classifier of digits, given to the critic", features.weights)
    other = extractor_named("classifier:mnist5k")
    assert marked_as_given(other, critic_features(game)) is other
    inception = dataclasses.replace(features, inception=True)
    assert not marked_as_given(inception, critic_features(game)).inception  # no FID any more
    plain = from_linen(MLPCritic(widths=(3,)), jnp.zeros((1, 2)))
    assert plain.frozen_features == ()


def test_vgg16_is_a_pyramid_for_a_critic():
    module = VGG16(widths=(2, 3, 4, 5, 6), pyramid_only=True)
    x = images(64, 3, 1)
    features = Pools(
        params=module.init(KEY, x)["params"],
        apply=lambda params, x: module.apply({"params": params}, x),
    )
    score, _ = jax.eval_shape(ProjectedCritic(features).init_with_output, KEY, x)
    assert score.shape == (1, 4, 4, 5)
