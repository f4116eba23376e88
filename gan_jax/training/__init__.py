"""Training: the state, rounds, and rollouts of a game."""
