"""The parameter table against counts made by hand."""

import jax
import jax.numpy as jnp

from gan_jax.networks import MLPCritic, describe_network, from_linen, parameter_rows


def test_rows_name_every_array_and_count_it():
    network = from_linen(MLPCritic(widths=(8, 4)), jnp.ones((1, 2)))
    rows = parameter_rows(network.init(jax.random.key(0))[0])
    assert {row.name: (row.shape, row.size) for row in rows} == {
        "trunk/Dense_0/kernel": ((2, 8), 16),
        "trunk/Dense_0/bias": ((8,), 8),
        "trunk/Dense_1/kernel": ((8, 4), 32),
        "trunk/Dense_1/bias": ((4,), 4),
        "scores/score/kernel": ((4, 1), 4),
        "scores/score/bias": ((1,), 1),
    }


def test_a_networks_table_has_totals_bytes_and_statistics():
    table = describe_network(
        from_linen(MLPCritic(widths=(1024,), norm="spectral"), jnp.ones((1, 2))), "critic"
    )
    parameters, statistics = table.split("\n\n")
    # 3 * 1024 in the hidden layer and 1024 + 1 in the last; one vector of 1024 and one of 1.
    assert parameters.splitlines()[-1].split() == ["total", "4,097", "(16", "KiB)"]
    assert statistics.startswith("critic: statistics")
    assert statistics.splitlines()[-1].split() == ["total", "1,025", "(4", "KiB)"]


def test_lists_and_tuples_are_named_by_place():
    tree = [jnp.ones(2), (jnp.ones((3, 1)),)]
    assert [(row.name, row.size) for row in parameter_rows(tree)] == [("0", 2), ("1/0", 3)]
