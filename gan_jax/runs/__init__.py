"""A run and its files: the loop, replay, checkpoints, the work directory, logs."""
