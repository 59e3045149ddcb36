"""A stage: a network, its task, and what was measured on the training split."""
