"""InfoGAN's codes: drawn uniformly, read back by a likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.functional.codes import Code

LOG = np.log
CODE = Code(categories=(2,), continuous=1)


def test_code_likelihood_by_hand():
    """Two categories with logits (0, log 3): P = 1/4, 3/4; one number, mean .5, at .5: -log(2 pi)/2 - log s."""
    code = Code(categories=(2,), continuous=1)
    head = jnp.array([[0.0, LOG(3), 0.5, 0.0], [0.0, LOG(3), 0.5, LOG(2)]])
    drawn = jnp.array([[1.0, 0.0, 0.5], [0.0, 1.0, 2.5]])
    expected = [LOG(1 / 4) - LOG(2 * np.pi) / 2, LOG(3 / 4) - LOG(2 * np.pi) / 2 - LOG(2) - 0.5]
    np.testing.assert_allclose(code.log_likelihood(head, drawn), expected, rtol=1e-5)


def test_code_is_drawn_uniformly():
    code = Code(categories=(3, 2), continuous=2)
    latent = code.prior(4)(jax.random.key(0), 6000)
    assert latent.shape == (6000, 3 + 2 + 2 + 4)
    drawn = np.asarray(code.of(latent))
    np.testing.assert_array_equal(drawn[:, :3].sum(1), 1)
    np.testing.assert_array_equal(drawn[:, 3:5].sum(1), 1)
    np.testing.assert_allclose(drawn[:, :3].mean(0), 1 / 3, atol=5 * 0.47 / np.sqrt(6000))
    assert np.abs(drawn[:, 5:]).max() <= 1
    np.testing.assert_allclose(drawn[:, 5:].std(0), 1 / np.sqrt(3), rtol=0.03)
    np.testing.assert_allclose(code.entropy, LOG(3) + LOG(2) + 2 * LOG(2))


def test_mutual_information_is_the_entropy_for_a_perfect_reader_and_zero_for_a_blind_one():
    code = Code(categories=(4,))
    drawn = code.draw(jax.random.key(0), 16)
    np.testing.assert_allclose(
        jnp.mean(code.log_likelihood(100 * drawn, drawn)) + code.entropy, LOG(4), rtol=1e-5
    )
    np.testing.assert_allclose(jnp.mean(code.log_likelihood(0 * drawn, drawn)) + code.entropy, 0.0, atol=1e-6)


@pytest.mark.parametrize("given", [{"categories": ()}, {"categories": (1,)}, {"continuous": -1}])
def test_an_impossible_code_is_refused(given):
    with pytest.raises(ValueError, match=r"code needs|categorical part"):
        Code(**given)


def test_a_head_of_the_wrong_size_is_named():
    with pytest.raises(ValueError, match=r"head of size 4.*got 3"):
        CODE.log_likelihood(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
