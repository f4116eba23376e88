"""Claims about samples fail where noise, or a generator that has learnt nothing, stands in a method's place."""

import dataclasses

import pytest

from experiments import studies
from experiments.studies.framework import running
from experiments.studies.framework.study import judge
from gan_jax.data import specs
from tests.tiers import full, slow

SCORING = [name for name in studies.names() if studies.load(name).controls]
TIERS = {"ratios": lambda name: name, "latent_space": slow, "translation": slow}


def judged(study, results, quick):
    """The verdicts of those claims that can be judged on the results: other claims are of cases without samples."""
    for claim, text in zip(study.claims, study.texts, strict=True):
        single = dataclasses.replace(study, claims=(claim,), doc=f"A study.\n\nClaims:\n- {text}\n\n")
        try:
            yield from judge(single, results, quick)
        except (LookupError, TypeError):
            continue


def kind(case):
    """What a control is: `noise` of `ring, noise`."""
    return case.rpartition(", ")[2]


def replaced(study, controls, by):
    """A result in which noise, or an untrained generator, stands in the place of each method, of the same data.

    Where no control is of a case's name, that of the first data stands for it.
    """
    first = next(numbers for case, numbers in controls.items() if kind(case) == by)
    result = {}
    for case in study.cases:
        same_data = f"{case.partition(', ')[0]}, {by}"
        result[case] = controls.get(case) or controls.get(same_data) or first
    return result


@pytest.fixture(autouse=True)
def no_image_files(monkeypatch):
    """What reads image files is no part of a study's code (`reached.LEFT_OUT`), so none may read one."""
    for module, function in (
        ("images", "read_images"),
        ("pairs", "read_pairs"),
        ("tfds_images", "read_tfds"),
    ):
        monkeypatch.setattr(getattr(specs, module), function, None)


@pytest.mark.parametrize("name", [TIERS.get(name, full)(name) for name in SCORING])
def test_claims_fail_for_noise_and_for_an_untrained_generator(name):
    study = studies.load(name)
    assert {"noise", "untrained", "real"} == {kind(case) for case in study.controls}
    controls = {case: running.compute(study.cases[case], 0, quick=True)["numbers"] for case in study.controls}
    for control in ("noise", "untrained"):
        result = replaced(study, controls, control)
        for quick in (False, True):
            # Two equal seeds: their interval is a point.
            verdicts = list(judged(study, [result, result], quick))
            # Short runs of some studies claim nothing of samples.
            assert verdicts or quick
            assert not verdicts or any(verdict.fails for verdict in verdicts), (control, quick)


def test_studies_that_score_samples_have_controls():
    """All but those whose games move nothing that is sampled, or that are of gradients alone."""
    assert {*studies.names()} - {*SCORING} == {
        "clipping",
        "dirac",
        "divergences",
        "duality",
        "f_gan_fit",
        "memorising",
        "perfect_critic",
        "perfect_critic_mnist",
        "theorems",
    }
