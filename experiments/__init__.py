"""Experiments: one file each, with `get_config()` and `build(config) -> Experiment`."""
