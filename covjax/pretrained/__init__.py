"""Published weights: from a file to the variables of a network."""
