"""Training: state, one pmapped step, checkpoints, and the one loop that serves both stages."""
