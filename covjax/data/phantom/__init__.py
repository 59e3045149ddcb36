"""A synthetic chest CT, so that everything runs without a download."""
