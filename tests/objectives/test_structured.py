"""Conditional, classifying and translating games: what goes where, and their formulas by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional.packing import packing
from gan_jax.game import InputTransform
from gan_jax.network import Network
from gan_jax.objectives import (
    ac_gan,
    add_terms,
    autoencoder_critic,
    cat_gan,
    class_critic,
    classification,
    cycle_gan,
    feature_matching,
    hinge,
    info_gan,
    label_condition,
    pix2pix,
    semi_supervised,
    with_transforms,
)
from gan_jax.play import apply_turn
from gan_jax.schedule import turn
from tests import helpers
from tests.helpers import CLASSES, PRIOR, X_DIM, Z_DIM, context
from tests.objectives import cases

LOG = np.log


def losses(name, player, objective=None, **changes):
    game = cases.game(name, objective)
    players = helpers.players_of(game)
    batch = {**cases.case(name).batch(), **changes}
    return helpers.loss(player, game, players, batch)


def cross_entropy(logits, labels):
    logits = np.asarray(logits, np.float64)
    return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), np.asarray(labels)])


# --- class-conditional --------------------------------------------------------------------------------------


def test_ac_gan_losses_by_hand():
    """L_S + L_C for the critic, on real and fake; the generator's L_C is on its samples' asked labels."""
    y = cases.case("ac_gan").batch()["y"]
    total, out = losses("ac_gan", "critic")
    source = np.mean(np.logaddexp(0, -out.outputs.real.score) + np.logaddexp(0, out.outputs.fake.score))
    classes = sum(
        cross_entropy(getattr(out.outputs, kind).outputs["classes"], y) for kind in ("real", "fake")
    )
    np.testing.assert_allclose(total, source + classes, rtol=1e-5)
    total, out = losses("ac_gan", "generator")
    source = np.mean(np.logaddexp(0, -out.outputs.fake.score))
    np.testing.assert_allclose(
        total, source + cross_entropy(out.outputs.fake.outputs["classes"], y), rtol=1e-5
    )


def test_ac_gan_gives_the_label_to_the_generator_and_not_to_the_critic():
    _, out = losses("ac_gan", "generator")
    assert [i.shape for i in out.outputs.generator_inputs] == [(8, Z_DIM), (8,)]
    assert len(out.outputs.real.inputs) == len(out.outputs.fake.inputs) == 1


def test_a_missing_head_is_named():
    game = helpers.game(
        ac_gan.ac_gan(PRIOR),
        networks_={"critic": helpers.critic(), "generator": helpers.generator(Z_DIM + CLASSES)},
    )
    with pytest.raises(ValueError, match=r"head 'classes', but its network gives \['features', 'score'\]"):
        apply_turn(turn("critic"), context(game, helpers.players_of(game), helpers.batch()))


def projection_critic():
    """D(x, y) = psi(phi(x)) + <V y, phi(x)> (Miyato & Koyama, 2018, equation (3))."""
    base = helpers.critic()

    def init(key):
        params, model_state = base.init(key)
        return {**params, "V": helpers.normal(key, CLASSES, helpers.WIDTH)}, model_state

    def apply(params, model_state, x, y, train, key):
        out, model_state = base.apply(params, model_state, x, train=train, key=key)
        return out["score"] + jnp.sum(params["V"][y] * out["features"], axis=-1), model_state

    return Network(init=init, apply=apply)


def test_a_projection_critic_is_any_game_with_a_label():
    """Its log-odds are linear in the label's embedding: exchanging labels moves scores by <V y' - V y, phi>."""
    networks = {"critic": projection_critic(), "generator": helpers.generator(Z_DIM + CLASSES)}
    game = helpers.game(hinge.hinge(PRIOR, condition=label_condition), networks_=networks)
    players = helpers.players_of(game)
    batch = helpers.batch()
    other = {**batch, "y": (batch["y"] + 1) % CLASSES}
    _, out = helpers.loss("critic", game, players, batch)
    _, moved = helpers.loss("critic", game, players, other)
    params = players["critic"].params
    phi = jnp.tanh(batch["x"] @ params["hidden"]["w"] + params["hidden"]["b"])
    expected = jnp.sum((params["V"][other["y"]] - params["V"][batch["y"]]) * phi, axis=-1)
    np.testing.assert_allclose(
        moved.outputs.real.score - out.outputs.real.score, expected, rtol=1e-4, atol=1e-5
    )


# --- InfoGAN ------------------------------------------------------------------------------------------------


def test_both_players_of_info_gan_raise_the_bound():
    for player in ("critic", "generator"):
        total, out = losses("info_gan", player, info_gan.info_gan(Z_DIM, code=cases.CODE, weight=0.7))
        base = np.mean(np.logaddexp(0, -out.outputs.fake.outputs["score"]))
        if player == "critic":
            base = np.mean(np.logaddexp(0, -out.outputs.real.score) + np.logaddexp(0, out.outputs.fake.score))
        bound = np.mean(
            cases.CODE.log_likelihood(out.outputs.fake.outputs["code"], cases.CODE.of(out.outputs.latent))
        )
        np.testing.assert_allclose(total, base - 0.7 * (bound + cases.CODE.entropy), rtol=1e-5)
        np.testing.assert_allclose(
            out.metrics["mutual_information"], -(bound + cases.CODE.entropy), rtol=1e-5
        )


# --- semi-supervised ----------------------------------------------------------------------------------------


def test_unsupervised_loss_is_salimans_formula():
    """-E lse/2 + E softplus(lse_real)/2 + E softplus(lse_fake)/2."""
    real, fake = jnp.array([1.0, -3.0, 20.0]), jnp.array([0.5, 2.0, -20.0])
    expected = np.mean(-real / 2 + np.logaddexp(0, real) / 2 + np.logaddexp(0, fake) / 2)
    np.testing.assert_allclose(jnp.mean(semi_supervised.critic_loss(real, fake)), expected, rtol=1e-6)


def test_class_critic_is_the_softmax_with_an_extra_class():
    """sigmoid(logsumexp l) is 1 - softmax(l_1 .. l_K, 0)_{K+1}."""
    logits = np.array([[1.0, -2.0, 0.3], [4.0, 4.0, 4.0]])
    network = class_critic(
        Network(init=None, apply=lambda params, model_state, x, train, key: (x, model_state))
    )
    out, _ = network.apply((), (), jnp.asarray(logits), train=True, key=None)
    exponentials = np.exp(np.c_[logits, np.zeros(2)])
    real = 1 - exponentials[:, -1] / exponentials.sum(1)
    np.testing.assert_allclose(jax.nn.sigmoid(out["score"]), real, rtol=1e-6)


def test_semi_supervised_losses_by_hand():
    """Unlabelled examples come beside half as many labelled ones; nobody's label is dropped or used twice."""
    batch = cases.with_labelled()
    assert batch["labelled"]["x"].shape[0] == batch["x"].shape[0] // 2
    game = cases.game("semi_supervised")
    players = helpers.players_of(game)
    total, out = helpers.loss("critic", game, players, batch)
    params = players["critic"].params

    def logits(x):
        return jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"]) @ params["classes"]

    supervised = cross_entropy(logits(batch["labelled"]["x"]), batch["labelled"]["y"])
    real = jax.nn.logsumexp(logits(batch["x"]), axis=1)
    fake = jax.nn.logsumexp(logits(out.outputs.samples), axis=1)
    unsupervised = np.mean(np.logaddexp(0, -real) + np.logaddexp(0, fake)) / 2
    np.testing.assert_allclose(total, supervised + unsupervised, rtol=1e-5)
    np.testing.assert_allclose(out.metrics["supervised"], supervised, rtol=1e-5)
    wrong = np.mean(np.argmax(logits(batch["labelled"]["x"]), 1) != batch["labelled"]["y"])
    np.testing.assert_allclose(out.metrics["supervised/error"], wrong)
    # Real, fake and labelled calls all reach the critic's statistics.
    assert out.model_state["calls"] == 3


