"""Diagnostics of training: gradients, scores, dynamics, and alarms.

Diagnostics are computed inside the jitted step in every turn, probes between dispatches at each log. Both are
chosen by name and cost nothing if they are not.
"""

from __future__ import annotations

from collections.abc import Mapping

from gan_jax.diagnostics.alarms import Alarm, Alarms
from gan_jax.diagnostics.dynamics import (
    distances,
    eigenvalues,
    field_jacobian,
    opposition,
    path,
    path_angles,
)
from gan_jax.diagnostics.gradients import gradients, layer_gradients
from gan_jax.diagnostics.health import clipped_share, health, health_of_state, relative_spread, spread
from gan_jax.diagnostics.probe import Probe, ProbeContext
from gan_jax.diagnostics.scores import (
    histogram,
    histograms,
    input_gradients,
    jsd_estimate,
    logit_statistics,
    saturation,
    scores,
    wasserstein,
)
from gan_jax.diagnostics.weights import spectral_norm, spectral_norms
from gan_jax.game import Diagnostic

DIAGNOSTICS: Mapping[str, Diagnostic] = {
    "gradients": gradients,
    "layers": layer_gradients,
    "scores": scores,
    "histograms": histograms,
    "wasserstein": wasserstein,
    "input_gradients": input_gradients,
}
"""Diagnostics by name, computed in every turn."""

PROBES: Mapping[str, Probe] = {
    "health": health_of_state,
    "opposition": opposition,
    "spectral_norms": spectral_norms,
    "eigenvalues": eigenvalues,
    "path": path,
    "distances": distances,
}
"""Probes by name, evaluated at each log."""

__all__ = [
    "DIAGNOSTICS",
    "PROBES",
    "Alarm",
    "Alarms",
    "Probe",
    "ProbeContext",
    "clipped_share",
    "distances",
    "eigenvalues",
    "field_jacobian",
    "gradients",
    "health",
    "health_of_state",
    "histogram",
    "histograms",
    "input_gradients",
    "jsd_estimate",
    "layer_gradients",
    "logit_statistics",
    "opposition",
    "path",
    "path_angles",
    "relative_spread",
    "saturation",
    "scores",
    "spectral_norm",
    "spectral_norms",
    "spread",
    "wasserstein",
]
