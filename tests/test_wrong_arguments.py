"""Arguments of another kind or out of range: each is refused by name, with what to give instead."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gan_jax as gj
from gan_jax import metrics
from gan_jax.distributed.seeds import stacked
from gan_jax.metrics.paired import Settings
from gan_jax.optim import ema_half_life, learning_rate_schedule
from gan_jax.schedule import Turn, regularization_turn
from gan_jax.training.experiment import ExperimentError
from tests import helpers

NAN, INF = float("nan"), float("inf")
GAME = helpers.game(gj.non_saturating(helpers.PRIOR))
STATE = gj.init_state(GAME, jax.random.key(0))
SEEDS = stacked([STATE, STATE])
OTHER = helpers.game(gj.non_saturating(gj.gaussian(5)))
SOURCE = gj.from_toy(gj.toy.ring(), batch_size=4)
POINTS = np.arange(12.0).reshape(6, 2)
IMAGES = np.zeros((4, 2, 2, 1), np.uint8)


def played(*schedule):
    return helpers.game(gj.non_saturating(helpers.PRIOR), schedule=schedule)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gj.alternating(1.5), r"at least one turn .* n_critic=1\.5"),
        (lambda: gj.alternating(NAN), "n_critic=nan"),
        (lambda: gj.alternating(1, "2"), "n_generator='2'"),
        (lambda: gj.alternating(True), "n_critic=True"),
        # Since step % nan is never 0, the penalty would never be paid.
        (lambda: regularization_turn("critic", "r1", every=NAN), "n a whole number; got every=nan"),
        (lambda: regularization_turn("critic", "r1", every=2.5), r"got every=2\.5"),
        (lambda: played(Turn(("critic",), every=0)), "got every=0"),
        (lambda: played(Turn("critic")), r"by a tuple, as in \('critic',\); got 'critic'"),
        (lambda: helpers.game(gj.gan(helpers.PRIOR), schedule=5), "A schedule is a tuple of turns"),
        (lambda: helpers.game(gj.gan(helpers.PRIOR), schedule=gj.turn("critic")), "A schedule is a tuple"),
        (lambda: gj.make_train_step(GAME, schedule=()), "at least one turn"),
        (lambda: gj.make_train_step(None), "make_train_step takes a Game, got NoneType"),
        (lambda: gj.lazy_adam(1e-3, every=NAN), r"lazy_adam\(every=nan\)"),
        (lambda: gj.lazy_adam(NAN, every=2), r"lazy_adam\(learning_rate=nan\)"),
        (lambda: gj.lazy_adam(1e-3, b1=1.5, every=2), r"lazy_adam\(b1=1\.5\)"),
        (lambda: gj.clip_params(INF), "positive and finite, got inf"),
        (lambda: gj.clip_params("1"), "got '1'"),
        (lambda: ema_half_life(1000, 2.5), r"batch size of 2\.5"),
        (lambda: ema_half_life(INF, 2), "got inf"),
        (lambda: ema_half_life(1000, 2, ramp=NAN), r"ema_half_life\(ramp=nan\)"),
        (lambda: ema_half_life(1000, 2, ramp=-1), r"ema_half_life\(ramp=-1\)"),
        (lambda: learning_rate_schedule(NAN), r"learning_rate_schedule\(learning_rate=nan\)"),
        (lambda: learning_rate_schedule(-1.0), r"learning_rate=-1\.0"),
        (lambda: learning_rate_schedule(1.0, decay="linear", rounds=NAN), r"\(rounds=nan\)"),
        (lambda: learning_rate_schedule(1.0, warmup=2.5), r"\(warmup=2\.5\)"),
        (lambda: gj.Player(None, optax.sgd(0.1)), "takes a Network, as from_linen"),
        (lambda: gj.Player(helpers.critic(), optax.sgd), "takes an optax transformation"),
        (lambda: gj.Player(helpers.critic(), None), "takes an optax transformation.* got None"),
        (lambda: gj.from_linen(gj.MLPCritic, jnp.zeros((1, 2))), r"an instance, MLPCritic\(\.\.\.\)"),
        (lambda: gj.from_linen(None, jnp.zeros((1, 2))), r"takes a flax\.linen\.Module; got None"),
        (lambda: gj.init_state(GAME, 0), r"init_state\(key=0\): key is a PRNG key"),
        (lambda: gj.init_state(None, jax.random.key(0)), "init_state takes a Game"),
        (lambda: gj.sample(GAME, STATE, 0, 5), r"sample\(key=0\)"),
        (lambda: gj.sample(GAME, None, jax.random.key(0), 5), "sample takes the state of a game"),
        (
            lambda: gj.sample(GAME, SEEDS, jax.random.key(0), 5),
            r"has 2 seeds, stacked.* state_of\(state, 0\)",
        ),
        (lambda: gj.sample(OTHER, STATE, jax.random.key(0), 5), r"latent z \[B, 5\], but 'generator'"),
        (lambda: gj.rollout(GAME, SOURCE, None, 1), "rollout takes the state of a game"),
        (lambda: gj.rollout(GAME, None, STATE, 1), "rollout takes a Source"),
        (lambda: gj.rollout(None, SOURCE, STATE, 1), "rollout takes a Game"),
        (lambda: gj.rollout(GAME, SOURCE, STATE, 1, metrics={"a": 3}), "functions of samples by name"),
        (lambda: gj.rollout(GAME, SOURCE, STATE, 1, metrics=[3]), "functions of samples by name"),
        (lambda: gj.from_toy("ring", batch_size=2), "takes a toy"),
        (lambda: gj.load_data(3), "named by a text or a path"),
        (lambda: gj.plot({}), "plot draws the history of rollout"),
        (lambda: gj.plot(None), "plot draws the history of rollout"),
        (lambda: gj.unrolled(gj.gan(helpers.PRIOR), 2.5), r"whole steps, got 2\.5"),
        (lambda: gj.two_player(critic=None, generator=abs, prior=None), r"two_player\(critic=None\)"),
        (lambda: gj.wgan_gp("gaussian"), r"a function \(key, n\) -> z, .* got 'gaussian'\."),
        (lambda: gj.wgan_gp(gj.gaussian(2), penalty="10"), r"\(penalty='10'\): penalty is a finite number"),
        (lambda: gj.hinge(gj.gaussian), "got gaussian: call gaussian with its size"),
        (lambda: gj.hinge(gj.uniform), "got uniform: call uniform with its size"),
        (lambda: gj.compare(IMAGES, IMAGES, neighbors=0), r"compare\(neighbors=0\)"),
        (lambda: gj.compare(IMAGES, IMAGES, neighbors=2.5), r"compare\(neighbors=2\.5\)"),
        (lambda: gj.compare(IMAGES, IMAGES, pairs=0), r"compare\(pairs=0\)"),
        (lambda: gj.compare(IMAGES, IMAGES, seed="a"), r"compare\(seed='a'\)"),
        (
            lambda: gj.compare(IMAGES, IMAGES, extractor=3),
            "An Extractor or its name|is an Extractor or its name",
        ),
        # Said before any image is opened: features may take hours.
        (lambda: gj.compare("no", "none", save_stats="s.pkl"), r"written as \.npz, got 's\.pkl'"),
        (lambda: gj.compare("no", "none", save_stats="no/folder/s.npz"), "there is no folder 'no/folder'"),
        (lambda: gj.project(None, IMAGES[0]), "project takes a Model"),
        (lambda: Settings(ddof=2), "ddof is 1"),
        (lambda: metrics.support_size(POINTS, batch_size=2.5), r"got 2\.5"),
        (lambda: metrics.support_size(POINTS, batch_size=3, tolerance=NAN), "tolerance >= 0, got 3 and nan"),
        (lambda: metrics.spatial_frechet_distance(POINTS, POINTS), r"takes what extract\(\.\.\.\) returns"),
        (lambda: metrics.birthday_test(POINTS, NAN, 3), r"birthday_test\(support=nan\)"),
        (lambda: metrics.birthday_test(POINTS, -1, 3), r"birthday_test\(support=-1\)"),
        (lambda: metrics.precision_recall_density_coverage(POINTS, POINTS, neighbors=2.5), r"neighbors=2\.5"),
    ],
)
def test_it_is_refused_by_name(call, message):
    with pytest.raises((ValueError, ExperimentError), match=message):
        call()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (lambda key, n: jax.random.normal(key, (1, 3)), r"a latent of shape \(1, 3\) for n = 4"),
        (lambda key, n: jax.random.normal(key, (64, 3)), r"a latent of shape \(64, 3\) for n = 4"),
        (lambda key, n: jax.random.normal(key, (3,)), r"a latent of shape \(3,\) for n = 4"),
        (lambda key, n: gj.gaussian(3), "The prior returns <function"),
    ],
)
def test_a_prior_that_draws_another_number_of_latents_is_refused(prior, message):
    """A single latent would be one sample for a whole batch, with losses that are finite."""
    game = helpers.game(gj.hinge(prior))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            gj.make_train_step(game),
            jax.eval_shape(lambda key: gj.init_state(game, key), jax.random.key(0)),
            {"x": jnp.zeros((2, 4, 2))},
        )


def test_priors_of_every_form_are_accepted():
    class Drawn:
        def __call__(self, key, n):
            return jax.random.normal(key, (n, 2))

    for prior in (
        gj.uniform(2),
        Drawn(),
        lambda key, n, size=2: None,
        lambda *arguments: None,
        lambda key, n=16: jax.random.normal(key, (n, 2)),
        lambda key, *rest: jax.random.normal(key, (rest[0], 2)),
        jax.jit(Drawn()),
    ):
        assert gj.hinge(prior).prior is prior
