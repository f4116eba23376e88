"""Divided parameters: the plain run's result, an eighth of its memory a device."""

import functools

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import PartitionSpec

from gan_jax.data import from_toy, toy
from gan_jax.distributed import fsdp, jit
from gan_jax.distributed.fsdp import gather_parameters, sharded_spec
from gan_jax.distributed.layout import make_layout
from gan_jax.distributed.mesh import LayoutError, mesh_shape
from gan_jax.functional.priors import gaussian
from gan_jax.game import Game, Player
from gan_jax.networks import MLPCritic, MLPGenerator, from_linen
from gan_jax.objectives import unrolled
from gan_jax.objectives.wgan_gp import wgan_gp
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.schedule import alternating
from gan_jax.training.rollout import stack_rounds
from gan_jax.training.step import init_state
from tests import programs

LATENT, WIDTH = 8, 256
SOURCE = from_toy(toy.ring(), 32)


def made_game():
    """BatchNorm in the generator, a penalty on the critic, unrolling, momentum and an average."""
    return Game(
        players={
            "critic": Player(
                from_linen(MLPCritic(widths=(WIDTH, WIDTH)), jnp.zeros((2, 2))), optax.sgd(1e-3, momentum=0.5)
            ),
            "generator": Player(
                from_linen(
                    MLPGenerator(output_shape=(2,), widths=(WIDTH, WIDTH), norm="batch"),
                    jnp.zeros((2, LATENT)),
                ),
                optax.sgd(1e-3, momentum=0.5),
                ema=0.9,
            ),
        },
        objective=unrolled(wgan_gp(gaussian(LATENT)), 1),
        schedule=alternating(),
    )


GAME = made_game()


@pytest.fixture(autouse=True)
def _compiled_fast(monkeypatch):
    monkeypatch.setattr(jit, "compiler_options", lambda platform: programs.UNOPTIMISED)


def begin(key):
    return init_state(GAME, key)


def play(parallelism, devices, rounds=3):
    layout = make_layout(parallelism, jax.devices()[:devices])
    run = layout.compile(GAME, SOURCE)
    host_batches = stack_rounds(SOURCE, 0, 2, rounds, rounds)
    return run(layout.begin(begin, jax.random.key(0)), layout.place(SOURCE.device_data), host_batches, rounds)


@pytest.mark.full
def test_sharded_parameters_give_the_plain_result_in_a_quarter_of_the_memory():
    plain, plain_metrics = play("jit", 1)
    state, metrics = play("data:2,fsdp:4", 8)
    for name, expected in plain.players.items():
        found = state.players[name]
        chex.assert_trees_all_close(found.params, expected.params, atol=1e-6)
        chex.assert_trees_all_close(
            (found.model_state, found.opt_state),
            (expected.model_state, expected.opt_state),
            atol=1e-5,
            rtol=1e-5,
        )
    chex.assert_trees_all_close((state.ema, metrics), (plain.ema, plain_metrics), atol=1e-5, rtol=1e-5)
    large = [x for x in jax.tree.leaves((state.players, state.ema)) if x.size == WIDTH * WIDTH]
    assert len(large) == 2 * 2 + 1, "parameters and momenta of two players, one average"
    for x in large:
        assert {shard.data.shape for shard in x.addressable_shards} == {(WIDTH, WIDTH // 4)}
    replicated = sum(x.nbytes for x in jax.tree.leaves(state._replace(key=None)))
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state._replace(key=None)))
    assert held < 0.3 * replicated


