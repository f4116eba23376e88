"""Alarms on histories made by hand: each is raised by its own, and none by a healthy one."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.diagnostics import Alarm, Alarms
from gan_jax.diagnostics.alarms import RULES, as_metrics

HEALTHY = {
    "critic/loss": 1.2,
    "critic/gradient_norm": 0.4,
    "generator/gradient_norm": 0.3,
    "critic/score_real_variance": 1.0,
    "critic/score_fake_variance": 0.9,
    "critic/saturation": 0.1,
    "critic/relative_spread": 0.95,
    "critic/clipped_share": 0.001,
}


def look(history):
    """The names of the alarms of each log."""
    alarms = Alarms()
    return [[alarm.name for alarm in alarms.check(log)] for log in history]


def changing(metric, *values):
    return [{**HEALTHY, metric: value} for value in values]


TROUBLE = {
    "collapse": changing("critic/relative_spread", 0.9, 0.8, 0.5, 0.05),
    "saturated_critic": changing("critic/saturation", 0.1, 0.5, 0.97),
    "vanishing_gradient": changing("generator/gradient_norm", 0.3, 0.2, 0.3, 0.4, 0.3, 1e-4),
    "exploding_gradient": changing("generator/gradient_norm", 0.3, 0.2, 0.3, 0.4, 0.3, 60.0),
    "clipped_weights": changing("critic/clipped_share", 0.3, 0.8, 0.96),
}


@pytest.mark.parametrize("name", sorted(RULES))
def test_each_alarm_is_raised_by_its_failure_when_it_occurs(name):
    found = look(TROUBLE[name])
    assert found == [[]] * (len(found) - 1) + [[name]]


HEALTHY_HISTORIES = {
    "steady": [HEALTHY] * 20,
    "the generator begins in a small corner": changing(
        "critic/relative_spread", 0.02, 0.05, 0.2, 0.6, 0.9, 1.0
    ),
    "gradients that fall by a factor of ten a log until they are small": changing(
        "generator/gradient_norm", *(10.0**-k for k in range(3))
    ),
    "noisy gradients": changing(
        "generator/gradient_norm", *(math.exp(1.5 * math.sin(7 * k)) for k in range(30))
    ),
    "a sure critic": changing("critic/saturation", 0.2, 0.6, 0.9, 0.94),
    "half of the weights clipped": changing("critic/clipped_share", 0.2, 0.5, 0.6),
    "scores that all come together": [
        {**HEALTHY, "critic/score_real_variance": 4.0**-k, "critic/score_fake_variance": 4.0**-k}
        for k in range(12)
    ],
    "nothing to read": [{"critic/loss": 1.0}] * 10,
    "strings and lists among the metrics": [{**HEALTHY, "critic/histogram": [[0.0], [1.0]], "note": "NaN"}]
    * 3,
}


@pytest.mark.parametrize("kind", sorted(HEALTHY_HISTORIES))
def test_a_healthy_history_raises_none(kind):
    assert not any(look(HEALTHY_HISTORIES[kind]))


def test_var_d_that_falls_below_that_of_the_data_is_a_collapse():
    found = look(changing("critic/score_fake_variance", 0.9, 0.5, 0.005))
    assert found == [[], [], ["collapse"]]


def test_samples_that_were_never_diverse_raise_an_alarm_after_five_logs():
    found = look(changing("critic/relative_spread", *[0.01] * 6))
    assert found == [[], [], [], [], ["collapse"], ["collapse"]]


def test_a_gradient_below_adams_epsilon_needs_no_history():
    assert look(changing("generator/gradient_norm", 1e-9)) == [["vanishing_gradient"]]
    assert look(changing("critic/gradient_norm", 1e-9)) == [[]], "a perfect critic's gradient may vanish"


def test_every_generator_and_critic_is_compared_with_its_history():
    log = {
        f"{player}/{metric}": 0.9 for player in ("critic_a", "critic_b") for metric in ("relative_spread",)
    }
    alarms = Alarms()
    assert not alarms.check(log)
    (alarm,) = alarms.check({**log, "critic_b/relative_spread": 0.01})
    assert alarm.name == "collapse"


def test_an_alarm_says_what_it_saw_and_what_helps():
    alarms = Alarms()
    for log in TROUBLE["vanishing_gradient"]:
        found = alarms.check(log)
    (alarm,) = found
    assert "gradient norm of the generator is 0.0001, and was 0.3" in alarm.message
    assert "-log D" in alarm.helps
    assert str(alarm) == f"{alarm.message} What usually helps: {alarm.helps}."


def test_an_alarm_is_news_once_until_it_ends():
    alarms = Alarms()
    names = [
        [alarm.name for alarm in alarms.news(alarms.check(log))]
        for log in changing("critic/saturation", 0.99, 0.99, 0.1, 0.99)
    ]
    assert names == [["saturated_critic"], [], [], ["saturated_critic"]]


def test_numbers_of_any_kind_are_read():
    for value in (np.float32(0.99), np.asarray(0.99), jnp.asarray(0.99)):
        assert look([{"critic/saturation": value}]) == [["saturated_critic"]]


def test_two_alarms_of_one_name_share_a_metric():
    both = [Alarm("collapse", "One.", "a"), Alarm("collapse", "Two.", "a")]
    assert as_metrics(both) == {"alarm/collapse": "One. Two."}
