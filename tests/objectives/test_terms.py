"""Terms against their formulas on scores and features that the loss itself reports, and against known optima."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan_jax.field import accumulated, extragradient, gradient_field, replica_mean, runge_kutta
from gan_jax.functional.augment import diff_augment
from gan_jax.functional.noise import instance_noise
from gan_jax.functional.packing import packing
from gan_jax.game import InputTransform
from gan_jax.keys import named_key
from gan_jax.network import Network
from gan_jax.objectives import (
    adaptive_augmentation,
    add_terms,
    classification,
    consistency,
    dragan_penalty,
    feature_matching,
    gradient_penalty,
    historical_averaging,
    label_smoothing,
    latent_consistency,
    latent_diversity,
    lecam,
    max_penalty,
    mixture_penalty,
    r1,
    r2,
    reconstruction,
    top_k,
    with_transforms,
)
from gan_jax.objectives._penalties import feature_penalty
from gan_jax.objectives.cycle_gan import cycle_gan
from gan_jax.objectives.gan import gan
from gan_jax.objectives.mmd_gan import mmd_gan
from gan_jax.objectives.non_saturating import non_saturating
from gan_jax.objectives.relativistic import relativistic
from gan_jax.objectives.wgan import wgan
from gan_jax.play import apply_turn
from gan_jax.schedule import turn
from tests import helpers
from tests.helpers import PRIOR, context, scalar_network


def losses(objective, player, step=0, networks=None, batch=None, objective_state=None, schedule=None):
    game = helpers.game(objective, networks_=networks, schedule=schedule)
    players = helpers.players_of(game)
    if objective_state is not None:
        players[player] = players[player]._replace(objective_state=objective_state)
    return helpers.loss(player, game, players, batch or helpers.batch(), step)


def networks_with_scores(critic_scores):
    """Networks whose critic gives fixed scores: the first call's, then the second's (real, then fake)."""
    calls = itertools.cycle(critic_scores)

    def apply(params, model_state, x, train, key):
        given = jnp.asarray(next(calls), jnp.float32)
        scores = jnp.resize(given, (x.shape[0], *given.shape[1:]))
        return scores + 0 * params, model_state

    return {**helpers.networks(), "critic": scalar_network(apply)}


# --- smoothing ----------------------------------------------------------------------------------------------


def test_label_smoothing_by_hand():
    """D(x) = sigmoid(log 3) = 3/4, target .9: -.9 log(3/4) - .1 log(1/4); D(G(z)) = 1/2: log 2."""
    networks = networks_with_scores([[np.log(3)] * 8, [0.0] * 8])
    total, _ = losses(add_terms(gan(PRIOR), label_smoothing(0.1)), "critic", networks=networks)
    expected = -0.9 * np.log(3 / 4) - 0.1 * np.log(1 / 4) + np.log(2)
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_label_smoothing_moves_the_optimum():
    """argmin_D over one point with p = q: (1 - e) p / (p + q) = .4 at e = .2, that is score log(2/3)."""

    def loss(s):
        return jax.nn.softplus(-s) + jax.nn.softplus(s) + 0.2 * s

    np.testing.assert_allclose(jax.grad(loss)(np.log(2 / 3)), 0.0, atol=1e-6)


def test_label_smoothing_needs_logits():
    with pytest.raises(
        ValueError, match=r"'label_smoothing' needs an objective with the critic's loss softplus"
    ):
        add_terms(wgan(PRIOR), label_smoothing())


# --- the generator's terms ----------------------------------------------------------------------------------


def test_feature_matching_by_hand():
    total, out = losses(add_terms(gan(PRIOR), feature_matching(0.5)), "generator")
    base, _ = losses(gan(PRIOR), "generator")
    means = [np.asarray(getattr(out.outputs, kind).outputs["features"]).mean(0) for kind in ("real", "fake")]
    np.testing.assert_allclose(total - base, 0.5 * np.sum((means[0] - means[1]) ** 2), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("power", [1, 2])
def test_reconstruction_by_hand(power):
    _, out = losses(add_terms(gan(PRIOR), reconstruction(3.0, power=power)), "generator")
    difference = np.abs(np.asarray(helpers.batch()["x"]) - np.asarray(out.outputs.samples))
    np.testing.assert_allclose(out.metrics["reconstruction"], np.mean(difference**power), rtol=1e-5)


def test_top_k_learns_from_the_best_scored_samples_only():
    """Half of (3, 1, -1, 2, 0, -2, 5, -5) are 3, 2, 5 and 1."""
    fake = [3.0, 1.0, -1.0, 2.0, 0.0, -2.0, 5.0, -5.0]
    total, _ = losses(
        add_terms(non_saturating(PRIOR), top_k(0.5)),
        "generator",
        networks=networks_with_scores([[0.0] * 8, fake]),
    )
    np.testing.assert_allclose(total, np.mean(np.logaddexp(0, -np.array([3.0, 2.0, 5.0, 1.0]))), rtol=1e-5)


def test_top_k_of_patches_is_by_their_mean():
    """By the mean of its patches each of eight examples, of as many patches as there are examples, has a rank."""
    patches = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    total, _ = losses(
        add_terms(non_saturating(PRIOR), top_k(0.5)),
        "generator",
        networks=networks_with_scores([np.zeros((8, 8)), patches]),
    )
    best = patches[np.argsort(-patches.mean(1))[:4]]
    np.testing.assert_allclose(total, np.mean(np.logaddexp(0, -best)), rtol=1e-5)


def test_top_k_of_all_is_the_base_and_its_share_may_anneal():
    base, _ = losses(gan(PRIOR), "generator")
    full, _ = losses(add_terms(gan(PRIOR), top_k(1.0)), "generator")
    np.testing.assert_allclose(full, base, rtol=1e-6, atol=1e-6)
    annealed = add_terms(gan(PRIOR), top_k(optax.linear_schedule(1.0, 0.5, 10)))
    np.testing.assert_allclose(losses(annealed, "generator", step=0)[0], base, rtol=1e-6, atol=1e-6)
    half, _ = losses(add_terms(gan(PRIOR), top_k(0.5)), "generator")
    np.testing.assert_allclose(losses(annealed, "generator", step=10)[0], half, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fraction", [0.0, 1.5])
def test_top_k_is_a_share(fraction):
    with pytest.raises(ValueError, match=r"top_k\(fraction=.*in \(0, 1\]"):
        top_k(fraction)


def test_top_k_needs_a_mean_over_examples():
    """Found in the program: the average form gives one loss an example, and couples them all the same."""
    objective = add_terms(relativistic(PRIOR), top_k())
    with pytest.raises(ValueError, match="'top_k' needs a loss that is a mean over independent examples"):
        losses(objective, "generator")


# --- consistency --------------------------------------------------------------------------------------------


def shift(key, x):
    return x + 0.5


@pytest.mark.parametrize("on", ["real", "fake"])
def test_consistency_by_hand(on):
    objective = add_terms(gan(PRIOR), consistency(shift, 10.0, on=on))
    game = helpers.game(objective)
    players = helpers.players_of(game)
    total, out = helpers.loss("critic", game, players, helpers.batch())
    base, _ = losses(gan(PRIOR), "critic")
    x = getattr(out.outputs, on).inputs[0]

    def score(x):
        return game.players["critic"].network.apply(
            players["critic"].params, players["critic"].model_state, x, train=True, key=None
        )[0]["score"]

    expected = np.mean((score(x) - score(x + 0.5)) ** 2)
    np.testing.assert_allclose(total - base, 10 * expected, rtol=1e-4, atol=1e-5)


def linear_networks(scale):
    """G(z) = scale z, D(x) = x_1 + 2 x_2."""
    generator = Network(
        init=lambda key: (jnp.asarray(scale), ()),
        apply=lambda params, model_state, z, train, key: (params * z[:, :2], model_state),
    )

    def apply(params, model_state, x, train, key):
        return params * (x[:, 0] + 2 * x[:, 1]), model_state

    critic = Network(init=lambda key: (jnp.ones(()), ()), apply=apply)
    return {"critic": critic, "generator": generator}


def test_latent_consistency_and_diversity_by_hand():
    """G(z + d) - G(z) = scale d and D of it scale (d_1 + 2 d_2): their squares, with the term's own d."""
    sigma, scale = 0.1, 3.0
    for term, player in ((latent_consistency, "critic"), (latent_diversity, "generator")):
        objective = add_terms(gan(PRIOR), term(1.0, sigma=sigma))
        _, out = losses(objective, player, networks=linear_networks(scale))
        name = "latent_consistency" if player == "critic" else "latent_diversity"
        term_key = named_key(named_key(jax.random.key(7), f"term/{name}"), "delta")
        d = sigma * np.asarray(jax.random.normal(term_key, (helpers.B, helpers.Z_DIM)))[:, :2]
        if player == "critic":
            expected = np.mean((scale * (d[:, 0] + 2 * d[:, 1])) ** 2)
        else:
            expected = -np.mean((scale * d) ** 2)
        np.testing.assert_allclose(out.metrics[name], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("term", [lecam(), consistency(shift), latent_consistency(), mixture_penalty()])
def test_terms_on_scores_refuse_losses_on_features(term):
    with pytest.raises(
        ValueError, match="needs an objective with losses of scores; this one's are of features"
    ):
        add_terms(mmd_gan(PRIOR), term)


# --- memory of the past -------------------------------------------------------------------------------------


def test_lecam_by_hand():
    """Anchors a_R = 1, a_F = -1: E (D(x) + 1)^2 + E (D(G(z)) - 1)^2; then they move by a tenth."""
    networks = networks_with_scores([[2.0] * 8, [0.5] * 8])
    objective_state = {"lecam": {"real": jnp.array(1.0), "fake": jnp.array(-1.0)}}
    total, out = losses(
        add_terms(wgan(PRIOR), lecam(2.0, decay=0.9)),
        "critic",
        networks=networks,
        objective_state=objective_state,
    )
    np.testing.assert_allclose(total, (0.5 - 2.0) + 2.0 * (9.0 + 0.25), rtol=1e-6)
    np.testing.assert_allclose(out.objective_state["lecam"]["real"], 0.9 * 1.0 + 0.1 * 2.0, rtol=1e-6)
    np.testing.assert_allclose(out.objective_state["lecam"]["fake"], 0.9 * -1.0 + 0.1 * 0.5, rtol=1e-6)
    np.testing.assert_allclose(out.metrics["lecam/real_anchor"], 1.0)


def test_lecam_anchors_are_not_differentiated():
    """d/dD of the term is 2 (D - a) whatever the anchors become."""
    game = helpers.game(add_terms(wgan(PRIOR), lecam(1.0, decay=0.0)))
    players = helpers.players_of(game)
    memories = [{"lecam": {"real": jnp.array(v), "fake": jnp.array(v)}} for v in (0.0, 0.0)]
    grads = []
    for objective_state, decay in zip(memories, (0.0, 0.99), strict=True):
        with_decay = dataclasses.replace(game, objective=add_terms(wgan(PRIOR), lecam(1.0, decay=decay)))
        before = {**players, "critic": players["critic"]._replace(objective_state=objective_state)}
        loss = functools.partial(critic_loss_at, with_decay, before)
        grads.append(jax.grad(loss)(players["critic"].params))
    jax.tree.map(np.testing.assert_array_equal, *grads)


def critic_loss_at(game, players, params):
    moved = {**players, "critic": players["critic"]._replace(params=params)}
    return helpers.loss("critic", game, moved, helpers.batch())[0]


def test_historical_averaging_by_hand():
    """The mean of theta[0..t-1]; a single number that moves 0 -> 2 -> 4 -> 7."""

    def theta(params, model_state, x, train, key):
        return params * x[:, 0], model_state

    networks = {**helpers.networks(), "critic": scalar_network(theta)}
    objective = add_terms(wgan(PRIOR), historical_averaging(1.0))
    game = helpers.game(objective, networks_=networks, lr=0.0)
    players = helpers.players_of(game)
    means = []
    # From the mean of {0}, of {0, 2} and of {0, 2, 4}: 2 - 0, 4 - 1, 7 - 2. The present one joins after its turn.
    for value, expected in [(0.0, 0.0), (2.0, 4.0), (4.0, 9.0), (7.0, 25.0)]:
        players["critic"] = players["critic"]._replace(params=jnp.array(value))
        players, metrics = apply_turn(turn("critic"), context(game, players, helpers.batch()))
        np.testing.assert_allclose(metrics["critic/historical_averaging"], expected, rtol=1e-5)
        means.append(float(players["critic"].objective_state["historical_averaging"]["mean"]))
    np.testing.assert_allclose(means, [0.0, 1.0, 2.0, 13 / 4], rtol=1e-5)


@pytest.mark.parametrize("field", [extragradient(), runge_kutta(2), runge_kutta(4)])
def test_historical_averaging_without_a_past_pulls_nowhere(field):
    """Fields that look ahead evaluate the first turn elsewhere than at theta[0], which is no past one yet."""

    def theta(params, model_state, x, train, key):
        return params * x[:, 0], model_state

    networks = {**helpers.networks(), "critic": scalar_network(theta)}
    ended = []
    for objective in (wgan(PRIOR), add_terms(wgan(PRIOR), historical_averaging(1.0))):
        game = helpers.game(objective, networks_=networks, field=field)
        after, _ = apply_turn(turn("critic"), context(game, helpers.players_of(game), helpers.batch()))
        ended.append(float(after["critic"].params))
    assert ended[0] != 0
    np.testing.assert_allclose(ended[1], ended[0], rtol=1e-6)


def test_historical_averaging_of_the_generator():
    game = helpers.game(add_terms(gan(PRIOR), historical_averaging(player="generator")))
    after, _ = apply_turn(turn("generator"), context(game, helpers.players_of(game), helpers.batch()))
    assert after["generator"].objective_state["historical_averaging"]["count"] == 1


def ada_state(probability, signs=0.0, turns=0.0):
    return {
        "ada": {"probability": jnp.array(probability), "signs": jnp.array(signs), "turns": jnp.array(turns)}
    }


def sure_of_all(field):
    """A game with ADA (8 images are a tenth of its 80) whose critic finds every image real, and its players."""
    objective = add_terms(gan(PRIOR), adaptive_augmentation(target=-0.5, images=80.0, every=1))
    sure = scalar_network(
        lambda params, state, x, train, key: (params + 1.0 + 0.0 * jnp.sum(x, axis=1), state)
    )
    game = helpers.game(objective, networks_={**helpers.networks(), "critic": sure}, lr=0.0, field=field)
    return game, helpers.players_of(game)


@pytest.mark.parametrize("parts", [(1,), (2,), (4,), (2, 2)])
def test_adaptive_augmentation_counts_all_images_of_a_turn_in_microbatches(parts):
    field = gradient_field
    for part in parts:
        field = accumulated(part, approximate=True, field=field)
    game, players = sure_of_all(field)
    for _ in range(2):
        players, _ = apply_turn(turn("critic"), context(game, players, helpers.batch(n=8)))
    np.testing.assert_allclose(players["critic"].objective_state["ada"]["probability"], 0.2, rtol=1e-5)


@pytest.mark.parametrize(
    "field",
    [
        replica_mean(),
        replica_mean(accumulated(2, approximate=True)),
        accumulated(2, approximate=True, field=replica_mean()),
    ],
)
def test_adaptive_augmentation_counts_all_images_of_a_turn_on_replicas(field):
    """Two replicas with four of the eight images each."""
    game, players = sure_of_all(field)

    def replica(x):
        after, _ = apply_turn(turn("critic"), context(game, players, {"x": x}))
        return after["critic"].objective_state["ada"]["probability"]

    x = helpers.batch(n=8)["x"].reshape(2, 4, -1)
    found = jax.pmap(replica, axis_name="data", devices=jax.devices()[:2])(x)
    np.testing.assert_allclose(found, [0.1, 0.1], rtol=1e-5)


def test_adaptive_augmentation_follows_the_overfitting():
    """All real scores positive: r_t = 1 > .6, p rises by B / images; all negative: it falls, and stays at 0."""
    objective = add_terms(gan(PRIOR), adaptive_augmentation(images=80.0, every=1))
    for sign, start, expected in ((1.0, 0.3, 0.4), (-1.0, 0.3, 0.2), (-1.0, 0.0, 0.0), (1.0, 0.95, 1.0)):
        networks = networks_with_scores([[sign] * 8, [0.0] * 8])
        total, out = losses(objective, "critic", networks=networks, objective_state=ada_state(start))
        np.testing.assert_allclose(out.objective_state["ada"]["probability"], expected, rtol=1e-5)
        np.testing.assert_allclose(out.metrics["ada/probability"], start)
        np.testing.assert_allclose(out.metrics["ada/overfitting"], sign)
        np.testing.assert_allclose(total, np.logaddexp(0, -sign) + np.log(2), rtol=1e-6)


def test_the_controller_counts_images_and_not_packs():
    """Two packs of four positive scores are 8 images, a tenth of the 80 that p takes from 0 to 1."""
    objective = with_transforms(
        add_terms(gan(PRIOR), adaptive_augmentation(images=80.0, every=1)), packing(4)
    )
    networks = networks_with_scores([[1.0] * 2, [0.0] * 2])
    _, out = losses(objective, "critic", networks=networks, objective_state=ada_state(0.3))
    np.testing.assert_allclose(out.objective_state["ada"]["probability"], 0.4, rtol=1e-5)


def test_the_controller_moves_at_every_fourth_turn_by_what_it_saw_since():
    """Three turns with r_t = 1 and one with 0: the mean .75 exceeds .6, and 4 B = 32 images move p by .4."""
    objective = add_terms(gan(PRIOR), adaptive_augmentation(images=80.0))
    state, found = ada_state(0.3), []
    for real in ([1.0] * 8, [1.0] * 8, [-1.0, 1.0] * 4, [1.0] * 8, [1.0] * 8):
        networks = networks_with_scores([real, [0.0] * 8])
        _, out = losses(objective, "critic", networks=networks, objective_state=state)
        state = out.objective_state
        found.append([float(state["ada"][name]) for name in ("probability", "signs", "turns")])
    expected = [[0.3, 1, 1], [0.3, 2, 2], [0.3, 2, 3], [0.7, 0, 0], [0.7, 1, 1]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_controller_is_refused_where_a_score_has_no_fixed_zero():
    with pytest.raises(ValueError, match=r"'ada' needs an objective with the critic's loss softplus"):
        add_terms(relativistic(PRIOR, average=False), adaptive_augmentation())


def test_adaptive_augmentation_drives_the_preparation():
    """At p = 0 the critic sees images as they are, at p = 1 changed ones."""
    images = {"x": jax.random.uniform(jax.random.key(0), (8, 4, 4, 1), minval=-1)}

    def apply(params, model_state, x, train, key):
        return params * jnp.mean(x, axis=(1, 2, 3)), model_state

    generator = scalar_network(
        lambda params, model_state, z, train, key: (jnp.zeros((8, 4, 4, 1)) + params, model_state)
    )
    networks = {"critic": scalar_network(apply), "generator": generator}
    base = add_terms(gan(PRIOR), adaptive_augmentation())
    objective = with_transforms(base, diff_augment("color", probability="ada"))
    for probability, same in ((0.0, True), (1.0, False)):
        objective_state = ada_state(probability)
        _, out = losses(objective, "critic", networks=networks, batch=images, objective_state=objective_state)
        assert np.array_equal(out.outputs.real.inputs[0], images["x"]) == same


# --- penalties as terms -------------------------------------------------------------------------------------


def test_penalties_of_a_linear_critic():
    """||grad D|| = 2 sqrt 5 everywhere: (2 sqrt 5 - 1)^2 for mixture and DRAGAN, 20 for the maximum."""
    networks = linear_networks(1.0)
    networks["critic"] = dataclasses.replace(networks["critic"], init=lambda key: (jnp.asarray(2.0), ()))
    for term, expected in (
        (mixture_penalty(), (2 * np.sqrt(5) - 1) ** 2),
        (dragan_penalty(), (2 * np.sqrt(5) - 1) ** 2),
        (max_penalty(), 20.0),
    ):
        _, out = losses(add_terms(wgan(PRIOR), term), "critic", networks=networks)
        np.testing.assert_allclose(out.metrics[term.name], expected, rtol=1e-5)


def test_max_penalty_is_the_steepest_example():
    """D = ||x||^2 / 2 on interpolates: the largest ||x_hat||^2 of them."""

    def apply(params, model_state, x, train, key):
        return params + jnp.sum(x**2, axis=1) / 2, model_state

    networks = {**helpers.networks(), "critic": scalar_network(apply)}
    _, out = losses(add_terms(wgan(PRIOR), max_penalty()), "critic", networks=networks)
    term_key = named_key(named_key(jax.random.key(7), "term/max_penalty"), "point")
    e = np.asarray(jax.random.uniform(term_key, (helpers.B, 1)))
    x = e * np.asarray(out.outputs.real.inputs[0]) + (1 - e) * np.asarray(out.outputs.fake.inputs[0])
    np.testing.assert_allclose(out.metrics["max_penalty"], np.max(np.sum(x**2, 1)), rtol=1e-5)


# --- penalties under input transforms -----------------------------------------------------------------------


def scaled(scale):
    """A transform of x alone by what `scale(key, x)` gives."""

    def apply(inputs, key, step, objective_state):
        x, *conditions = inputs
        return (scale(key, x) * x, *conditions)

    return InputTransform(name="scaled", apply=apply)


def drawn_factor(key, x):
    return jax.random.uniform(key, (x.shape[0], 1))


def slope_networks():
    """D(x) = 2 (x_1 + 2 x_2): a gradient of squared norm 20."""
    networks = linear_networks(1.0)
    networks["critic"] = dataclasses.replace(networks["critic"], init=lambda key: (jnp.asarray(2.0), ()))
    return networks


NORM = np.sqrt(20)


@pytest.mark.parametrize(
    ("term", "of_norm"),
    [
        (r1, lambda norm: norm**2 / 2),
        (r2, lambda norm: norm**2 / 2),
        (gradient_penalty, lambda norm: (norm - 1) ** 2),
        (mixture_penalty, lambda norm: (norm - 1) ** 2),
        (dragan_penalty, lambda norm: (norm - 1) ** 2),
        (max_penalty, lambda norm: norm**2),
    ],
)
def test_penalties_are_of_the_raw_examples(term, of_norm):
    """Images are halved before a linear critic: its slope by the raw image is half of that by the halved one."""
    for made, norm in ((term(), NORM / 2), (term(at="transformed"), NORM), (term(at="raw"), NORM / 2)):
        objective = with_transforms(add_terms(wgan(PRIOR), made), scaled(lambda key, x: 0.5))
        _, out = losses(objective, "critic", networks=slope_networks())
        np.testing.assert_allclose(out.metrics[made.name], of_norm(norm), rtol=1e-5)


@pytest.mark.parametrize(("term", "kind"), [(r1, "real"), (r2, "fake")])
def test_penalties_draw_the_transforms_as_the_loss_did(term, kind):
    """Each example is scaled by its factor u: the slope by it is u times the critic's."""
    objective = with_transforms(add_terms(wgan(PRIOR), term()), scaled(drawn_factor))
    _, out = losses(objective, "critic", networks=slope_networks())
    view = getattr(out.outputs, kind)
    u = np.asarray(view.x / view.raw)[:, 0]
    assert u.std() > 0.1
    np.testing.assert_allclose(out.metrics[term().name], np.mean(u**2) * NORM**2 / 2, rtol=1e-4)


def test_penalties_of_interpolates_draw_as_for_the_real_examples():
    objective = with_transforms(add_terms(wgan(PRIOR), gradient_penalty()), scaled(drawn_factor))
    _, out = losses(objective, "critic", networks=slope_networks())
    u = np.asarray(out.outputs.real.x / out.outputs.real.raw)[:, 0]
    np.testing.assert_allclose(out.metrics["gradient_penalty"], np.mean((u * NORM - 1) ** 2), rtol=1e-4)


def test_penalties_of_each_of_several_critics_draw_as_its_loss_did():
    objective = add_terms(cycle_gan(), r1(critic="critic_a"), r1(critic="critic_b"))
    objective = with_transforms(objective, scaled(drawn_factor))
    networks = {
        name: helpers.generator(helpers.X_DIM) if "generator" in name else slope_networks()["critic"]
        for name in objective.players
    }
    batch = {**helpers.batch(), "condition": helpers.batch(1)["x"]}
    for critic in ("critic_a", "critic_b"):
        turns = (turn(*objective.players),)
        _, out = losses(objective, critic, networks=networks, batch=batch, schedule=turns)
        u = np.asarray(out.outputs.real.x / out.outputs.real.raw)[:, 0]
        np.testing.assert_allclose(out.metrics["r1"], np.mean(u**2) * NORM**2 / 2, rtol=1e-4)


@pytest.mark.parametrize("term", [r1, r2, max_penalty, gradient_penalty])
def test_penalties_of_packs_are_of_whole_packs(term):
    """D is linear in a pack of four: its squared norm is the sum over the four examples, however it is read."""

    def apply(params, model_state, x, train, key):
        return params * jnp.sum(x, axis=1), model_state

    networks = {**helpers.networks(), "critic": scalar_network(apply)}
    networks["critic"] = dataclasses.replace(networks["critic"], init=lambda key: (jnp.asarray(2.0), ()))
    norm = 2 * np.sqrt(4 * helpers.X_DIM)
    expected = {"r1": norm**2 / 2, "r2": norm**2 / 2, "max_penalty": norm**2}.get(
        term().name, (norm - 1) ** 2
    )
    for at in ("raw", "transformed"):
        objective = with_transforms(add_terms(wgan(PRIOR), term(at=at)), packing(4))
        _, out = losses(objective, "critic", networks=networks)
        np.testing.assert_allclose(out.metrics[term().name], expected, rtol=1e-5)


def test_penalties_of_features_are_of_the_raw_examples():
    """A linear feature 2 (x_1 + 2 x_2) of images that are halved; w(f) = 3 f."""

    def apply(params, model_state, x, train, key):
        feature = params * (x @ jnp.array([1.0, 2.0]))
        return {"features": feature[:, None]}, model_state

    networks = slope_networks()
    networks["critic"] = dataclasses.replace(networks["critic"], apply=apply)
    for at, norm in (("raw", 3 * NORM / 2), ("transformed", 3 * NORM)):
        term = feature_penalty("slope", lambda x, real, fake: 3 * x[:, 0], 1.0, at=at)
        objective = with_transforms(add_terms(mmd_gan(PRIOR, penalty=0.0), term), scaled(lambda key, x: 0.5))
        _, out = losses(objective, "critic", networks=networks)
        np.testing.assert_allclose(out.metrics["slope"], (norm - 1) ** 2, rtol=1e-4)


def test_a_penalty_at_another_place_is_refused():
    with pytest.raises(ValueError, match=r"r1\(at='real'\): at is 'raw' or 'transformed'"):
        r1(at="real")


# --- noise and packing --------------------------------------------------------------------------------------


def test_instance_noise_blurs_both_and_anneals():
    objective = with_transforms(gan(PRIOR), instance_noise(optax.linear_schedule(1.0, 0.0, 10)))
    for step, scale in ((0, 1.0), (5, 0.5), (10, 0.0)):
        _, out = losses(objective, "critic", step=step)
        real = np.asarray(out.outputs.real.inputs[0] - helpers.batch()["x"])
        fake = np.asarray(out.outputs.fake.inputs[0] - out.outputs.samples)
        if scale == 0:
            np.testing.assert_array_equal([real, fake], 0)
            continue
        assert not np.allclose(real, fake)
        if step == 0:
            first = real
        np.testing.assert_allclose(real, scale * first, rtol=1e-3, atol=1e-5)


def test_packs_are_judged_as_one():
    """Degree 4 of a batch of 8 gives 2 scores; real and fake packs are of real and fake alone."""
    networks = {**helpers.networks(), "critic": helpers.critic(4 * helpers.X_DIM)}
    total, out = losses(with_transforms(gan(PRIOR), packing(4)), "critic", networks=networks)
    assert out.outputs.real.score.shape == out.outputs.fake.score.shape == (2,)
    np.testing.assert_array_equal(out.outputs.real.inputs[0].reshape(8, 2), helpers.batch()["x"])
    np.testing.assert_array_equal(out.outputs.fake.inputs[0].reshape(8, 2), out.outputs.samples)
    expected = np.mean(np.logaddexp(0, -out.outputs.real.score) + np.logaddexp(0, out.outputs.fake.score))
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_packing_of_one_changes_nothing():
    base, _ = losses(gan(PRIOR), "critic")
    packed, _ = losses(with_transforms(gan(PRIOR), packing(1)), "critic")
    np.testing.assert_allclose(packed, base, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classification(on="neither"), "'real', 'fake' or 'both'"),
        (lambda: consistency(shift, on="both"), "'real' or 'fake'"),
        (lambda: reconstruction(power=3), "power 1 or 2"),
    ],
)
def test_unknown_choices_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