def test_feature_matching_generator_by_hand():
    total, out = losses("semi_supervised", "generator")
    means = [np.mean(getattr(out.outputs, kind).outputs["features"], 0) for kind in ("real", "fake")]
    np.testing.assert_allclose(total, np.sum((means[0] - means[1]) ** 2), rtol=1e-4)


def test_non_saturating_generator_and_smoothing():
    objective = semi_supervised.semi_supervised(PRIOR, generator="non_saturating", smoothing=0.2)
    total, out = losses("semi_supervised", "generator", objective)
    np.testing.assert_allclose(total, np.mean(np.logaddexp(0, -out.outputs.fake.score)), rtol=1e-5)
    total, out = losses("semi_supervised", "critic", objective)
    plain, _ = losses("semi_supervised", "critic", semi_supervised.semi_supervised(PRIOR))
    np.testing.assert_allclose(total - plain, 0.1 * np.mean(out.outputs.real.score), rtol=1e-4, atol=1e-6)


def test_labelled_examples_are_transformed_like_the_others_with_separate_draws():
    """Augmentation and noise reach real, fake and labelled examples; each draws from another key."""
    calls = []

    def note(inputs, key, step, objective_state):
        calls.append((inputs[0].shape[0], tuple(jax.random.key_data(key).tolist())))
        return (inputs[0] + 1.0, *inputs[1:])

    noting = InputTransform(name="noting", apply=note)
    total, _ = losses(
        "semi_supervised", "critic", with_transforms(semi_supervised.semi_supervised(PRIOR), noting)
    )
    assert [count for count, _ in calls] == [8, 8, 4]
    assert len({key for _, key in calls}) == 3
    plain, _ = losses("semi_supervised", "critic")
    assert total != plain


