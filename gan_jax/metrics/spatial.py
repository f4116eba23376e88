"""sFID (Nash et al., 2021): the Frechet distance of features that keep places in the image."""

from __future__ import annotations

from gan_jax.metrics.features import Features
from gan_jax.metrics.frechet import frechet_distance


def spatial_frechet_distance(real: Features, fake: Features, *, ddof: int = 1) -> float:
    """The Frechet distance of spatial features; sFID of the standard Inception network's 2,023.

    Time and memory are those of `frechet_distance`: O((N + M) S n + n^3) and O(n S + n^2), n the smallest of N,
    M and S.

    Args:
      real, fake: features with `spatial` `[N, S]`, as `extract` makes of an extractor that has them.
      ddof: covariances divide by N - ddof.

    Raises:
      ValueError: if one has no spatial features, and as for `frechet_distance`.

    References:
      Nash et al., Generating Images with Sparse Representations, 2021 (arXiv:2103.03841), section 4.

    >>> import numpy as np
    >>> from gan_jax.metrics.features import Extractor, extract
    >>> places = Extractor(name="places", apply=lambda params, x: {
    ...     "features": x.mean(axis=(1, 2)), "spatial": x.reshape(len(x), -1)})
    >>> x = np.random.default_rng(0).uniform(-1, 0, size=(20, 2, 2, 1))
    >>> round(spatial_frechet_distance(extract(places, x), extract(places, x + 0.5)), 5)  # four places, 0.25 each
    1.0
    """
    if real.spatial is None or fake.spatial is None:
        name = (real if real.spatial is None else fake).extractor.name
        raise ValueError(f"Extractor {name!r} has no spatial features; inception_extractor has.")
    return frechet_distance(real.spatial, fake.spatial, ddof=ddof)