@pytest.mark.full
def test_a_sharded_state_is_saved_and_restored_on_other_devices(tmp_path):
    """Large arrays go to disk in parts; four devices, then one, take up what eight have written, bit for bit."""
    eight, four = make_layout("fsdp"), make_layout("fsdp", jax.devices()[:4])
    state = eight.begin(begin, jax.random.key(0))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, blocking=True)
        for layout in (four, make_layout("jit", jax.devices()[:1])):
            target = jax.eval_shape(begin, jax.random.key(0))
            again = checkpoints.restore(target, shardings=layout.shardings(target)).state
            chex.assert_trees_all_equal(jax.device_get(again.players), jax.device_get(state.players))
            kernel = again.players["critic"].params["trunk"]["Dense_1"]["kernel"]
            assert kernel.addressable_shards[0].data.shape == (WIDTH, WIDTH // layout.mesh.size)


@pytest.mark.full
def test_what_a_network_casts_first_is_cast_before_it_is_gathered(monkeypatch):
    """Kernels that one layer casts and another reads as they are keep their dtype, and no result changes a bit."""
    layout = make_layout("fsdp")
    critic = from_linen(MLPCritic(widths=(WIDTH, WIDTH), dtype=jnp.bfloat16), jnp.zeros((2, 2)))
    params, model_state = critic.init(jax.random.key(0))
    params = jax.device_put(params, layout.shardings(params))
    game = Game(
        players={**GAME.players, "critic": Player(critic, optax.sgd(1e-3))},
        objective=GAME.objective,
        schedule=GAME.schedule,
    )
    x = jnp.linspace(-1, 1, 64).reshape(32, 2)

    def loss(params, network):
        return jnp.mean(network.apply(params, model_state, x, train=True)[0] ** 2)

    def compiled():
        with jax.set_mesh(layout.mesh):
            gathering = gather_parameters(game, 8).players["critic"].network
            lowered = jax.jit(jax.value_and_grad(functools.partial(loss, network=gathering))).lower(params)
            constraints = [line for line in lowered.as_text().splitlines() if "sharding_constraint" in line]
            return constraints, lowered.compile(programs.UNOPTIMISED)(params)

    constraints, found = compiled()
    gathered = [line for line in constraints if f"{WIDTH}x{WIDTH}xbf16" in line]
    in_full = [line for line in constraints if f"{WIDTH}x{WIDTH}xf32" in line]
    assert gathered, "the kernel, for the call and again for its backward pass"
    assert len(in_full) == 1, "its gradient"
    monkeypatch.setattr(fsdp, "dtypes_of_use", lambda _, params: jax.tree.map(lambda x: str(x.dtype), params))
    constraints, expected = compiled()
    assert not [line for line in constraints if "bf16" in line]
    chex.assert_trees_all_equal(jax.device_get(found), jax.device_get(expected))


@pytest.mark.parametrize(
    ("parallelism", "said"),
    [
        ("tpu", r"'jit', 'pmap', 'fsdp'.*'data:2,fsdp:4'; got 'tpu'"),
        ("data:0,fsdp:8", "got 'data:0,fsdp:8'"),
        ("data:2,fsdp:2", "for 4 devices, and there are 8"),
    ],
)
def test_other_meshes_are_refused(parallelism, said):
    with pytest.raises(LayoutError, match=said):
        mesh_shape(parallelism, 8)


@pytest.mark.parametrize(
    ("shape", "parts", "spec"),
    [
        ((256, 512), 8, PartitionSpec(None, "fsdp")),
        ((512, 256), 8, PartitionSpec("fsdp")),
        ((256, 256), 8, PartitionSpec(None, "fsdp")),
        ((3, 3, 512, 512), 8, PartitionSpec(None, None, None, "fsdp")),
        ((4097, 64), 8, PartitionSpec(None, "fsdp")),  # the largest does not divide
        ((4097, 63), 8, PartitionSpec()),
        ((127, 128), 8, PartitionSpec()),  # 16,256 numbers
        ((128, 128), 8, PartitionSpec(None, "fsdp")),
        ((256, 512), 1, PartitionSpec()),
        ((), 8, PartitionSpec()),
    ],
)
def test_the_largest_divisible_dimension_is_sharded(shape, parts, spec):
    assert sharded_spec(shape, parts) == spec
