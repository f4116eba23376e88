"""Type aliases used throughout the library.

Shapes are written `[B, ...]`: `B` examples, `T` fresh turns of a round, `K` rounds of a dispatch.
Images are float in [-1, 1], `[B, H, W, C]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array
Tree: TypeAlias = Any
"""Any pytree of arrays."""
Batch: TypeAlias = Mapping[str, Any]
"""`x`, and where the data has them `y`, `condition`, `labelled: {x, y}`; each leaf `[B, ...]`."""
Size: TypeAlias = int | tuple[int, int]
"""Of images: the side of a square, or (height, width)."""
Metrics: TypeAlias = dict[str, Array]
