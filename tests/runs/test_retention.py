import pytest

from gan_jax.runs.evaluating import Evaluate
from gan_jax.runs.retention import Evaluated, ranked, steps_to_keep
from gan_jax.training.experiment import Best
from tests.runs.test_loop import experiment


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
    steps = {step: Evaluated(found) for step, found in metrics.items()}
    assert steps_to_keep(steps, keep, best) == kept


def test_numbers_that_were_measured_otherwise_are_not_compared():
    """A run that goes on with other features keeps the best of before, and does not take it for the best of now."""
    before = {10: Evaluated({"d": 0.5}, "pixels"), 20: Evaluated({"d": 0.3}, "pixels")}
    after = {30: Evaluated({"d": 70.0}, "inception"), 40: Evaluated({"d": 90.0}, "inception")}
    steps = {**before, **after, 50: Evaluated({})}
    assert ranked(steps, Best("d")) == [30, 40]
    assert steps_to_keep(steps, 1, Best("d")) == {20, 30, 50}
    assert ranked(before, Best("d")) == [20, 10]


@pytest.mark.parametrize("metric", ["frechet", "samples/raw/frechet"])
def test_what_measured_a_number_is_its_fingerprint_and_the_number_of_samples(metric):
    def found(key, samples):
        mark = {"key": key, "metrics": ["frechet"]}
        other = {"key": "other", "metrics": ["modes"]}
        evaluation = {"evaluation_samples": samples, "fingerprints": {"scores": mark, "modes": other}}
        made = experiment(best=Best(metric), evaluate_every=5, evaluations={"scores": len})
        return Evaluate(made, None)._measured_by(evaluation)

    assert found("abc", 100) == "100 samples abc"
    assert len({found("abc", 100), found("abd", 100), found("abc", 200)}) == 3
