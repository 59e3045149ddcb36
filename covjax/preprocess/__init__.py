"""From a stored slice to the network's input."""