def test_a_batch_without_labels_is_named():
    game = cases.game("semi_supervised")
    with pytest.raises(ValueError, match=r"labelled=\{'x': ..., 'y': ...\}; this batch has \['x', 'y'\]"):
        helpers.loss("critic", game, helpers.players_of(game), helpers.batch())


def test_per_example_heads_refuse_packs_in_either_order():
    with pytest.raises(ValueError, match="'packing' packs examples, but the terms"):
        with_transforms(semi_supervised.semi_supervised(PRIOR), packing(2))
    with pytest.raises(ValueError, match="'classification' needs an objective with single examples"):
        add_terms(with_transforms(hinge.hinge(PRIOR), packing(2)), classification())
    add_terms(with_transforms(hinge.hinge(PRIOR), packing(2)), feature_matching())


# --- CatGAN -------------------------------------------------------------------------------------------------

SURE = 50 * jnp.eye(3)[jnp.array([0, 1, 2, 0, 1, 2])]
UNSURE = jnp.zeros((6, 3))


def test_cat_gan_at_its_ideal():
    """Certain of data over all classes, uncertain of samples: -log 3 + 0 - log 3; the generator wants certainty
    over all classes, -log 3 + 0."""
    np.testing.assert_allclose(cat_gan.critic_loss(SURE, UNSURE), -2 * LOG(3), rtol=1e-5)
    np.testing.assert_allclose(cat_gan.generator_loss(None, SURE), -LOG(3), rtol=1e-5)
    np.testing.assert_allclose(cat_gan.generator_loss(None, UNSURE), 0.0, atol=1e-6)


def test_cat_gan_entropies_by_hand():
    """P = (1/4, 3/4) and (3/4, 1/4): each H = log 4 - 3/4 log 3, the marginal's log 2."""
    logits = jnp.array([[0.0, LOG(3)], [LOG(3), 0.0]])
    each = LOG(4) - 0.75 * LOG(3)
    np.testing.assert_allclose(cat_gan.entropy(logits), each, rtol=1e-6)
    np.testing.assert_allclose(cat_gan.marginal_entropy(logits), LOG(2), rtol=1e-6)
    np.testing.assert_allclose(cat_gan.critic_loss(logits, logits), -LOG(2), rtol=1e-6)


def test_cat_gan_with_labels_adds_the_cross_entropy():
    total, out = losses("cat_gan", "critic")
    np.testing.assert_allclose(
        total,
        cat_gan.critic_loss(out.outputs.real.outputs["classes"], out.outputs.fake.outputs["classes"])
        + out.metrics["supervised"],
        rtol=1e-5,
    )


