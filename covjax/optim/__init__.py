"""Losses, optimizers, and which parameters train."""
