"""Flax layers that networks share."""
