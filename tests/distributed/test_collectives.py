"""What every objective's turns send between eight devices, read off the compiled programs."""

import collections

import jax
import pytest

from gan_jax.network import parameter_count
from gan_jax.schedule import turn
from gan_jax.training.step import init_state
from tests import programs
from tests.objectives import cases
from tests.tiers import full_except

DEVICES, BATCH = 8, 208  # no other axis is 208 long; half as many labelled examples divide as well
ONE = {"all-reduce": 1}
# What a formula over the whole batch costs: one more exchange for every mean that the next one needs, and the
# other devices' features where every example is compared with every other. At most:
EXEMPT = {
    "cat_gan": {  # the entropy of the batch's mean prediction
        "critic": {"all-reduce": 3},
        "generator": {"all-reduce": 3},
    },
    "cramer": {
        "critic": {"all-reduce": 5, "all-gather": 6},  # distances of features, and means
        "generator": {"all-reduce": 5, "all-gather": 6},
    },
    "dragan": {"critic": {"all-reduce": 3}},  # the standard deviation of the whole batch
    "ebgan": {"generator": {"all-reduce": 3, "all-gather": 1}},  # angles between all codes of the batch
    "mmd_gan": {
        "critic": {"all-reduce": 6, "all-gather": 10},  # kernels of all features, relative to their means
        "generator": {"all-reduce": 5, "all-gather": 6},
    },
    "relativistic": {
        "critic": {"all-reduce": 4},  # mean scores of real and fake, forward and backward
        "generator": {"all-reduce": 3},
    },
    "semi_supervised": {"generator": {"all-reduce": 2}},  # the mean features of real and fake
    "vral_parzen": {"critic": {"all-reduce": 4}},  # the windows' density of the whole batch
}


@pytest.mark.full
@pytest.mark.parametrize("name", full_except(["wgan_gp"], cases.MODULES))
def test_a_turn_costs_one_all_reduce_of_the_gradients_and_an_eighth_of_the_work(name):
    """No device holds an array of the whole batch, and each does an eighth of the program's operations.

    Without the pass that GPU and TPU compilers have for it, a gradient is reduced once for each of the network's
    calls (real, fake, and a penalty's two) rather than once: the same collective, up to four times as long.
    """
    game = cases.game(name)
    batch = jax.eval_shape(lambda: cases.case(name).batch(shape=(1,), n=BATCH))
    players = jax.eval_shape(lambda: init_state(game, jax.random.key(0))).players
    for player in game.players:
        program = programs.lowered(game, (turn(player),), DEVICES, batch)
        full, eight = program.cost_analysis()["flops"], program.compile(programs.UNOPTIMISED)
        text, parameters = eight.as_text(), parameter_count(players[player].params)
        allowed = EXEMPT.get(name, {}).get(player)
        if allowed is None:
            assert programs.collectives(text) == ONE, player
            assert parameters <= programs.reduced_numbers(text) <= 4 * parameters + 16, player
            assert not programs.has_dimension(text, BATCH), f"{player}: the whole batch on one device"
        else:
            assert programs.collectives(text) <= collections.Counter(allowed), player
        # The optimiser's and the reduction's own work is the same on every device.
        assert eight.cost_analysis()["flops"] < 1.5 * full / DEVICES + 20 * parameters, player


def test_every_exemption_is_of_an_objective():
    """A module that is gone, or a player it does not have, is no reason for an exemption."""
    assert {(n, p) for n, players in EXEMPT.items() for p in players} <= {
        (n, p) for n in EXEMPT if n in cases.MODULES for p in cases.game(n).players
    }
