"""Scores with fingerprints of their computation.

A score depends on the extractor, its weights, the resizing of the images, their range, their number, the data set,
and the precision of the computation. All of that is its fingerprint, and scores with different fingerprints are
marked in a table.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from gan_jax.metrics.features import Features
from gan_jax.tables import number_table, text_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Everything that a score depends on apart from the two distributions.

    Attributes:
      extractor, weights, resize: the extractor's name, the digest of its weights, and its resizing.
      value_range: the dtypes and ranges of the images, real and fake.
      real, fake: the numbers of samples.
      split: a description of the real data.
      seed: the seed of shuffles and subsets.
      settings: the metrics' settings, as text.
      data: the `set_digest` of the real data, which distinguishes data with the same name.
      protocol: the extractor's published protocol.
      platform, device, precision, prng: what computed the features, see `Computation`.
    """

    extractor: str
    weights: str
    resize: str
    value_range: str
    real: int
    fake: int
    split: str
    seed: int
    settings: str = ""
    data: str = ""
    protocol: str = ""
    platform: str = ""
    device: str = ""
    precision: str = ""
    prng: str = ""

    @property
    def key(self) -> str:
        """Eight hexadecimal digits of a digest of all fields."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:8]

    def differences(self, other: Fingerprint) -> list[str]:
        """A text `field: this against that` for every field that differs."""
        ours, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [f"{name}: {ours[name]} against {theirs[name]}" for name in ours if ours[name] != theirs[name]]

    def __str__(self) -> str:
        fields = {k: v for k, v in dataclasses.asdict(self).items() if v != ""}
        return f"[{self.key}] " + ", ".join(f"{k} {v}" for k, v in fields.items())


def fingerprint_of(
    real: Features,
    fake: Features,
    *,
    split: str,
    seed: int,
    settings: str,
    sizes: tuple[int, int] | None = None,
) -> Fingerprint:
    """The fingerprint of a comparison by one extractor; where the sides differ, both are named.

    Args:
      real, fake: the features that are compared.
      split: a description of the real data.
      seed: the seed of shuffles and subsets.
      settings: the metrics' settings, as text.
      sizes: the numbers of real and fake samples; by default those of the features.
    """

    def both(field: Callable[[Features], str]) -> str:
        return " and ".join(dict.fromkeys([field(real), field(fake)]))

    return Fingerprint(
        extractor=real.extractor.name,
        weights=real.extractor.weights,
        resize=real.extractor.resize,
        protocol=real.extractor.protocol,
        value_range=both(lambda side: side.value_range),
        real=len(real.features) if sizes is None else sizes[0],
        fake=len(fake.features) if sizes is None else sizes[1],
        split=split,
        seed=seed,
        settings=settings,
        data=real.data,
        platform=both(lambda side: side.computation.platform),
        device=both(lambda side: side.computation.device),
        precision=both(lambda side: side.computation.precision),
        prng=both(lambda side: side.computation.prng),
    )


@dataclasses.dataclass(frozen=True)
class Scores:
    """Metrics with their common fingerprint.

    Attributes:
      values: numbers by name; the standard error of a metric NAME is `NAME_error`.
      fingerprint: what they depend on.
      left_out: the reasons for metrics that could not be computed, by name.
      intervals: the bounds of 95 % intervals by the metric's name, where they were computed.
      without_interval: the reasons for metrics that have none, by name, where intervals were computed.
      floor: the same scores of two disjoint draws of the real samples, where they were computed.
    """

    values: Mapping[str, float]
    fingerprint: Fingerprint
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    without_interval: Mapping[str, str] = dataclasses.field(default_factory=dict)
    floor: Scores | None = None

    def as_dict(self) -> dict[str, Any]:
        """A dict for JSON: `values`, `fingerprint`, `key`, and what else there is of the attributes."""
        return {
            "values": dict(self.values),
            "fingerprint": dataclasses.asdict(self.fingerprint),
            "key": self.fingerprint.key,
            **({"left_out": dict(self.left_out)} if self.left_out else {}),
            **({"intervals": {k: list(v) for k, v in self.intervals.items()}} if self.intervals else {}),
            **({"without_interval": dict(self.without_interval)} if self.without_interval else {}),
            **({"floor": self.floor.as_dict()} if self.floor is not None else {}),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Scores:
        """The inverse of `as_dict`."""
        return cls(
            dict(stored["values"]),
            Fingerprint(**stored["fingerprint"]),
            dict(stored.get("left_out", {})),
            {name: (low, high) for name, (low, high) in stored.get("intervals", {}).items()},
            dict(stored.get("without_interval", {})),
            cls.from_dict(stored["floor"]) if "floor" in stored else None,
        )

    def __str__(self) -> str:
        lines = [[name, f"{value:.6g}{self._bounds(name)}"] for name, value in self.values.items()]
        reasons = [f"left out: {name}: {reason}" for name, reason in self.left_out.items()]
        return "\n".join([text_table(lines, align="lr"), *reasons, str(self.fingerprint)])

    def _bounds(self, name: str) -> str:
        low, high = self.intervals.get(name, (None, None))
        return "" if low is None else f" [{low:.4g}, {high:.4g}]"


def score_table(rows: Mapping[str, Scores]) -> str:
    """A table of scores, in which rows with another fingerprint than the first are marked and explained below.

    Args:
      rows: scores by label.

    Raises:
      ValueError: without rows.

    >>> one = Fingerprint(extractor="pixels", weights="none", resize="none", value_range="float [-1, 1]",
    ...                   real=100, fake=100, split="test", seed=0)
    >>> other = dataclasses.replace(one, fake=50)
    >>> print(score_table({"a": Scores({"frechet": 1.5}, one), "b": Scores({"frechet": 2.25}, other)}))
           frechet
    a          1.5
    b [1]     2.25
    Not comparable with the first row:
    [1] fake: 100 against 50
    """
    if not rows:
        raise ValueError("A table needs at least one row.")
    labels, notes = marked({label: scores.fingerprint for label, scores in rows.items()})
    table = number_table({labels[label]: scores.values for label, scores in rows.items()})
    return "\n".join([table, *(["Not comparable with the first row:", *notes] if notes else [])])


def marked(fingerprints: Mapping[str, Fingerprint]) -> tuple[dict[str, str], list[str]]:
    """Labels with a mark where a fingerprint differs from the first, and a note for each mark.

    Args:
      fingerprints: by label, one or more.

    Returns:
      The label to show, by label; and a line `[1] field: first against this` for each mark.
    """
    first = next(iter(fingerprints.values()))
    marks: dict[Fingerprint, str] = {}
    labels = {}
    for label, fingerprint in fingerprints.items():
        if fingerprint != first:
            marks.setdefault(fingerprint, f"[{len(marks) + 1}]")
        labels[label] = f"{label} {marks[fingerprint]}" if fingerprint in marks else label
    return labels, [f"{mark} {'; '.join(first.differences(other))}" for other, mark in marks.items()]
