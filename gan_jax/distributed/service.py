"""The key-value store of JAX's distributed service, which every process of a run can reach.

JAX has no public name for its client; this is the only file of the package that reads JAX's private modules.
"""

from __future__ import annotations

from typing import Any

import jax


class Store:
    """Texts by name, common to all processes; process 0 serves them.

    Raises:
      RuntimeError: from every method, if process 0 cannot be reached.
    """

    def __init__(self) -> None:
        from jax._src import distributed

        self._client: Any = distributed.global_state.client

    def set(self, name: str, value: str) -> None:
        """Sets a text, in place of the one that it had."""
        self._client.key_value_set(name, value, allow_overwrite=True)

    def get(self, name: str) -> str | None:
        """A text; `None` if it was not set yet."""
        try:
            return self._client.key_value_try_get(name)
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    def under(self, prefix: str) -> dict[str, str]:
        """All texts below a prefix that ends in a slash, by the rest of their names."""
        found = dict(self._client.key_value_dir_get(prefix))
        return {name.rpartition("/")[2]: value for name, value in found.items()}
