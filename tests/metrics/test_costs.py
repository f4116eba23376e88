"""Every measure says what time and memory it takes."""

import inspect
import re

import pytest

from gan_jax import metrics

NO_MEASURES = {
    # what measures are made of
    "classifier_for",
    "classify",
    "clip_extractor",
    "dinov2_extractor",
    "extractor_named",
    "feature_distance",
    "from_callable",
    "inception_extractor",
    "load_classifier",
    "merge_across_processes",
    "merge_moments",
    "onnx_extractor",
    "pixels",
    "save_classifier",
    "train_classifier",
    "vgg16_extractor",
    # arithmetic, pictures and tables
    "collision_probability",
    "duplicate_pairs",
    "expected_coverage",
    "samples_for_collision",
    "score_table",
    "stacked_classes",
    "support_for_collision",
}


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in metrics.__all__
        if inspect.isfunction(getattr(metrics, name)) and name not in NO_MEASURES
    ),
)
def test_a_measure_states_its_time_and_memory(name):
    text = " ".join((inspect.getdoc(getattr(metrics, name)) or "").split())
    assert re.search(r"\b[Tt]ime\b", text)
    assert re.search(r"\b[Mm]emory\b", text)
    assert "O(" in text