# --- energies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("power", "expected"), [(1, [-1.5, 0.0]), (2, [-2.5, 0.0])])
def test_autoencoder_critic_by_hand(power, expected):
    """Reconstructing zeros: errors (1, 2) and (0, 0)."""
    zeros = Network(init=None, apply=lambda params, model_state, x, train, key: (0 * x, model_state))
    out, _ = autoencoder_critic(zeros, power).apply(
        (), (), jnp.array([[1.0, -2.0], [0.0, 0.0]]), train=True, key=None
    )
    np.testing.assert_allclose(out["score"], expected)


def test_autoencoder_power_is_one_or_two():
    with pytest.raises(ValueError, match="power 1 or 2, got 3"):
        autoencoder_critic(helpers.critic(), 3)


@pytest.mark.full
def test_began_keeps_k_in_its_state():
    """k starts at 0, moves by lambda (gamma L(x) - L(G(z))), and weighs L(G(z)) at the next turn."""
    game = cases.game("began", lr=0.0)
    players = helpers.players_of(game)
    first, metrics = apply_turn(turn("critic"), context(game, players, helpers.batch()))
    _, out = helpers.loss("critic", game, players, helpers.batch())
    real, fake = (-float(np.mean(getattr(out.outputs, kind).score)) for kind in ("real", "fake"))
    np.testing.assert_allclose(metrics["critic/loss"], real, rtol=1e-5)
    k = np.clip(0.1 * (0.5 * real - fake), 0, 1)
    np.testing.assert_allclose(first["critic"].objective_state["balance"], k, rtol=1e-5, atol=1e-7)
    held = {**first, "critic": first["critic"]._replace(objective_state={"balance": jnp.array(0.25)})}
    after, metrics = apply_turn(turn("critic"), context(game, held, helpers.batch()))
    np.testing.assert_allclose(metrics["critic/loss"], real - 0.25 * fake, rtol=1e-5)
    np.testing.assert_allclose(
        metrics["critic/balance/convergence"], real + abs(0.5 * real - fake), rtol=1e-5
    )
    np.testing.assert_allclose(
        after["critic"].objective_state["balance"], 0.25 + 0.1 * (0.5 * real - fake), rtol=1e-5
    )


# --- image to image -----------------------------------------------------------------------------------------


def test_pix2pix_by_hand():
    batch = cases.with_condition()
    total, out = losses("pix2pix", "generator", pix2pix.pix2pix(l1=7.0))
    l1 = np.mean(np.abs(batch["x"] - out.outputs.samples))
    np.testing.assert_allclose(total, np.mean(np.logaddexp(0, -out.outputs.fake.score)) + 7 * l1, rtol=1e-5)
    # The generator sees the condition and no latent, the critic the pair.
    assert [i.shape for i in out.outputs.generator_inputs] == [(8, X_DIM)]
    np.testing.assert_array_equal(out.outputs.real.inputs[1], batch["condition"])
    np.testing.assert_array_equal(out.outputs.fake.inputs[1], batch["condition"])


def test_patches_have_a_loss_each():
    """Two patches of logits (a, b) for every example: mean softplus, not softplus of the mean."""
    base = helpers.critic(2 * X_DIM)

    def apply(params, model_state, *inputs, train, key):
        out, model_state = base.apply(params, model_state, *inputs, train=train, key=key)
        patches = jnp.stack([3 * out["score"], -out["score"]], axis=1)[:, :, None]
        return {"score": out["score"], "patches": patches}, model_state

    networks = {**cases.image_to_image(), "critic": dataclasses.replace(base, apply=apply)}
    game = helpers.game(pix2pix.pix2pix(), networks_=networks)
    total, out = helpers.loss("critic", game, helpers.players_of(game), cases.with_condition())
    real, fake = (np.asarray(getattr(out.outputs, kind).outputs["patches"]) for kind in ("real", "fake"))
    np.testing.assert_allclose(total, np.mean(np.logaddexp(0, -real) + np.logaddexp(0, fake)), rtol=1e-5)
    np.testing.assert_allclose(out.outputs.real.score, real.mean((1, 2)), rtol=1e-5)


def linear(scale):
    """A generator that multiplies by one number."""
    return Network(
        init=lambda key: (jnp.asarray(scale), ()),
        apply=lambda params, model_state, x, train, key: (params * x, model_state),
    )


def test_cycle_gan_by_hand():
    """G = 2 x, F = x / 4, on data a, b: |F(G(a)) - a| = |a| / 2, |G(F(b)) - b| = |b| / 2, |G(b) - b| = |b|."""
    networks = {**cases.translators(), "generator_ab": linear(2.0), "generator_ba": linear(0.25)}
    game = helpers.game(
        cycle_gan.cycle_gan(cycle=10.0, identity=5.0), networks_=networks, schedule=(turn("critic_a"),)
    )
    players = helpers.players_of(game)
    batch = cases.with_condition()
    a, b = np.asarray(batch["condition"]), np.asarray(batch["x"])
    total, out = helpers.loss("generator_ab", game, players, batch)
    cycle = np.mean(np.abs(a)) / 2 + np.mean(np.abs(b)) / 2
    np.testing.assert_allclose(out.metrics["cycle"], cycle, rtol=1e-5)
    np.testing.assert_allclose(out.metrics["identity"], np.mean(np.abs(b)), rtol=1e-5)
    adversarial = np.mean((np.asarray(out.outputs.fake.score) - 1) ** 2)
    np.testing.assert_allclose(total, adversarial + 10 * cycle + 5 * np.mean(np.abs(b)), rtol=1e-5)
    np.testing.assert_allclose(out.outputs.samples, 2 * a, rtol=1e-6)
    # Critic A tells a from F(b).
    total, out = helpers.loss("critic_a", game, players, batch)
    np.testing.assert_array_equal(out.outputs.real.inputs[0], a)
    np.testing.assert_allclose(out.outputs.fake.inputs[0], b / 4, rtol=1e-6)


def test_cycle_gan_has_a_loss_for_each_patch_of_a_score():
    """Scores of three patches beside the cycles' one number an example: (s - 1)^2 of every patch."""

    def patchwise(network):
        def apply(params, model_state, *inputs, train, key):
            out, model_state = network.apply(params, model_state, *inputs, train=train, key=key)
            return {"score": out["score"][:, None] * jnp.array([3.0, -1.0, 0.5])}, model_state

        return dataclasses.replace(network, apply=apply)

    made = cases.translators()
    networks = {name: patchwise(each) if "critic" in name else each for name, each in made.items()}
    game = helpers.game(cycle_gan.cycle_gan(cycle=10.0), networks_=networks, schedule=(turn("critic_a"),))
    total, out = helpers.loss("generator_ab", game, helpers.players_of(game), cases.with_condition())
    adversarial = np.mean((np.asarray(out.outputs.fake.score) - 1) ** 2)
    np.testing.assert_allclose(total, adversarial + 10 * out.metrics["cycle"], rtol=1e-5)


def test_cycle_gradient_runs_through_both_cycles():
    """d/dg (|f g a - a| + |g f b - b|) at f = 1/4, g = 2 (f g < 1): -f (E|a| + E|b|), critics at 0."""
    networks = {**cases.translators(), "generator_ab": linear(2.0), "generator_ba": linear(0.25)}
    game = helpers.game(
        cycle_gan.cycle_gan(cycle=1.0), networks_=networks, schedule=(turn("generator_ab"),), lr=1.0
    )
    players = helpers.players_of(game)
    players["critic_b"] = players["critic_b"]._replace(
        params=jax.tree.map(jnp.zeros_like, players["critic_b"].params)
    )
    batch = cases.with_condition()
    after, _ = apply_turn(turn("generator_ab"), context(game, players, batch))
    size = np.mean(np.abs(batch["condition"])) + np.mean(np.abs(batch["x"]))
    np.testing.assert_allclose(after["generator_ab"].params, 2.0 + 0.25 * size, rtol=1e-5)
